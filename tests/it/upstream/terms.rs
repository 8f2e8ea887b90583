//! What a server allows in its CONNACK is kept to.

use super::{Behaviour, Terms, Upstream};
use crate::support::mqtt_client::MqttClient;
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
