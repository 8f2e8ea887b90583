//! What MQTT 5.0 adds, between real clients over our broker.

use super::connect::broker;
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::mqtt_client::MqttClient;
use serde_json::json;

#[test]
fn properties_of_a_message_arrive_unaltered() {
    let broker = broker();
    let (mut client, _) = MqttClient::connect(broker.port, &json!({}));
    client.run(
        "subscribe",
        &json!({"filter": "p", "qos": 2, "properties": {"subscription_identifier": 42}}),
        "subscribed",
    );
    let theirs = mosquitto_sub(broker.port, &["-V", "5", "-t", "p", "-F", "%C|%R|%D|%P|%p"]);
    let (mut publisher, _) = MqttClient::connect(broker.port, &json!({}));
    let properties = json!({
        "payload_format_indicator": 1,
        "message_expiry_interval": 600,
        "content_type": "text/plain",
        "response_topic": "answer/here",
        "correlation_data": "NDI=",
        "user_property": [["unit", "kWh"], ["b", "2"], ["unit", "again"]],
    });
    for qos in [0, 1, 2] {
        let message = json!({"topic": "p", "payload": "grüße", "qos": qos, "properties": properties});
        publisher.run("publish", &message, "published");
        let mut came = client.message()["properties"].clone();
        assert_eq!(came["subscription_identifier"], json!([42]));
        came.as_object_mut().unwrap().remove("subscription_identifier");
        assert_eq!(came, properties, "QoS {qos}");
        assert_eq!(theirs.next(), "text/plain|answer/here|42|unit:kWh b:2 unit:again|grüße");
    }
}

#[test]
fn a_request_is_answered_by_its_response_topic() {
    let broker = broker();
    let (mut asking, _) = MqttClient::connect(broker.port, &json!({}));
    asking.subscribe("answers/1", 1);
    let (mut answering, _) = MqttClient::connect(broker.port, &json!({}));
    answering.subscribe("requests", 1);
    let properties = json!({"response_topic": "answers/1", "correlation_data": "AAEC"});
    asking.run(
        "publish",
        &json!({"topic": "requests", "payload": "?", "qos": 1, "properties": properties}),
        "published",
    );
    let request = answering.message();
    let answer = json!({
        "topic": request["properties"]["response_topic"], "payload": "!", "qos": 1,
        "properties": {"correlation_data": request["properties"]["correlation_data"]},
    });
    answering.run("publish", &answer, "published");
    let answer = asking.message();
    assert_eq!((&answer["payload"], &answer["properties"]["correlation_data"]), (&json!("!"), &json!("AAEC")));
}

#[test]
fn a_message_that_expired_while_its_receiver_was_away_does_not_come() {
    let broker = broker();
    let options = json!({"client_id": "device", "clean": false, "properties": {"session_expiry_interval": 600}});
    let (mut client, _) = MqttClient::connect(broker.port, &options);
    client.subscribe("t", 1);
    client.run("disconnect", &json!({}), "disconnected");
    let expiring = |seconds: &str, payload: &str| {
        let expiry = ["-D", "publish", "message-expiry-interval", seconds];
        mosquitto_pub(broker.port, &[&["-V", "5", "-t", "t", "-m", payload, "-q", "1"], &expiry[..]].concat());
    };
    expiring("1", "short");
    expiring("600", "long");
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let (client, _) = MqttClient::connect(broker.port, &options);
    let message = client.message();
    assert_eq!(message["payload"], "long");
    let left = message["properties"]["message_expiry_interval"].as_u64().unwrap();
    assert!(left < 600, "{left}");
}

#[test]
fn a_client_is_not_sent_more_or_larger_than_it_takes() {
    let broker = broker();
    let properties = json!({"receive_maximum": 2, "maximum_packet_size": 200, "topic_alias_maximum": 5});
    let (mut client, connected) =
        MqttClient::connect(broker.port, &json!({"manual_ack": true, "properties": properties}));
    assert_eq!(connected["reason"], 0);
    client.subscribe("t", 1);
    let large = "x".repeat(300);
    for payload in ["1", &large, "2", "3"] {
        mosquitto_pub(broker.port, &["-t", "t", "-m", payload, "-q", "1"]);
    }
    let first = client.message();
    assert_eq!(first["payload"], "1");
    assert_eq!(client.message()["payload"], "2");
    client.publish("marker", "", 0);
    assert!(client.messages_so_far().is_empty(), "two are on their way");
    client.tell("ack", &json!({"id": first["id"], "qos": 1}));
    assert_eq!(client.message()["payload"], "3");
}

#[test]
fn no_local_leaves_out_what_a_client_said_itself() {
    let broker = broker();
    let (mut client, _) = MqttClient::connect(broker.port, &json!({}));
    client.run("subscribe", &json!({"filter": "t", "qos": 1, "no_local": true}), "subscribed");
    client.publish("t", "mine", 1);
    mosquitto_pub(broker.port, &["-t", "t", "-m", "theirs", "-q", "1"]);
    assert_eq!(client.message()["payload"], "theirs");
    assert!(client.messages_so_far().is_empty());
}

#[test]
fn our_own_sub_prints_the_properties_that_our_own_pub_sent() {
    let broker = broker();
    let port = broker.port.to_string();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edgeway"));
        command.args(&arguments[..1]).args(["-h", "127.0.0.1", "-p", &port]).args(&arguments[1..]);
        crate::support::process::Peer::start(arguments[0], command.env("NO_COLOR", "1"))
    };
    let mut sub = run(&["sub", "-t", "p", "-C", "1", "-F", "%C|%R|%D|%P|%p", "-d"]);
    sub.stderr().wait_for("subscribed");
    let mut arguments = vec!["pub", "-t", "p", "-m", "x"];
    for property in [
        &["user-property", "unit", "kWh"][..],
        &["content-type", "text/plain"],
        &["response-topic", "answer/here"],
        &["correlation-data", "42"],
    ] {
        arguments.extend(["-D", "publish"].iter().chain(property));
    }
    let mut publisher = run(&arguments);
    publisher.close_stdin();
    assert!(publisher.wait().success(), "{}", publisher.told());
    assert!(sub.wait().success(), "{}", sub.told());
    assert_eq!(sub.stdout().lines(), ["text/plain|answer/here|42|unit:kWh|x"]);
}
