//! What the slot's lock guards: the session's outgoing exchanges, its queue, and who is attached.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::paging::one;
use super::wire::Wire;
use super::{MAX_BUFFERED_BYTES, SessionSlot, Will};
use crate::broker::budget::Charge;
use crate::broker::delivery::Delivery;
use crate::broker::delivery_queue::{DeliveryQueue, Entry, QueueLimits, Recording};
use crate::broker::pager::Pager;
use crate::clock;
use crate::mqtt::packet::Ack;
use crate::mqtt::session::{Outbound, Resend};
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
    pub(super) queue: DeliveryQueue,
    pub(super) limits: QueueLimits,
    /// Messages that its full queue has dropped.
    pub(super) dropped: u64,
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
}

/// A QoS 2 message gets another packet identifier than its sequence stands for, once that is committed.
#[derive(Debug)]
pub(super) struct Displacing {
    sequence: u64,
    packet_id: PacketId,
    pending: Arc<Pending>,
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
        qos: QoS,
        retain: bool,
        delivery: &Arc<Delivery>,
        batch: &mut Batch,
    ) {
        let message = publication.keep().clone();
        if !self.make_room(slot, qos, message.size(), batch) {
            return;
        }
        let sequence = (qos != QoS::AtMostOnce).then(|| self.session.take_sequence());
        if let Some(sequence) = sequence.filter(|_| self.durable) {
            let queue = slot.queue_id;
            batch.deliver(Delivered { queue, sequence }, &delivery.how(qos, retain));
        }
        let pending = self.holds(slot, qos).then(|| batch.pending());
        let entry = Entry { sequence, message, qos, retain, delivery: Arc::clone(delivery), pending };
        let is_recorded = self.durable && self.pager.is_some();
        self.queue.push(entry, is_recorded.then(|| Recording { batch, journal: &slot.journal }));
        self.note_size(slot);
    }

    /// Makes room for another message, or says that it is the one to drop; what is dropped is counted.
    fn make_room(&mut self, slot: &SessionSlot, qos: QoS, size: usize, batch: &mut Batch) -> bool {
        let limits = self.limits_for(size, slot);
        let dropped = if qos == QoS::AtMostOnce && self.pager.is_some() && self.durable {
            // It is never on disk, and nothing that is goes for it.
            let (messages, bytes) = self.queue.at_most_once();
            let fits = messages < AT_MOST_ONCE_MESSAGES && bytes < AT_MOST_ONCE_BYTES;
            let limits = QueueLimits { when_full: WhenFull::DropNewest, ..limits };
            self.queue.make_room(size, &limits, |_| ()).filter(|_| fits)
        } else if limits.when_full == WhenFull::Refuse && qos != QoS::AtMostOnce {
            // The router has asked whether it is taken; what nobody was promised it has left out.
            Some(0)
        } else {
            let (durable, queue) = (self.durable, slot.queue_id);
            let limits = match limits.when_full {
                WhenFull::Refuse => QueueLimits { when_full: WhenFull::DropNewest, ..limits },
                _ => limits,
            };
            self.queue.make_room(size, &limits, |sequences| {
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
        self.queue.remove_if(|entry| {
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
        let Attached::Wire(wire) = &mut self.attached else {
            return false;
        };
        let mut too_large = Vec::new();
        let mut wrote = false;
        while wire.buffered() < MAX_BUFFERED_BYTES {
            if self.session.is_release_next()
                && let Some(released) = &self.released
                && !slot.is_committed(released)
            {
                // Else a crash would publish it again to a peer that has released it.
                wire.await_commit(slot, released);
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
                Resend::Publish { packet_id, dup, item, .. } => {
                    if wire.encode_entry(item, Some(packet_id), dup, now).is_err() {
                        too_large.push(packet_id);
                    }
                }
            }
        }
        while wire.buffered() < MAX_BUFFERED_BYTES
            && let Some(front) = self.queue.front()
        {
            if front.sequence.is_some() && !self.session.has_room() {
                break;
            }
            if let Some(pending) = &front.pending
                && !slot.is_committed(pending)
            {
                wire.await_commit(slot, pending);
                break;
            }
            let is_expired = front.message.is_expired(now);
            if let Some(sequence) = front.sequence.filter(|_| !is_expired)
                && slot.journal.is_durable()
                && self.durable
                && front.qos == QoS::ExactlyOnce
            {
                let packet_id = self.session.next_id(sequence);
                if !Outbound::<Entry>::is_natural(sequence, packet_id) {
                    let displacing = Displacing::of(&mut self.displacing, slot, sequence, packet_id);
                    if !slot.is_committed(&displacing.pending) {
                        wire.await_commit(slot, &displacing.pending);
                        break;
                    }
                }
            }
            let Some(entry) = self.queue.pop() else {
                break;
            };
            if is_expired {
                slot.metrics.expired.add(1);
                if let Some(sequence) = entry.sequence.filter(|_| self.durable) {
                    batch.settle(Delivered { queue: slot.queue_id, sequence });
                }
                continue;
            }
            wrote = true;
            match entry.sequence {
                None => {
                    if wire.encode_entry(&entry, None, false, now).is_err() {
                        slot.metrics.too_large.add(1);
                    }
                }
                Some(sequence) => {
                    let packet_id = self.session.admit(sequence, entry.qos, entry.clone());
                    if wire.encode_entry(&entry, Some(packet_id), false, now).is_err() {
                        self.session.abandon(packet_id);
                        slot.metrics.too_large.add(1);
                        if self.durable {
                            batch.settle(Delivered { queue: slot.queue_id, sequence });
                        }
                    }
                }
            }
        }
        if wrote {
            wire.touch(slot);
        }
        let abandoned = !too_large.is_empty();
        for packet_id in too_large {
            self.abandon(slot, packet_id, batch);
        }
        abandoned
    }

    /// Gives up a message that this peer never takes.
    pub(super) fn abandon(&mut self, slot: &SessionSlot, packet_id: PacketId, batch: &mut Batch) {
        slot.metrics.too_large.add(1);
        if let Some(settled) = self.session.abandon(packet_id) {
            self.record_settled(slot.queue_id, [settled.sequence], batch);
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
    fn of<'a>(known: &'a mut Option<Self>, slot: &SessionSlot, sequence: u64, packet_id: PacketId) -> &'a Self {
        if known.as_ref().is_none_or(|known| known.sequence != sequence || known.packet_id != packet_id) {
            let mut batch = Batch::default();
            batch.push(&Record::Displaced { delivered: Delivered { queue: slot.queue_id, sequence }, packet_id });
            let pending = batch.pending();
            let ticket = slot.journal.append(&mut batch);
            // All that waits for this session is behind it.
            slot.journal.hurry(ticket);
            *known = Some(Self { sequence, packet_id, pending });
        }
        known.as_ref().expect("it has been put there")
    }
}
