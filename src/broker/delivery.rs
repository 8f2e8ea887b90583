//! How messages of one subscription are delivered: the one value in which clients and bridges differ.

use std::sync::Arc;

use super::envelope::SharedEnvelope;
use super::lanes;
use crate::mapping::hop_payload::HopPayload;
use crate::mqtt::packet::SubscriptionOptions;
use crate::mqtt::{Millis, Publication, QoS, Remap, TopicFilter, topic};
use crate::store::{How, Identifiers};

/// How the messages that a subscription matches are delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// QoS of the hop.
    pub qos: DeliveryQoS,
    /// RETAIN of the hop.
    pub retain: RetainRule,
    /// Whether what the session itself published is left out.
    pub no_local: bool,
    /// Identifiers of the subscriptions that matched, sent along in 5.0; mostly none or one.
    pub identifiers: Vec<u32>,
    /// The filters of what the client may read, where that is not everything that its subscription matches.
    pub readable: Option<Arc<[TopicFilter]>>,
    /// The filter with the name of its group, where the subscription is a shared one.
    pub share: Option<TopicFilter>,
    /// The bridge route that it belongs to; `None` for clients.
    pub route: Option<Arc<Route>>,
}

/// QoS of the hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryQoS {
    /// The lower of this and what the message was published with.
    AtMost(QoS),
    /// This, whatever the message was published with.
    Exactly(QoS),
}

impl DeliveryQoS {
    /// QoS with which a message published at `published` is delivered.
    pub fn of(self, published: QoS) -> QoS {
        match self {
            Self::AtMost(maximum) => maximum.min(published),
            Self::Exactly(qos) => qos,
        }
    }
}

/// RETAIN of the hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainRule {
    /// Set on what was stored when the subscription was made, clear on what comes live [MQTT-3.3.1-12].
    OnlyStored,
    /// As the message was published: retain as published, and `retain: keep` of routes.
    AsPublished,
    /// Never set.
    Never,
    /// Always set.
    Always,
}

impl RetainRule {
    /// RETAIN of a message published with `published`; `stored` for a retained message sent to a new subscription.
    pub fn of(self, published: bool, stored: bool) -> bool {
        match self {
            Self::OnlyStored => stored,
            Self::AsPublished => published || stored,
            Self::Never => false,
            Self::Always => true,
        }
    }
}

/// A `send` route of a bridge.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// What queue entries remember of the route.
    pub name: Arc<str>,
    /// Its place among the bridge's routes: a message takes the first that matches.
    pub order: u16,
    /// From our topics to those of the hop.
    pub remap: Remap,
    /// Topics that the route does not take.
    pub except: Vec<TopicFilter>,
    /// What becomes of payloads when they are sent.
    pub payload: HopPayload,
    /// The lane in which its messages wait; see [`lanes`].
    pub lane: u8,
    /// The forms of its server; `None` where that is a plain broker.
    pub envelope: Option<SharedEnvelope>,
    /// How long a message waits, in milliseconds; `None` is for ever.
    pub expire: Option<u64>,
}

/// Whether `topic` is a command (`…/set`) and `from` a wildcard, which takes none out of the gateway.
pub fn withholds_command(from: &TopicFilter, topic: &str) -> bool {
    from.has_wildcard() && (topic.ends_with("/set") || topic == "set")
}

/// Whether `topic` is the result of a command: it goes before all others.
pub fn is_result(topic: &str) -> bool {
    topic.ends_with("/set/result")
}

impl Route {
    /// Whether the route takes messages of `topic`, which its filter matches.
    ///
    /// A wildcard never takes commands (`…/set`) out of the gateway.
    pub fn takes(&self, topic: &str, payload: &[u8]) -> bool {
        if withholds_command(self.remap.from(), topic) {
            return false;
        }
        !self.except.iter().any(|filter| topic::matches(filter.as_str(), topic))
            && self.envelope.as_ref().is_none_or(|envelope| envelope.takes(topic, payload))
    }

    /// The lane in which a message of `topic` waits: who has sent a command waits for its result.
    pub fn lane_of(&self, topic: &str) -> u8 {
        if is_result(topic) { lanes::HIGH } else { self.lane }
    }
}

impl Delivery {
    /// Delivery to a client that subscribed at `qos`.
    pub fn at_most(qos: QoS) -> Self {
        Self {
            qos: DeliveryQoS::AtMost(qos),
            retain: RetainRule::OnlyStored,
            no_local: false,
            identifiers: Vec::new(),
            readable: None,
            share: None,
            route: None,
        }
    }

    /// Delivery to a client that subscribed to `filter`; `readable` is what it may read of that, where not everything.
    pub fn of_subscription(
        filter: &TopicFilter,
        options: SubscriptionOptions,
        identifier: Option<u32>,
        readable: Option<Arc<[TopicFilter]>>,
    ) -> Self {
        Self {
            retain: if options.retain_as_published { RetainRule::AsPublished } else { RetainRule::OnlyStored },
            no_local: options.no_local,
            identifiers: identifier.into_iter().collect(),
            readable,
            share: filter.share().is_some().then(|| filter.clone()),
            ..Self::at_most(options.qos)
        }
    }

    /// How a message is recorded that goes out with `qos` and `retain`, and came at `now`.
    pub fn how(&self, qos: QoS, retain: bool, now: Millis) -> How<'_> {
        How {
            // Clients' queues have no use for it.
            since: self.route.is_some().then_some(now),
            identifiers: Identifiers::Decoded(&self.identifiers),
            share: self.share.as_ref().map(TopicFilter::as_str),
            route: self.route.as_ref().map(|route| &*route.name),
            ..How::plain(qos, retain)
        }
    }

    /// The lane in which a message of `topic` waits.
    pub fn lane_of(&self, topic: &str) -> u8 {
        self.route.as_ref().map_or(lanes::NORMAL, |route| route.lane_of(topic))
    }

    /// Whether the client may read `topic`, which its filter matches.
    pub fn may_read(&self, topic: &str) -> bool {
        self.readable.as_ref().is_none_or(|filters| filters.iter().any(|filter| filter.matches(topic)))
    }

    /// Whether nothing goes out for `publication`: a value that is not available, where the route sends text.
    pub fn leaves_out(&self, publication: &Publication<'_>) -> bool {
        let reading = || publication.reading().map(|reading| &**reading);
        self.route.as_ref().is_some_and(|route| route.payload.leaves_out(reading()))
    }

    /// One delivery for a message that several subscriptions of one session matched: the first route of a bridge;
    /// for a client the highest QoS and all identifiers [MQTT-3.3.4-2, MQTT-3.3.4-4].
    pub fn merge(&self, other: &Self) -> Self {
        match (&self.route, &other.route) {
            (Some(mine), Some(theirs)) if theirs.order < mine.order => other.clone(),
            (Some(_), _) => self.clone(),
            (None, _) => {
                let mut merged = self.clone();
                merged.qos = match (self.qos, other.qos) {
                    (DeliveryQoS::AtMost(a), DeliveryQoS::AtMost(b)) => DeliveryQoS::AtMost(a.max(b)),
                    (exact @ DeliveryQoS::Exactly(_), _) | (_, exact) => exact,
                };
                if other.retain == RetainRule::AsPublished {
                    merged.retain = RetainRule::AsPublished;
                }
                merged.identifiers.extend_from_slice(&other.identifiers);
                merged
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(from: &str, except: &[&str]) -> Route {
        Route {
            name: "r".into(),
            order: 0,
            remap: Remap::new(TopicFilter::new(from).unwrap(), None).unwrap(),
            except: except.iter().map(|filter| TopicFilter::new(filter).unwrap()).collect(),
            payload: HopPayload::default(),
            lane: lanes::NORMAL,
            envelope: None,
            expire: None,
        }
    }

    #[test]
    fn a_wildcard_route_never_takes_commands_but_their_results() {
        let all = route("edge/#", &["edge/gps"]);
        assert!(!all.takes("edge/plc/pump/set", b""));
        assert!(all.takes("edge/plc/pump/set/result", b""));
        assert!(!all.takes("edge/gps", b""));
        assert!(route("edge/plc/pump/set", &[]).takes("edge/plc/pump/set", b""));
    }
}
