//! `$SYS` as real clients see it, name by name beside mosquitto's own.

use super::support::edgeway::Edgeway;
use super::support::http::{HttpDevice, Request};
use super::support::mosquitto::{Mosquitto, Options, Subscriber, mosquitto_pub, mosquitto_sub};
use super::support::ports::free_port;
use super::support::process::wait_until;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn subscribe(port: u16) -> Subscriber {
    mosquitto_sub(port, &["-t", "$SYS/#", "-F", "%t\t%p"])
}

/// The newest value of each topic so far, into `known`.
fn look(subscriber: &Subscriber, known: &mut BTreeMap<String, String>) {
    for line in subscriber.rest() {
        let (topic, value) = line.split_once('\t').unwrap_or((&line, ""));
        known.insert(topic.to_owned(), value.to_owned());
    }
}

#[test]
fn every_name_that_mosquitto_tells_is_told_and_means_the_same() {
    let mosquitto = Mosquitto::start_with(&Options { lines: vec!["sys_interval 1".into()], ..Options::default() });
    let edgeway = Edgeway::start("broker: { listen: \"mqtt://127.0.0.1:@PORT@\", sys_interval: 1s }\n");
    let told = [mosquitto.port, edgeway.port].map(|port| {
        let subscriber = subscribe(port);
        let kept = mosquitto_sub(port, &["-t", "t", "-q", "1"]);
        for _ in 0..3 {
            mosquitto_pub(port, &["-t", "t", "-m", "12345", "-q", "1"]);
            assert_eq!(kept.next(), "12345");
        }
        let mut known = BTreeMap::new();
        wait_until("the messages are counted, and the average too", || {
            look(&subscriber, &mut known);
            known.get("$SYS/broker/publish/bytes/received").is_some_and(|bytes| bytes == "15")
                && known.get("$SYS/broker/load/publish/received/1min").is_some_and(|load| load != "0.00")
                && known.get("$SYS/broker/clients/connected").is_some_and(|count| count == "2")
        });
        known
    });
    let [theirs, ours] = &told;
    let missing: Vec<&String> = theirs.keys().filter(|topic| !ours.contains_key(*topic)).collect();
    assert!(theirs.len() > 50 && missing.is_empty(), "{missing:?}");
    for (topic, value) in ours {
        match topic.as_str() {
            "$SYS/broker/version" => assert!(value.starts_with("edgeway version ")),
            "$SYS/broker/uptime" => {
                assert!(
                    value.strip_suffix(" seconds").is_some_and(|seconds| seconds.parse::<u64>().is_ok()),
                    "{value}"
                );
            }
            "$SYS/gateway/health/state" => assert_eq!(value, "ok"),
            "$SYS/gateway/store/state" => assert_eq!(value, "in_memory"),
            _ => assert!(value.parse::<f64>().is_ok_and(|number| number >= 0.0), "{topic} is {value}"),
        }
    }
    for same in ["publish/messages/received", "publish/messages/dropped", "subscriptions/count", "clients/connected"] {
        let topic = format!("$SYS/broker/{same}");
        assert_eq!(ours[&topic], theirs[&topic], "{same}");
    }
    // Handshakes, acknowledgements and the other packets of the same clients: ours may be seen a second later.
    let number =
        |told: &BTreeMap<String, String>, topic: &str| told[&format!("$SYS/broker/{topic}")].parse::<u64>().unwrap();
    for topic in ["messages/received", "bytes/received"] {
        let (theirs, ours) = (number(theirs, topic), number(ours, topic));
        assert!(ours.abs_diff(theirs) * 5 <= theirs, "{topic} is {ours}, mosquitto's {theirs}");
    }
    assert!(number(ours, "heap/maximum") >= number(ours, "heap/current"));
    assert!(number(ours, "heap/current") > 1024 * 1024);
}

#[test]
fn bridges_and_devices_are_told_of_and_wildcards_see_none_of_it() {
    let answers = Arc::new(AtomicBool::new(true));
    let well = Arc::clone(&answers);
    let plug = HttpDevice::start(move |_: &Request| match well.load(Ordering::SeqCst) {
        true => (200, "Content-Type: application/json\r\n", r#"{"power": 5}"#.to_owned()),
        false => (503, "", String::new()),
    });
    let mut cloud = Mosquitto::start();
    let nobody = free_port();
    let gateway = Edgeway::start(&format!(
        r##"
gateway: {{ name: edge }}
broker: {{ listen: "mqtt://127.0.0.1:@PORT@", sys_interval: 1s }}
http:
  plug: {{ get: "http://127.0.0.1:{}/", every: 200ms, offline_after: 1, points: {{ power: {{ path: $.power }} }} }}
  dead: {{ get: "http://127.0.0.1:{nobody}/", every: 200ms, offline_after: 1, points: {{ power: {{ path: $.power }} }} }}
bridges:
  cloud: {{ url: "mqtt://127.0.0.1:{}", send: [ {{ from: "keep/#", to: "#", qos: 1 }} ] }}
"##,
        plug.port, cloud.port
    ));
    let wildcard = mosquitto_sub(gateway.port, &["-t", "#", "-t", "+/broker/#", "-F", "%t"]);
    let subscriber = subscribe(gateway.port);
    let mut known = BTreeMap::new();
    let mut until = |what: &str, expected: &[(&str, &str)]| {
        wait_until(what, || {
            look(&subscriber, &mut known);
            expected.iter().all(|(topic, value)| known.get(&format!("$SYS/{topic}")).is_some_and(|told| told == value))
        });
        known.clone()
    };
    let told = until(
        "the bridge and the device are well",
        &[
            ("broker/connection/cloud/state", "1"),
            ("gateway/bridges/cloud/state", "connected"),
            ("gateway/bridges/cloud/connects", "1"),
            ("gateway/devices/plug/state", "1"),
            ("gateway/devices/plug/errors", "0"),
            ("gateway/devices/dead/state", "0"),
            ("gateway/devices/dead/readings", "0"),
        ],
    );
    assert!(told["$SYS/gateway/devices/dead/error"].len() > 5);

    answers.store(false, Ordering::SeqCst);
    cloud.kill();
    until(
        "both are gone",
        &[
            ("broker/connection/cloud/state", "0"),
            ("gateway/bridges/cloud/state", "waiting"),
            ("gateway/devices/plug/state", "0"),
        ],
    );
    for _ in 0..3 {
        mosquitto_pub(gateway.port, &["-t", "keep/x", "-m", "12345", "-q", "1"]);
    }
    let told = until("what waits is told", &[("gateway/bridges/cloud/queued", "3")]);
    assert_ne!(told["$SYS/gateway/bridges/cloud/queued_bytes"], "0");
    assert!(!told["$SYS/gateway/bridges/cloud/last_error"].is_empty());
    assert_ne!(told["$SYS/gateway/devices/plug/readings"], "0");

    cloud.start_again();
    answers.store(true, Ordering::SeqCst);
    until(
        "both are back",
        &[
            ("gateway/bridges/cloud/state", "connected"),
            ("gateway/bridges/cloud/connects", "2"),
            ("gateway/bridges/cloud/queued", "0"),
            ("gateway/devices/plug/state", "1"),
            ("gateway/devices/plug/error", ""),
        ],
    );
    let seen = wildcard.rest();
    assert!(seen.iter().any(|topic| topic == "edge/plug/power"));
    assert!(seen.iter().all(|topic| !topic.starts_with('$')), "{seen:?}");
}
