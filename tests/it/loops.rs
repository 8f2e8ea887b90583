//! Gateways bridged in circles: each message arrives, and none goes round for ever.

use super::support::edgeway::Edgeway;
use super::support::mosquitto::{Subscriber, mosquitto_pub, mosquitto_sub};
use super::support::process::wait_until;

/// Messages that each gateway's client publishes; every second one is retained.
const COUNT: usize = 10;

fn configuration(name: &str, bridges: &str) -> String {
    format!(
        "gateway: {{ name: {name} }}\nbroker: {{ listen: \"mqtt://127.0.0.1:@PORT@\", sys_interval: 1s }}\n{bridges}"
    )
}

/// A section `bridges` of one that does `what` with `#`, but for what gateways say of themselves.
fn bridge_to(port: u16, what: &[&str]) -> String {
    let routes: String = what
        .iter()
        .map(|what| format!("    {what}: [ {{ from: \"#\", except: [ \"+/status\", \"+/bridges/#\" ], qos: 1 }} ]\n"))
        .collect();
    format!("bridges:\n  next:\n    url: \"mqtt://127.0.0.1:{port}\"\n    will: false\n{routes}")
}

/// Gateways of which each has a bridge to the next, and the last to the first.
fn ring(names: &[&str], what: &[&str]) -> Vec<Edgeway> {
    let mut last = Edgeway::start(&configuration(names[names.len() - 1], ""));
    let mut others: Vec<Edgeway> = Vec::new();
    for name in names[..names.len() - 1].iter().rev() {
        let next = others.last().map_or(last.port, |next| next.port);
        others.push(Edgeway::start(&configuration(name, &bridge_to(next, what))));
    }
    others.reverse();
    last.kill();
    last.configure(&configuration(names[names.len() - 1], &bridge_to(others[0].port, what)));
    last.start_again();
    others.push(last);
    others
}

/// How many messages in loops each has dropped, as it tells.
struct Looped(Vec<(Subscriber, u64)>);

impl Looped {
    fn watch(gateways: &[Edgeway]) -> Self {
        let topic = "$SYS/broker/publish/messages/looped";
        Self(gateways.iter().map(|gateway| (mosquitto_sub(gateway.port, &["-t", topic]), 0)).collect())
    }

    fn wait_for(&mut self, expected: u64) {
        wait_until(&format!("each has dropped {expected} messages"), || {
            for (subscriber, count) in &mut self.0 {
                *count = subscriber.rest().last().map_or(*count, |line| line.parse().unwrap());
                assert!(*count <= expected, "{count}");
            }
            self.0.iter().all(|(_, count)| *count == expected)
        });
    }
}

fn watch(gateways: &[Edgeway]) -> Vec<Subscriber> {
    gateways.iter().map(|gateway| mosquitto_sub(gateway.port, &["-t", "m/#", "-q", "1", "-F", "%t %p"])).collect()
}

fn publish(gateways: &[Edgeway]) -> Vec<String> {
    let mut all = Vec::new();
    for (place, gateway) in gateways.iter().enumerate() {
        for number in 0..COUNT {
            let topic = format!("m/{place}/{number}");
            let retain: &[&str] = if number % 2 == 0 { &["-r"] } else { &[] };
            mosquitto_pub(gateway.port, &[&["-t", &topic, "-m", "x", "-q", "1"], retain].concat());
            all.push(format!("{topic} x"));
        }
    }
    all
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Each has got each message `times`, and a client that comes later gets what is retained.
fn expect(gateways: &[Edgeway], seen: &[Subscriber], all: &[String], times: usize) {
    for seen in seen {
        let got: Vec<String> = (0..all.len() * times).map(|_| seen.next()).collect();
        assert_eq!(sorted(got), sorted((0..times).flat_map(|_| all.to_vec()).collect()));
    }
    let retained = all.iter().filter(|line| line.as_bytes()[4].is_multiple_of(2)).count();
    for late in watch(gateways) {
        let got: Vec<String> = (0..retained).map(|_| late.next()).collect();
        assert!(
            got.iter().all(|line| all.contains(line)) && sorted(got.clone()).windows(2).all(|two| two[0] != two[1])
        );
    }
}

#[test]
fn two_gateways_that_send_each_other_everything_do_not_loop() {
    let gateways = ring(&["same", "same"], &["send"]);
    let (seen, mut looped) = (watch(&gateways), Looped::watch(&gateways));
    let all = publish(&gateways);
    expect(&gateways, &seen, &all, 1);
    // Every message has come back to where it was published, once.
    looped.wait_for(COUNT as u64);
    assert!(seen.iter().all(|seen| seen.rest().is_empty()));
    // The same for one that clears what is retained.
    mosquitto_pub(gateways[0].port, &["-t", "m/0/0", "-n", "-r", "-q", "1"]);
    looped.0.truncate(1);
    looped.wait_for(COUNT as u64 + 1);
    assert_eq!(seen.iter().map(Subscriber::next).collect::<Vec<_>>(), ["m/0/0 ", "m/0/0 "]);
    let late = watch(&gateways);
    for late in late {
        let retained: Vec<String> = (0..COUNT - 1).map(|_| late.next()).collect();
        assert!(!retained.contains(&"m/0/0 x".to_owned()));
    }
}

#[test]
fn a_ring_of_three_gateways_does_not_loop() {
    let gateways = ring(&["a", "b", "c"], &["send"]);
    let (seen, mut looped) = (watch(&gateways), Looped::watch(&gateways));
    let all = publish(&gateways);
    expect(&gateways, &seen, &all, 1);
    looped.wait_for(COUNT as u64);
    assert!(seen.iter().all(|seen| seen.rest().is_empty()));
}

#[test]
fn a_bridge_that_sends_and_receives_everything_does_not_loop() {
    let cloud = Edgeway::start(&configuration("cloud", ""));
    let edge = Edgeway::start(&configuration("edge", &bridge_to(cloud.port, &["send", "receive"])));
    let gateways = [edge, cloud];
    let (seen, mut looped) = (watch(&gateways), Looped::watch(&gateways));
    let all = publish(&gateways[..1]);
    expect(&gateways, &seen, &all, 1);
    mosquitto_pub(gateways[1].port, &["-t", "m/end", "-m", "x", "-q", "1"]);
    assert_eq!(seen.iter().map(Subscriber::next).collect::<Vec<_>>(), ["m/end x", "m/end x"]);
    // No Local is enough here.
    looped.wait_for(0);
}

#[test]
fn two_gateways_that_send_and_receive_everything_both_ways_come_to_rest() {
    let gateways = ring(&["a", "b"], &["send", "receive"]);
    for gateway in &gateways {
        let connected = mosquitto_sub(gateway.port, &["-t", "$SYS/broker/connection/next/state"]);
        connected.until("1");
    }
    let (seen, mut looped) = (watch(&gateways), Looped::watch(&gateways));
    let all = publish(&gateways[..1]);
    // There are two ways, so it comes twice, and then no more.
    expect(&gateways, &seen, &all, 2);
    looped.wait_for(COUNT as u64);
    assert!(seen.iter().all(|seen| seen.rest().is_empty()));
}
