//! Retained messages of our broker, seen by real clients.

use super::connect::{VERSIONS, broker};
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::mqtt_client::MqttClient;
use serde_json::json;

#[test]
fn who_comes_later_gets_the_last_value_marked_as_retained() {
    let broker = broker();
    for (_, version) in VERSIONS {
        for value in ["first", "second"] {
            mosquitto_pub(broker.port, &["-V", version, "-t", "r/1", "-m", value, "-r", "-q", "1"]);
        }
        let subscriber = mosquitto_sub(broker.port, &["-V", version, "-t", "r/#", "-q", "1", "-F", "%t %r %p"]);
        assert_eq!(subscriber.next(), "r/1 1 second");
        mosquitto_pub(broker.port, &["-t", "r/1", "-m", "third", "-r", "-q", "1"]);
        assert_eq!(subscriber.next(), "r/1 0 third");
        mosquitto_pub(broker.port, &["-t", "r/1", "-n", "-r", "-q", "1"]);
        assert_eq!(subscriber.next().trim_end(), "r/1 0");
        let late = mosquitto_sub(broker.port, &["-V", version, "-t", "r/#", "-q", "1"]);
        mosquitto_pub(broker.port, &["-t", "r/2", "-m", "fresh", "-q", "1"]);
        assert_eq!(late.next(), "fresh", "a cleared value does not come");
    }
}

#[test]
fn five_thousand_retained_values_all_come_to_a_new_client() {
    const COUNT: usize = 5000;
    let broker = broker();
    let (mut publisher, _) = MqttClient::connect(broker.port, &json!({}));
    for number in 0..COUNT {
        let options =
            json!({"topic": format!("many/{number:04}"), "payload": number.to_string(), "qos": 1, "retain": true});
        publisher.tell("publish", &options);
    }
    for _ in 0..COUNT {
        publisher.event("published");
    }
    for qos in ["0", "1", "2"] {
        let subscriber = mosquitto_sub(broker.port, &["-t", "many/+", "-q", qos, "-F", "%t %r %p"]);
        for number in 0..COUNT {
            assert_eq!(subscriber.next(), format!("many/{number:04} 1 {number}"), "QoS {qos}");
        }
        assert_eq!(subscriber.rest(), [""; 0]);
    }
}

#[test]
fn options_of_version_5_say_whether_and_how_they_come() {
    let broker = broker();
    mosquitto_pub(broker.port, &["-t", "r", "-m", "kept", "-r", "-q", "1"]);
    let (mut client, _) = MqttClient::connect(broker.port, &json!({}));
    let handling =
        |handling: u8| json!({"filter": "r", "qos": 1, "retain_handling": handling, "retain_as_published": true});
    client.run("subscribe", &handling(2), "subscribed");
    client.run("subscribe", &handling(1), "subscribed");
    client.publish("x", "", 1);
    assert!(client.messages_so_far().is_empty());
    client.run("subscribe", &handling(0), "subscribed");
    assert_eq!(client.message()["payload"], "kept");
    mosquitto_pub(broker.port, &["-t", "r", "-m", "live", "-r", "-q", "1"]);
    let live = client.message();
    assert_eq!((&live["payload"], &live["retain"]), (&json!("live"), &json!(true)));
}
