//! `$SYS`: what the broker and the gateway around it tell of themselves, under the names that mosquitto's exporters
//! and dashboards read.
//!
//! Values are retained, of QoS 0 (nobody who is away wants a backlog of them, and no disk is written for them), and
//! published when they have changed. How the gateway, a bridge or a device is, is told at once; everything else at an
//! interval.

mod journal;
mod load;
pub mod memory;

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Broker;
use crate::clock;
use crate::health::HealthTable;
use crate::metrics::Tally;
use crate::mqtt::{Message, MessageBuilder, TopicName};
use crate::store::Statistics;
use load::Load;

/// Whether a topic is the broker's own: nobody else publishes to it.
pub(super) fn is_system(topic: &str) -> bool {
    topic.strip_prefix("$SYS").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Publishes what is known now, and then at each `interval` what has changed, until the broker stops. Nothing with an
/// interval of 0. `statistics` are those of the journal; `None` where nothing is kept.
pub fn start(broker: &Arc<Broker>, health: Arc<HealthTable>, statistics: Option<Arc<Statistics>>, interval: Duration) {
    if interval.is_zero() {
        return;
    }
    let mut topics = SysTopics::new(Arc::clone(broker), health, statistics);
    topics.publish_all();
    let cancelled = broker.cancellation().clone();
    broker.tasks().spawn(async move {
        let mut ticks = interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let health = Arc::clone(&topics.health);
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return,
                _ = ticks.tick() => topics.publish_all(),
                () = health.changed() => topics.publish_states(),
            }
        }
    });
}

struct SysTopics {
    broker: Arc<Broker>,
    health: Arc<HealthTable>,
    statistics: Option<Arc<Statistics>>,
    started: Instant,
    loads: Vec<Load>,
    /// What has been published last, by topic.
    published: HashMap<String, String>,
}

/// Values by topic, as they are now.
#[derive(Default)]
struct Values(Vec<(String, String)>);

/// Numbers that only rise.
struct Totals {
    received: Tally,
    sent: Tally,
    dropped: u64,
    connections: u64,
    connects: u64,
}

/// What all sessions hold together, those of bridges too.
#[derive(Debug, Default)]
pub struct Held {
    /// Messages that wait or are in flight.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, sent and not yet acknowledged.
    pub in_flight: u64,
    /// Subscriptions that are not shared.
    pub subscriptions: u64,
    /// Those that are.
    pub shared_subscriptions: u64,
    /// Of clients that are connected: what waits for their sockets.
    outgoing: u64,
    outgoing_bytes: u64,
}

impl SysTopics {
    fn new(broker: Arc<Broker>, health: Arc<HealthTable>, statistics: Option<Arc<Statistics>>) -> Self {
        let now = Instant::now();
        let loads = vec![
            Load::new("messages/received", now, |totals| totals.received.packets()),
            Load::new("messages/sent", now, |totals| totals.sent.packets()),
            Load::new("publish/received", now, |totals| totals.received.publishes),
            Load::new("publish/sent", now, |totals| totals.sent.publishes),
            Load::new("publish/dropped", now, |totals| totals.dropped),
            Load::new("bytes/received", now, |totals| totals.received.bytes),
            Load::new("bytes/sent", now, |totals| totals.sent.bytes),
            Load::new("sockets", now, |totals| totals.connections),
            Load::new("connections", now, |totals| totals.connects),
        ];
        Self { broker, health, statistics, started: now, loads, published: HashMap::new() }
    }

    /// Publishes all values that have changed, and clears those that there are no more.
    fn publish_all(&mut self) {
        let mut values = Values::default();
        self.tell_broker(&mut values);
        self.tell_states(&mut values);
        self.tell_parts(&mut values);
        let told: HashSet<&str> = values.0.iter().map(|(topic, _)| topic.as_str()).collect();
        let gone = self.published.extract_if(|topic, _| !told.contains(topic.as_str()));
        let gone: Vec<Message> = gone.filter_map(|(topic, _)| message(&topic, "")).collect();
        self.broker.router.publish_all(&gone, clock::now());
        self.publish_changed(values);
    }

    /// Publishes which bridges and devices are well, where that has changed.
    fn publish_states(&mut self) {
        let mut values = Values::default();
        self.tell_states(&mut values);
        self.publish_changed(values);
    }

    fn publish_changed(&mut self, values: Values) {
        let mut messages = Vec::new();
        for (topic, value) in values.0 {
            if self.published.get(&topic) != Some(&value) {
                messages.extend(message(&topic, &value));
                self.published.insert(topic, value);
            }
        }
        self.broker.router.publish_all(&messages, clock::now());
    }

    fn tell_broker(&mut self, values: &mut Values) {
        let metrics = &self.broker.metrics;
        let totals = Totals {
            received: metrics.received.total(),
            sent: metrics.sent.total(),
            dropped: metrics.dropped.value(),
            connections: metrics.connections.value(),
            connects: metrics.connects.value(),
        };
        let now = Instant::now();
        let mut tell = |topic: &str, value: &dyn Display| values.tell(&format!("$SYS/broker/{topic}"), value);
        tell("version", &concat!("edgeway version ", env!("CARGO_PKG_VERSION")));
        tell("uptime", &format_args!("{} seconds", now.duration_since(self.started).as_secs()));

        let sessions = self.broker.session_count() as u64;
        let connected = metrics.clients.value();
        let disconnected = sessions.saturating_sub(connected);
        tell("clients/total", &sessions);
        tell("clients/maximum", &metrics.clients.highest());
        tell("clients/connected", &connected);
        tell("clients/active", &connected);
        tell("clients/disconnected", &disconnected);
        tell("clients/inactive", &disconnected);
        tell("clients/expired", &metrics.expired_sessions.value());

        for (direction, tally) in [("received", totals.received), ("sent", totals.sent)] {
            tell(&format!("bytes/{direction}"), &tally.bytes);
            tell(&format!("messages/{direction}"), &tally.packets());
            tell(&format!("publish/messages/{direction}"), &tally.publishes);
            tell(&format!("publish/bytes/{direction}"), &tally.payload_bytes);
        }
        tell("publish/messages/dropped", &totals.dropped);
        tell("publish/messages/expired", &metrics.expired.value());
        tell("publish/messages/too_large", &metrics.too_large.value());
        tell("publish/messages/looped", &metrics.looped.value());
        tell("connections/socket/count", &totals.connections);

        let retained = self.broker.router.retained_count() as u64;
        let held = held(&self.broker, &self.health);
        tell("retained messages/count", &retained);
        tell("messages/inflight", &held.in_flight);
        tell("messages/stored", &(retained + held.messages));
        tell("store/messages/count", &(retained + held.messages));
        tell("store/messages/bytes", &(self.broker.router.retained_bytes() as u64 + held.bytes));
        tell("subscriptions/count", &held.subscriptions);
        tell("shared_subscriptions/count", &held.shared_subscriptions);
        tell("packet/out/count", &held.outgoing);
        tell("packet/out/bytes", &held.outgoing_bytes);
        if let Some(memory) = memory::of_this_process() {
            tell("heap/current", &memory.current);
            tell("heap/maximum", &memory.highest);
        }
        for load in &mut self.loads {
            for (minutes, average) in load.update(&totals, now) {
                tell(&format!("load/{}/{minutes}min", load.name()), &format_args!("{average:.2}"));
            }
        }
        if let Some(statistics) = &self.statistics {
            journal::tell_figures(statistics, &held, values);
        }
    }

    /// Whether all is well; and how bridges and devices are.
    fn tell_states(&self, values: &mut Values) {
        journal::tell_state(&self.health, self.statistics.is_some(), values);
        for bridge in self.health.bridges() {
            let state = u8::from(bridge.is_connected());
            values.tell(&format!("$SYS/broker/connection/{}/state", bridge.name()), &state);
            values.tell(&format!("$SYS/gateway/bridges/{}/state", bridge.name()), &bridge.link().state);
        }
        for device in self.health.devices() {
            values.tell(&format!("$SYS/gateway/devices/{}/state", device.name()), &u8::from(device.is_online()));
        }
    }

    /// What bridges and devices count, and what is wrong with them.
    fn tell_parts(&self, values: &mut Values) {
        for bridge in self.health.bridges() {
            // The state is told at once, with those of the others.
            for (name, fact) in bridge.facts().into_iter().filter(|(name, _)| *name != "state") {
                values.tell(&format!("$SYS/gateway/bridges/{}/{name}", bridge.name()), &fact);
            }
        }
        for device in self.health.devices() {
            let mut tell =
                |key, value: &dyn Display| values.tell(&format!("$SYS/gateway/devices/{}/{key}", device.name()), value);
            tell("readings", &device.readings());
            tell("errors", &device.errors());
            if let Some(error) = device.error() {
                tell("error", &error);
            }
        }
    }
}

impl Values {
    fn tell(&mut self, topic: &str, value: &dyn Display) {
        self.0.push((topic.to_owned(), value.to_string()));
    }
}

/// What all sessions hold together, now.
pub fn held(broker: &Broker, health: &HealthTable) -> Held {
    let mut held = Held::default();
    for slot in broker.all_sessions() {
        let waiting = slot.waiting();
        held.messages += waiting.queued + waiting.in_flight;
        held.bytes += waiting.queued_bytes + waiting.in_flight_bytes;
        held.in_flight += waiting.in_flight;
        if waiting.is_connected {
            held.outgoing += waiting.queued + waiting.buffered;
            held.outgoing_bytes += waiting.queued_bytes + waiting.buffered_bytes;
        }
        for filter in &*slot.filters() {
            let shared = filter.share().is_some();
            *(if shared { &mut held.shared_subscriptions } else { &mut held.subscriptions }) += 1;
        }
    }
    for bridge in health.bridges() {
        let backlog = bridge.backlog();
        held.messages += backlog.queued + backlog.in_flight;
        held.bytes += backlog.queued_bytes;
        held.in_flight += backlog.in_flight;
    }
    held
}

/// An empty value clears what is retained.
fn message(topic: &str, value: &str) -> Option<Message> {
    // What was named in the configuration is a level of a topic, so this does not fail.
    let topic = TopicName::new(topic).ok()?;
    Some(MessageBuilder::new(&topic, value.as_bytes()).retain(true).build())
}
