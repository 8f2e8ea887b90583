//! Outages: the cloud goes away and comes back, the gateway dies, a device has not answered yet.

use super::support::edgeway::Edgeway;
use super::support::gate::Gate;
use super::support::mosquitto::{Mosquitto, Options, mosquitto_pub, mosquitto_sub};
use super::support::mqtt_client::MqttClient;
use super::support::ports::free_port;
use super::support::process::wait_until;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// Messages of each part of an outage: before it, in the midst of it, after it.
const EACH: usize = 100;
/// The last message of the last part.
const LAST: &str = "c99";

/// A gateway that sends `numbers/1` and `numbers/2` at that QoS, over 5.0 and over 3.1.1.
fn start_counted(cloud: u16) -> Edgeway {
    let bridge = |version: &str, name: &str| {
        format!(
            "  {name}:
    url: mqtt://127.0.0.1:{cloud}
    mqtt: {version}
    send:
      - {{ from: numbers/1, to: {name}/1, qos: 1 }}
      - {{ from: numbers/2, to: {name}/2, qos: 2 }}
"
        )
    };
    Edgeway::start(&format!(
        "gateway: {{ name: edge }}\nbroker: {{ listen: \"mqtt://127.0.0.1:@PORT@\" }}\nbridges:\n{}{}",
        bridge("5", "new"),
        bridge("3.1.1", "old")
    ))
}

/// One who reads everything at QoS 0: in the order in which the cloud took it, and each as often as the cloud took it.
fn read(cloud: &Mosquitto) -> MqttClient {
    let (mut reader, _) = MqttClient::connect(cloud.port, &json!({}));
    reader.subscribe("#", 0);
    reader
}

/// Publishes `EACH` messages on each of `numbers/1` and `numbers/2`, without waiting for their acknowledgements.
fn publish(publisher: &mut MqttClient, part: &str) {
    for qos in [1, 2] {
        let topic = format!("numbers/{qos}");
        let payload = format!("{part}{{n}}");
        publisher.tell("publish", &json!({"topic": topic, "payload": payload, "qos": qos, "count": EACH}));
    }
}

fn wait_for_acknowledgements(publisher: &MqttClient, parts: usize) {
    for _ in 0..parts * 2 * EACH {
        publisher.event("published");
    }
}

/// What readers have got, by topic.
#[derive(Default)]
struct Got {
    by_topic: HashMap<String, Vec<String>>,
}

impl Got {
    fn until_all_had(&mut self, reader: &MqttClient, last: &str) {
        while !["new/1", "new/2", "old/1", "old/2"].into_iter().all(|topic| self.has(topic, last)) {
            self.take(&reader.message());
        }
    }

    /// What a reader still got before its connection was lost.
    fn take_all(&mut self, reader: &MqttClient) {
        for message in reader.messages_so_far() {
            self.take(&message);
        }
    }

    fn take(&mut self, message: &Value) {
        let [topic, payload] = ["topic", "payload"].map(|key| message[key].as_str().unwrap_or_default().to_owned());
        self.by_topic.entry(topic).or_default().push(payload);
    }

    fn has(&self, topic: &str, payload: &str) -> bool {
        self.by_topic.get(topic).is_some_and(|payloads| payloads.iter().any(|other| other == payload))
    }

    /// Everything in order; QoS 2 exactly once, of QoS 1 the first time of each.
    fn check(mut self) {
        let expected: Vec<String> =
            ["a", "b", "c"].iter().flat_map(|part| (0..EACH).map(move |number| format!("{part}{number}"))).collect();
        for version in ["new", "old"] {
            let once = self.by_topic.remove(&format!("{version}/2")).unwrap_or_default();
            assert_eq!(once, expected, "{version}, QoS 2");
            let mut seen = HashSet::new();
            let mut at_least_once = self.by_topic.remove(&format!("{version}/1")).unwrap_or_default();
            at_least_once.retain(|payload| seen.insert(payload.clone()));
            assert_eq!(at_least_once, expected, "{version}, QoS 1");
        }
    }
}

#[test]
fn what_is_published_while_the_link_is_cut_in_the_midst_arrives_in_order() {
    let cloud = Mosquitto::start();
    let mut gate = Gate::open(cloud.port);
    let gateway = start_counted(gate.port);
    let (mut publisher, _) = MqttClient::connect(gateway.port, &json!({}));
    let (reader, mut got) = (read(&cloud), Got::default());
    publish(&mut publisher, "a");
    got.until_all_had(&reader, "a0");
    gate.shut();
    publish(&mut publisher, "b");
    wait_for_acknowledgements(&publisher, 2);
    gate.open_again();
    publish(&mut publisher, "c");
    got.until_all_had(&reader, LAST);
    got.check();
}

#[test]
fn what_is_published_while_the_cloud_is_stopped_or_dead_arrives_in_order() {
    let mut cloud = Mosquitto::start_with(&Options { persistent: true, ..Options::default() });
    let mut gate = Gate::open(cloud.port);
    let gateway = start_counted(gate.port);
    let (mut publisher, _) = MqttClient::connect(gateway.port, &json!({}));
    let (reader, mut got) = (read(&cloud), Got::default());
    publish(&mut publisher, "a");
    got.until_all_had(&reader, "a0");
    // In the midst of the first part: what it has taken it writes to its disk.
    let log_of_first = cloud.peer().stderr().clone();
    cloud.stop();
    gate.shut();
    reader.event("disconnected");
    got.take_all(&reader);
    publish(&mut publisher, "b");
    wait_for_acknowledgements(&publisher, 2);
    cloud.start_again();
    let reader = read(&cloud);
    gate.open_again();
    got.until_all_had(&reader, &format!("b{}", EACH - 1));
    // After the second, when all of it is on its disk: nobody could promise more of what it has taken and forgets.
    wait_until("the cloud has all of the second part", || {
        let lines = [log_of_first.lines(), cloud.peer().stderr().lines()].concat();
        let completed: HashSet<&str> =
            lines.iter().filter_map(|line| line.split("Sending PUBCOMP to ").nth(1)).collect();
        completed.len() == 2 * 2 * EACH
    });
    cloud.save();
    cloud.kill();
    publish(&mut publisher, "c");
    wait_for_acknowledgements(&publisher, 1);
    gate.shut();
    cloud.start_again();
    let reader = read(&cloud);
    gate.open_again();
    got.until_all_had(&reader, LAST);
    got.check();
}

#[test]
fn the_cloud_says_offline_when_the_gateway_dies_stops_or_hangs() {
    let cloud = Mosquitto::start();
    let mut gateway = Edgeway::start(&format!(
        "gateway: {{ name: edge }}
broker: {{ listen: \"mqtt://127.0.0.1:@PORT@\" }}
bridges:
  new:
    url: mqtt://127.0.0.1:{port}
    keep_alive: 2s
    send: [ {{ from: \"{{gateway}}/#\", to: \"site/new/#\", qos: 1 }} ]
  old:
    url: mqtt://127.0.0.1:{port}
    mqtt: 3.1.1
    keep_alive: 2s
    send: [ {{ from: \"{{gateway}}/status\", to: \"site/{{bridge}}\", qos: 2 }} ]
  own:
    url: mqtt://127.0.0.1:{port}
    will: {{ topic: \"gone/{{bridge}}\", payload: \"bye\", retain: false }}
",
        port = cloud.port
    ));
    let seen = mosquitto_sub(cloud.port, &["-t", "gone/#", "-v"]);
    let kept = |line: &str| {
        let topic = line.split(' ').next().expect("a line begins with its topic");
        wait_until(line, || mosquitto_sub(cloud.port, &["-t", topic, "-F", "%t %r %p"]).next() == line);
    };
    let everywhere = |status: &str| {
        kept(&format!("site/new/status 1 {status}"));
        kept(&format!("site/old 1 {status}"));
    };
    everywhere("online");
    gateway.kill();
    everywhere("offline");
    assert_eq!(seen.next(), "gone/own bye");

    gateway.start_again();
    everywhere("online");
    let (status, _) = gateway.terminate();
    assert!(status.success(), "{status}");
    everywhere("offline");

    gateway.start_again();
    everywhere("online");
    gateway.peer().signal(Signal::STOP);
    everywhere("offline");
    gateway.peer().signal(Signal::CONT);
    everywhere("online");
}

#[test]
fn a_device_is_offline_until_its_first_good_answer() {
    let port = free_port();
    let gateway = Edgeway::start(&format!(
        "gateway: {{ name: edge }}
broker: {{ listen: \"mqtt://127.0.0.1:@PORT@\" }}
modbus:
  hall:
    host: \"127.0.0.1:{port}\"
    devices: {{ plc: {{ id: 1, points: {{ x: {{ holding: 0 }} }} }} }}
serial:
  gps: {{ port: /dev/no-such-port, parse: nmea }}
http:
  plug: {{ get: \"http://127.0.0.1:{port}/\", every: 200ms, offline_after: 1, points: {{ on: {{}} }} }}
  bell: {{ webhook: /bell, points: {{ pressed: {{}} }} }}
webhooks: {{ listen: \"127.0.0.1:{}\" }}
",
        free_port()
    ));
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/+/status", "-t", "edge/+/error", "-F", "%t %r %p"]);
    for device in ["plc", "gps", "plug", "bell"] {
        seen.until(&format!("edge/{device}/status 1 offline"));
    }
    for (device, reason) in [
        ("plc", "onnection refused"),
        ("gps", "cannot open /dev/no-such-port: No such file or directory"),
        ("plug", "onnection refused"),
    ] {
        let begin = format!("edge/{device}/error ");
        seen.take(reason, |line| line.starts_with(&begin) && line.contains(reason));
    }
    seen.until("edge/bell/error 1 starting");
    mosquitto_pub(gateway.port, &["-t", "x", "-m", "y"]);
}
