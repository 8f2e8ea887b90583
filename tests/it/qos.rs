//! QoS 0, 1 and 2 through our broker, with real clients on both sides.

use super::connect::{VERSIONS, broker};
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::mqtt_client::MqttClient;
use crate::support::process::Peer;
use serde_json::json;
use std::process::Command;

const COUNT: usize = 300;

#[test]
fn paho_gets_everything_once_and_in_order_at_each_qos() {
    let broker = broker();
    for (version, _) in VERSIONS {
        let (mut subscriber, _) = MqttClient::connect(broker.port, &json!({"version": version}));
        let (mut publisher, _) = MqttClient::connect(broker.port, &json!({"version": version}));
        for qos in [0, 1, 2] {
            let topic = format!("paho/{version}/{qos}");
            subscriber.subscribe(&topic, 2);
            publisher
                .tell("publish", &json!({"topic": topic, "payload": "{n}", "tag": "{n}", "qos": qos, "count": COUNT}));
            for number in 0..COUNT {
                let message = subscriber.message();
                assert_eq!((&message["payload"], &message["qos"]), (&json!(number.to_string()), &json!(qos)));
                assert_eq!((&message["dup"], &message["retain"]), (&json!(false), &json!(false)));
            }
            for _ in 0..COUNT {
                assert_eq!(publisher.event("published")["reason"], 0);
            }
        }
        assert!(subscriber.messages_so_far().is_empty(), "nothing comes twice");
    }
}

#[test]
fn mosquitto_pub_and_mosquitto_sub_pass_lines_on_in_order() {
    let broker = broker();
    for (_, version) in VERSIONS {
        for qos in ["0", "1", "2"] {
            let subscriber = mosquitto_sub(broker.port, &["-V", version, "-t", "lines", "-q", qos]);
            let mut lines = lines_to(broker.port, version, qos);
            for number in 0..COUNT {
                lines.send_line(&number.to_string());
            }
            lines.close_stdin();
            assert!(lines.wait().success(), "{}", lines.told());
            for number in 0..COUNT {
                assert_eq!(subscriber.next(), number.to_string(), "{version}, QoS {qos}");
            }
            assert_eq!(subscriber.rest(), [""; 0]);
        }
    }
}

fn lines_to(port: u16, version: &str, qos: &str) -> Peer {
    let mut command = Command::new(crate::support::peer_program("mosquitto_pub"));
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", version, "-q", qos, "-t", "lines", "-l"]);
    Peer::start("mosquitto_pub", &mut command)
}

#[test]
fn our_own_pub_and_sub_talk_by_our_own_broker() {
    let broker = broker();
    let port = broker.port.to_string();
    let ours = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeway"));
        command.args(&arguments[..1]).args(["-h", "127.0.0.1", "-p", &port]).args(&arguments[1..]);
        Peer::start(arguments[0], command.env("NO_COLOR", "1"))
    };
    for (_, version) in VERSIONS {
        for qos in ["0", "1", "2"] {
            let count = COUNT.to_string();
            let mut subscriber = ours(&["sub", "-V", version, "-t", "own", "-q", qos, "-C", &count, "-d"]);
            subscriber.stderr().wait_for("subscribed");
            let theirs = mosquitto_sub(broker.port, &["-t", "own", "-q", qos]);
            let mut publisher = ours(&["pub", "-V", version, "-t", "own", "-q", qos, "-l"]);
            let expected: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
            for line in &expected {
                publisher.send_line(line);
            }
            publisher.close_stdin();
            assert!(publisher.wait().success(), "{}", publisher.told());
            assert!(subscriber.wait().success(), "{}", subscriber.told());
            assert_eq!(subscriber.stdout().lines(), expected, "{version}, QoS {qos}");
            for line in &expected {
                assert_eq!(&theirs.next(), line);
            }
        }
    }
}

#[test]
fn overlapping_filters_bring_one_copy() {
    let broker = broker();
    for (version, _) in VERSIONS {
        let (mut client, _) = MqttClient::connect(broker.port, &json!({"version": version}));
        for (filter, qos) in [("a/#", 0), ("a/b", 2), ("+/b", 1)] {
            client.subscribe(filter, qos);
        }
        client.publish("a/b", "one", 2);
        client.publish("a/c", "two", 2);
        let first = client.message();
        assert_eq!((&first["payload"], &first["qos"]), (&json!("one"), &json!(2)));
        let second = client.message();
        assert_eq!((&second["payload"], &second["qos"]), (&json!("two"), &json!(0)));
        assert!(client.messages_so_far().is_empty());
    }
}

#[test]
fn a_client_that_stops_reading_holds_nobody_up() {
    let broker = broker();
    let (mut slow, _) = MqttClient::connect(broker.port, &json!({"client_id": "slow"}));
    slow.subscribe("flood", 1);
    slow.tell("pause", &json!({}));
    let fast = mosquitto_sub(broker.port, &["-t", "flood", "-q", "1"]);
    let (mut publisher, _) = MqttClient::connect(broker.port, &json!({}));
    publisher.tell("publish", &json!({"topic": "flood", "payload": "{n}", "qos": 1, "count": 2000}));
    for number in 0..2000 {
        assert_eq!(fast.next(), number.to_string());
    }
    slow.tell("resume", &json!({}));
    for number in 0..2000 {
        assert_eq!(slow.message()["payload"], number.to_string());
    }
    mosquitto_pub(broker.port, &["-t", "flood", "-m", "after", "-q", "1"]);
    assert_eq!(slow.message()["payload"], "after");
}
