//! HiveMQ Cloud: a broker with users, by TLS alone.

use super::Rules;

/// What it takes; the rest is told by its CONNACK.
pub const RULES: Rules =
    Rules { name: "HiveMQ Cloud", wants_tls: true, packet_bytes: Some(5 * 1024 * 1024), ..Rules::MQTT };
