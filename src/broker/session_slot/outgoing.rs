//! What the slot's lock guards: the session's outgoing exchanges, its queue, and who is attached.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::aside::SetAside;
use super::paging::one;
use super::stall::Watched;
use super::wire::{Refused, Wire};
use super::{MAX_BUFFERED_BYTES, SessionSlot, Turn, Will};
use crate::broker::budget::Charge;
use crate::broker::delivery::Delivery;
use crate::broker::delivery_queue::{Entry, QueueLimits, Recording};
use crate::broker::lanes::{Queues, Rank};
use crate::broker::pager::Pager;
use crate::clock;
use crate::mqtt::packet::Ack;
use crate::mqtt::session::{Outbound, Resend, lane_of};
use crate::mqtt::{Message, Millis, Packet, PacketId, Publication, QoS, ReasonCode};
use crate::store::settings::WhenFull;
use crate::store::{Batch, Delivered, Pending, QueueId, Record};

/// Messages of QoS 0 that wait for a durable session that is connected, beside what the journal has.
const AT_MOST_ONCE_MESSAGES: usize = 10_000;
/// Their bytes.
const AT_MOST_ONCE_BYTES: usize = 4 * 1024 * 1024;

/// Guarded by the slot's lock: the outgoing side, and who is attached. Held without I/O and without waiting.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) session: Outbound<Entry>,
    pub(super) queue: Queues,
    pub(super) limits: QueueLimits,
    /// What it has counted.
    pub(super) counts: Counts,
    /// What was set aside last.
    pub(super) last_set_aside: Option<SetAside>,
    /// Since when the queue is full; until it has some room again.
    pub(super) full_since: Option<Millis>,
    /// What it holds of the bytes that all durable queues share.
    pub(super) charge: Option<Charge>,
    /// Reads back what the queue has on disk; `None` where nothing is ever.
    pub(super) pager: Option<Arc<Pager>>,
    /// Whether the pager has been asked for a page, and looks itself whether another is wanted.
    pub(super) is_paging: bool,
    pub(super) attached: Attached,
    pub(super) epoch: u64,
    /// The user whose session it is.
    pub(super) owner: Option<Arc<str>>,
    /// Whether the session outlives its connection: then its deliveries are recorded.
    pub(super) durable: bool,
    /// Seconds that it outlives its connection.
    pub(super) expiry_interval: u32,
    pub(super) will: Option<Box<Will>>,
    /// Without connection: when the will is due, and when the session ends.
    pub(super) will_at: Option<Millis>,
    pub(super) ends_at: Option<Millis>,
    /// When the timers will look at the session next.
    pub(super) timer_at: Option<Millis>,
    /// Since when it has no connection.
    pub(super) away_since: Option<Millis>,
    /// The session is over: nobody finds it any more.
    pub(super) ended: bool,
    /// The batch that records the newest PUBREC: no PUBREL is sent again before it is committed.
    pub(super) released: Option<Arc<Pending>>,
    /// What records that the first message of the queue gets another packet identifier than its sequence stands for.
    pub(super) displacing: Option<Displacing>,
    /// Topics whose acknowledgements are noted.
    pub(super) watched: Option<Box<Watched>>,
}

/// A QoS 2 message gets another packet identifier than its sequence stands for, once that is committed.
#[derive(Debug)]
pub(super) struct Displacing {
    delivered: Delivered,
    packet_id: PacketId,
    pending: Arc<Pending>,
}

/// What a session has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that its full queue has dropped.
    pub dropped: u64,
    /// Messages that expired while they waited.
    pub expired: u64,
    /// Messages that were sent again to a peer that had the session.
    pub resent: u64,
    /// QoS 2 messages that were sent anew because the peer had forgotten the session: they may have arrived twice.
    pub qos2_resent: u64,
    /// QoS 2 messages that the peer took at a lower QoS.
    pub qos2_downgraded: u64,
    /// Messages that were set aside because the peer does not take them.
    pub set_aside: u64,
}

#[derive(Debug)]
pub(super) enum Attached {
    None,
    Wire(Box<Wire>),
    /// A receiver in this process; what does not fit into its queue is dropped, and counted.
    Local(mpsc::Sender<Message>),
}

impl Outgoing {
    pub(super) fn wire_of(&mut self, epoch: u64) -> Option<&mut Wire> {
        match &mut self.attached {
            Attached::Wire(wire) if self.epoch == epoch => Some(wire),
            _ => None,
        }
    }

    /// Whether a message of that QoS must not be sent before its entry is committed: else a crash would give its packet
    /// identifier to another one, and the peer would take that for this one.
    pub(super) fn holds(&self, slot: &SessionSlot, qos: QoS) -> bool {
        qos == QoS::ExactlyOnce && self.durable && slot.journal.is_durable()
    }

    pub(super) fn enqueue(
        &mut self,
        slot: &Arc<SessionSlot>,
        publication: &Publication<'_>,
        (qos, retain): (QoS, bool),
        delivery: &Arc<Delivery>,
        turn: &mut Turn<'_>,
    ) {
        let Turn { now, batch } = turn;
        let (now, batch) = (*now, &mut **batch);
        let message = publication.keep().clone();
        if !self.make_room(slot, qos, message.size(), batch) {
            return;
        }
        let lane = delivery.lane_of(publication.topic);
        let sequence = (qos != QoS::AtMostOnce).then(|| self.take_sequence(lane));
        if let Some(sequence) = sequence.filter(|_| self.durable) {
            let queue = self.queue_id(slot, lane);
            batch.deliver(Delivered { queue, sequence }, &delivery.how(qos, retain, now));
        }
        let pending = self.holds(slot, qos).then(|| batch.pending());
        let delivery = Arc::clone(delivery);
        let entry = Entry { lane, sequence, since: now, message, qos, retain, delivery, pending, settles: None };
        let is_recorded = self.durable && self.pager.is_some();
        let recording = is_recorded.then(|| Recording { batch, journal: &slot.journal });
        if let Some(old) = self.queue.push(entry, recording, now) {
            if old.sequence == sequence && sequence.is_some() {
                self.count_dropped(slot, 1);
            }
            self.record_over(slot, &old, batch);
        }
        self.note_size(slot);
    }

    /// The next place in a lane.
    fn take_sequence(&mut self, lane: u8) -> u64 {
        self.queue.take_number(lane).unwrap_or_else(|| self.session.take_sequence())
    }

    /// The queue of a lane in the journal.
    pub(super) fn queue_id(&self, slot: &SessionSlot, lane: u8) -> QueueId {
        self.queue.queue_id(lane).unwrap_or(slot.queue_id)
    }

    /// Where the message stands in the journal whose place in the session is `key`.
    pub(super) fn delivered(&self, slot: &SessionSlot, key: u64) -> Delivered {
        let (lane, sequence) = lane_of(key);
        Delivered { queue: self.queue_id(slot, lane), sequence }
    }

    /// Records that all is over that `entry` stands for.
    pub(super) fn record_over(&self, slot: &SessionSlot, entry: &Entry, batch: &mut Batch) {
        let queue = self.queue_id(slot, entry.lane);
        match &entry.settles {
            Some(settles) => self.record_settled(queue, settles.iter().copied(), batch),
            None => self.record_settled(queue, entry.sequence, batch),
        }
    }

    /// Makes room for another message, or says that it is the one to drop; what is dropped is counted.
    fn make_room(&mut self, slot: &SessionSlot, qos: QoS, size: usize, batch: &mut Batch) -> bool {
        let limits = self.limits_for(size, slot);
        let dropped = if qos == QoS::AtMostOnce && self.pager.is_some() && self.durable {
            // It is never on disk, and nothing that is goes for it.
            let (messages, bytes) = self.queue.at_most_once();
            let fits = messages < AT_MOST_ONCE_MESSAGES && bytes < AT_MOST_ONCE_BYTES;
            let limits = QueueLimits { when_full: WhenFull::DropNewest, ..limits };
            self.queue.make_room(size, &limits, |_, _| ()).filter(|_| fits)
        } else if limits.when_full == WhenFull::Refuse && qos != QoS::AtMostOnce {
            // The router has asked whether it is taken; what nobody was promised it has left out.
            Some(0)
        } else {
            let durable = self.durable;
            let limits = match limits.when_full {
                WhenFull::Refuse => QueueLimits { when_full: WhenFull::DropNewest, ..limits },
                _ => limits,
            };
            self.queue.make_room(size, &limits, |queue, sequences| {
                let queue = queue.unwrap_or(slot.queue_id);
                if !durable {
                } else if sequences == one(sequences.first) {
                    batch.settle(Delivered { queue, sequence: sequences.first });
                } else {
                    batch.settle_all(queue, sequences);
                }
            })
        };
        match dropped {
            Some(0) => return true,
            Some(count) => self.count_dropped(slot, count),
            None => self.count_dropped(slot, 1),
        }
        self.full_since.get_or_insert_with(clock::now);
        dropped.is_some()
    }

    /// Takes the entries of QoS 1 and 2 that wait and for which `takes` says so.
    pub(super) fn take_queued(&mut self, takes: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut taken = Vec::new();
        self.queue.normal().remove_if(|entry| {
            let goes = entry.sequence.is_some() && takes(entry);
            if goes {
                taken.push(entry.clone());
            }
            goes
        });
        taken
    }

    /// Pumps with a batch of its own, where no read batch is under way.
    pub(super) fn pump_alone(&mut self, slot: &Arc<SessionSlot>) {
        if self.queue.is_empty() && self.session.has_room() {
            return;
        }
        let mut batch = Batch::default();
        self.pump(slot, clock::now(), &mut batch);
        slot.journal.append(&mut batch);
    }

    /// Sends again what a new connection must repeat, then what waits, as far as window and buffer allow.
    pub(super) fn pump(&mut self, slot: &Arc<SessionSlot>, now: Millis, batch: &mut Batch) {
        // What is abandoned leaves room for more. Each round abandons some, so this ends.
        while self.pump_round(slot, now, batch) {}
        self.note_size(slot);
    }

    /// One round of [`Outgoing::pump`]; whether messages in flight were abandoned.
    fn pump_round(&mut self, slot: &Arc<SessionSlot>, now: Millis, batch: &mut Batch) -> bool {
        let mut abandoned = self.send_again(slot, now, batch);
        let mut wrote = false;
        loop {
            let Attached::Wire(wire) = &mut self.attached else {
                return false;
            };
            if wire.buffered() >= MAX_BUFFERED_BYTES {
                break;
            }
            let Some(front) = self.queue.front(now, wire.sender.maximum_packet()) else {
                break;
            };
            let is_expired = front.is_expired(now);
            let qos = wire.qos_of(front);
            if front.sequence.is_some() && qos != QoS::AtMostOnce && !self.session.has_room() {
                break;
            }
            if let Some(pending) = &front.pending
                && !slot.is_committed(pending)
            {
                wire.await_commit(slot, pending);
                break;
            }
            let (key, own_qos) = (front.key(), front.qos);
            if let Some(key) = key.filter(|_| !is_expired && own_qos == QoS::ExactlyOnce)
                && slot.journal.is_durable()
                && self.durable
            {
                let packet_id = self.session.next_id(key);
                if !self.session.is_natural(key, packet_id) {
                    let (lane, sequence) = lane_of(key);
                    let delivered = Delivered { queue: self.queue.queue_id(lane).unwrap_or(slot.queue_id), sequence };
                    let displacing = Displacing::of(&mut self.displacing, slot, delivered, packet_id);
                    if !slot.is_committed(&displacing.pending) {
                        wire.await_commit(slot, &displacing.pending);
                        break;
                    }
                }
            }
            if !is_expired && !wire.may_send(self.queue.chosen_rank(), now) {
                break;
            }
            let Some(entry) = self.queue.pop(now) else {
                break;
            };
            if is_expired {
                slot.metrics.expired.add(1);
                self.counts.expired += 1;
                self.record_over(slot, &entry, batch);
                continue;
            }
            wrote = true;
            let key = key.filter(|_| qos != QoS::AtMostOnce);
            let packet_id = key.map(|key| self.session.admit(key, qos, entry.clone()));
            let sent = wire.encode_entry(&entry, (qos, packet_id), false, now);
            match (sent, packet_id) {
                (Ok(()), Some(_)) => {}
                // Nobody acknowledges it.
                (Ok(()), None) => self.record_over(slot, &entry, batch),
                (Err(refused), Some(packet_id)) => {
                    self.abandon(slot, packet_id, &refused, batch);
                    abandoned = true;
                }
                (Err(refused), None) => {
                    self.give_up(slot, &entry, &refused);
                    self.record_over(slot, &entry, batch);
                }
            }
        }
        let due = self.queue.due();
        if let Attached::Wire(wire) = &mut self.attached {
            if wrote {
                wire.touch(slot);
            }
            wire.set_due(due, now);
        }
        abandoned
    }

    /// Sends again what a new connection must repeat, as far as window and buffer allow; whether messages in flight were
    /// abandoned.
    fn send_again(&mut self, slot: &Arc<SessionSlot>, now: Millis, batch: &mut Batch) -> bool {
        let Attached::Wire(wire) = &mut self.attached else {
            return false;
        };
        let (mut refused, mut over, mut wrote) = (Vec::new(), Vec::new(), false);
        while wire.buffered() < MAX_BUFFERED_BYTES {
            if self.session.is_release_next()
                && let Some(released) = &self.released
                && !slot.is_committed(released)
            {
                // Else a crash would publish it again to a peer that has released it.
                wire.await_commit(slot, released);
                break;
            }
            if !self.session.is_release_next() && !wire.may_send(Rank::Normal, now) {
                break;
            }
            let Some(resend) = self.session.poll_resend() else {
                break;
            };
            wrote = true;
            match resend {
                Resend::Release { packet_id } => {
                    let version = wire.sender.version();
                    Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)).encode(version, wire.outbox.tail());
                    wire.sent.others += 1;
                }
                Resend::Publish { packet_id, dup, item, qos } => {
                    self.counts.resent += u64::from(dup);
                    // What this server takes at QoS 0 alone is over when it is sent.
                    let is_over = wire.qos_of(item) == QoS::AtMostOnce;
                    let how = if is_over { (QoS::AtMostOnce, None) } else { (qos, Some(packet_id)) };
                    match wire.encode_entry(item, how, dup && !is_over, now) {
                        Ok(()) if is_over => over.push(packet_id),
                        Ok(()) => {}
                        Err(reason) => refused.push((packet_id, reason)),
                    }
                }
            }
        }
        if wrote {
            wire.touch(slot);
        }
        let abandoned = !refused.is_empty() || !over.is_empty();
        for (packet_id, reason) in refused {
            self.abandon(slot, packet_id, &reason, batch);
        }
        for packet_id in over {
            if let Some(settled) = self.session.abandon(packet_id) {
                self.record_over(slot, &settled.item, batch);
            }
        }
        abandoned
    }

    /// Gives up a message in flight that this peer never takes.
    pub(super) fn abandon(&mut self, slot: &SessionSlot, packet_id: PacketId, refused: &Refused, batch: &mut Batch) {
        if let Some(settled) = self.session.abandon(packet_id) {
            self.give_up(slot, &settled.item, refused);
            self.record_over(slot, &settled.item, batch);
        }
    }

    /// Counts a message that this peer never takes; a bridge sets it aside.
    fn give_up(&mut self, slot: &SessionSlot, entry: &Entry, refused: &Refused) {
        slot.metrics.too_large.add(1);
        if slot.is_bridge() {
            self.set_aside(slot, entry, refused.to_string());
        }
    }

    pub(super) fn record_settled(&self, queue: QueueId, sequences: impl IntoIterator<Item = u64>, batch: &mut Batch) {
        if self.durable {
            for sequence in sequences {
                batch.settle(Delivered { queue, sequence });
            }
        }
    }
}

impl Displacing {
    /// That of the message; it is recorded now where it has not been.
    fn of<'a>(known: &'a mut Option<Self>, slot: &SessionSlot, delivered: Delivered, packet_id: PacketId) -> &'a Self {
        if known.as_ref().is_none_or(|known| known.delivered != delivered || known.packet_id != packet_id) {
            let mut batch = Batch::default();
            batch.push(&Record::Displaced { delivered, packet_id });
            let pending = batch.pending();
            let ticket = slot.journal.append(&mut batch);
            // All that waits for this session is behind it.
            slot.journal.hurry(ticket);
            *known = Some(Self { delivered, packet_id, pending });
        }
        known.as_ref().expect("it has been put there")
    }
}
