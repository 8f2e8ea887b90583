//! Messages that a bridge's server does not take: they are set aside, in a lane that is never sent, so that the rest
//! flows and somebody can look at them.

use std::sync::Arc;

use super::outgoing::Outgoing;
use super::{SessionSlot, Turn};
use crate::broker::delivery_queue::{Entry, QueueLimits, Recording};
use crate::broker::lanes;
use crate::mqtt::{Millis, Publication, QoS};
use crate::store::settings::WhenFull;
use crate::store::{Batch, Delivered};

/// Messages that stand aside; beyond that the oldest are dropped.
const MESSAGES: usize = 1000;
/// Their bytes.
const BYTES: usize = 4 * 1024 * 1024;

/// A message in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// Its place in the session.
    pub key: u64,
    /// The topic that it was published on.
    pub topic: String,
    /// Its QoS on the hop.
    pub qos: QoS,
    /// Bytes of its payload.
    pub bytes: usize,
    /// When it came.
    pub since: Millis,
}

/// Why a message was set aside last, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The topic that it was published on.
    pub topic: String,
    /// Why.
    pub reason: String,
}

impl SessionSlot {
    /// The message in flight that was sent first, if there is any.
    pub fn first_in_flight(&self) -> Option<InFlight> {
        let outgoing = self.lock();
        let (key, _, entry) = outgoing.session.iter().next()?;
        let Entry { message, since, .. } = entry;
        let (topic, bytes) = (message.topic().into(), message.payload().len());
        Some(InFlight { key, topic, qos: entry.qos, bytes, since: *since })
    }

    /// Sets a message in flight aside, because the server does not take it. `false` where it is not in flight any more.
    pub fn set_aside(self: &Arc<Self>, key: u64, reason: &str, turn: &mut Turn<'_>) -> bool {
        let mut outgoing = self.lock();
        let found = outgoing.session.iter().find(|(known, ..)| *known == key).map(|(_, packet_id, _)| packet_id);
        let Some(settled) = found.and_then(|packet_id| outgoing.session.abandon(packet_id)) else {
            return false;
        };
        outgoing.set_aside(self, &settled.item, reason.into());
        outgoing.record_over(self, &settled.item, turn.batch);
        true
    }

    /// The message that was set aside last.
    pub fn last_set_aside(&self) -> Option<SetAside> {
        let last = self.lock().last_set_aside.clone();
        last.or_else(|| self.noted_set_aside())
    }
}

impl Outgoing {
    /// Messages that stand aside, and their bytes.
    pub(super) fn aside(&self) -> (u64, u64) {
        let lane = usize::from(lanes::ASIDE).checked_sub(1).and_then(|index| self.queue.lanes().get(index));
        lane.map_or((0, 0), |lane| (lane.queue.len() as u64, lane.queue.bytes() as u64))
    }

    /// Puts a message aside; the caller records that it is over where it was.
    pub(super) fn set_aside(&mut self, slot: &SessionSlot, entry: &Entry, reason: String) {
        let topic = entry.message.topic();
        tracing::error!(
            bridge = %slot.client_id(), topic, bytes = entry.message.payload().len(), reason,
            "a message was set aside: the server does not take it"
        );
        self.counts.set_aside += 1;
        let set_aside = SetAside { topic: topic.into(), reason };
        self.last_set_aside = Some(set_aside.clone());
        let durable = self.durable;
        let (mut dropped, mut gone) = (0, Vec::new());
        let Some(lane) = self.queue.lane_mut(lanes::ASIDE) else {
            return;
        };
        let queue = lane.queue_id;
        let limits = QueueLimits { messages: MESSAGES, bytes: BYTES, when_full: WhenFull::DropOldest };
        match lane.queue.make_room(entry.message.size(), &limits, |sequences| gone.push(sequences)) {
            Some(count) => dropped += count,
            None => dropped += 1,
        }
        // Of QoS 0, too: what stands aside is kept.
        let sequence = lane.next_number;
        lane.next_number += 1;
        slot.note_set_aside(sequence, &set_aside);
        let entry = Entry {
            lane: lanes::ASIDE,
            sequence: Some(sequence),
            qos: entry.qos.max(QoS::AtLeastOnce),
            pending: None,
            settles: None,
            ..entry.clone()
        };
        // A batch of its own: another publication may be under way. A crash before the one that says that it is over
        // leaves it in both places, and it is tried again.
        let mut batch = Batch::default();
        for sequences in gone {
            batch.settle_all(queue, sequences);
        }
        if durable && entry.message.size() <= BYTES {
            let how = entry.delivery.how(entry.qos, entry.retain, entry.since);
            batch.deliver(Delivered { queue, sequence }, &how);
            batch.publish(&Publication::from_message(&entry.message), None);
        }
        if entry.message.size() <= BYTES {
            let journal = &slot.journal;
            let is_recorded = durable && self.pager.is_some();
            let recording = is_recorded.then_some(Recording { batch: &mut batch, journal });
            if let Some(lane) = self.queue.lane_mut(lanes::ASIDE) {
                lane.queue.push(entry, recording);
            }
        }
        slot.journal.append(&mut batch);
        self.count_dropped(slot, dropped);
    }
}
