//! What a new route of a bridge sends first: the retained values that it takes, once.
//!
//! A route is known by its `from` and `to`, in a note of the bridge's session that is written behind the deliveries:
//! a crash between leaves it to be done again. What finds no room in the queue follows when there is some.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::delivery::{Delivery, Route};
use super::session_slot::{SessionSlot, Turn};
use super::{Broker, QueueLimits};
use crate::clock;
use crate::mqtt::{Message, QoS, TopicFilter};
use crate::store::{Batch, MAX_NOTE_BYTES};

/// What the notes about routes begin with.
const NOTE: &str = "retained ";
/// Retained values that are delivered in one go.
const ROUND: usize = 512;
/// Between two looks whether there is room.
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes that wait for the socket, and beyond which nothing is added that is not queued.
const MAX_BUFFERED_BYTES: u64 = 128 * 1024;

/// A route that has not sent all retained values yet.
#[derive(Debug)]
struct New {
    delivery: Arc<Delivery>,
    key: String,
    /// The last topic that it has sent; the others follow in their order.
    after: Option<Arc<str>>,
}

impl Broker {
    /// Delivers retained messages to the queue of a bridge for each of its routes that has not done so before. To be
    /// called when the routes have been subscribed and the bounds of the queue are set.
    pub fn send_first_values(self: &Arc<Self>, slot: &Arc<SessionSlot>) {
        let routes = slot.routes();
        let keys: Vec<String> =
            routes.iter().filter_map(|delivery| delivery.route.as_ref()).map(|route| key_of(route)).collect();
        for (key, _) in slot.notes().iter() {
            // One that comes back later is a new one.
            if key.starts_with(NOTE) && !keys.iter().any(|known| known == key) {
                let _ = slot.note(key, "");
            }
        }
        let notes = slot.notes();
        let new = routes.iter().zip(keys).filter(|(_, key)| notes.get(key).is_none());
        let mut new: VecDeque<New> =
            new.map(|(delivery, key)| New { delivery: Arc::clone(delivery), key, after: None }).collect();
        if self.send_round(slot, &mut new) {
            return;
        }
        let (broker, slot) = (Arc::clone(self), Arc::downgrade(slot));
        self.tasks().spawn(async move {
            loop {
                tokio::select! {
                    () = broker.cancellation().cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
                match slot.upgrade() {
                    Some(slot) if !slot.has_ended() => {
                        if broker.send_round(&slot, &mut new) {
                            return;
                        }
                    }
                    _ => return,
                }
            }
        });
    }

    /// Goes on as far as there is room. Whether all is done.
    fn send_round(&self, slot: &Arc<SessionSlot>, new: &mut VecDeque<New>) -> bool {
        // Those that wait for a connection do not hold up the others.
        for _ in 0..new.len() {
            let Some(mut route) = new.pop_front() else { break };
            if self.send_values(slot, &mut route) {
                if let Err(error) = slot.note(&route.key, "sent") {
                    tracing::warn!(bridge = %slot.client_id(), %error, "cannot note that retained values were sent");
                }
            } else {
                new.push_back(route);
            }
        }
        new.is_empty()
    }

    /// Delivers what a route takes. Whether that was all.
    fn send_values(&self, slot: &Arc<SessionSlot>, New { delivery, after, .. }: &mut New) -> bool {
        let Some(route) = &delivery.route else {
            return true;
        };
        let journal = self.router.journal();
        loop {
            let mut batch = Batch::default();
            // The note must not be on disk before them.
            batch.set_prompt();
            let mut turn = Turn { now: clock::now(), batch: &mut batch };
            let (left, is_full) = (Cell::new(ROUND), Cell::new(false));
            let has_room = |message: &Message| {
                is_full.set(!journal.has_room() || !has_room(slot, delivery, message));
                left.set(left.get().saturating_sub(1));
                left.get() > 0 && !is_full.get()
            };
            let filter = route.remap.from().as_str();
            let is_all = self.router.deliver_retained(slot, filter, after, delivery, &mut turn, has_room);
            self.router.finish(&mut batch);
            if is_all || is_full.get() {
                return is_all;
            }
        }
    }
}

impl SessionSlot {
    /// Whether a message of `topic` goes by `delivery`: a bridge's message takes the first route that matches.
    pub(super) fn goes_by(&self, delivery: &Delivery, topic: &str, payload: &[u8]) -> bool {
        let Some(route) = &delivery.route else {
            return true;
        };
        let precedes = |other: &Route| {
            other.order < route.order && other.remap.from().matches(topic) && other.takes(topic, payload)
        };
        let mut others = self.routes().iter().filter_map(|delivery| delivery.route.as_ref());
        route.takes(topic, payload) && !others.any(|other| precedes(other))
    }
}

/// Whether a message finds room in the queue, or with QoS 0 in the connection.
fn has_room(slot: &SessionSlot, delivery: &Delivery, message: &Message) -> bool {
    let waiting = slot.waiting();
    if delivery.qos.of(message.qos) == QoS::AtMostOnce {
        return waiting.is_connected && waiting.buffered_bytes < MAX_BUFFERED_BYTES;
    }
    let size = message.size();
    let QueueLimits { messages, bytes, .. } = slot.limits_for(size);
    // One that never fits is dropped, and counted, like any other.
    waiting.queued == 0 || waiting.queued < messages as u64 && waiting.queued_bytes + size as u64 <= bytes as u64
}

/// What is noted of a route: its `from` and `to`, which may be long.
fn key_of(route: &Route) -> String {
    let to = route.remap.to().map(TopicFilter::as_str);
    let mut key = format!("{NOTE}{:?} {to:?}", route.remap.from().as_str());
    if key.len() > MAX_NOTE_BYTES / 2 {
        let checksum = crc32c::crc32c(key.as_bytes());
        let end = key.floor_char_boundary(MAX_NOTE_BYTES / 4);
        key.truncate(end);
        key.push_str(&format!("... {checksum:08x}"));
    }
    key
}
