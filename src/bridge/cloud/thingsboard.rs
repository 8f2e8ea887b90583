//! ThingsBoard, by its gateway API: one connection for all devices, and JSON that says whose each value is.
//!
//! | ours | theirs |
//! |---|---|
//! | `{gateway}/meter/power` `2300.5` | `v1/gateway/telemetry` `{"meter":[{"ts":1700000000000,"values":{"power":2300.5}}]}` |
//! | `{gateway}/status` `online` | `v1/devices/me/telemetry` `{"ts":1700000000000,"values":{"status":"online"}}` |
//! | `{gateway}/plc/pump/set` `true` | `v1/gateway/rpc` `{"device":"plc","data":{"id":7,"method":"pump","params":true}}` |
//! | `{gateway}/plc/pump/set/result` `ok` | `v1/gateway/rpc` `{"device":"plc","id":7,"data":{"result":"ok"}}` |

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::json::{carried, result_object};
use super::requests::Requests;
use super::{Rules, TakesRetain};
use crate::bridge::settings::Version;
use crate::broker::envelope::{Envelope, Opened, Reply, Sealed};
use crate::mapping::hop_payload::Outgoing;
use crate::mqtt::{QoS, TopicName};

/// What its MQTT transport takes.
pub const RULES: Rules = Rules {
    name: "ThingsBoard",
    max_qos: QoS::AtLeastOnce,
    retain: TakesRetain::No,
    payload_is_json: false,
    version: Some(Version::V311),
    packet_bytes: Some(64 * 1024),
    ..Rules::MQTT
};

/// Telemetry of devices.
const TELEMETRY: &str = "v1/gateway/telemetry";
/// Telemetry of the gateway itself.
const OWN_TELEMETRY: &str = "v1/devices/me/telemetry";
/// Requests for devices, and their answers.
const RPC: &str = "v1/gateway/rpc";
/// Requests for the gateway itself begin so.
const OWN_RPC: &str = "v1/devices/me/rpc/request/";

/// The filters of what comes.
pub const FILTERS: [&str; 2] = [RPC, "v1/devices/me/rpc/request/+"];

/// Our messages: values of a device, or of the gateway.
#[derive(Debug)]
pub struct Telemetry {
    gateway: String,
}

impl Telemetry {
    /// Those of the gateway of that name: its topics begin with it.
    pub fn new(gateway: &str) -> Self {
        Self { gateway: gateway.into() }
    }

    /// The device and the key of a topic; no device where it is the gateway's own. A topic of one level has no key.
    fn place<'t>(&self, topic: &'t str) -> (Option<&'t str>, Option<String>) {
        let below = topic.strip_prefix(&self.gateway).and_then(|rest| rest.strip_prefix('/'));
        let is_own = below.is_some_and(|below| below == "status" || below.starts_with("bridges/"));
        let topic = below.unwrap_or(topic);
        if is_own {
            return (None, Some(topic.replace('/', ".")));
        }
        match topic.trim_start_matches('/').split_once('/') {
            Some((device, key)) => (Some(device), Some(key.replace('/', "."))),
            None => (Some(topic.trim_start_matches('/')), None),
        }
    }
}

impl Envelope for Telemetry {
    /// What clears a retained value is none, and `null` is none either, alone or in `{topic, value, ...}`.
    fn takes(&self, _: &str, payload: &[u8]) -> bool {
        const NONE: &[u8] = br#""value":null"#;
        !payload.is_empty() && payload != b"null" && !payload.windows(NONE.len()).any(|part| part == NONE)
    }

    fn seal(&self, topic: &str, _: &[u8], message: &Outgoing<'_>) -> Sealed {
        let (device, key) = self.place(topic);
        if device.is_some_and(str::is_empty) {
            return Sealed::Nothing("a topic without a device");
        }
        let mut values = match (key, carried(message)) {
            (None, Json::Object(object)) => object,
            (key, value) => Map::from_iter([(key.unwrap_or_else(|| "value".into()), value)]),
        };
        values.retain(|_, value| !value.is_null());
        if values.is_empty() {
            return Sealed::Nothing("there is no value in it");
        }
        let mut entry = Map::new();
        // The server's own time is better than one that is known to be wrong.
        if message.time.is_certain() {
            entry.insert("ts".into(), json!(message.time.time_ms));
            entry.insert("values".into(), Json::Object(values));
        } else {
            entry = values;
        }
        let (topic, payload) = match device {
            None => (OWN_TELEMETRY, Json::Object(entry)),
            Some(device) => (TELEMETRY, json!({ device: [entry] })),
        };
        Sealed::As { topic: topic.into(), payload: Some(payload.to_string().into_bytes()) }
    }
}

/// Where the answer of a request goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Address {
    /// To the device's request.
    Device {
        /// Its name.
        device: String,
        /// The number of the request.
        id: Json,
    },
    /// To the gateway's own request of this number.
    Gateway(String),
}

impl Address {
    fn reply(&self, result: &Json) -> Reply {
        let (topic, payload) = match self {
            Self::Device { device, id } => (RPC.to_owned(), json!({ "device": device, "id": id, "data": result })),
            Self::Gateway(id) => (format!("v1/devices/me/rpc/response/{id}"), result.clone()),
        };
        Reply { topic, payload: payload.to_string().into_bytes() }
    }

    fn refusal(&self, reason: &str) -> Reply {
        self.reply(&json!({ "result": format!("refused: {reason}") }))
    }
}

/// The results of commands that were asked for.
#[derive(Debug)]
pub struct Answers(pub Arc<Requests<Address>>);

impl Envelope for Answers {
    fn route_name(&self) -> Option<&str> {
        Some("answers to RPC requests")
    }

    fn takes(&self, topic: &str, payload: &[u8]) -> bool {
        self.0.awaits(topic, payload)
    }

    fn seal(&self, topic: &str, _: &[u8], message: &Outgoing<'_>) -> Sealed {
        let Some(address) = self.0.take(topic, message.payload) else {
            return Sealed::Nothing("the request has its answer");
        };
        let Reply { topic, payload } = address.reply(&result_object(message.payload));
        Sealed::As { topic, payload: Some(payload) }
    }
}

/// Requests of the server become commands.
#[derive(Debug)]
pub struct Commands {
    gateway: String,
    requests: Arc<Requests<Address>>,
}

impl Commands {
    /// Those for the devices of `gateway`.
    pub fn new(gateway: &str, requests: Arc<Requests<Address>>) -> Self {
        Self { gateway: gateway.into(), requests }
    }

    /// Whose request it is, the point, and what is to be set.
    fn read(topic: &str, payload: &[u8]) -> Option<(Address, String, Json)> {
        let Ok(Json::Object(mut request)) = serde_json::from_slice(payload) else {
            return None;
        };
        let (device, mut data) = match topic.strip_prefix(OWN_RPC) {
            Some(_) => (None, request),
            None => {
                let device = request.get("device")?.as_str()?.to_owned();
                let Some(Json::Object(data)) = request.remove("data") else {
                    return None;
                };
                (Some(device), data)
            }
        };
        let method = data.get("method")?.as_str()?.replace('.', "/");
        let params = data.remove("params").unwrap_or(Json::Null);
        let point = device.as_ref().map_or(method.clone(), |device| format!("{device}/{method}"));
        let address = match (device, topic.strip_prefix(OWN_RPC)) {
            (Some(device), _) => Address::Device { device, id: data.remove("id")? },
            (None, id) => Address::Gateway(id?.to_owned()),
        };
        Some((address, point, params))
    }
}

impl Envelope for Commands {
    fn open(&self, topic: &str, payload: &[u8], _: u64) -> Opened {
        let Some((address, point, params)) = Self::read(topic, payload) else {
            // Our own answers come back on some servers; they have no `data.method`.
            return Opened::Refused("an RPC request without method and id".into());
        };
        let ours = format!("{}/{point}/set", self.gateway);
        if TopicName::new(&ours).is_err() {
            return Opened::Answered(address.refusal(&format!("`{point}` is no topic")));
        }
        // Text as it is: quotes are JSON's.
        let payload = match params {
            Json::String(text) => text.into_bytes(),
            other => other.to_string().into_bytes(),
        };
        if self.requests.note(&ours, &payload, address.clone()).is_err() {
            return Opened::Answered(address.refusal("too many requests wait for their answers"));
        }
        Opened::Message { topic: ours, payload: Some(payload) }
    }

    fn unclaimed(&self, topic: &str, payload: &[u8]) -> Option<Reply> {
        let (address, ..) = Self::read(topic, payload)?;
        self.requests.forget(&address);
        Some(address.refusal("nobody takes commands for it"))
    }
}
