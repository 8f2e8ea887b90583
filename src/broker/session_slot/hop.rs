//! What the server of a dialled link takes: more restricted than a client of ours would be.

use std::fmt;
use std::sync::Arc;

use crate::broker::lanes::{Rank, Throttle, Throttling};
use crate::mqtt::via::GatewayId;
use crate::mqtt::{Millis, QoS};

/// Says why a topic is refused, if it is.
pub type RefusesTopic = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What the server of a dialled link takes.
#[derive(Clone)]
pub struct Hop {
    /// The highest QoS: CONNACK's Maximum QoS (section 3.2.2.3.4), or what was learnt of the server.
    pub maximum_qos: QoS,
    /// Whether it keeps retained messages: CONNACK's Retain Available (section 3.2.2.3.5).
    pub retain_available: bool,
    /// Bytes of the largest packet that it takes; CONNACK may say less.
    pub packet_bytes: Option<u32>,
    /// How fast it is sent to.
    pub throttling: Throttling,
    /// Why it does not take a topic, where somebody knows that beforehand.
    pub refuses: Option<Arc<RefusesTopic>>,
}

impl Default for Hop {
    fn default() -> Self {
        Self {
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            packet_bytes: None,
            throttling: Throttling::default(),
            refuses: None,
        }
    }
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hop")
            .field("maximum_qos", &self.maximum_qos)
            .field("retain_available", &self.retain_available)
            .field("throttling", &self.throttling)
            .finish_non_exhaustive()
    }
}

/// Why a message cannot be sent to a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The packet is larger than it takes.
    #[error("the packet is larger than the {0} bytes that the server takes")]
    TooLarge(usize),
    /// Its topic on the hop is no topic name.
    #[error("the route makes no topic of it")]
    NoTopic,
    /// It does not take the topic.
    #[error("{0}")]
    Topic(String),
}

/// How a connection stands with its hop.
#[derive(Debug)]
pub(super) struct Hopping {
    pub(super) hop: Hop,
    pub(super) throttle: Option<Throttle>,
    /// When something may go, where that is only a matter of time.
    pub(super) due: Option<Millis>,
    /// When the throttle lets the next message go that it has held.
    throttled_until: Option<Millis>,
    /// What messages are marked with, as having passed this gateway.
    pub(super) mark: Option<GatewayId>,
    /// The properties of marked messages are written here.
    pub(super) marked: Vec<u8>,
}

impl Hopping {
    pub(super) fn new(hop: Hop, mark: Option<GatewayId>, now: Millis) -> Self {
        let throttle = Throttle::new(hop.throttling, now);
        Self { hop, throttle, due: None, throttled_until: None, mark, marked: Vec::new() }
    }

    /// Whether a message of `rank` may go at `now`. If not, it is noted when.
    pub(super) fn may_send(&mut self, rank: Rank, now: Millis) -> bool {
        let Some(throttle) = self.throttle.as_mut().filter(|_| rank != Rank::High) else {
            return true;
        };
        let at = throttle.next_at(now);
        if at > now {
            self.throttled_until = Some(at);
        }
        at <= now
    }

    /// Notes when something else may go. Whether that is sooner than was known.
    pub(super) fn set_due(&mut self, due: Option<Millis>, now: Millis) -> bool {
        // What is due already waits for something else than time.
        let next = due.into_iter().chain(self.throttled_until.take()).filter(|&at| at > now).min();
        let is_sooner = next.is_some_and(|next| self.due.is_none_or(|due| next < due));
        self.due = next;
        is_sooner
    }
}
