//! `cloud: azure-iot-hub`, to a server that behaves as Azure IoT Hub does.

use super::server::{Cloud, Entry, Rules};
use crate::support::certificates::Authority;
use crate::support::edgeway::Edgeway;
use crate::support::modbus_server::ModbusServer;
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::process::wait_until;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgeway::mqtt::packet::{ConnAck, Connect, Publish, Subscribe};
use edgeway::mqtt::{QoS, ReasonCode, Version};
use ring::hmac;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const KEY: &str = "dGhlIGtleSBvZiBlZGdlLTAxLCAzMiBieXRlcy4uLi4=";
const EVENTS: &str = "devices/edge/messages/events/";

/// An IoT hub.
#[derive(Default)]
struct Hub {
    /// Whether the device has a certificate instead of a key.
    wants_certificate: bool,
    /// When the token of the connection ends, in seconds since the Unix epoch.
    ends_at: Option<u64>,
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// The end of a token whose signature is right.
fn end_of_token(token: &str) -> Result<u64, String> {
    let fields = token.strip_prefix("SharedAccessSignature ").ok_or("no token")?;
    let field = |name: &str| {
        let found = fields.split('&').find_map(|field| field.strip_prefix(name));
        found.ok_or_else(|| format!("a token without {name}"))
    };
    let (resource, end) = (field("sr=")?, field("se=")?);
    if resource != "127.0.0.1%2Fdevices%2Fedge" {
        return Err(format!("a token for {resource}"));
    }
    let signature = field("sig=")?.replace("%2F", "/").replace("%2B", "+").replace("%3D", "=");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(KEY).map_err(|error| error.to_string())?);
    let signature = STANDARD.decode(signature).map_err(|error| error.to_string())?;
    hmac::verify(&key, format!("{resource}\n{end}").as_bytes(), &signature).map_err(|_| "a wrong signature")?;
    end.parse().map_err(|_| "an end that is no number".into())
}

impl Rules for Hub {
    fn wants_certificate(&self) -> bool {
        self.wants_certificate
    }

    fn connect(&mut self, connect: &Connect<'_>, _: &Entry) -> Result<ConnAck<'static>, String> {
        if connect.version != Version::V3 {
            return Err("no MQTT 3.1.1".into());
        }
        if connect.client_id != "edge" || connect.username != Some("127.0.0.1/edge/?api-version=2021-04-12") {
            return Err(format!("{} as {:?}", connect.client_id, connect.username));
        }
        let password = connect.password.map(|password| String::from_utf8_lossy(password).into_owned());
        self.ends_at = match (password, self.wants_certificate) {
            (Some(token), false) => Some(end_of_token(&token)?),
            (None, true) => None,
            _ => return Err("a key or a certificate".into()),
        };
        if self.ends_at.is_some_and(|end| end <= unix_seconds()) {
            return Err("a token that has ended".into());
        }
        let is_its_own = |topic: &str| topic.starts_with(EVENTS);
        if connect.will.is_some_and(|will| !is_its_own(will.topic) || will.retain || will.qos == QoS::ExactlyOnce) {
            return Err("a will that it does not take".into());
        }
        Ok(ConnAck::new(ReasonCode::Success, false))
    }

    fn subscribe(&mut self, subscribe: &Subscribe<'_>) -> Result<(), String> {
        let has = |filter: &str| ["devices/edge/messages/devicebound/#", "$iothub/methods/POST/#"].contains(&filter);
        match subscribe.filters.iter().find(|(filter, options)| !has(filter) || options.qos == QoS::ExactlyOnce) {
            Some((filter, _)) => Err(format!("no subscription to {filter}")),
            None => Ok(()),
        }
    }

    fn publish(&mut self, publish: &Publish<'_>, bytes: usize) -> Result<(), String> {
        let is_its_own = publish.topic.starts_with(EVENTS) || publish.topic.starts_with("$iothub/methods/res/");
        if !is_its_own || publish.qos == QoS::ExactlyOnce || publish.retain || bytes > 256 * 1024 {
            return Err(format!("a message on {} of QoS {}", publish.topic, publish.qos));
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        match self.ends_at {
            Some(end) if end <= unix_seconds() => Err("the token has ended".into()),
            _ => Ok(()),
        }
    }
}

/// A gateway with a bridge to it, and `more` sections.
fn start(cloud: &Cloud, authority: &Authority, lines: &str, more: &str) -> Edgeway {
    let folder = authority.folder().display();
    let lines = lines.replace("@CA@", &format!("{folder}/ca.crt")).replace("@FOLDER@", &folder.to_string());
    Edgeway::start(&format!(
        r#"
gateway: {{ name: edge }}
broker: {{ listen: "mqtt://127.0.0.1:@PORT@" }}
{more}
bridges:
  azure:
    url: mqtts://127.0.0.1:{}
    cloud: azure-iot-hub
{lines}
"#,
        cloud.port
    ))
}

#[test]
fn telemetry_is_on_one_topic_whose_properties_say_what_it_is() {
    let authority = Authority::new();
    let cloud = Cloud::start(&authority, Hub::default());
    let lines = format!(
        r##"
    tls: {{ ca: @CA@ }}
    key: "{KEY}"
    send:
      - {{ from: "{{gateway}}/plain/#", payload: plain, qos: 1 }}
      - {{ from: "{{gateway}}/batched/#", batch: {{ every: 200ms }}, qos: 1 }}
      - {{ from: "{{gateway}}/#", to: "site a/#" }}
"##
    );
    let gateway = start(&cloud, &authority, &lines, "");
    cloud.until("subscribe $iothub/methods/POST/#");
    let publish = |topic: &str, payload: &str| {
        mosquitto_pub(gateway.port, &["-t", topic, "-m", payload, "-q", "2", "-r"]);
    };
    publish("edge/inverter/power", "2300");
    publish("edge/plain/x", "7");
    publish("edge/batched/x", "1");
    publish("edge/batched/x", "2");
    let json = "%24.ct=application%2Fjson&%24.ce=utf-8&topic=";
    let message = cloud.message(&format!("{EVENTS}{json}site%20a%2Finverter%2Fpower"));
    assert_eq!((message.qos, message.retain), (1, false));
    let value: Value = serde_json::from_str(&message.payload).unwrap();
    assert_eq!((value["topic"].as_str(), value["value"].as_i64()), (Some("edge/inverter/power"), Some(2300)));
    assert_eq!(cloud.message(&format!("{EVENTS}topic=edge%2Fplain%2Fx")).payload, "7");
    let batch = cloud.message(&format!("{EVENTS}{json}edge%2Fbatched%2Fx"));
    let batch: Vec<Value> = serde_json::from_str(&batch.payload).unwrap();
    assert_eq!(batch.iter().map(|each| each["value"].as_i64()).collect::<Vec<_>>(), [Some(1), Some(2)]);
    let birth = cloud.message(&format!("{EVENTS}{json}site%20a%2Fstatus"));
    assert_eq!(birth.payload, r#"{"topic":"edge/status","value":"online"}"#);
    cloud.assert_content();
}

#[test]
fn direct_methods_and_messages_write_to_devices_and_methods_are_answered() {
    let authority = Authority::new();
    let cloud = Cloud::start(&authority, Hub::default());
    let mut plc = ModbusServer::tcp(&json!({ "1": { "coils": { "5": [false, false] } } }));
    let modbus = format!(
        r#"
modbus:
  hall:
    host: "127.0.0.1:{}"
    devices:
      plc: {{ id: 1, points: {{ pump: {{ coil: 5, write: true }}, valve: {{ coil: 6, write: true }} }} }}
"#,
        plc.port
    );
    let lines = format!("    tls: {{ ca: @CA@ }}\n    key: \"{KEY}\"\n    send: [ {{ from: \"x/#\" }} ]\n");
    let gateway = start(&cloud, &authority, &lines, &modbus);
    cloud.until("subscribe $iothub/methods/POST/#");
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/plc/+/set/result", "-v"]);
    let method = |name: &str, rid: &str, payload: &str| {
        cloud.send(&format!("$iothub/methods/POST/{name}/?$rid={rid}"), payload, QoS::AtMostOnce);
    };
    let answer = |status: u16, rid: &str| cloud.message(&format!("$iothub/methods/res/{status}/?$rid={rid}")).payload;
    method("plc.pump", "1", "true");
    assert_eq!(answer(200, "1"), r#"{"result":"ok"}"#);
    assert_eq!(plc.values(1, "coils", 5, 2), [1, 0]);
    method("plc.pump", "2", r#"{"value":false,"id":"a"}"#);
    assert_eq!(answer(200, "2"), r#"{"id":"a","result":"ok"}"#);
    method("plc.pump", "3", "\"fast\"");
    assert!(answer(400, "3").contains("refused"), "{}", answer(400, "3"));
    method("plc.other", "4", "1");
    assert_eq!(answer(404, "4"), r#"{"result":"refused: nobody takes commands for `plc.other`"}"#);
    // A cloud-to-device message is a command too, once the connection is no longer new.
    let pass = std::time::Instant::now();
    wait_until("the connection is a second old", || pass.elapsed() > Duration::from_millis(1100));
    let bound = "devices/edge/messages/devicebound/%24.to=%2Fdevices%2Fedge&topic=plc%2Fvalve";
    cloud.send(bound, "true", QoS::AtLeastOnce);
    seen.until("edge/plc/valve/set/result ok");
    assert_eq!(plc.values(1, "coils", 5, 2), [0, 1]);
    cloud.until("puback");
    plc.mute(1);
    method("plc.pump", "5", "true");
    assert!(answer(504, "5").contains("failed"));
    cloud.assert_content();
    assert_eq!(cloud.count("connect"), 1);
}

#[test]
fn the_token_is_renewed_before_the_hub_ends_the_connection() {
    let authority = Authority::new();
    let cloud = Cloud::start(&authority, Hub::default());
    let lines = format!(
        "    tls: {{ ca: @CA@ }}\n    key: \"{KEY}\"\n    token_lifetime: 10s\n    send: [ {{ from: \"x/#\", qos: 1, payload: plain }} ]\n"
    );
    let gateway = start(&cloud, &authority, &lines, "");
    cloud.until("connect");
    mosquitto_pub(gateway.port, &["-t", "x/1", "-m", "before", "-q", "1"]);
    wait_until("it connects anew", || cloud.count("connect") == 2);
    mosquitto_pub(gateway.port, &["-t", "x/2", "-m", "after", "-q", "1"]);
    cloud.message(&format!("{EVENTS}topic=x%2F2"));
    // In order: the bridge said DISCONNECT, and the hub had nothing to end.
    assert_eq!((cloud.count("disconnect"), cloud.count("closed: by the client"), cloud.count("closed:")), (1, 1, 1));
    assert_eq!(cloud.received().len(), 2);
}

#[test]
fn a_certificate_says_who_a_device_is_as_well() {
    let authority = Authority::new();
    authority.issue("edge");
    let cloud = Cloud::start(&authority, Hub { wants_certificate: true, ..Hub::default() });
    let lines = "    tls: { ca: @CA@, cert: @FOLDER@/edge.crt, key: @FOLDER@/edge.key }\n    send: [ { from: \"x/#\", qos: 1, payload: plain } ]\n";
    let gateway = start(&cloud, &authority, lines, "");
    mosquitto_pub(gateway.port, &["-t", "x/1", "-m", "1", "-q", "1"]);
    cloud.message(&format!("{EVENTS}topic=x%2F1"));
    cloud.assert_content();
}
