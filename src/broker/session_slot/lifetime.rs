//! A session's beginnings and ends: attaching a connection, losing it, what is due then, and the end of it all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::outgoing::{Attached, Outgoing};
use super::wire::{Output, Wire};
use super::{Hop, SessionSlot};
use crate::broker::delivery_queue::Entry;
use crate::broker::lanes::Queues;
use crate::broker::turn;
use crate::mqtt::connection::Sender;
use crate::mqtt::{Message, Millis, QoS, ReasonCode};
use crate::net::SocketWriter;
use crate::store::{Batch, Record, Sequences, SessionState, StoredWill, Ticket};

/// What is published when a client goes without saying so.
#[derive(Debug, Clone)]
pub struct Will {
    /// The message; its expiry counts from when it is published.
    pub message: Message,
    /// Seconds between the end of the connection and the will.
    pub delay_interval: u32,
    /// Seconds for which the message is of use.
    pub expiry_interval: Option<u32>,
}

/// A new connection of a session.
#[derive(Debug)]
pub struct Attachment {
    /// Its encoder.
    pub sender: Sender,
    /// The socket; `None` where the link's task writes a stream.
    pub writer: Option<SocketWriter>,
    /// QoS 1 and 2 messages that the peer takes in flight.
    pub window: u16,
    /// What is sent before anything of the session: CONNACK, or a bridge's birth and SUBSCRIBE.
    pub prelude: Vec<u8>,
    /// Whether the peer still has the session.
    pub session_present: bool,
    /// Seconds that the session outlives the connection.
    pub expiry_interval: u32,
    /// Seconds within which, and half as many again, the peer must be heard; 0 is for ever.
    pub keep_alive: u16,
    /// Published when the connection ends without DISCONNECT.
    pub will: Option<Box<Will>>,
    /// Nothing is sent before this is committed, `prelude` included.
    pub held: Option<Ticket>,
    /// Of a connection that we have dialled: what its server takes.
    pub hop: Option<Hop>,
}

/// What is due for a session without connection.
#[derive(Debug, Default)]
pub struct Due {
    /// The will.
    pub will: Option<Box<Will>>,
    /// Whether the session is over.
    pub ends: bool,
}

/// What is left of a session that has ended.
#[derive(Debug, Default)]
pub(in crate::broker) struct Remains {
    /// The will that has not been published.
    pub(in crate::broker) will: Option<Box<Will>>,
    /// Messages of shared subscriptions that other members get.
    pub(in crate::broker) shared: Vec<Entry>,
    /// What is on disk alone, if such messages may be among it.
    pub(in crate::broker) shared_on_disk: Option<Sequences>,
}

impl SessionSlot {
    /// Attaches a receiver in this process.
    pub fn attach_local(&self, receiver: mpsc::Sender<Message>) {
        let mut outgoing = self.lock();
        outgoing.epoch += 1;
        outgoing.attached = Attached::Local(receiver);
    }

    /// Says that the session lives without connection, as a bridge's does.
    pub fn keep_for_ever(&self) {
        let mut outgoing = self.lock();
        outgoing.durable = true;
        outgoing.expiry_interval = u32::MAX;
        self.record_state(&outgoing);
    }

    /// Attaches a connection; one that was there is taken over: it gets DISCONNECT 0x8E and ends. What was in flight
    /// is sent again. Returns the epoch of the new connection, and the will of the one that was taken over.
    pub fn attach(
        self: &Arc<Self>,
        attachment: Attachment,
        now: Millis,
        batch: &mut Batch,
    ) -> (u64, Option<Box<Will>>) {
        let mut outgoing = self.lock();
        let old = std::mem::replace(&mut outgoing.attached, Attached::None);
        outgoing.epoch += 1;
        outgoing.durable = attachment.expiry_interval > 0;
        outgoing.expiry_interval = attachment.expiry_interval;
        let will = std::mem::replace(&mut outgoing.will, attachment.will);
        (outgoing.will_at, outgoing.ends_at, outgoing.away_since) = (None, None, None);
        if attachment.session_present {
            outgoing.session.resume(attachment.window);
        } else {
            let settled = outgoing.session.restart(attachment.window);
            let resent = outgoing.session.iter().filter(|(.., entry)| entry.qos == QoS::ExactlyOnce).count() as u64;
            self.metrics.qos2_resent.add(resent);
            outgoing.counts.qos2_resent += resent;
            for settled in &settled {
                outgoing.record_over(self, &settled.item, batch);
            }
        }
        if let Some(hop) = &attachment.hop {
            outgoing.session.lower_to(hop.maximum_qos);
        }
        // Now, so that it stands in the journal before anything that is delivered to the session.
        self.record_state(&outgoing);
        let output = attachment.writer.map_or(Output::Stream, Output::Socket);
        let mut wire = Box::new(Wire::new(attachment.sender, output, attachment.keep_alive, attachment.held));
        wire.set_hop(attachment.hop, self.mark(), now);
        self.awaits_commit.store(attachment.held.is_some(), Ordering::Release);
        wire.append(&attachment.prelude);
        outgoing.attached = Attached::Wire(wire);
        outgoing.pump(self, now, batch);
        let epoch = outgoing.epoch;
        drop(outgoing);
        turn::touch(Arc::clone(self));
        let was_connected = matches!(old, Attached::Wire(_));
        if let Attached::Wire(old) = old {
            old.end(ReasonCode::SessionTakenOver);
        }
        (epoch, will.filter(|_| was_connected))
    }

    /// Ends the connection of `epoch`, and says from when on [`SessionSlot::take_due`] has something. `false` where
    /// another has taken over meanwhile.
    pub fn detach(&self, epoch: u64, publish_will: bool, now: Millis) -> bool {
        let mut outgoing = self.lock();
        if outgoing.epoch != epoch || matches!(outgoing.attached, Attached::None) {
            return false;
        }
        let attached = std::mem::replace(&mut outgoing.attached, Attached::None);
        if !publish_will && outgoing.will.take().is_some() {
            // Else a restart would take it for one that is to come.
            self.record_state(&outgoing);
        }
        outgoing.set_times(now);
        outgoing.away_since = Some(now);
        self.record_away(&outgoing);
        // QoS 0 is not queued for those who are away.
        outgoing.queue.remove_at_most_once();
        drop(outgoing);
        drop(attached);
        true
    }

    /// Takes what is due at `now` for a session without connection.
    pub fn take_due(&self, now: Millis) -> Due {
        let mut outgoing = self.lock();
        if !matches!(outgoing.attached, Attached::None) {
            return Due::default();
        }
        let mut due = Due::default();
        if outgoing.will_at.is_some_and(|at| at <= now) {
            outgoing.will_at = None;
            due.will = outgoing.will.take();
        }
        if outgoing.ends_at.is_some_and(|at| at <= now) {
            outgoing.ends_at = None;
            due.ends = true;
        }
        due
    }

    /// Asks the connection to close if it has one and that has been silent for too long. `false` where it has none.
    pub(in crate::broker) fn close_silent(&self, now: Millis) -> bool {
        let mut outgoing = self.lock();
        let Attached::Wire(wire) = &mut outgoing.attached else {
            return false;
        };
        if wire.silent_at(self.last_heard()).is_some_and(|at| at <= now) {
            wire.closing = Some(ReasonCode::KeepAliveTimeout);
            wire.wake();
        }
        true
    }

    /// The time for which a timer must be set, if none that is set already comes before it.
    pub(in crate::broker) fn arm_timer(&self) -> Option<Millis> {
        let mut outgoing = self.lock();
        let at = match &outgoing.attached {
            Attached::Wire(wire) => wire.silent_at(self.last_heard())?,
            _ => [outgoing.will_at, outgoing.ends_at].into_iter().flatten().min()?,
        };
        if outgoing.timer_at.is_some_and(|armed| armed <= at) {
            return None;
        }
        outgoing.timer_at = Some(at);
        Some(at)
    }

    /// Notes that the timer that was set has come.
    pub(in crate::broker) fn disarm_timer(&self) {
        self.lock().timer_at = None;
    }

    /// Ends the session: closes a connection that it still has, and returns what others must hear of.
    pub(in crate::broker) fn end(self: &Arc<Self>, reason: ReasonCode) -> Remains {
        let mut outgoing = self.lock();
        // What may have been received at QoS 2 goes to nobody else [MQTT-4.8.2-5].
        let unfinished = outgoing.session.unacknowledged(QoS::AtLeastOnce);
        let mut shared: Vec<Entry> = unfinished.filter(|entry| entry.delivery.share.is_some()).cloned().collect();
        shared.extend(outgoing.take_queued(|entry| entry.delivery.share.is_some()));
        let attached = std::mem::replace(&mut outgoing.attached, Attached::None);
        outgoing.epoch += 1;
        let will = outgoing.will.take();
        (outgoing.will_at, outgoing.ends_at) = (None, None);
        outgoing.ended = true;
        let shared_on_disk = outgoing.queue.normal().shared_on_disk();
        outgoing.queue = Queues::default();
        outgoing.full_since = None;
        outgoing.note_size(self);
        drop(outgoing);
        self.awaiting_retained().clear();
        if let Attached::Wire(wire) = attached {
            wire.end(reason);
        }
        Remains { will, shared, shared_on_disk }
    }

    /// Whether the session is over.
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Whether the session outlives its connection.
    pub fn is_durable(&self) -> bool {
        self.lock().durable
    }

    /// Changes how long the session outlives its connection, as DISCONNECT may. Whether it ends with the connection
    /// from now on, and did not before: then that is to be recorded.
    pub fn set_expiry_interval(&self, epoch: u64, seconds: u32) -> bool {
        let mut outgoing = self.lock();
        if outgoing.epoch != epoch || outgoing.expiry_interval == seconds {
            return false;
        }
        outgoing.expiry_interval = seconds;
        let was_durable = std::mem::replace(&mut outgoing.durable, seconds > 0);
        self.record_state(&outgoing);
        was_durable && seconds == 0
    }

    /// Records that the will of a session without connection has been published.
    pub(in crate::broker) fn record_published_will(&self) {
        let outgoing = self.lock();
        if outgoing.will.is_none() && outgoing.away_since.is_some() {
            self.record_state(&outgoing);
            self.record_away(&outgoing);
        }
    }

    /// Records that the session is over, but for the messages `left`, which others still get: after a crash nobody
    /// finds it by its name.
    pub(in crate::broker) fn record_ending(&self, left: Sequences) -> Ticket {
        let mut outgoing = self.lock();
        let queue = self.queue_id;
        let state = SessionState {
            kind: self.kind,
            client_id: Arc::clone(&self.client_id),
            owner: outgoing.owner.clone(),
            expiry_interval: 0,
            window: 0,
            will: None,
        };
        let mut batch = Batch::default();
        batch.push(&Record::Session { queue, state });
        if let Some(last) = left.first.checked_sub(1) {
            batch.settle_all(queue, Sequences { first: 0, last });
        }
        let next = outgoing.session.take_sequence();
        if left.last + 1 < next {
            batch.settle_all(queue, Sequences { first: left.last + 1, last: next - 1 });
        }
        self.journal.append(&mut batch)
    }

    /// Records what is known of a durable session; where it had no connection it has one from then on.
    pub(super) fn record_state(&self, outgoing: &Outgoing) {
        if !outgoing.durable || !self.journal.is_durable() {
            return;
        }
        let state = SessionState {
            kind: self.kind,
            client_id: Arc::clone(&self.client_id),
            owner: outgoing.owner.clone(),
            expiry_interval: outgoing.expiry_interval,
            window: outgoing.session.reach(),
            will: outgoing.will.as_deref().map(StoredWill::from),
        };
        let mut batch = Batch::default();
        for lane in outgoing.queue.lanes() {
            // Each is a session to the journal, because each counts its own messages.
            let state = SessionState { client_id: Arc::clone(&lane.name), will: None, ..state.clone() };
            batch.push(&Record::Session { queue: lane.queue_id, state });
        }
        batch.push(&Record::Session { queue: self.queue_id, state });
        self.journal.append(&mut batch);
    }

    pub(super) fn record_away(&self, outgoing: &Outgoing) {
        if let Some(at) = outgoing.away_since.filter(|_| outgoing.durable && self.journal.is_durable()) {
            let mut batch = Batch::default();
            batch.push(&Record::Away { queue: self.queue_id, at });
            self.journal.append(&mut batch);
        }
    }

    /// Asks the connection of `epoch` (or whichever there is) to close with `reason`.
    pub fn close(&self, epoch: Option<u64>, reason: ReasonCode) {
        let mut outgoing = self.lock();
        if epoch.is_some_and(|epoch| epoch != outgoing.epoch) {
            return;
        }
        if let Attached::Wire(wire) = &mut outgoing.attached {
            wire.closing = Some(reason);
            wire.wake();
        }
    }
}

impl Outgoing {
    /// Sets when the will is due, and the end of the session, whose connection ended at `at`.
    pub(super) fn set_times(&mut self, at: Millis) {
        // The will comes at the latest when the session ends [MQTT-3.1.3-9].
        let expiry_interval = self.expiry_interval;
        self.will_at = self.will.as_ref().map(|will| at.plus_seconds(will.delay_interval.min(expiry_interval)));
        // 0xFFFFFFFF is never.
        self.ends_at = (expiry_interval < u32::MAX).then(|| at.plus_seconds(expiry_interval));
    }
}

impl From<&Will> for StoredWill {
    fn from(will: &Will) -> Self {
        Self {
            message: will.message.clone(),
            delay_interval: will.delay_interval,
            expiry_interval: will.expiry_interval,
        }
    }
}

impl From<StoredWill> for Will {
    fn from(will: StoredWill) -> Self {
        let StoredWill { message, delay_interval, expiry_interval } = will;
        Self { message, delay_interval, expiry_interval }
    }
}
