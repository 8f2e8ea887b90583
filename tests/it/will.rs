//! Wills: what our broker says for clients that are gone.

use super::connect::{VERSIONS, broker};
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::mqtt_client::MqttClient;
use serde_json::json;

#[test]
fn a_killed_client_leaves_its_will_and_one_that_says_goodbye_does_not() {
    let broker = broker();
    let watcher = mosquitto_sub(broker.port, &["-t", "will/#", "-q", "2", "-F", "%t %q %r %p"]);
    for (number, (_, version)) in VERSIONS.into_iter().enumerate() {
        let topic = format!("will/{number}");
        let will = ["-V", version, "-t", "x", "--will-topic", &topic, "--will-payload", "gone", "--will-qos", "2"];
        let mut killed = mosquitto_sub(broker.port, &[&will[..], &["--will-retain"]].concat());
        killed.peer().kill();
        assert_eq!(watcher.next(), format!("{topic} 2 0 gone"));
        let mut polite = mosquitto_sub(broker.port, &[&will[..], &["-C", "1"]].concat());
        mosquitto_pub(broker.port, &["-t", "x", "-m", "enough", "-q", "1"]);
        assert!(polite.peer().wait().success());
        mosquitto_pub(broker.port, &["-t", "will/marker", "-m", "here", "-q", "2"]);
        assert_eq!(watcher.next(), "will/marker 2 0 here");
        let late = mosquitto_sub(broker.port, &["-t", &topic, "-F", "%r %p"]);
        assert_eq!(late.next(), "1 gone", "the will was retained");
    }
}

#[test]
fn a_client_may_go_and_ask_for_its_will() {
    let broker = broker();
    let watcher = mosquitto_sub(broker.port, &["-V", "5", "-t", "will", "-F", "%C %P %p"]);
    let properties = json!({"content_type": "text/plain", "user_property": [["why", "asked"]]});
    let will = json!({"topic": "will", "payload": "wanted", "properties": properties});
    let (mut client, _) = MqttClient::connect(broker.port, &json!({"will": will}));
    client.tell("disconnect", &json!({"reason": 4}));
    assert_eq!(watcher.next(), "text/plain why:asked wanted");
}

#[test]
fn a_delayed_will_is_cancelled_by_coming_back_and_comes_with_the_end_of_the_session() {
    let broker = broker();
    let watcher = mosquitto_sub(broker.port, &["-t", "will/#", "-q", "1", "-v"]);
    let will = json!({"topic": "will/late", "payload": "gone", "qos": 1, "properties": {"will_delay_interval": 3600}});
    let options = json!({
        "client_id": "device", "clean": false, "will": will, "properties": {"session_expiry_interval": 7200},
    });
    let (mut client, _) = MqttClient::connect(broker.port, &options);
    client.tell("kill", &json!({}));
    client.event("disconnected");
    let (mut client, connected) = MqttClient::connect(broker.port, &options);
    assert_eq!(connected["session_present"], true);
    client.publish("will/marker", "back", 1);
    assert_eq!(watcher.next(), "will/marker back");
    client.tell("kill", &json!({}));
    client.event("disconnected");
    // A clean start ends the session, and with it the wait.
    let _clean = MqttClient::connect(broker.port, &json!({"client_id": "device"}));
    assert_eq!(watcher.next(), "will/late gone");
}
