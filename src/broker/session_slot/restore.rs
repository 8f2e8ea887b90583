//! A session as the process before this one has left it.

use std::sync::Arc;

use super::{SessionSlot, Will};
use crate::broker::delivery_queue::Entry;
use crate::broker::lanes::Lane;
use crate::mqtt::session::{Inbound, Unsettled};
use crate::mqtt::{Millis, PacketId};
use crate::store::Queued;

/// What is known of a session.
#[derive(Debug)]
pub(in crate::broker) struct Past {
    pub(in crate::broker) owner: Option<Arc<str>>,
    /// Seconds that it outlives its connection.
    pub(in crate::broker) expiry_interval: u32,
    pub(in crate::broker) will: Option<Will>,
    /// Since when it has no connection.
    pub(in crate::broker) away_since: Millis,
    /// Whether the journal knows that.
    pub(in crate::broker) is_known_away: bool,
    /// Messages that its last connection took in flight.
    pub(in crate::broker) window: u16,
    pub(in crate::broker) next_sequence: u64,
    pub(in crate::broker) next_receipt: u64,
    pub(in crate::broker) receipts: Vec<(u64, PacketId)>,
    /// What was in flight, in the order of the sequences.
    pub(in crate::broker) unsettled: Vec<Unsettled<Entry>>,
    /// What waited behind that, from the sequence `waiting_from` on.
    pub(in crate::broker) waiting: Queued,
    pub(in crate::broker) waiting_from: u64,
    /// Whether messages of shared subscriptions may be among that.
    pub(in crate::broker) is_shared: bool,
}

impl SessionSlot {
    /// Gives a bridge's session `lanes` beside the normal one. To be called before anybody else has it.
    pub(in crate::broker) fn set_lanes(&self, lanes: Vec<Lane>) {
        let mut outgoing = self.lock();
        outgoing.session.set_lanes();
        outgoing.queue.set_lanes(lanes);
    }

    /// Goes on with the lane `at` where it was: it has given out the numbers below `next_number`, and from `from` on
    /// something waits. What was in flight comes with [`SessionSlot::restore`].
    pub(in crate::broker) fn restore_lane(&self, at: u8, next_number: u64, waiting: Queued, from: u64) {
        let mut outgoing = self.lock();
        if let Some(lane) = outgoing.queue.lane_mut(at) {
            lane.next_number = next_number;
            lane.queue.restore(waiting.messages, waiting.bytes, from, next_number);
        }
    }

    /// Goes on with a session where it was. To be called before anybody else has it.
    pub(in crate::broker) fn restore(self: &Arc<Self>, past: Past) {
        let received = past.receipts.iter().map(|&(number, packet_id)| (packet_id, number));
        *self.inbound() = Inbound::restore(past.next_receipt, received);
        let mut outgoing = self.lock();
        outgoing.owner = past.owner;
        outgoing.durable = true;
        outgoing.expiry_interval = past.expiry_interval;
        outgoing.session.restore(past.next_sequence, past.window, past.unsettled);
        // What was taken before is kept, whatever the bounds say now.
        let Queued { messages, bytes } = past.waiting;
        outgoing.queue.normal().restore(messages, bytes, past.waiting_from, past.next_sequence);
        if past.is_shared {
            outgoing.queue.normal().note_shared();
        }
        outgoing.note_size(self);
        outgoing.will = past.will.map(Box::new);
        outgoing.away_since = Some(past.away_since);
        outgoing.set_times(past.away_since);
        if !past.is_known_away {
            self.record_away(&outgoing);
        }
    }
}
