//! Azure IoT Hub: MQTT 3.1.1 with a few topics of its own, whose last level is a bag of properties.
//!
//! | | topic |
//! |---|---|
//! | ours, all of them | `devices/{device}/messages/events/topic=edge-01%2Fplc%2Fpump&...` |
//! | cloud-to-device messages | `devices/{device}/messages/devicebound/topic=plc%2Fpump&...` |
//! | direct methods | `$iothub/methods/POST/plc.pump/?$rid=7`, answered on `$iothub/methods/res/200/?$rid=7` |

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::json::result_object;
use super::percent::{decoded, encode};
use super::requests::Requests;
use super::sas::Key;
use super::{Credentials, Rules, TakesRetain};
use crate::bridge::settings::Version;
use crate::broker::envelope::{Envelope, Opened, Reply, Sealed};
use crate::mapping::hop_payload::Outgoing;
use crate::mapping::payload::{quality, rfc3339};
use crate::mqtt::{QoS, TopicName};

/// What it takes.
pub const RULES: Rules = Rules {
    name: "Azure IoT Hub",
    max_qos: QoS::AtLeastOnce,
    retain: TakesRetain::No,
    version: Some(Version::V311),
    wants_tls: true,
    packet_bytes: Some(256 * 1024),
    client_id_bytes: Some(128),
    keep_alive: 1..=1767,
    subscriptions: Some(50),
    ..Rules::MQTT
};

/// The version of its interface that is spoken.
const API_VERSION: &str = "2021-04-12";
/// Direct methods come on topics that begin so.
const METHODS: &str = "$iothub/methods/POST/";
/// Cloud-to-device messages that come in this time after a connect may have waited in the hub for days: a command
/// among them is not executed.
const MAY_HAVE_WAITED_MS: u64 = 1000;

/// Who we are to the hub.
#[derive(Debug, Clone)]
pub struct Device {
    /// The device's name there.
    pub id: String,
    /// What signs its tokens; `None` where a certificate says who it is.
    pub key: Option<Key>,
    /// How long a token is good for.
    pub token_lifetime: Duration,
}

impl Device {
    /// What to say to `hub` at `unix_seconds`.
    pub fn credentials(&self, hub: &str, unix_seconds: i64) -> Credentials {
        let Self { id, key, token_lifetime } = self;
        let username = format!("{hub}/{id}/?api-version={API_VERSION}");
        let expiry = unix_seconds.saturating_add(i64::try_from(token_lifetime.as_secs()).unwrap_or(i64::MAX));
        let password = key.as_ref().map(|key| key.token(&format!("{hub}/devices/{id}"), expiry));
        // Before the hub closes the connection, and with time for a few attempts.
        let renew_after = password.is_some().then(|| token_lifetime.mul_f64(0.8));
        Credentials { username, password, renew_after }
    }
}

/// The filters of what comes.
pub fn filters(device: &str) -> [String; 2] {
    [format!("devices/{device}/messages/devicebound/#"), format!("{METHODS}#")]
}

/// The characters of a device's name there.
pub fn is_device_id(id: &str) -> bool {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"-:._%*?!(),=@$'".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(is_one)
}

/// Our messages: all go on one topic, and what they are is in its properties.
#[derive(Debug)]
pub struct Telemetry {
    /// `devices/{device}/messages/events/`.
    topic: String,
    /// Whether payloads are JSON, which says the time and the unit itself.
    is_json: bool,
}

impl Telemetry {
    /// Those of `device`.
    pub fn new(device: &str, is_json: bool) -> Self {
        Self { topic: format!("devices/{device}/messages/events/"), is_json }
    }

    /// The topic of a message that would be published on `topic`.
    pub fn address(&self, topic: &str, message: Option<&Outgoing<'_>>) -> String {
        let mut bag = self.topic.clone();
        if self.is_json {
            bag.push_str("%24.ct=application%2Fjson&%24.ce=utf-8&");
        }
        bag.push_str("topic=");
        encode(topic, &mut bag);
        if let Some((message, reading)) = message.and_then(|message| Some((message, message.reading?)))
            && !self.is_json
        {
            let mut put = |name: &str, value: &str| {
                bag.push('&');
                bag.push_str(name);
                bag.push('=');
                encode(value, &mut bag);
            };
            put("time", &rfc3339(message.time.time_ms));
            put("quality", quality(reading.overall_quality()));
            if let Some(unit) = &reading.unit {
                put("unit", unit);
            }
        }
        bag
    }
}

impl Envelope for Telemetry {
    /// What clears a retained value clears nothing there.
    fn takes(&self, _: &str, payload: &[u8]) -> bool {
        !payload.is_empty()
    }

    fn seal(&self, topic: &str, _: &[u8], message: &Outgoing<'_>) -> Sealed {
        Sealed::As { topic: self.address(topic, Some(message)), payload: None }
    }
}

/// Direct methods that wait for their results; the address is the `$rid` of the request.
pub type Methods = Requests<String>;

/// The results of commands that direct methods have asked for.
#[derive(Debug)]
pub struct Answers(pub Arc<Methods>);

impl Envelope for Answers {
    fn route_name(&self) -> Option<&str> {
        Some("answers to direct methods")
    }

    fn takes(&self, topic: &str, payload: &[u8]) -> bool {
        self.0.awaits(topic, payload)
    }

    fn seal(&self, topic: &str, _: &[u8], message: &Outgoing<'_>) -> Sealed {
        let Some(rid) = self.0.take(topic, message.payload) else {
            return Sealed::Nothing("the direct method has its answer");
        };
        let result = result_object(message.payload);
        let Reply { topic, payload } = answer(status(&result), &rid, &result);
        Sealed::As { topic, payload: Some(payload) }
    }
}

/// The HTTP status that stands for a result.
fn status(result: &Json) -> u16 {
    match result["result"].as_str() {
        Some(text) if text.starts_with("refused") => 400,
        // As adapters say it: `timeout`, `not done in time`, `it waited too long`, `there was no time left`.
        Some(text) if text.starts_with("failed") && (text.contains("time") || text.contains("too long")) => 504,
        Some(text) if text.starts_with("failed") => 500,
        _ => 200,
    }
}

fn answer(status: u16, rid: &str, result: &Json) -> Reply {
    Reply { topic: format!("$iothub/methods/res/{status}/?$rid={rid}"), payload: result.to_string().into_bytes() }
}

/// What the hub asks for: cloud-to-device messages and direct methods become commands.
#[derive(Debug)]
pub struct Commands {
    gateway: String,
    devicebound: String,
    methods: Arc<Methods>,
}

impl Commands {
    /// Those for `device`, which become messages below `gateway`.
    pub fn new(gateway: &str, device: &str, methods: Arc<Methods>) -> Self {
        Self { gateway: gateway.into(), devicebound: format!("devices/{device}/messages/devicebound/"), methods }
    }

    /// `{gateway}/plc/pump/set` of `plc/pump`; of `{gateway}/plc/pump/set` itself too.
    fn command_topic(&self, point: &str) -> Option<String> {
        let point = point.strip_prefix(&self.gateway).and_then(|rest| rest.strip_prefix('/')).unwrap_or(point);
        let point = point.strip_suffix("/set").unwrap_or(point);
        let topic = format!("{}/{point}/set", self.gateway);
        (!point.is_empty() && TopicName::new(&topic).is_ok()).then_some(topic)
    }

    fn open_message(&self, bag: &str, after_connect_ms: u64) -> Opened {
        let property = bag.trim_matches('/').split('&').find_map(|pair| pair.strip_prefix("topic="));
        let Some(point) = property.and_then(decoded) else {
            return Opened::Refused("a cloud-to-device message without the property `topic`".into());
        };
        let Some(topic) = self.command_topic(&point) else {
            return Opened::Refused(format!("a cloud-to-device message for `{point}`, which is no topic"));
        };
        if after_connect_ms < MAY_HAVE_WAITED_MS {
            return Opened::Refused(format!("a cloud-to-device message for `{point}`, which may have waited"));
        }
        Opened::Message { topic, payload: None }
    }

    fn open_method(&self, request: &str, payload: &[u8]) -> Opened {
        let Some((name, rid)) = method(request) else {
            return Opened::Refused("a direct method without a request id".into());
        };
        // Names of methods have no slash.
        let point = decoded(name).unwrap_or_default().replace('.', "/");
        let Some(topic) = self.command_topic(&point) else {
            return Opened::Answered(refusal(400, rid, &format!("`{name}` is no topic")));
        };
        match self.methods.note(&topic, payload, rid.into()) {
            Ok(()) => Opened::Message { topic, payload: None },
            Err(_) => Opened::Answered(refusal(429, rid, "too many methods wait for their answers")),
        }
    }
}

impl Envelope for Commands {
    fn open(&self, topic: &str, payload: &[u8], after_connect_ms: u64) -> Opened {
        match (topic.strip_prefix(METHODS), topic.strip_prefix(&self.devicebound)) {
            (Some(request), _) => self.open_method(request, payload),
            (None, Some(bag)) => self.open_message(bag, after_connect_ms),
            (None, None) => Opened::Refused("a message on a topic that is not the device's".into()),
        }
    }

    fn unclaimed(&self, topic: &str, _: &[u8]) -> Option<Reply> {
        let (name, rid) = method(topic.strip_prefix(METHODS)?)?;
        self.methods.forget(&rid.to_owned());
        Some(refusal(404, rid, &format!("nobody takes commands for `{name}`")))
    }
}

fn refusal(status: u16, rid: &str, reason: &str) -> Reply {
    answer(status, rid, &json!({ "result": format!("refused: {reason}") }))
}

/// Name and request id of `plc.pump/?$rid=7`.
fn method(request: &str) -> Option<(&str, &str)> {
    let (name, query) = request.split_once("/?")?;
    let rid = query.split('&').find_map(|pair| pair.strip_prefix("$rid="))?;
    (!name.is_empty() && !rid.is_empty()).then_some((name, rid))
}
