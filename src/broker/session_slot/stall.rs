//! What a bridge sees of its link, and how it has messages go one by one where they end links.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::aside::InFlight;
use super::outgoing::Outgoing;
use super::{SessionSlot, Turn};
use crate::broker::delivery_queue::Entry;

/// Topics whose acknowledgements are noted.
#[derive(Debug, Default)]
pub(super) struct Watched {
    topics: Vec<String>,
    acknowledged: Vec<String>,
}

impl SessionSlot {
    /// Messages in flight, and the acknowledgements that have come for messages of this session so far.
    pub fn progress(&self) -> (u64, u64) {
        let in_flight = self.lock().session.len() as u64;
        (in_flight, self.acknowledged.load(Ordering::Relaxed))
    }

    /// Notes that acknowledgements have come.
    pub(super) fn note_acknowledged(&self, count: usize) {
        self.acknowledged.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// The first message in flight that has been sent on the newest connection and not been acknowledged.
    pub fn first_sent(&self) -> Option<InFlight> {
        let is_sent = self.lock().session.sent() > 0;
        is_sent.then(|| self.first_in_flight()).flatten()
    }

    /// Lets messages go on the connection of `epoch` that [`Hop::is_held`](super::Hop::is_held) has held.
    pub fn let_go(self: &Arc<Self>, epoch: u64, turn: &mut Turn<'_>) {
        let mut outgoing = self.lock();
        let hopping = outgoing.wire_of(epoch).and_then(|wire| wire.hopping.as_mut());
        if let Some(hopping) = hopping {
            hopping.hop.is_held = false;
            outgoing.pump(self, turn.now, turn.batch);
        }
    }

    /// Changes how many messages may be in flight on the connection of `epoch`.
    pub fn set_window(self: &Arc<Self>, epoch: u64, window: u16, turn: &mut Turn<'_>) {
        let mut outgoing = self.lock();
        if outgoing.wire_of(epoch).is_some() {
            let reach = outgoing.session.reach();
            outgoing.session.set_window(window);
            if outgoing.session.reach() > reach {
                self.record_state(&outgoing);
            }
            outgoing.pump(self, turn.now, turn.batch);
        }
    }

    /// Notes from now on when messages of these topics are acknowledged, and of no others.
    pub fn watch_topics(&self, topics: Vec<String>) {
        self.lock().watched = (!topics.is_empty()).then(|| Box::new(Watched { topics, acknowledged: Vec::new() }));
    }

    /// Those of the topics of which a message was acknowledged.
    pub fn take_acknowledged_topics(&self) -> Vec<String> {
        let mut outgoing = self.lock();
        outgoing.watched.as_mut().map(|watched| std::mem::take(&mut watched.acknowledged)).unwrap_or_default()
    }
}

impl Outgoing {
    /// Notes that a message was acknowledged.
    pub(super) fn note_acknowledged(&mut self, entry: &Entry) {
        let Some(watched) = &mut self.watched else {
            return;
        };
        let topic = entry.message.topic();
        if let Some(at) = watched.topics.iter().position(|watched| watched == topic) {
            watched.acknowledged.push(watched.topics.swap_remove(at));
        }
    }
}
