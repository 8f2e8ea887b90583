//! Which messages a link lets go, and what becomes of the one that ends it: [`Isolation`] at work.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::Arc;

use super::isolation::{Isolation, LinkEnd, Sent};
use super::outcome::Ended;
use super::plan::Server;
use super::supervise::{Bridge, Course};
use crate::broker::link;
use crate::broker::session_slot::{Hop, InFlight, Turn};
use crate::clock;
use crate::mqtt::{Millis, QoS, ReasonCode, Version};
use crate::store::Batch;

/// How messages fare on one link.
pub(super) struct Trial {
    /// Messages in flight that the server takes.
    pub(super) window: u16,
    /// Acknowledgements that had come when it was looked at last.
    pub(super) acknowledged: u64,
    /// Since when the server is to answer a ping, before anything of the queue is sent.
    pub(super) held_since: Option<Millis>,
}

impl Bridge {
    /// What `server` takes, as far as that is known before it says so.
    pub(super) fn hop(&self, server: &Server, isolation: &Isolation) -> Hop {
        let now = clock::now();
        let condemned: HashSet<String> =
            isolation.condemned(now).iter().filter_map(|topic| self.topic_on_hop(topic)).collect();
        let maximum_qos = self.memory.known(&server.to_string()).maximum_qos(now);
        let mut hop = match &self.plan.cloud {
            Some(cloud) => cloud.hop(self.plan.throttling),
            None => Hop { throttling: self.plan.throttling, ..Hop::default() },
        };
        hop.is_held = isolation.is_alone();
        hop.maximum_qos = hop.maximum_qos.min(if isolation.is_lowered() { QoS::AtLeastOnce } else { maximum_qos });
        if !condemned.is_empty() {
            let others = hop.refuses.take();
            hop.refuses = Some(Arc::new(move |topic| match &others {
                _ if condemned.contains(topic) => {
                    Some("the server ends the connection at messages of this topic".into())
                }
                Some(refuses) => refuses(topic),
                None => None,
            }));
        }
        hop
    }

    /// The most messages in flight, where somebody knows that beforehand.
    pub(super) fn most_in_flight(&self) -> Option<u16> {
        self.plan.cloud.as_ref().and_then(|cloud| cloud.rules.in_flight)
    }

    /// Looks how messages fare on the link of `epoch`, and lets more of them go.
    pub(super) fn follow(&self, trial: &mut Trial, epoch: u64, course: &Course<'_>, isolation: &mut Isolation) {
        let now = clock::now();
        let mut batch = Batch::default();
        let mut turn = Turn { now, batch: &mut batch };
        if trial.held_since.is_some_and(|since| self.slot.last_heard() >= since) {
            trial.held_since = None;
            self.slot.let_go(epoch, &mut turn);
        }
        for topic in self.slot.take_acknowledged_topics() {
            isolation.topic_acknowledged(&topic);
        }
        let (_, acknowledged) = self.slot.progress();
        let progress = isolation.acknowledged(acknowledged - trial.acknowledged);
        trial.acknowledged = acknowledged;
        if progress.takes_qos_1_at_most {
            let bridge = self.plan.name.as_str();
            tracing::warn!(bridge, server = course.server, "the server ends the connection at QoS 2; it gets QoS 1");
            self.memory.change(course.server, |known| known.maximum_qos = Some((QoS::AtLeastOnce, now)));
        }
        if progress.window > 0 {
            self.slot.set_window(epoch, progress.window.min(trial.window), &mut turn);
        }
        self.broker.router.finish(&mut batch);
        self.slot.flush_now();
    }

    /// Judges the message that was in flight when a link ended, and sets it aside where it is to blame.
    pub(super) fn isolate(&self, ended: &Ended, version: Version, has_acknowledged: bool, isolation: &mut Isolation) {
        let sent = self.slot.first_sent();
        let end = LinkEnd {
            sent: sent.as_ref().map(|InFlight { key, topic, qos, .. }| Sent { key: *key, topic, qos: *qos }),
            has_acknowledged,
            by_server: is_by_server(ended),
            is_stalled: matches!(ended, Ended::Stalled(_)),
            // 5.0 says which QoS it takes.
            may_lower: version == Version::V3,
        };
        let (was_alone, was_lowered) = (isolation.is_alone(), isolation.is_lowered());
        let guilty = isolation.link_ended(&end, clock::now());
        let bridge = self.plan.name.as_str();
        if isolation.is_alone() && !was_alone {
            tracing::warn!(bridge, "the server ends every link: messages go one by one until it is known which it is");
        }
        if isolation.is_lowered() && !was_lowered {
            tracing::warn!(bridge, "the server ends the link at a message of QoS 2: it is tried at QoS 1");
        }
        let Some((key, InFlight { topic, .. })) = guilty.zip(sent) else {
            return;
        };
        let reason = format!("it ended the link each time it was sent alone: {}", ended.describe());
        let mut batch = Batch::default();
        let mut turn = Turn { now: clock::now(), batch: &mut batch };
        if self.slot.set_aside(key, &reason, &mut turn) {
            self.health.note_error(&format!("a message of the topic {topic} was set aside: {reason}"));
        }
        self.broker.router.finish(&mut batch);
        self.slot.watch_topics(isolation.topics().map(str::to_owned).collect());
    }

    /// The topic of the hop for one of ours.
    fn topic_on_hop(&self, topic: &str) -> Option<String> {
        let mut on_hop = String::new();
        let mut takes = self.plan.send.iter().filter(|route| !route.except.iter().any(|except| except.matches(topic)));
        takes.any(|route| route.remap.apply(topic, &mut on_hop)).then_some(on_hop)
    }
}

/// Whether it was the server that ended a link in a way that a message may be to blame for.
fn is_by_server(ended: &Ended) -> bool {
    match ended {
        Ended::Stalled(_) | Ended::Link(link::End::Peer(None)) => true,
        // It had closed when we wrote on.
        Ended::Link(link::End::Closed(reason)) => *reason == ReasonCode::UnspecifiedError,
        Ended::Link(link::End::Transport(error)) => {
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
        }
        Ended::Link(link::End::Peer(Some(reason))) => matches!(
            reason,
            ReasonCode::UnspecifiedError
                | ReasonCode::MalformedPacket
                | ReasonCode::ProtocolError
                | ReasonCode::ImplementationSpecificError
                | ReasonCode::NotAuthorized
                | ReasonCode::TopicNameInvalid
                | ReasonCode::TopicAliasInvalid
                | ReasonCode::PacketTooLarge
                | ReasonCode::PayloadFormatInvalid
                | ReasonCode::RetainNotSupported
                | ReasonCode::QoSNotSupported
        ),
        Ended::Renewed(_) | Ended::Link(link::End::Protocol(_) | link::End::TakenOver) => false,
    }
}
