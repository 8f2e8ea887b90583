//! `cloud: thingsboard`, to a server that behaves as ThingsBoard's MQTT transport does.

use super::server::{Cloud, Entry, Rules};
use crate::support::certificates::Authority;
use crate::support::edgeway::Edgeway;
use crate::support::modbus_server::ModbusServer;
use crate::support::mosquitto::mosquitto_pub;
use crate::support::process::wait_until;
use edgeway::mqtt::packet::{ConnAck, Connect, Publish, Subscribe};
use edgeway::mqtt::{QoS, ReasonCode};
use serde_json::{Value, json};

struct ThingsBoard;

impl Rules for ThingsBoard {
    fn connect(&mut self, connect: &Connect<'_>, _: &Entry) -> Result<ConnAck<'static>, String> {
        let reason = match connect.username {
            Some("T0KEN") => ReasonCode::Success,
            _ => ReasonCode::NotAuthorized,
        };
        Ok(ConnAck::new(reason, false))
    }

    fn subscribe(&mut self, subscribe: &Subscribe<'_>) -> Result<(), String> {
        let known = ["v1/gateway/rpc", "v1/devices/me/rpc/request/+"];
        match subscribe.filters.iter().find(|(filter, _)| !known.contains(filter)) {
            Some((filter, _)) => Err(format!("no subscription to {filter}")),
            None => Ok(()),
        }
    }

    fn publish(&mut self, publish: &Publish<'_>, bytes: usize) -> Result<(), String> {
        let Ok(Value::Object(object)) = serde_json::from_slice(publish.payload) else {
            return Err(format!("no JSON object on {}", publish.topic));
        };
        let is_entry = |entry: &Value| {
            let values = entry.get("values").unwrap_or(entry);
            values.as_object().is_some_and(|values| !values.is_empty() && values.values().all(|value| !value.is_null()))
        };
        let is_right = match publish.topic {
            "v1/gateway/telemetry" => {
                object.values().all(|entries| entries.as_array().is_some_and(|entries| entries.iter().all(is_entry)))
            }
            "v1/devices/me/telemetry" => is_entry(&Value::Object(object)),
            "v1/gateway/rpc" => ["device", "id", "data"].iter().all(|key| object.contains_key(*key)),
            topic => topic.starts_with("v1/devices/me/rpc/response/"),
        };
        if !is_right || publish.qos == QoS::ExactlyOnce || publish.retain || bytes > 65_536 {
            return Err(format!("a message on {} of QoS {}", publish.topic, publish.qos));
        }
        Ok(())
    }
}

fn payloads(cloud: &Cloud, topic: &str) -> Vec<Value> {
    let all = cloud.received().into_iter().filter(|message| message.topic == topic);
    all.map(|message| serde_json::from_str(&message.payload).unwrap()).collect()
}

#[test]
fn values_go_by_device_and_requests_come_back_as_commands() {
    let authority = Authority::new();
    let cloud = Cloud::start(&authority, ThingsBoard);
    let plc = ModbusServer::tcp(&json!({ "1": { "coils": { "5": [false] } } }));
    let gateway = Edgeway::start(&format!(
        r##"
gateway: {{ name: edge }}
broker: {{ listen: "mqtt://127.0.0.1:@PORT@" }}
modbus:
  hall:
    host: "127.0.0.1:{}"
    devices:
      plc: {{ id: 1, points: {{ pump: {{ coil: 5, write: true }} }} }}
bridges:
  tb:
    url: mqtts://127.0.0.1:{}
    cloud: thingsboard
    username: T0KEN
    tls: {{ ca: {} }}
    send: [ {{ from: "#" }} ]
"##,
        plc.port,
        cloud.port,
        authority.text("ca.crt")
    ));
    cloud.until("subscribe v1/devices/me/rpc/request/+");
    let telemetry = || payloads(&cloud, "v1/gateway/telemetry");
    wait_until("the pump's state", || {
        telemetry().iter().any(|value| value["plc"][0]["values"]["pump"] == json!(false))
    });
    let state = telemetry().into_iter().find(|value| value["plc"][0]["values"]["pump"] == json!(false)).unwrap();
    assert!(state["plc"][0]["ts"].as_i64().is_some_and(|ts| ts > 1_600_000_000_000), "{state}");
    for (topic, payload) in [("edge/gps", r#"{"lat":1.5,"fix":null}"#), ("lamp", "on"), ("edge/gps", "")] {
        mosquitto_pub(gateway.port, &["-t", topic, "-m", payload, "-q", "2", "-r"]);
    }
    wait_until("the lamp", || telemetry().iter().any(|value| value["lamp"][0]["values"]["value"] == json!("on")));
    assert!(telemetry().iter().any(|value| value["gps"][0]["values"] == json!({ "lat": 1.5 })));
    wait_until("the gateway's own status", || {
        let own = payloads(&cloud, "v1/devices/me/telemetry");
        own.iter().any(|value| value["values"]["status"] == json!("online"))
    });
    let request = |id: u32, device: &str, params: Value| {
        let request = json!({ "device": device, "data": { "id": id, "method": "pump", "params": params } });
        cloud.send("v1/gateway/rpc", &request.to_string(), QoS::AtLeastOnce);
    };
    let answer = |id: u32| {
        let find = || payloads(&cloud, "v1/gateway/rpc").into_iter().find(|answer| answer["id"] == json!(id));
        wait_until("the answer", || find().is_some());
        find().unwrap()
    };
    request(1, "plc", json!(true));
    assert_eq!(answer(1), json!({ "device": "plc", "id": 1, "data": { "result": "ok" } }));
    request(2, "plc", json!("fast"));
    assert!(answer(2)["data"]["result"].as_str().unwrap().starts_with("refused"));
    request(3, "nobody", json!(1));
    assert_eq!(answer(3)["data"]["result"], json!("refused: nobody takes commands for it"));
    cloud.send("v1/devices/me/rpc/request/9", r#"{"method":"plc.pump","params":false}"#, QoS::AtLeastOnce);
    let topic = "v1/devices/me/rpc/response/9";
    assert_eq!(cloud.message(topic).payload, r#"{"result":"ok"}"#);
    cloud.assert_content();
}

#[test]
fn a_wrong_token_is_said() {
    let authority = Authority::new();
    let cloud = Cloud::start(&authority, ThingsBoard);
    let mut gateway = Edgeway::start(&format!(
        "broker: {{ listen: \"mqtt://127.0.0.1:@PORT@\" }}\nbridges:\n  tb:\n    url: mqtts://127.0.0.1:{}\n    cloud: thingsboard\n    username: WR0NG\n    tls: {{ ca: {} }}\n",
        cloud.port,
        authority.text("ca.crt")
    ));
    let line = gateway.peer().stderr().wait_for("cannot connect");
    assert!(line.contains("not authorized"), "{line}");
}
