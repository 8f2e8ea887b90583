//! `cloud: aws`, to a server that closes the connection over what AWS IoT Core does not take.

use super::server::{Cloud, Entry, Rules};
use crate::support::certificates::Authority;
use crate::support::edgeway::Edgeway;
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::process::wait_until;
use edgeway::mqtt::packet::{ConnAck, Connect, Publish, Subscribe};
use edgeway::mqtt::{QoS, ReasonCode, Version};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The message broker of AWS IoT Core.
#[derive(Default)]
struct Aws {
    /// How many of the first connections end right after CONNECT.
    closes: usize,
    last_connect: Option<Instant>,
    /// When PUBLISH packets came in the last second, and their bytes.
    published: Vec<(Instant, usize)>,
    subscriptions: usize,
    /// Whether it is asked for by port 443, where TLS says what is meant.
    wants_alpn: bool,
}

impl Rules for Aws {
    fn alpn(&self) -> Vec<Vec<u8>> {
        if self.wants_alpn { vec![b"x-amzn-mqtt-ca".to_vec(), b"mqtt".to_vec()] } else { Vec::new() }
    }

    fn wants_certificate(&self) -> bool {
        true
    }

    fn connect(&mut self, connect: &Connect<'_>, entry: &Entry) -> Result<ConnAck<'static>, String> {
        let now = Instant::now();
        let last = self.last_connect.replace(now);
        if last.is_some_and(|last| now.duration_since(last) < Duration::from_millis(950)) {
            return Err("two CONNECTs of a client id within a second".into());
        }
        if connect.client_id.len() > 128 {
            return Err("a client id of more than 128 bytes".into());
        }
        if !entry.has_certificate {
            return Err("no certificate".into());
        }
        if !(30..=1200).contains(&connect.keep_alive) || connect.session_expiry_interval > 604_800 {
            return Err("keep alive or session".into());
        }
        if connect.will.is_some_and(|will| will.qos == QoS::ExactlyOnce || will.retain) {
            return Err("a will that is retained or of QoS 2".into());
        }
        if self.closes > 0 {
            self.closes -= 1;
            return Err("never today".into());
        }
        if self.wants_alpn != (entry.alpn.as_deref() == Some("x-amzn-mqtt-ca")) {
            return Err(format!("TLS named {:?}", entry.alpn));
        }
        if connect.version != Version::V5 {
            return Err("no MQTT 5".into());
        }
        self.subscriptions = 0;
        self.published.clear();
        // It says less than it wants: the rest one has to know.
        Ok(ConnAck { receive_maximum: 100, ..ConnAck::new(ReasonCode::Success, false) })
    }

    fn subscribe(&mut self, subscribe: &Subscribe<'_>) -> Result<(), String> {
        let filters: Vec<&str> = subscribe.filters.iter().map(|(filter, _)| filter).collect();
        self.subscriptions += filters.len();
        if filters.len() > 8 || self.subscriptions > 50 {
            return Err("more than 8 filters in a SUBSCRIBE, or 50 in all".into());
        }
        filters.iter().try_for_each(|filter| topic_rules(filter))
    }

    fn publish(&mut self, publish: &Publish<'_>, bytes: usize) -> Result<(), String> {
        let now = Instant::now();
        self.published.push((now, bytes));
        self.published.retain(|(at, _)| now.duration_since(*at) < Duration::from_secs(1));
        // 100; what a machine with much to do hands over late comes on top.
        if self.published.len() > 130 {
            return Err(format!("{} messages in a second", self.published.len()));
        }
        if publish.qos == QoS::ExactlyOnce || publish.retain {
            return Err("QoS 2 or RETAIN".into());
        }
        if bytes > 128 * 1024 {
            return Err(format!("a packet of {bytes} bytes"));
        }
        topic_rules(publish.topic)
    }
}

fn topic_rules(topic: &str) -> Result<(), String> {
    if topic.len() > 256 || topic.matches('/').count() > 7 || topic.starts_with('$') {
        return Err(format!("the topic {topic}"));
    }
    Ok(())
}

/// A gateway with a bridge to it.
fn start(cloud: &Cloud, authority: &Authority, lines: &str) -> Edgeway {
    start_to(cloud.port, authority, lines)
}

fn start_to(port: u16, authority: &Authority, lines: &str) -> Edgeway {
    authority.issue("device");
    let folder = authority.folder().display();
    Edgeway::start(&format!(
        r#"
gateway: {{ name: edge }}
broker: {{ listen: "mqtt://127.0.0.1:@PORT@" }}
bridges:
  aws:
    url: mqtts://127.0.0.1:{port}
    cloud: aws
    tls: {{ ca: {folder}/ca.crt, cert: {folder}/device.crt, key: {folder}/device.key }}
{lines}
"#
    ))
}

#[test]
fn what_a_route_sends_is_within_the_rules_of_aws() {
    let authority = Authority::new();
    let cloud = Cloud::start(&authority, Aws::default());
    let gateway = start(
        &cloud,
        &authority,
        r##"
    send: [ { from: "{gateway}/#", to: "dt/{gateway}/#" } ]
    receive: [ { from: "cmd/{gateway}/+/+", to: "{gateway}/+/+/set" } ]
"##,
    );
    cloud.until("subscribe cmd/edge/+/+ 1");
    let publish = |topic: &str, payload: &str, more: &[&str]| {
        mosquitto_pub(gateway.port, &[&["-t", topic, "-m", payload], more].concat());
    };
    // QoS 2 goes at QoS 1, and what is retained goes unretained.
    publish("edge/plc/level", "21.5", &["-q", "2", "-r"]);
    let message = cloud.message("dt/edge/plc/level");
    assert_eq!((message.qos, message.retain), (1, false));
    let json: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
    assert_eq!((json["topic"].as_str(), json["value"].as_f64()), (Some("edge/plc/level"), Some(21.5)));
    // The birth message is JSON as well.
    let birth = cloud.message("dt/edge/status").payload;
    assert_eq!(birth, r#"{"topic":"edge/status","value":"online"}"#);
    // What the wildcard makes too long, or too deep, stays here; so does what is too large. The rest flows.
    let long = format!("edge/{}", "x".repeat(250));
    publish(&long, "1", &["-q", "1"]);
    publish("edge/a/b/c/d/e/f/g/h", "2", &["-q", "1"]);
    let large = gateway.folder().join("large");
    std::fs::write(&large, "y".repeat(131_072)).unwrap();
    mosquitto_pub(gateway.port, &["-t", "edge/plc/large", "-f", large.to_str().unwrap(), "-q", "1"]);
    publish("edge/a/b/c/d/e/f", "3", &["-q", "1"]);
    cloud.message("dt/edge/a/b/c/d/e/f");
    // A command comes back.
    let commands = mosquitto_sub(gateway.port, &["-t", "edge/+/+/set", "-v"]);
    cloud.send("cmd/edge/plc/pump", "true", QoS::AtLeastOnce);
    commands.until("edge/plc/pump/set true");
    cloud.assert_content();
    assert_eq!(cloud.count("connect"), 1);
    let topics: Vec<String> = cloud.received().into_iter().map(|message| message.topic).collect();
    assert!(topics.iter().all(|topic| !topic.contains("xxx") && !topic.contains("/g/h") && !topic.contains("large")));
}

#[test]
fn no_more_messages_go_in_a_second_than_aws_takes() {
    let authority = Authority::new();
    let cloud = Cloud::start(&authority, Aws::default());
    let gateway = start(&cloud, &authority, "    send: [ { from: \"x/#\", qos: 1, payload: plain } ]");
    cloud.until("connect");
    let lines: String = (0..400).map(|n| format!("{n}\n")).collect();
    let file = gateway.folder().join("lines");
    std::fs::write(&file, lines).unwrap();
    let script = r#"exec "$0" -h 127.0.0.1 -p "$1" -q 1 -t x/y -l < "$2""#;
    let program = crate::support::peer_program("mosquitto_pub");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]).arg(program).arg(gateway.port.to_string()).arg(&file);
    assert!(command.status().unwrap().success());
    wait_until("all have arrived", || cloud.received().len() == 400);
    cloud.assert_content();
    let payloads: Vec<String> = cloud.received().into_iter().map(|message| message.payload).collect();
    assert_eq!(payloads, (0..400).map(|n| n.to_string()).collect::<Vec<_>>(), "in order, each once");
}

#[test]
fn a_client_id_connects_once_in_a_second_at_most() {
    let authority = Authority::new();
    let cloud = Cloud::start(&authority, Aws { closes: 2, ..Aws::default() });
    let gateway = start(&cloud, &authority, "    send: [ { from: \"x/#\", qos: 1, payload: plain } ]");
    mosquitto_pub(gateway.port, &["-t", "x/y", "-m", "1", "-q", "1"]);
    cloud.message("x/y");
    let closed: Vec<String> = cloud.lines().into_iter().filter(|line| line.starts_with("closed")).collect();
    assert_eq!(closed, ["closed: rule: never today", "closed: rule: never today"]);
}

/// A proxy that leads every connection to `port`, wherever it is asked for.
fn proxy_to(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                asked.push(byte[0]);
            }
            assert!(asked.starts_with(b"CONNECT 127.0.0.1:443 "), "{}", String::from_utf8_lossy(&asked));
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut to_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
            std::thread::spawn(move || std::io::copy(&mut client, &mut server));
        }
    });
    own
}

#[test]
fn on_port_443_tls_names_the_protocol() {
    let authority = Authority::new();
    let cloud = Cloud::start(&authority, Aws { wants_alpn: true, ..Aws::default() });
    let proxy = proxy_to(cloud.port);
    let lines =
        format!("    proxy: http://127.0.0.1:{proxy}\n    send: [ {{ from: \"x/#\", qos: 1, payload: plain }} ]");
    let gateway = start_to(443, &authority, &lines);
    mosquitto_pub(gateway.port, &["-t", "x/y", "-m", "1", "-q", "1"]);
    cloud.message("x/y");
    cloud.assert_content();
}
