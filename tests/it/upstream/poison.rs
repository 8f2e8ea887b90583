//! Messages that a server does not take: they are found and set aside, and all others flow.

use super::{Behaviour, Do, Event, Record, Upstream, When};
use crate::support::mosquitto::mosquitto_pub;
use edgeway::mqtt::{QoS, ReasonCode};

const SEND: &str = "send: [ { from: \"x/#\", qos: 1 } ]";

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn publish(port: u16, topic: &str, payload: &str) {
    mosquitto_pub(port, &["-t", topic, "-m", payload, "-q", "1"]);
}

fn alone(record: &Record) -> usize {
    record.publishes().iter().filter(|published| published.text().contains("poison")).count()
}

#[test]
fn a_poisoned_message_is_set_aside_and_the_rest_flows() {
    for (version, act) in
        [("5", Do::Close), ("3.1.1", Do::Close), ("5", Do::Disconnect(ReasonCode::PayloadFormatInvalid))]
    {
        let mut upstream = Upstream::start([Behaviour::good().when(When::Payload("poison"), act)]);
        let mut gateway = upstream.gateway(&format!("mqtt: {version}\n{SEND}"));
        publish(gateway.port, "x/first", "1");
        upstream.until("the first", |record| record.payloads("x/first") == ["1"]);
        upstream.go_away();
        for number in 0..40 {
            publish(gateway.port, "x/y", &number.to_string());
            if number == 20 {
                publish(gateway.port, "x/y", "poison");
            }
        }
        upstream.come_back();
        let record = upstream.until("the others", |record| record.payloads("x/y").len() >= 40);
        assert_eq!(record.payloads("x/y"), numbers(40), "{record}");
        assert!(alone(&record) <= 8, "{record}");
        let line = gateway.peer().stderr().wait_for("a message was set aside");
        assert!(line.contains("topic=\"x/y\"") && line.contains("ERROR"), "{line}");
        // Nobody asks for it again.
        publish(gateway.port, "x/y", "40");
        let record = upstream.until("the last", |record| record.payloads("x/y").len() == 41);
        let last = record.entries.last().map_or(0, |entry| entry.connection);
        assert_eq!(alone(&record.of(last)), 0, "{record}");
    }
}

#[test]
fn a_message_that_is_never_acknowledged_is_set_aside_too() {
    let upstream = Upstream::start([Behaviour::good().when(When::Payload("poison"), Do::Withhold)]);
    let mut gateway = upstream.gateway(&format!("ack_timeout: 1s\n{SEND}"));
    for payload in ["1", "poison", "2", "3"] {
        publish(gateway.port, "x/y", payload);
    }
    gateway.peer().stderr().wait_for("a message was set aside");
    publish(gateway.port, "x/y", "4");
    upstream.until("the others", |record| record.payloads("x/y") == ["1", "2", "3", "4"]);
}

#[test]
fn a_server_of_3_1_1_that_closes_on_qos_2_gets_qos_1() {
    let upstream = Upstream::start([Behaviour::good().when(When::Qos(QoS::ExactlyOnce), Do::Close)]);
    let mut gateway = upstream.gateway("mqtt: 3.1.1\nsend: [ { from: \"x/#\", qos: 2 } ]");
    for payload in ["1", "2", "3"] {
        publish(gateway.port, "x/y", payload);
    }
    let record = upstream.until("all", |record| record.payloads("x/y") == ["1", "2", "3"]);
    assert!(record.taken().iter().all(|taken| taken.qos == QoS::AtLeastOnce));
    gateway.peer().stderr().wait_for("the server ends the connection at QoS 2; it gets QoS 1");
    // That is remembered.
    let before = record.arrivals().len();
    upstream.cut();
    upstream.until("it is back", |record| record.arrivals().len() == before + 1);
    publish(gateway.port, "x/y", "4");
    let record = upstream.until("the last", |record| record.payloads("x/y").len() == 4);
    assert_eq!(record.arrivals().len(), before + 1);
    assert!(gateway.peer().stderr().lines().iter().all(|line| !line.contains("set aside")));
}

#[test]
fn a_server_that_closes_whatever_comes_is_not_taken_for_one_that_chokes_on_messages() {
    // It closes at a birth, or at the first ping: before any message of the queue.
    let upstream = Upstream::start([Behaviour::good().when(When::Topic("up"), Do::Close)]);
    let mut gateway =
        upstream.gateway("send: [ { from: \"{gateway}/status\", to: up, qos: 1 }, { from: \"x/#\", qos: 1 } ]");
    publish(gateway.port, "x/y", "1");
    upstream.until("some links", |record| record.arrivals().len() == 8);
    assert!(gateway.peer().stderr().lines().iter().all(|line| !line.contains("set aside")));
    upstream.obey([Behaviour::good()]);
    upstream.until("the message", |record| record.payloads("x/y") == ["1"]);
}

#[test]
fn qos_2_that_is_answered_by_puback_is_over() {
    for version in ["5", "3.1.1"] {
        let upstream = Upstream::start([Behaviour::good().when(When::Qos(QoS::ExactlyOnce), Do::Puback)]);
        let gateway = upstream.gateway(&format!("mqtt: {version}\nsend: [ {{ from: \"x/#\", qos: 2 }} ]"));
        for payload in ["1", "2", "3"] {
            publish(gateway.port, "x/y", payload);
        }
        upstream.until("all", |record| record.payloads("x/y") == ["1", "2", "3"]);
        upstream.cut();
        publish(gateway.port, "x/y", "4");
        let record = upstream.until("the last", |record| record.payloads("x/y").len() == 4);
        assert_eq!(record.payloads("x/y"), ["1", "2", "3", "4"], "nothing comes again");
        assert_eq!(record.count(|event| matches!(event, Event::Release(_))), 0);
    }
}

#[test]
fn a_message_that_is_refused_is_set_aside_with_the_reason() {
    for (qos, reason) in
        [("1", ReasonCode::NotAuthorized), ("1", ReasonCode::QuotaExceeded), ("2", ReasonCode::PayloadFormatInvalid)]
    {
        let upstream = Upstream::start([Behaviour::good().when(When::Payload("no"), Do::Refuse(reason))]);
        let mut gateway = upstream.gateway(&format!("send: [ {{ from: \"x/#\", qos: {qos} }} ]"));
        for payload in ["1", "no", "2"] {
            publish(gateway.port, "x/y", payload);
        }
        upstream.until("the others", |record| record.payloads("x/y") == ["1", "2"]);
        let line = gateway.peer().stderr().wait_for("a message was set aside");
        assert!(line.contains(&format!("the server refused it: {reason}")), "{line}");
        assert_eq!(upstream.record().arrivals().len(), 1);
    }
}

#[test]
fn after_two_messages_of_a_topic_the_others_of_it_are_set_aside_without_a_trial() {
    let mut upstream = Upstream::start([Behaviour::good().when(When::Topic("y/a.b"), Do::Close)]);
    let mut gateway = upstream.gateway("mqtt: 3.1.1\nsend: [ { from: \"x/#\", to: \"y/#\", qos: 1 } ]");
    upstream.until("a link", |record| record.arrivals().len() == 1);
    upstream.go_away();
    for payload in ["1", "2", "3", "4", "5"] {
        publish(gateway.port, "x/a.b", payload);
    }
    publish(gateway.port, "x/ab", "6");
    upstream.come_back();
    let record = upstream.until("the other topic", |record| record.payloads("y/ab") == ["6"]);
    assert!(record.of(record.arrivals().len()).attempts("y/a.b").is_empty(), "{record}");
    let lines = gateway.peer().stderr().lines();
    let reasons = |text: &str| lines.iter().filter(|line| line.contains("set aside") && line.contains(text)).count();
    let counts = (reasons("each time it was sent alone"), reasons("ends the connection at messages of this topic"));
    assert_eq!(counts, (2, 3), "{}", lines.join("\n"));
}
