//! Bridges to brokers that speak 3.1.1 alone: Debian's rabbitmq-server and nats-server, on ordinary days and in outages.

use super::support::edgeway::Edgeway;
use super::support::gate::Gate;
use super::support::mosquitto::{Subscriber, mosquitto_pub, mosquitto_sub};
use super::support::mqtt_client::MqttClient;
use super::support::nats::Nats;
use super::support::rabbitmq::RabbitMq;
use serde_json::json;
use std::collections::{HashMap, HashSet};

/// Messages of each part of an outage.
const EACH: usize = 100;

/// A broker in the cloud that can be killed and started again.
trait Cloud {
    fn port(&self) -> u16;
    fn kill(&mut self);
    fn start_again(&mut self);
}

impl Cloud for RabbitMq {
    fn port(&self) -> u16 {
        self.port
    }

    fn kill(&mut self) {
        self.kill();
    }

    fn start_again(&mut self) {
        self.start_again();
    }
}

impl Cloud for Nats {
    fn port(&self) -> u16 {
        self.port
    }

    fn kill(&mut self) {
        self.kill();
    }

    fn start_again(&mut self) {
        self.start_again();
    }
}

/// A gateway with its journal on disk, whose bridge `cloud` has these routes.
fn start(port: u16, routes: &str) -> Edgeway {
    Edgeway::start(&format!(
        "gateway: {{ name: edge }}
broker: {{ listen: \"mqtt://127.0.0.1:@PORT@\" }}
storage: {{ path: \"@DIR@/store\" }}
bridges:
  cloud:
    url: \"mqtt://127.0.0.1:{port}\"
{routes}"
    ))
}

/// One who listens at a broker of 3.1.1.
fn listen(port: u16, filter: &str) -> Subscriber {
    mosquitto_sub(port, &["-V", "311", "-t", filter, "-q", "2", "-F", "%t %q %r %p"])
}

/// Publishes at a broker of 3.1.1.
fn publish(port: u16, topic: &str, payload: &str, qos: &str, further: &[&str]) {
    mosquitto_pub(port, &[&["-V", "311", "-t", topic, "-m", payload, "-q", qos], further].concat());
}

/// The bridge has tried 5.0, and gone on without it.
fn await_fallback(gateway: &mut Edgeway) {
    let log = gateway.peer().stderr();
    log.wait_for("going on with MQTT 3.1.1");
    let connected = log.wait_for("bridge connected");
    assert!(connected.contains("version=V3"), "{connected}");
}

#[test]
fn rabbitmq_takes_each_qos_and_sends_what_is_subscribed() {
    let cloud = RabbitMq::start();
    let at_cloud = listen(cloud.port, "out/#");
    let mut gateway = start(
        cloud.port,
        r##"
    send:
      - { from: "x/0", to: "out/0", qos: 0 }
      - { from: "x/1", to: "out/1", qos: 1 }
      - { from: "x/2", to: "out/2", qos: 2 }
      - { from: "kept/#", to: "out/kept/#", qos: 1 }
    receive: [ { from: "cmd/#", qos: 2 } ]
"##,
    );
    await_fallback(&mut gateway);
    let at_home = listen(gateway.port, "cmd/#");
    // It answers a QoS 2 PUBLISH with PUBACK, which must settle it: more than one of 3.1.1 has in flight.
    for number in 0..30 {
        publish(gateway.port, "x/2", &number.to_string(), "2", &[]);
        assert_eq!(at_cloud.next(), format!("out/2 1 0 {number}"));
    }
    for round in ["a", "b", "c"] {
        for qos in ["0", "1", "2"] {
            publish(gateway.port, &format!("x/{qos}"), round, "2", &[]);
        }
        let mut lines = [at_cloud.next(), at_cloud.next(), at_cloud.next()];
        lines.sort();
        assert_eq!(lines, [format!("out/0 0 0 {round}"), format!("out/1 1 0 {round}"), format!("out/2 1 0 {round}")]);
    }
    for qos in ["0", "1"] {
        publish(cloud.port, "cmd/lamp", qos, qos, &[]);
        assert_eq!(at_home.next(), format!("cmd/lamp {qos} 0 {qos}"));
    }
    publish(gateway.port, "kept/value", "21.5", "1", &["-r"]);
    at_cloud.until("out/kept/value 1 0 21.5");
    // It has retained messages for filters without wildcards alone.
    assert_eq!(listen(cloud.port, "out/kept/value").next(), "out/kept/value 1 1 21.5");
    let log = gateway.peer().stderr().lines();
    assert!(log.iter().all(|line| !line.contains("link lost")), "{log:#?}");
    assert_eq!(at_cloud.rest(), [""; 0], "nothing came twice");
}

#[test]
fn nats_takes_qos_0_and_1_and_sends_what_is_subscribed() {
    let cloud = Nats::start();
    let at_cloud = listen(cloud.port, "out/#");
    let mut gateway = start(
        cloud.port,
        r##"
    send:
      - { from: "x/0", to: "out/0", qos: 0 }
      - { from: "x/1", to: "out/1", qos: 1 }
      - { from: "kept/#", to: "out/kept/#", qos: 1 }
    receive: [ { from: "cmd/#", qos: 2 } ]
"##,
    );
    await_fallback(&mut gateway);
    let at_home = listen(gateway.port, "cmd/#");
    for round in ["a", "b", "c"] {
        for qos in ["0", "1"] {
            publish(gateway.port, &format!("x/{qos}"), round, "2", &[]);
        }
        let mut lines = [at_cloud.next(), at_cloud.next()];
        lines.sort();
        assert_eq!(lines, [format!("out/0 0 0 {round}"), format!("out/1 1 0 {round}")]);
    }
    for qos in ["0", "1"] {
        publish(cloud.port, "cmd/lamp", qos, qos, &[]);
        assert_eq!(at_home.next(), format!("cmd/lamp {qos} 0 {qos}"));
    }
    publish(gateway.port, "kept/value", "21.5", "1", &["-r"]);
    at_cloud.until("out/kept/value 1 0 21.5");
    assert_eq!(listen(cloud.port, "out/kept/#").next(), "out/kept/value 1 1 21.5");
    let log = gateway.peer().stderr().lines();
    assert!(log.iter().all(|line| !line.contains("link lost")), "{log:#?}");
    assert_eq!(at_cloud.rest(), [""; 0], "nothing came twice");
}

#[test]
fn nats_that_closes_on_qos_2_and_on_some_topics_gets_everything_else() {
    let cloud = Nats::start();
    let at_cloud = listen(cloud.port, "out/#");
    let mut gateway = start(
        cloud.port,
        r##"
    send:
      - { from: "x/2/#", to: "out/2/#", qos: 2 }
      - { from: "x/#", to: "out/#", qos: 1 }
"##,
    );
    await_fallback(&mut gateway);
    // It has no words for a refusal: it closes on a topic with a dot or a space, and on QoS 2.
    for topic in ["x/a", "x/b.c", "x/d", "x/e f", "x/g", "x/2/h", "x/2/i"] {
        publish(gateway.port, topic, topic, "1", &[]);
    }
    let mut lines: Vec<String> = Vec::new();
    let expected = ["out/2/h 1 0 x/2/h", "out/2/i 1 0 x/2/i", "out/a 1 0 x/a", "out/d 1 0 x/d", "out/g 1 0 x/g"];
    // What came just before the server closed may come again.
    while lines.len() < expected.len() {
        lines.push(at_cloud.next());
        lines.sort();
        lines.dedup();
    }
    assert_eq!(lines, expected);
    let log = gateway.peer().stderr();
    for topic in ["x/b.c", "x/e f"] {
        let last = topic.rsplit('/').next().unwrap();
        log.take(topic, |line| line.contains("a message was set aside") && line.contains(last));
    }
    log.wait_for("the server ends the connection at QoS 2; it gets QoS 1");
}

#[test]
fn what_rabbitmq_misses_while_it_is_dead_or_cut_off_arrives_in_order() {
    outage(&mut RabbitMq::start(), &["1", "2"]);
}

#[test]
fn what_nats_misses_while_it_is_dead_or_cut_off_arrives_in_order() {
    outage(&mut Nats::start(), &["1"]);
}

/// Messages on routes of these QoS: before and while the cloud is dead, and before and while the link is cut. A durable
/// session at the cloud keeps what it took, and gives it at the end: all of it, in order but for repetitions.
fn outage(cloud: &mut impl Cloud, routes: &[&str]) {
    let mut keeper = keeper(cloud.port());
    keeper.subscribe("out/#", 1);
    keeper.run("disconnect", &json!({}), "disconnected");
    let mut gate = Gate::open(cloud.port());
    let lines: String =
        routes.iter().map(|qos| format!("      - {{ from: in/{qos}, to: out/{qos}, qos: {qos} }}\n")).collect();
    let mut gateway = start(gate.port, &format!("    send:\n{lines}"));
    await_fallback(&mut gateway);
    let (mut publisher, _) = MqttClient::connect(gateway.port, &json!({}));
    let mut publish = |part: &str| {
        for qos in routes {
            let payload = format!("{part}{{n}}");
            publisher
                .tell("publish", &json!({"topic": format!("in/{qos}"), "payload": payload, "qos": 1, "count": EACH}));
        }
        for _ in 0..routes.len() * EACH {
            publisher.event("published");
        }
    };
    publish("a");
    cloud.kill();
    publish("b");
    cloud.start_again();
    publish("c");
    gate.shut();
    publish("d");
    gate.open_again();
    let mut got: HashMap<String, Vec<String>> = HashMap::new();
    // The bridge may dial some seconds after the gate has opened.
    let expected: Vec<String> =
        ["a", "b", "c", "d"].iter().flat_map(|part| (0..EACH).map(move |number| format!("{part}{number}"))).collect();
    let reader = self::keeper(cloud.port());
    let last = expected.last().unwrap();
    while !routes.iter().all(|qos| got.get(&format!("out/{qos}")).is_some_and(|payloads| payloads.contains(last))) {
        let message = reader.message();
        let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
        got.entry(text("topic")).or_default().push(text("payload"));
    }
    for (topic, payloads) in &mut got {
        let count = payloads.len();
        let mut seen = HashSet::new();
        payloads.retain(|payload| seen.insert(payload.clone()));
        println!("{topic}: {count} came for {}", expected.len());
        assert_eq!(payloads, &expected, "{topic}");
    }
}

/// The durable session, in a client of its own.
fn keeper(port: u16) -> MqttClient {
    MqttClient::connect(port, &json!({"version": "3.1.1", "client_id": "keeper", "clean": false})).0
}
