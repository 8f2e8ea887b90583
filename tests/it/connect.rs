//! Real clients connect to our broker, stay, and are sent away.

use crate::support::edgeway::Edgeway;
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::mqtt_client::MqttClient;
use serde_json::json;

/// The versions, as paho and mosquitto's clients call them.
pub const VERSIONS: [(&str, &str); 2] = [("5", "5"), ("3.1.1", "311")];

/// A gateway that is a broker and nothing else.
pub fn broker() -> Edgeway {
    Edgeway::start("broker: { listen: \"mqtt://127.0.0.1:@PORT@\", limits: { packet: 64KB, inflight: 20 } }\n")
}

#[test]
fn clients_of_both_versions_connect_and_talk_to_each_other() {
    let broker = broker();
    let subscribers: Vec<_> = VERSIONS
        .iter()
        .map(|(_, version)| mosquitto_sub(broker.port, &["-V", version, "-t", "t/+", "-q", "2", "-F", "%t %q %r %p"]))
        .collect();
    let mut pahos: Vec<_> = VERSIONS
        .iter()
        .map(|(version, _)| {
            let (mut client, connected) = MqttClient::connect(broker.port, &json!({"version": version}));
            assert_eq!((&connected["reason"], &connected["session_present"]), (&json!(0), &json!(false)));
            assert_eq!(client.subscribe("t/+", 2), 2);
            client
        })
        .collect();
    for (_, version) in VERSIONS {
        let topic = format!("t/{version}");
        mosquitto_pub(broker.port, &["-V", version, "-t", &topic, "-m", "grüße", "-q", "1"]);
        for subscriber in &subscribers {
            assert_eq!(subscriber.next(), format!("{topic} 1 0 grüße"));
        }
        for paho in &mut pahos {
            let message = paho.message();
            assert_eq!((&message["topic"], &message["payload"]), (&json!(topic), &json!("grüße")));
        }
    }
}

#[test]
fn a_client_learns_what_the_broker_takes_and_gets_a_name() {
    let broker = broker();
    let (_client, connected) = MqttClient::connect(broker.port, &json!({}));
    let properties = &connected["properties"];
    assert_eq!(properties["receive_maximum"], 20);
    assert_eq!(properties["maximum_packet_size"], 64 * 1024);
    assert!(properties["assigned_client_identifier"].as_str().is_some_and(|name| !name.is_empty()), "{properties}");
    let (_second, other) = MqttClient::connect(broker.port, &json!({}));
    assert_ne!(properties["assigned_client_identifier"], other["properties"]["assigned_client_identifier"]);
}

#[test]
fn the_second_client_of_a_name_sends_the_first_away() {
    let broker = broker();
    for (version, _) in VERSIONS {
        let (first, _) = MqttClient::connect(broker.port, &json!({"version": version, "client_id": "same"}));
        let (mut second, _) = MqttClient::connect(broker.port, &json!({"version": version, "client_id": "same"}));
        let reason = first.event("disconnected")["reason"].clone();
        assert!(version != "5" || reason == 0x8E, "{reason}");
        second.subscribe("t", 1);
        second.publish("t", "still here", 1);
        assert_eq!(second.message()["payload"], "still here");
    }
}

#[test]
fn a_quiet_client_stays_by_its_keep_alive() {
    let broker = broker();
    let (mut client, _) = MqttClient::connect(broker.port, &json!({"keep_alive": 1}));
    client.subscribe("t", 1);
    // Two keep alives and more, with nothing but PINGREQ.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    mosquitto_pub(broker.port, &["-t", "t", "-m", "x"]);
    assert_eq!(client.message()["payload"], "x");
}

#[test]
fn a_stopping_gateway_says_so_and_leaves_at_once() {
    let mut broker = broker();
    let (client, _) = MqttClient::connect(broker.port, &json!({}));
    let (old, _) = MqttClient::connect(broker.port, &json!({"version": "3.1.1"}));
    let (status, said) = broker.terminate();
    assert!(status.success(), "{status}\n{}", said.join("\n"));
    assert_eq!(client.event("disconnected")["reason"], 0x8B);
    old.event("disconnected");
}

#[test]
fn a_packet_beyond_the_limit_ends_the_connection_with_the_reason() {
    let broker = broker();
    let watcher = mosquitto_sub(broker.port, &["-t", "t", "-q", "1"]);
    // mosquitto's own client refuses by itself what the broker does not take; 3.1.1 does not know.
    let mut client = MqttClient::connect(broker.port, &json!({"version": "3.1.1"})).0;
    client.tell("publish", &json!({"topic": "t", "payload": "x".repeat(70_000), "qos": 0}));
    client.event("disconnected");
    mosquitto_pub(broker.port, &["-t", "t", "-m", "after", "-q", "1"]);
    assert_eq!(watcher.next(), "after");
    assert_eq!(watcher.rest(), [""; 0]);
}
