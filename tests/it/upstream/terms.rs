//! What a server allows in its CONNACK is kept to.

use super::{Behaviour, Event, Terms, Upstream};
use crate::support::mosquitto::mosquitto_pub;
use crate::support::mqtt_client::MqttClient;
use edgeway::mqtt::QoS;
use serde_json::json;

#[test]
fn a_thousand_messages_go_through_a_receive_maximum_of_ten() {
    let terms = Terms { receive_maximum: 10, ..Terms::default() };
    let mut upstream = Upstream::start([Behaviour::good().with_terms(terms).gathering()]);
    upstream.go_away();
    let gateway = upstream.gateway("send: [ { from: \"x/#\", max_qos: 2 } ]");
    let (mut publisher, _) = MqttClient::connect(gateway.port, &json!({}));
    for qos in [1, 2] {
        let command = json!({"topic": format!("x/{qos}"), "payload": "{n}", "qos": qos, "count": 500});
        publisher.tell("publish", &command);
    }
    for _ in 0..1000 {
        publisher.event("published");
    }
    upstream.come_back();
    let expected: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let record = upstream
        .until("all messages", |record| record.payloads("x/1").len() >= 500 && record.payloads("x/2").len() >= 500);
    assert_eq!((record.payloads("x/1"), record.payloads("x/2")), (expected.clone(), expected));
    assert!(record.violations().is_empty(), "{record}");
    assert_eq!(record.publishes().iter().map(|published| published.in_flight).max(), Some(10), "the window is used");
    assert!(record.publishes().iter().all(|published| !published.dup));
}

#[test]
fn no_message_is_larger_or_of_a_higher_qos_than_the_server_takes_nor_retained_where_it_keeps_none() {
    for maximum_qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let terms = Terms { maximum_qos, retain_available: false, maximum_packet_size: Some(200), ..Terms::default() };
        let upstream = Upstream::start([Behaviour::good().with_terms(terms)]);
        let mut gateway = upstream.gateway("send: [ { from: \"x/#\", qos: 2, retain: true } ]");
        upstream.until("a link", |record| record.count(|event| matches!(event, Event::Connect(_))) > 0);
        for payload in ["1", &"2".repeat(300), "3"] {
            mosquitto_pub(gateway.port, &["-t", "x/y", "-m", payload, "-q", "2", "-r"]);
        }
        gateway.peer().stderr().wait_for("the packet is larger than the 200 bytes that the server takes");
        let record = upstream.until("the others", |record| record.payloads("x/y").len() >= 2);
        assert_eq!(record.payloads("x/y"), ["1", "3"]);
        assert!(
            record.publishes().iter().all(|published| published.qos == maximum_qos && !published.retain),
            "{record}"
        );
        assert!(record.violations().is_empty(), "{record}");
    }
}

#[test]
fn topic_aliases_stand_for_topics_that_come_again() {
    let terms = Terms { topic_alias_maximum: 1, ..Terms::default() };
    let upstream = Upstream::start([Behaviour::good().with_terms(terms)]);
    let gateway = upstream.gateway("send: [ { from: \"x/#\", qos: 1 } ]");
    upstream.until("a link", |record| record.count(|event| matches!(event, Event::Connect(_))) > 0);
    for (topic, payload) in [("x/first", "1"), ("x/first", "2"), ("x/other", "3"), ("x/first", "4")] {
        mosquitto_pub(gateway.port, &["-t", topic, "-m", payload, "-q", "1"]);
    }
    let record =
        upstream.until("all", |record| record.payloads("x/first").len() + record.payloads("x/other").len() >= 4);
    let how: Vec<_> =
        record.publishes().iter().map(|published| (published.text(), published.alias, published.has_name)).collect();
    let how: Vec<_> = how.iter().map(|(text, alias, has_name)| (text.as_str(), *alias, *has_name)).collect();
    assert_eq!(how, [("1", Some(1), true), ("2", Some(1), false), ("3", None, true), ("4", Some(1), false)]);
    assert!(record.violations().is_empty(), "{record}");
}
