//! Who this gateway is to others, and what comes back to it.
//!
//! Bridges write its id into `via` of what they send and receive; a message that comes in with it is in a loop.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::Broker;
use crate::clock;
use crate::mqtt::via::{self, GatewayId, Passed};
use crate::mqtt::{Millis, Publication};
use crate::store::{Batch, Notes, QueueId, Record};

/// What the id stands under in the gateway's notes.
const NOTE: &str = "gateway id";
/// Between two lines of the log about loops, in milliseconds.
const COMPLAINT_MS: u64 = 600_000;

/// Who this gateway is to others.
#[derive(Debug, Default)]
pub(super) struct Identity {
    id: OnceLock<GatewayId>,
    /// When the log has last told of a loop.
    told_at: Mutex<Option<Millis>>,
    /// Messages in loops since then.
    untold: AtomicU64,
}

impl Broker {
    /// The id of this gateway. It stays over restarts where the journal is on disk.
    pub fn gateway_id(&self) -> GatewayId {
        *self.identity.id.get_or_init(|| GatewayId::from_bits(RandomState::new().hash_one(std::process::id())))
    }

    /// Goes on with the id of the process before, or notes a new one.
    pub(super) fn restore_identity(&self, notes: &Notes) {
        if let Some(id) = notes.get(NOTE).and_then(GatewayId::parse) {
            // It is asked for when bridges are made, which is later.
            let _ = self.identity.id.set(id);
            return;
        }
        let journal = self.router.journal();
        let mut batch = Batch::default();
        batch.set_recording(journal.is_durable());
        batch.push(&Record::Note { queue: QueueId::RETAINED, key: NOTE, value: self.gateway_id().as_str() });
        journal.append(&mut batch);
    }

    /// Whether a message that comes in has been here before, or at too many gateways; then it is counted.
    pub(super) fn is_looped(&self, publication: &Publication<'_>, from: &str) -> bool {
        if publication.properties.is_empty() {
            return false;
        }
        let what = match via::passed(publication.properties, self.gateway_id()) {
            Passed::Elsewhere => return false,
            Passed::Here => "a message came back that this gateway has sent on: bridges make a loop",
            Passed::TooMany => "a message has passed too many gateways: bridges make a loop, or a long chain",
        };
        self.metrics.looped.add(1);
        let now = clock::now();
        let mut told_at = self.identity.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_some_and(|at| now.since(at) < COMPLAINT_MS) {
            self.identity.untold.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        *told_at = Some(now);
        drop(told_at);
        let more = self.identity.untold.swap(0, Ordering::Relaxed);
        tracing::warn!(client = from, topic = publication.topic, more, "{what}; it is dropped");
        true
    }
}
