//! The status of a bridge as a retained message: `{gateway}/bridges/NAME/status`.
//!
//! It is published as if the bridge's server had: so the bridge's own routes leave it out, and those of others take it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use crate::broker::router::Origin;
use crate::broker::session_slot::{Counts, SetAside, Turn, Waiting};
use crate::broker::{Broker, SessionSlot};
use crate::clock;
use crate::health::{Backlog, BridgeHealth, Fact, LinkState, LinkStatus};
use crate::mqtt::{MessageBuilder, Publication, QoS, TopicName};
use crate::store::Batch;

/// Between two looks at the rates.
const LOOK: Duration = Duration::from_secs(10);
/// Between two messages while the state is the same.
const INTERVAL: Duration = Duration::from_secs(60);

/// Who publishes the status of a bridge.
#[derive(Debug)]
pub(super) struct Status {
    broker: Arc<Broker>,
    slot: Arc<SessionSlot>,
    health: Arc<BridgeHealth>,
    topic: Option<TopicName>,
}

impl Status {
    pub(super) fn of(plan: &Plan, broker: &Arc<Broker>, slot: &Arc<SessionSlot>, health: &Arc<BridgeHealth>) -> Self {
        Self {
            broker: Arc::clone(broker),
            slot: Arc::clone(slot),
            health: Arc::clone(health),
            // Both names are levels of a topic, so this does not fail.
            topic: TopicName::new(&format!("{}/bridges/{}/status", plan.gateway, plan.name)).ok(),
        }
    }

    /// Publishes it now, then at each change of state, and once a minute while anything in it changes; and a last time
    /// when `ended`.
    pub(super) async fn run(self, ended: CancellationToken) {
        let mut told = String::new();
        let (mut last, mut told_at) = (self.health.link(), Instant::now());
        self.tell(&mut told);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_over = tokio::select! {
                () = ended.cancelled() => true,
                () = self.health.moved() => false,
                _ = looks.tick() => false,
            };
            let link = self.health.link();
            if is_over || is_news(&last, &link) || told_at.elapsed() >= INTERVAL {
                (last, told_at) = (link, Instant::now());
                self.tell(&mut told);
            } else {
                // Rates are those of a minute that somebody has looked at.
                self.health.rates(&self.health.backlog());
            }
            if is_over {
                return;
            }
        }
    }

    /// Publishes what is so now, where that is not what was told before.
    fn tell(&self, told: &mut String) {
        let status = encode(&self.health.facts());
        if *told == status {
            return;
        }
        let Some(topic) = &self.topic else {
            return;
        };
        let message = MessageBuilder::new(topic, status.as_bytes()).qos(QoS::AtLeastOnce).retain(true).build();
        let mut batch = Batch::default();
        let mut turn = Turn { now: clock::now(), batch: &mut batch };
        let origin = Origin { slot: Some(&self.slot), received: None };
        self.broker.router.publish(&Publication::from_message(&message), origin, &mut turn);
        self.broker.metrics.local.add(1);
        self.broker.router.finish(&mut batch);
        *told = status;
    }
}

/// What is told of what waits.
pub(super) fn backlog_of(slot: &SessionSlot) -> Backlog {
    let waiting = slot.waiting();
    let Waiting { queued, queued_bytes, oldest, in_flight, set_aside: (set_aside, _), counts, .. } = waiting;
    let Counts { dropped, expired, resent, qos2_resent, qos2_downgraded, .. } = counts;
    Backlog {
        queued,
        queued_bytes,
        oldest,
        in_flight,
        is_full: waiting.is_full(),
        dropped,
        expired,
        resent,
        qos2_resent,
        qos2_downgraded,
        set_aside,
        last_set_aside: slot.last_set_aside().map(|SetAside { topic, reason }| format!("{topic}: {reason}")),
        sent: waiting.sent,
        received: waiting.received,
    }
}

/// Whether a link has changed so that people want to know it at once. That the next server is tried, or the same again
/// after a pause that was told of, is none: it would be told each time.
fn is_news(before: &LinkStatus, after: &LinkStatus) -> bool {
    let is_down = |state| !matches!(state, LinkState::Connected | LinkState::Stopped);
    let goes_on = after.state == LinkState::Connecting && is_down(before.state) && before.last_error.is_some();
    let is_other = before.state != after.state || before.last_error != after.last_error;
    is_other && !goes_on
}

fn encode(facts: &[(&str, Fact)]) -> String {
    let value = |fact: &Fact| match fact {
        Fact::Text(text) => Json::from(text.as_str()),
        Fact::Number(number) => Json::from(*number),
        Fact::Rate(rate) => Json::from(*rate),
        Fact::Flag(flag) => Json::from(*flag),
    };
    let object: Map<String, Json> = facts.iter().map(|(name, fact)| ((*name).to_owned(), value(fact))).collect();
    Json::Object(object).to_string()
}
