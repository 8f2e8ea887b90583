//! AWS IoT Core: a broker of few rules about everything, which closes the connection over any of them.

use std::time::Duration;

use super::{Rules, TakesRetain};
use crate::mqtt::QoS;

/// What its message broker takes ("AWS IoT Core message broker and protocol limits and quotas").
pub const RULES: Rules = Rules {
    name: "AWS IoT Core",
    max_qos: QoS::AtLeastOnce,
    retain: TakesRetain::WhereAsked,
    wants_tls: true,
    packet_bytes: Some(128 * 1024),
    topic_bytes: Some(256),
    topic_slashes: Some(7),
    uncounted: basic_ingest,
    reserves,
    client_id_bytes: Some(128),
    keep_alive: 30..=1200,
    session: Some(Duration::from_secs(7 * 86_400)),
    in_flight: Some(100),
    subscriptions: Some(50),
    rate: Some(100.0),
    bandwidth: Some(512.0 * 1024.0),
    connect_interval: Duration::from_secs(1),
    ..Rules::MQTT
};

/// On port 443 TLS says which of its services is meant: MQTT with a client certificate, or with a custom authorizer.
pub fn alpn(port: u16, has_username: bool) -> Option<&'static str> {
    match (port, has_username) {
        (443, false) => Some("x-amzn-mqtt-ca"),
        (443, true) => Some("mqtt"),
        _ => None,
    }
}

/// The length of `$aws/rules/NAME/`, by which a message goes to a rule at once and which counts for nothing.
fn basic_ingest(topic: &str) -> usize {
    let rest = topic.strip_prefix("$aws/rules/").and_then(|rest| rest.split_once('/'));
    rest.map_or(0, |(_, rest)| topic.len() - rest.len())
}

/// Of the topics that begin with `$` only those of AWS are there: rules, shadows, jobs.
fn reserves(topic: &str) -> bool {
    topic.starts_with('$') && !topic.starts_with("$aws/")
}
