//! Presets for clouds: what each takes, how it is entered, and its own forms of topics and payloads.
//!
//! [`Rules`] are what a cloud takes; `check` holds a configuration to them, and a running bridge stays within them.
//! A cloud with forms of its own has an [`Envelope`](crate::broker::envelope::Envelope) on its routes.

mod adapt;
mod aws;
mod azure;
mod check;
mod emqx;
mod hivemq;
mod json;
mod percent;
mod requests;
mod sas;
#[cfg(test)]
mod tests;
mod thingsboard;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::settings::Version;
use crate::broker::lanes::Throttling;
use crate::broker::session_slot::{Hop, RefusesTopic};
use crate::mqtt::QoS;
use crate::settings::Secret;

pub use adapt::adapt;
pub use check::{Checked, check, without_cloud};

/// A cloud that Edgeway knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// AWS IoT Core.
    Aws,
    /// Azure IoT Hub.
    AzureIotHub,
    /// HiveMQ Cloud.
    Hivemq,
    /// EMQX Cloud.
    Emqx,
    /// ThingsBoard, its cloud or one's own server.
    Thingsboard,
}

impl Preset {
    /// Whether messages to it and from it say which gateways they have passed. Where only applications listen, that is
    /// nothing to them.
    pub const fn is_told_the_way(self) -> bool {
        matches!(self, Self::Hivemq | Self::Emqx)
    }

    /// What it takes.
    pub fn rules(self) -> &'static Rules {
        match self {
            Self::Aws => &aws::RULES,
            Self::AzureIotHub => &azure::RULES,
            Self::Hivemq => &hivemq::RULES,
            Self::Emqx => &emqx::RULES,
            Self::Thingsboard => &thingsboard::RULES,
        }
    }

    /// Whether it is a broker, with topics that one chooses.
    pub fn has_topics(self) -> bool {
        match self {
            Self::Aws | Self::Hivemq | Self::Emqx => true,
            Self::AzureIotHub | Self::Thingsboard => false,
        }
    }
}

/// As fast as we send where a cloud takes `rate`: what comes in a tenth of a second may go at once, and no second may see
/// more than the cloud takes.
pub fn below(rate: f64) -> f64 {
    rate * 0.9
}

/// What a cloud takes. `None` is: whatever MQTT takes.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Its name for people.
    pub name: &'static str,
    /// The highest QoS.
    pub max_qos: QoS,
    /// Whether it keeps retained messages.
    pub retain: TakesRetain,
    /// Whether payloads go as JSON where a route says nothing.
    pub payload_is_json: bool,
    /// The only version that it speaks.
    pub version: Option<Version>,
    /// Whether it is entered by TLS alone.
    pub wants_tls: bool,
    /// Bytes of the largest packet.
    pub packet_bytes: Option<u32>,
    /// Bytes of the longest topic.
    pub topic_bytes: Option<usize>,
    /// The most `/` in a topic.
    pub topic_slashes: Option<usize>,
    /// How much of a topic does not count: the length of what stands before the rest.
    pub uncounted: fn(&str) -> usize,
    /// Whether a topic that begins with `$` is none of those that it has.
    pub reserves: fn(&str) -> bool,
    /// Bytes of the longest client id.
    pub client_id_bytes: Option<usize>,
    /// Seconds of keep alive.
    pub keep_alive: RangeInclusive<u16>,
    /// The longest that it keeps a session.
    pub session: Option<Duration>,
    /// Messages in flight towards it.
    pub in_flight: Option<u16>,
    /// Subscriptions of a connection.
    pub subscriptions: Option<usize>,
    /// Messages a second.
    pub rate: Option<f64>,
    /// Bytes a second.
    pub bandwidth: Option<f64>,
    /// The shortest time between two CONNECTs of a client id.
    pub connect_interval: Duration,
}

/// Whether a cloud keeps retained messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakesRetain {
    /// A route says `keep` where it says nothing.
    Yes,
    /// It does, and a route says `false` where it says nothing.
    WhereAsked,
    /// It does not.
    No,
}

impl Rules {
    /// What MQTT takes.
    const MQTT: Self = Self {
        name: "MQTT",
        max_qos: QoS::ExactlyOnce,
        retain: TakesRetain::Yes,
        payload_is_json: true,
        version: None,
        wants_tls: false,
        packet_bytes: None,
        topic_bytes: None,
        topic_slashes: None,
        uncounted: |_| 0,
        reserves: |_| false,
        client_id_bytes: None,
        keep_alive: 1..=u16::MAX,
        session: None,
        in_flight: None,
        subscriptions: None,
        rate: None,
        bandwidth: None,
        connect_interval: Duration::ZERO,
    };

    /// Why the cloud closes the connection over a PUBLISH on `topic`, or a SUBSCRIBE to it; `None` where it takes it.
    pub fn refuses(&self, topic: &str) -> Option<String> {
        if (self.reserves)(topic) {
            return Some(format!("`{topic}`, {} has no such topic that begins with `$`", self.name));
        }
        let counted = &topic[(self.uncounted)(topic)..];
        if let Some(most) = self.topic_bytes.filter(|&most| counted.len() > most) {
            return Some(format!("a topic of {} bytes, {} takes {most}", counted.len(), self.name));
        }
        let slashes = counted.bytes().filter(|&byte| byte == b'/').count();
        let most = self.topic_slashes.filter(|&most| slashes > most)?;
        Some(format!("a topic with {slashes} slashes, {} takes {most}", self.name))
    }

    /// Why no topic that `filter` stands for could be published on: what it holds at least is too much.
    pub fn refuses_all_of(&self, filter: &str) -> Option<String> {
        let least = filter.strip_suffix("/#").unwrap_or(filter).trim_end_matches('#');
        // `+` may stand for nothing, and is no letter of a topic.
        self.refuses(&least.replace('+', ""))
    }
}

/// The cloud of a bridge.
#[derive(Debug, Clone)]
pub struct Cloud {
    /// Which it is.
    pub preset: Preset,
    /// What it takes.
    pub rules: &'static Rules,
    device: Option<azure::Device>,
}

/// What a CONNECT says of us where that is not the same each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password; none with a client certificate.
    pub password: Option<Secret>,
    /// After this the bridge connects anew with others, before these end.
    pub renew_after: Option<Duration>,
}

impl Cloud {
    /// What to say to the server `host` at `unix_seconds`; `None` where the configuration's user name and password hold.
    pub fn credentials(&self, host: &str, unix_seconds: i64) -> Option<Credentials> {
        self.device.as_ref().map(|device| device.credentials(host, unix_seconds))
    }

    /// What its servers take.
    pub fn hop(&self, throttling: Throttling) -> Hop {
        let rules = self.rules;
        Hop {
            maximum_qos: rules.max_qos,
            retain_available: rules.retain != TakesRetain::No,
            packet_bytes: rules.packet_bytes,
            throttling,
            // Topics of ours are no topics of theirs.
            refuses: self
                .preset
                .has_topics()
                .then(|| Arc::new(|topic: &str| rules.refuses(topic)) as Arc<RefusesTopic>),
            ..Hop::default()
        }
    }
}
