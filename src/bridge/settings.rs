//! The section `bridges`: each entry is a broker that we dial, and the routes to it and from it.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::cloud::Preset;
use crate::mapping::hop_payload::HopPayload;
use crate::net::client_tls::MinVersion;
use crate::settings::{Bandwidth, Duration, Located, OneOrMany, Qos, Rate, Secret, Size, Template};
use crate::store::settings::WhenFull;

/// One bridge.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The broker, or several of which the first that answers is taken: `mqtts://broker.example.com`, or over WebSocket
    /// `wss://broker.example.com/mqtt`. Ports default to 1883 for `mqtt`, 8883 for `mqtts`, 80 for `ws` and 443 for
    /// `wss`, the path of a WebSocket to `/mqtt`.
    pub url: OneOrMany<Located<String>>,
    /// User name; a template. Default: none.
    #[serde(default)]
    pub username: Option<Located<Template>>,
    /// Password. Default: none.
    #[serde(default)]
    pub password: Option<Located<Secret>>,
    /// Client id; a template. Default `{gateway}-{bridge}`.
    #[serde(default)]
    pub client_id: Option<Located<Template>>,
    /// How long the far broker keeps the session while we are away; 0 is a clean session. Default `7d`.
    #[serde(default)]
    pub session: Option<Located<Duration>>,
    /// Keep alive, `1s` to `65535s`. Default `30s`.
    #[serde(default)]
    pub keep_alive: Option<Located<Duration>>,
    /// How long messages in flight may go without any acknowledgement on a link that is alive otherwise, `1s` to `1h`;
    /// then the bridge connects anew: `ack_timeout: 1m`. Default `30s`.
    #[serde(default)]
    pub ack_timeout: Option<Located<Duration>>,
    /// `5` (falls back to 3.1.1 where the server refuses it) or `3.1.1`. Default `5`, or what the `cloud` speaks.
    #[serde(default)]
    pub mqtt: Option<Located<Version>>,
    /// Certificates, and how TLS is spoken.
    #[serde(default)]
    pub tls: Option<Located<Tls>>,
    /// A proxy that passes the connection on: `http://user:password@proxy.example.com:3128` (HTTP CONNECT) or
    /// `socks5://proxy.example.com:1080`. Default: none.
    #[serde(default)]
    pub proxy: Option<Located<Secret>>,
    /// What goes there. A message takes the first route that matches.
    #[serde(default)]
    pub send: Vec<Located<Route>>,
    /// What comes from there.
    #[serde(default)]
    pub receive: Vec<Located<Route>>,
    /// What the far broker says when we are gone. Default: `offline` where a route sends `{gateway}/status`.
    #[serde(default)]
    pub will: WillSettings,
    /// The queue while the link is down.
    #[serde(default)]
    pub queue: QueueSettings,
    /// A preset that knows a cloud's names, limits and authentication: `aws`, `azure-iot-hub`, `hivemq`, `emqx` or
    /// `thingsboard`. Default: the server is a plain broker.
    #[serde(default)]
    pub cloud: Option<Located<Preset>>,
    /// With `cloud: azure-iot-hub`: the device's name there; a template. Default `{gateway}`.
    #[serde(default)]
    pub device: Option<Located<Template>>,
    /// With `cloud: azure-iot-hub`: the device's key, base64, from which its tokens are made. Default: a certificate
    /// says who it is.
    #[serde(default)]
    pub key: Option<Located<Secret>>,
    /// With `key`: how long a token is good for, `10s` to `365d`. The bridge connects anew with another one after four
    /// fifths of that. Default `1h`.
    #[serde(default)]
    pub token_lifetime: Option<Located<Duration>>,
    /// How fast messages go there. Default: as fast as they are taken.
    #[serde(default)]
    pub limit: LimitSettings,
}

/// How fast messages go to the far broker; what has `priority: high` counts, and does not wait.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Messages, `50/s` for example.
    pub rate: Option<Located<Rate>>,
    /// Bytes of packets, `32KB/s` for example.
    pub bandwidth: Option<Located<Bandwidth>>,
}

/// The protocol version spoken with the far broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Version {
    /// MQTT 5.0, or 3.1.1 where the server refuses it.
    #[default]
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V311,
}

/// Certificates in PEM, and how TLS is spoken; paths are relative to the configuration's folder.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Authorities to trust. Default: those of the system.
    pub ca: Option<Located<String>>,
    /// Our certificate. Default: none.
    pub cert: Option<Located<String>>,
    /// The key of our certificate.
    pub key: Option<Located<String>>,
    /// The protocols that are offered (ALPN), the best first: `x-amzn-mqtt-ca`. Default: none.
    pub alpn: OneOrMany<Located<String>>,
    /// The name that the server is asked for (SNI) and that its certificate must have. Default: the host of the URL.
    pub server_name: Option<Located<String>>,
    /// The lowest version that is spoken, `1.2` or `1.3`. Default `1.2`.
    pub min_version: MinVersion,
}

/// A route of a bridge.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The filter of the messages that take it; a template.
    pub from: Located<Template>,
    /// Their topic on the other side: `+` and `#` stand for what those of `from` matched; a template.
    /// Default: the same topic.
    #[serde(default)]
    pub to: Option<Located<Template>>,
    /// The QoS of this hop, whatever the message was published with. Default: the message's own.
    #[serde(default)]
    pub qos: Option<Located<Qos>>,
    /// The lower of this and the message's own QoS.
    #[serde(default)]
    pub max_qos: Option<Located<Qos>>,
    /// `true`, `false` or `keep`. Default `keep`.
    #[serde(default)]
    pub retain: Option<Located<Retain>>,
    /// Filters of messages that do not take it; templates.
    #[serde(default)]
    pub except: Vec<Located<Template>>,
    /// On `receive`: how old a message may be when it arrives. Default: any age.
    #[serde(default)]
    pub max_age: Option<Located<Duration>>,
    /// On `send`: which of several waiting messages goes first, `high`, `normal` or `low`. Default `normal`. Results of
    /// commands (`.../set/result`) are `high` on any route.
    #[serde(default)]
    pub priority: Option<Located<Priority>>,
    /// On `send`: several messages of one topic go as one JSON array. Default: each by itself.
    #[serde(default)]
    pub batch: Option<Located<BatchSettings>>,
    /// On `send`: of each topic one message in this time goes, the newest. Default: all.
    #[serde(default)]
    pub every: Option<Located<Duration>>,
    /// On `send`: what becomes of the payload: `plain`, `json` or a template. Default: it goes as it was published.
    #[serde(default)]
    pub payload: Option<Located<HopPayload>>,
}

/// Which of several waiting messages goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others, and without waiting for `limit`.
    High,
    /// In the order in which they came.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

/// Several messages in one.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchSettings {
    /// How long the first of them waits for others, `100ms` to `1h`. Default `10s`.
    #[serde(default)]
    pub every: Option<Located<Duration>>,
    /// The most of them, 2 to 1000. Default 200.
    #[serde(default)]
    pub max: Option<Located<u16>>,
}

/// RETAIN on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retain {
    /// `keep`: as the message was published. On `receive` that needs MQTT 5.
    #[default]
    Keep,
    /// `true`.
    Always,
    /// `false`.
    Never,
}

/// `will`: not given, `false`, or a message.
#[derive(Debug, Clone, Default)]
pub enum WillSettings {
    /// `offline` on the status topic, where a route sends it.
    #[default]
    Status,
    /// `false`: none.
    None,
    /// A message of the user's.
    Message(WillMessage),
}

/// A will of the user's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WillMessage {
    /// Its topic on the far broker; a template.
    pub topic: Located<Template>,
    /// Its payload; a template. Default `offline`.
    #[serde(default)]
    pub payload: Option<String>,
    /// Default 1.
    #[serde(default)]
    pub qos: Option<Qos>,
    /// Default `true`.
    #[serde(default)]
    pub retain: Option<bool>,
}

/// The queue of a bridge.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// The most that waits, in bytes. Default: what `storage` has for all.
    pub limit: Option<Size>,
    /// What happens to a message for which it has no room: `drop_oldest`, `drop_newest` or `refuse`, for example
    /// `refuse` to have publishers hear of it. Default: what `storage` has for all.
    pub when_full: Option<WhenFull>,
    /// How long a message waits; an older one is dropped, and counted. Default: for ever.
    pub expire: Option<Located<Duration>>,
}

impl<'de> Deserialize<'de> for Retain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;

        impl Visitor<'_> for Word {
            type Value = Retain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false` or `keep`")
            }

            fn visit_bool<E: Error>(self, retain: bool) -> Result<Retain, E> {
                Ok(if retain { Retain::Always } else { Retain::Never })
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Retain, E> {
                match word {
                    "keep" => Ok(Retain::Keep),
                    _ => Err(E::unknown_variant(word, &["keep", "true", "false"])),
                }
            }
        }

        deserializer.deserialize_any(Word)
    }
}

impl<'de> Deserialize<'de> for WillSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Will;

        impl<'de> Visitor<'de> for Will {
            type Value = WillSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`false` or a map with topic, payload, qos and retain")
            }

            fn visit_unit<E: Error>(self) -> Result<WillSettings, E> {
                Ok(WillSettings::Status)
            }

            fn visit_bool<E: Error>(self, will: bool) -> Result<WillSettings, E> {
                Ok(if will { WillSettings::Status } else { WillSettings::None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WillSettings, A::Error> {
                WillMessage::deserialize(MapAccessDeserializer::new(map)).map(WillSettings::Message)
            }
        }

        deserializer.deserialize_any(Will)
    }
}
