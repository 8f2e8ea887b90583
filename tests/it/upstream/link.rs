//! The life of a bridge's link with servers that misbehave: what it does, and what it says.

use super::{Behaviour, Do, Event, Terms, Upstream, When};
use crate::support::edgeway::Edgeway;
use crate::support::mosquitto::mosquitto_pub;
use crate::support::ports::free_port;
use crate::support::process::wait_until;
use edgeway::mqtt::{QoS, ReasonCode, Version};

const SEND: &str = "send: [ { from: \"x/#\", qos: 1 } ]";

fn publish(gateway: &Edgeway, topic: &str, payload: &str) {
    mosquitto_pub(gateway.port, &["-t", topic, "-m", payload, "-q", "1"]);
}

/// A gateway with a bridge for each of these: name, upstream, and lines besides its URL.
fn gateway_of(bridges: &[(&str, &Upstream, &str)]) -> Edgeway {
    let mut text = "gateway: { name: edge }\nbroker: { listen: \"mqtt://127.0.0.1:@PORT@\" }\nbridges:\n".to_owned();
    for (name, upstream, lines) in bridges {
        text += &format!("  {name}:\n    url: \"{}\"\n", upstream.url());
        for line in lines.lines() {
            text += &format!("    {line}\n");
        }
    }
    Edgeway::start(&text)
}

/// How many lines of the gateway's log hold the text.
fn said(gateway: &mut Edgeway, text: &str) -> usize {
    gateway.peer().stderr().lines().iter().filter(|line| line.contains(text)).count()
}

#[test]
fn a_server_that_never_answers_connect_is_left_and_tried_again() {
    let upstream = Upstream::start([Behaviour::silent(), Behaviour::good()]);
    let mut gateway = upstream.gateway(SEND);
    publish(&gateway, "x/y", "1");
    let line = gateway.peer().stderr().wait_for("no CONNACK within 10 s");
    assert!(line.contains("cannot connect"), "{line}");
    upstream.until("the message", |record| record.payloads("x/y") == ["1"]);
}

#[test]
fn a_standby_is_used_while_the_first_does_not_answer_connect() {
    let (silent, standby) = (Upstream::start([Behaviour::silent()]), Upstream::start([Behaviour::good()]));
    let gateway = Edgeway::start(&format!(
        "gateway: {{ name: edge }}\nbroker: {{ listen: \"mqtt://127.0.0.1:@PORT@\" }}\nbridges:
  cloud: {{ url: [ \"mqtt://127.0.0.1:{}\", \"{}\", \"{}\" ], {SEND} }}\n",
        free_port(),
        silent.url(),
        standby.url()
    ));
    publish(&gateway, "x/y", "1");
    standby.until("the message", |record| record.payloads("x/y") == ["1"]);
    assert_eq!(silent.record().arrivals().len(), 1);
}

#[test]
fn each_refusal_has_its_own_pace_and_is_said_once() {
    let closing = Upstream::start([Behaviour::good().when(When::Connected, Do::Close)]);
    let busy = Upstream::start([Behaviour::refuses(ReasonCode::ServerBusy)]);
    let old_busy = Upstream::start([Behaviour::refuses(ReasonCode::ServerUnavailable)]);
    let stranger = Upstream::start([Behaviour::refuses(ReasonCode::BadUserNameOrPassword)]);
    let old_stranger = Upstream::start([Behaviour::refuses(ReasonCode::NotAuthorized)]);
    let misnamed = Upstream::start([Behaviour::refuses(ReasonCode::ClientIdentifierNotValid)]);
    let mut gateway = gateway_of(&[
        ("closing", &closing, SEND),
        ("busy", &busy, SEND),
        ("old_busy", &old_busy, "mqtt: 3.1.1"),
        ("stranger", &stranger, SEND),
        ("old_stranger", &old_stranger, "mqtt: 3.1.1"),
        ("misnamed", &misnamed, SEND),
    ]);
    // One that closes is tried again soon, one that refuses us is not.
    closing.until("five attempts", |record| record.arrivals().len() == 5);
    for (upstream, most) in [(&busy, 2), (&old_busy, 2), (&stranger, 1), (&old_stranger, 1), (&misnamed, 1)] {
        let record = upstream.record();
        assert!((1..=most).contains(&record.arrivals().len()), "{record}");
    }
    assert_eq!(old_stranger.record().versions(), [Version::V3]);
    for (bridge, text, times) in [
        ("bridge=\"stranger\"", "the server refused: bad user name or password (0x86)", 1),
        ("bridge=\"old_stranger\"", "the server refused: not authorized (0x87)", 1),
        ("bridge=\"misnamed\"", "the server refused: client identifier not valid (0x85)", 1),
        ("bridge=\"busy\"", "the server refused: server busy (0x89)", 1),
        ("bridge=\"old_busy\"", "the server refused: server unavailable (0x88)", 1),
        ("bridge=\"closing\"", "the server closed the connection", 1),
    ] {
        let lines = gateway.peer().stderr().lines();
        let count = lines.iter().filter(|line| line.contains(bridge) && line.contains(text)).count();
        assert_eq!(count, times, "{bridge} {text}\n{}", lines.join("\n"));
    }
}

#[test]
fn a_server_that_sends_us_to_another_is_followed_once() {
    let other = Upstream::start([Behaviour::good()]);
    let reference = format!("127.0.0.1:{}", other.port);
    let first = Upstream::start([Behaviour::sends_away(ReasonCode::UseAnotherServer, &reference)]);
    let gateway = first.gateway(SEND);
    publish(&gateway, "x/y", "1");
    other.until("the message", |record| record.payloads("x/y") == ["1"]);
    // When that ends, the configured one is asked again; in the midst of a connection it may say so too.
    first.obey([Behaviour::good().when(When::Topic("x/away"), Do::SendAway(ReasonCode::ServerMoved, reference))]);
    other.cut();
    first.until("it is back", |record| record.arrivals().len() == 2);
    publish(&gateway, "x/away", "2");
    other.until("the message", |record| record.payloads("x/away") == ["2"]);
    assert_eq!((first.record().arrivals().len(), other.record().arrivals().len()), (2, 2));
}

#[test]
fn the_version_that_worked_is_remembered() {
    for behaviour in [Behaviour::closes(), Behaviour::refuses(ReasonCode::UnsupportedProtocolVersion)] {
        let upstream = Upstream::start([behaviour.on_version_5()]);
        let gateway = upstream.gateway(SEND);
        for (number, payload) in ["a", "b", "c"].into_iter().enumerate() {
            publish(&gateway, "x/y", payload);
            upstream.until("the message", |record| record.payloads("x/y").len() == number + 1);
            upstream.cut();
            upstream.until("it is back", |record| record.arrivals().len() == number + 3);
        }
        let record = upstream.record();
        assert_eq!(record.payloads("x/y"), ["a", "b", "c"]);
        assert_eq!(record.versions(), [Version::V5, Version::V3, Version::V3, Version::V3, Version::V3]);
    }
}

#[test]
fn who_is_taken_over_three_times_says_so_and_slows_down() {
    let taken = Do::Disconnect(ReasonCode::SessionTakenOver);
    let upstream = Upstream::start([Behaviour::good().when(When::Connected, taken)]);
    let other = Upstream::start([Behaviour::good().when(When::Connected, Do::Close)]);
    let mut gateway = gateway_of(&[("cloud", &upstream, SEND), ("other", &other, SEND)]);
    let line = gateway.peer().stderr().wait_for("another client uses the id edge-cloud");
    assert!(line.contains("ERROR"), "{line}");
    let before = other.record().arrivals().len();
    other.until("some attempts more", |record| record.arrivals().len() == before + 3);
    assert_eq!(upstream.record().arrivals().len(), 3);
}

#[test]
fn in_3_1_1_a_server_that_closes_again_and_again_is_perhaps_a_rival() {
    let upstream = Upstream::start([Behaviour::good().when(When::Nth(2), Do::Close)]);
    let mut gateway = upstream.gateway(&format!("mqtt: 3.1.1\n{SEND}"));
    for payload in ["1", "2", "3", "4"] {
        publish(&gateway, "x/y", payload);
    }
    gateway.peer().stderr().wait_for("perhaps another client uses the id edge-cloud: the server closed the connection");
    upstream.until("all", |record| record.payloads("x/y") == ["1", "2", "3", "4"]);
}

#[test]
fn a_missing_acknowledgement_ends_a_link_that_is_alive_otherwise() {
    for version in ["5", "3.1.1"] {
        let upstream = Upstream::start([Behaviour::good().when(When::Nth(2), Do::Withhold), Behaviour::good()]);
        let mut gateway = upstream.gateway(&format!("mqtt: {version}\nack_timeout: 1s\nkeep_alive: 20s\n{SEND}"));
        for payload in ["1", "2", "3"] {
            publish(&gateway, "x/y", payload);
        }
        gateway.peer().stderr().wait_for("no acknowledgement for 1 s");
        let record = upstream.until("all messages", |record| record.payloads("x/y").len() == 3);
        let repeated: Vec<_> = record.of(2).publishes().iter().map(|again| (again.text(), again.dup)).collect();
        assert_eq!(repeated, [("2".to_owned(), true)]);
        assert!(
            record.of(1).count(|event| matches!(event, Event::Ping)) >= 1,
            "it was asked whether it lives\n{record}"
        );
    }
}

#[test]
fn a_black_hole_is_found_by_keep_alive_the_servers_too() {
    let terms = Terms { server_keep_alive: Some(1), ..Terms::default() };
    let hole = || Behaviour::good().when(When::Payload("2"), Do::BlackHole);
    for (first, lines) in [(hole(), "keep_alive: 1s"), (hole().with_terms(terms), "keep_alive: 1h")] {
        let upstream = Upstream::start([first, Behaviour::good()]);
        let mut gateway = upstream.gateway(&format!("{lines}\n{SEND}"));
        publish(&gateway, "x/y", "1");
        publish(&gateway, "x/y", "2");
        gateway.peer().stderr().wait_for("the server went silent");
        upstream.until("both", |record| record.payloads("x/y") == ["1", "2"]);
    }
}

#[test]
fn qos_2_survives_a_server_that_closes_between_pubrec_and_pubcomp() {
    for version in ["5", "3.1.1"] {
        let upstream = Upstream::start([Behaviour::good().when(When::Release, Do::Close), Behaviour::good()]);
        let gateway = upstream.gateway(&format!("mqtt: {version}\nsend: [ {{ from: \"x/#\", qos: 2 }} ]"));
        publish(&gateway, "x/y", "1");
        publish(&gateway, "x/y", "2");
        let record = upstream
            .until("PUBCOMP", |record| record.count(|event| matches!(event, Event::Acknowledged("PUBCOMP", ..))) == 2);
        assert_eq!(record.payloads("x/y"), ["1", "2"]);
        let first = record.of(2).entries.into_iter().map(|entry| entry.event);
        let first = first.into_iter().find(|event| matches!(event, Event::Release(_) | Event::Publish(_)));
        assert!(matches!(first, Some(Event::Release(1))), "{first:?}");
    }
}

#[test]
fn a_server_that_lost_the_session_gets_what_is_unfinished_as_new() {
    let upstream =
        Upstream::start([Behaviour::good().when(When::Acknowledgeable, Do::Withhold), Behaviour::good().forgetful()]);
    let gateway = upstream.gateway("send: [ { from: \"x/#\", max_qos: 2 } ]\nreceive: [ { from: \"cmd/#\", qos: 1 } ]");
    for qos in ["1", "2"] {
        mosquitto_pub(gateway.port, &["-t", "x/y", "-m", qos, "-q", qos]);
    }
    upstream.until("they have come", |record| record.publishes().len() == 2);
    upstream.cut();
    let record = upstream.until("they are taken", |record| record.payloads("x/y").len() == 2);
    assert!(record.of(2).publishes().iter().all(|published| !published.dup), "{record}");
    assert_eq!(record.of(2).subscribed(), ["cmd/#"]);
}

#[test]
fn what_is_subscribed_stays_so_and_a_refusal_is_said() {
    let refuses = Behaviour::good().refusing_subscriptions(ReasonCode::NotAuthorized);
    let upstream = Upstream::start([refuses, Behaviour::good()]);
    let mut gateway = upstream.gateway("receive:\n  - { from: \"cmd/#\", qos: 1 }\n  - { from: news, qos: 0 }");
    for filter in ["cmd/#", "news"] {
        let text = format!("the server refused the subscription to {filter}: not authorized (0x87)");
        gateway.peer().stderr().wait_for(&text);
    }
    for connection in 2..=3 {
        upstream.cut();
        upstream.until("it is back", |record| record.arrivals().len() == connection);
        // What is acknowledged comes behind what it says first.
        wait_until("it is there", || {
            upstream.publish("cmd/x", "1", QoS::AtLeastOnce, false);
            let record = upstream.record().of(connection);
            record.count(|event| matches!(event, Event::Acknowledgement("PUBACK", ..))) > 0
        });
    }
    let record = upstream.record();
    assert_eq!(record.of(2).subscribed(), ["cmd/#", "news"], "it is tried again");
    assert!(record.of(3).subscribed().is_empty(), "the server still has them\n{record}");
    assert!(record.of(3).arrivals()[0].session_present);
}

#[test]
fn online_comes_before_the_queue_after_every_connack() {
    let mut upstream = Upstream::start([Behaviour::good()]);
    let mut gateway = upstream.gateway("send: [ { from: \"{gateway}/status\", to: up }, { from: \"x/#\", qos: 1 } ]");
    publish(&gateway, "x/y", "0");
    upstream.until("the first", |record| record.payloads("x/y") == ["0"]);
    upstream.go_away();
    for payload in ["1", "2"] {
        publish(&gateway, "x/y", payload);
    }
    upstream.come_back();
    let record = upstream.until("all", |record| record.payloads("x/y") == ["0", "1", "2"]);
    let second: Vec<_> = record.of(2).publishes().iter().map(|published| published.text()).collect();
    assert_eq!(second, ["online", "1", "2"]);
    assert_eq!(record.arrivals()[1].will, Some(("up".into(), "offline".into(), QoS::AtLeastOnce, true)));
    let (status, _) = gateway.terminate();
    assert!(status.success(), "{status}");
    let record = upstream.until("its end", |record| !record.disconnects().is_empty());
    assert_eq!(record.publishes().last().map(|last| last.text()), Some("offline".into()));
    assert_eq!(said_reasons(&record.disconnects()), [0]);
}

fn said_reasons(reasons: &[ReasonCode]) -> Vec<u8> {
    reasons.iter().map(|reason| *reason as u8).collect()
}

#[test]
fn a_server_that_shuts_down_is_expected_back_soon() {
    let upstream = Upstream::start([Behaviour::good()]);
    let mut gateway = upstream.gateway(SEND);
    publish(&gateway, "x/y", "1");
    upstream.until("the first", |record| record.payloads("x/y") == ["1"]);
    upstream.disconnect(ReasonCode::ServerShuttingDown);
    publish(&gateway, "x/y", "2");
    upstream.until("the second", |record| record.payloads("x/y") == ["1", "2"]);
    assert_eq!(said(&mut gateway, "the server said server shutting down (0x8B)"), 1);
}

#[test]
fn what_was_learnt_of_a_server_is_known_after_a_restart() {
    let upstream = Upstream::start([Behaviour::closes().on_version_5()]);
    let routes = |filters: &[&str]| {
        let mut lines = format!("{SEND}\nreceive:\n");
        for filter in filters {
            lines += &format!("  - {{ from: \"{filter}\", retain: false, qos: 1 }}\n");
        }
        upstream.configuration(&lines) + "storage: { path: \"@DIR@/store\" }\n"
    };
    let mut gateway = Edgeway::start(&routes(&["cmd/#", "news"]));
    publish(&gateway, "x/y", "1");
    upstream.until("the first", |record| record.payloads("x/y") == ["1"]);
    let (status, _) = gateway.terminate();
    assert!(status.success(), "{status}");
    gateway.configure(&routes(&["cmd/#", "weather"]));
    gateway.start_again();
    publish(&gateway, "x/y", "2");
    let record = upstream.until("the second", |record| record.payloads("x/y") == ["1", "2"]);
    assert_eq!(record.versions(), [Version::V5, Version::V3, Version::V3], "3.1.1 is remembered");
    let last = record.of(3);
    assert_eq!((last.unsubscribed(), last.subscribed()), (vec!["news"], vec!["weather"]), "{last}");
}
