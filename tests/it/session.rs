//! Sessions of real clients that outlive their connections to our broker.

use super::connect::{VERSIONS, broker};
use crate::support::mosquitto::mosquitto_pub;
use crate::support::mqtt_client::MqttClient;
use serde_json::{Value, json};

fn staying(version: &str, client_id: &str) -> Value {
    let mut options = json!({"version": version, "client_id": client_id, "clean": false});
    if version == "5" {
        options["properties"] = json!({"session_expiry_interval": 3600});
    }
    options
}

#[test]
fn what_came_meanwhile_waits_in_order_also_for_the_other_version() {
    let broker = broker();
    let other = |version| if version == "5" { "3.1.1" } else { "5" };
    for (version, _) in VERSIONS {
        let name = format!("device {version}");
        let (mut client, connected) = MqttClient::connect(broker.port, &staying(version, &name));
        assert_eq!(connected["session_present"], false);
        client.subscribe("t/#", 2);
        client.run("disconnect", &json!({}), "disconnected");
        for number in 0..30 {
            let qos = (number % 3).to_string();
            mosquitto_pub(broker.port, &["-t", "t/x", "-m", &number.to_string(), "-q", &qos]);
        }
        let (client, connected) = MqttClient::connect(broker.port, &staying(other(version), &name));
        assert_eq!(connected["session_present"], true);
        // paho hands a QoS 2 message out when it is released, so its order shows among its own.
        let mut waiting = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..20 {
            let message = client.message();
            let qos = message["qos"].as_u64().unwrap() as usize;
            waiting[qos].push(message["payload"].as_str().unwrap().parse::<usize>().unwrap());
        }
        let expected = |qos| (0..30).filter(|number| number % 3 == qos).collect::<Vec<usize>>();
        assert_eq!(waiting, [vec![], expected(1), expected(2)]);
        drop(client);
        let (mut clean, connected) =
            MqttClient::connect(broker.port, &json!({"version": version, "client_id": name, "clean": true}));
        assert_eq!(connected["session_present"], false);
        mosquitto_pub(broker.port, &["-t", "t/x", "-m", "lost", "-q", "1"]);
        clean.publish("marker", "", 1);
        assert!(clean.messages_so_far().is_empty());
    }
}

#[test]
fn what_was_not_acknowledged_comes_again_with_dup() {
    let broker = broker();
    for (version, _) in VERSIONS {
        let mut options = staying(version, "device");
        options["manual_ack"] = json!(true);
        let (mut client, _) = MqttClient::connect(broker.port, &options);
        client.subscribe("t", 1);
        for payload in ["1", "2", "3"] {
            mosquitto_pub(broker.port, &["-t", "t", "-m", payload, "-q", "1"]);
        }
        let mut ids = Vec::new();
        for payload in ["1", "2", "3"] {
            let message = client.message();
            assert_eq!((&message["payload"], &message["dup"]), (&json!(payload), &json!(false)));
            ids.push(message["id"].clone());
        }
        client.tell("ack", &json!({"id": ids[0], "qos": 1}));
        // The broker takes this behind the acknowledgement.
        client.publish("marker", "", 1);
        client.tell("kill", &json!({}));
        client.event("disconnected");
        let (mut client, connected) = MqttClient::connect(broker.port, &staying(version, "device"));
        assert_eq!(connected["session_present"], true);
        for (payload, id) in [("2", &ids[1]), ("3", &ids[2])] {
            let message = client.message();
            assert_eq!((&message["payload"], &message["dup"]), (&json!(payload), &json!(true)));
            assert_eq!(&message["id"], id);
        }
        client.publish("marker", "", 1);
        assert!(client.messages_so_far().is_empty());
        client.run("disconnect", &json!({}), "disconnected");
        let _ = MqttClient::connect(broker.port, &json!({"client_id": "device"}));
    }
}

#[test]
fn a_qos_2_message_arrives_once_although_its_publisher_lost_the_connection() {
    let broker = broker();
    // After a reconnect paho sends all that waits at once, whatever the receive maximum (20 here) of 5.0 is.
    for (version, count) in [("5", 20), ("3.1.1", 200)] {
        let (mut subscriber, _) = MqttClient::connect(broker.port, &json!({"version": version}));
        subscriber.subscribe("once", 2);
        let (mut publisher, _) = MqttClient::connect(broker.port, &staying(version, "publisher"));
        let messages = json!({"topic": "once", "payload": "{n}", "tag": "{n}", "qos": 2, "count": count});
        publisher.tell("publish", &messages);
        for _ in 0..count / 4 {
            publisher.event("published");
        }
        publisher.tell("kill", &json!({}));
        publisher.event("disconnected");
        assert_eq!(publisher.run("reconnect", &json!({}), "connected")["session_present"], true);
        for _ in count / 4..count {
            publisher.event("published");
        }
        let mut numbers: Vec<usize> =
            (0..count).map(|_| subscriber.message()["payload"].as_str().unwrap().parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        assert!(subscriber.messages_so_far().is_empty());
        let _ = MqttClient::connect(broker.port, &json!({"client_id": "publisher"}));
    }
}
