//! Bridges to Debian's mosquitto: what goes and comes by their routes, and how they get in.

use super::support::edgeway::Edgeway;
use super::support::mosquitto::{Mosquitto, Options, mosquitto_pub, mosquitto_sub};
use super::support::peer_program;
use super::support::ports::free_port;
use super::support::process::wait_until;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

/// A gateway whose `bridges` section has these lines; `@CLOUD@` is the URL of `cloud`.
fn start(cloud: &Mosquitto, bridges: &str) -> Edgeway {
    Edgeway::start(&format!(
        "gateway: {{ name: edge }}\nbroker: {{ listen: \"mqtt://127.0.0.1:@PORT@\" }}\nbridges:\n{}",
        bridges.replace("@CLOUD@", &format!("mqtt://127.0.0.1:{}", cloud.port))
    ))
}

/// Messages of different QoS may overtake each other.
fn sorted<const COUNT: usize>(mut lines: [String; COUNT]) -> [String; COUNT] {
    lines.sort();
    lines
}

#[test]
fn a_message_takes_the_first_route_that_matches_and_none_that_excepts_it() {
    let cloud = Mosquitto::start();
    let seen = mosquitto_sub(cloud.port, &["-t", "#", "-q", "2", "-F", "%t %q %p"]);
    let gateway = start(
        &cloud,
        r##"
  cloud:
    url: "@CLOUD@"
    send:
      - { from: "{gateway}/meter/power", to: "special/{gateway}/{bridge}", qos: 2 }
      - { from: "{gateway}/#", except: [ "{gateway}/gps", "{gateway}/secret/#" ], to: "site/#", qos: 1 }
      - { from: "+/+/temperature", to: "other/+/+", max_qos: 1 }
      - { from: "edge/plc/pump/set", to: "named/set" }
"##,
    );
    seen.until("site/status 0 online");
    let publish = |topic: &str, qos: &str| mosquitto_pub(gateway.port, &["-t", topic, "-m", topic, "-q", qos]);
    for topic in [
        "edge/meter/power",
        "edge/meter/energy",
        "edge/gps",
        "edge/secret/key",
        "edge/a/set",
        "edge/a/set/result",
        "edge/plc/pump/set",
        "foreign/x",
    ] {
        publish(topic, "0");
    }
    for qos in ["0", "1", "2"] {
        publish("plant/oven/temperature", qos);
    }
    publish("edge/end", "1");
    // `status` came twice: as the bridge's birth, and by its route.
    let expected = [
        "site/status 1 online",
        "special/edge/cloud 2 edge/meter/power",
        "site/meter/energy 1 edge/meter/energy",
        "site/a/set/result 1 edge/a/set/result",
        "named/set 0 edge/plc/pump/set",
        "other/plant/oven 0 plant/oven/temperature",
        "other/plant/oven 1 plant/oven/temperature",
        "other/plant/oven 1 plant/oven/temperature",
        "site/end 1 edge/end",
    ];
    assert_eq!(sorted(expected.map(|_| seen.next())), sorted(expected.map(str::to_owned)));
}

#[test]
fn what_comes_takes_the_first_receive_route() {
    let cloud = Mosquitto::start();
    let gateway = start(
        &cloud,
        r##"
  cloud:
    url: "@CLOUD@"
    receive:
      - { from: "cmd/{gateway}/+/+", to: "{gateway}/+/+/set", qos: 1, max_age: 30s }
      - { from: "cmd/{gateway}/#", except: [ "cmd/{gateway}/secret" ], to: "rest/#", qos: 2 }
      - { from: "news", qos: 0 }
"##,
    );
    let own = ["-T", "edge/bridges/#"];
    let seen = mosquitto_sub(gateway.port, &[&["-V", "5", "-t", "#", "-q", "2", "-F", "%t %q %p"][..], &own].concat());
    seen.until("edge/status 1 online");
    // Filters are subscribed in the order of the routes; the first is within the second.
    cloud.peer().stderr().wait_for("edge-cloud 0 news");
    for (topic, qos) in [
        ("cmd/edge/plc/pump", "2"),
        ("cmd/edge/other", "2"),
        ("cmd/edge/secret", "2"),
        ("cmd/somebody/plc/pump", "1"),
        ("news", "2"),
        ("cmd/edge/end", "1"),
    ] {
        mosquitto_pub(cloud.port, &["-t", topic, "-m", topic, "-q", qos]);
    }
    let expected = [
        "edge/plc/pump/set 1 cmd/edge/plc/pump",
        "rest/other 2 cmd/edge/other",
        "news 0 news",
        "rest/end 1 cmd/edge/end",
    ];
    assert_eq!(sorted(expected.map(|_| seen.next())), sorted(expected.map(str::to_owned)));
}

#[test]
fn a_command_that_waited_in_the_cloud_is_too_old_unless_it_says_how_long_it_is_good() {
    let cloud = Mosquitto::start();
    let mut gateway = start(
        &cloud,
        r##"
  cloud:
    url: "@CLOUD@"
    keep_alive: 1s
    receive: [ { from: "cmd/#", to: "{gateway}/#", qos: 1, max_age: 30s } ]
"##,
    );
    let log = cloud.peer().stderr().clone();
    log.wait_for("edge-cloud 1 cmd/#");
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/#", "-q", "1", "-F", "%t %p"]);
    gateway.peer().signal(Signal::STOP);
    log.wait_for("edge-cloud has exceeded timeout");
    let send = |topic: &str| mosquitto_pub(cloud.port, &["-t", topic, "-m", "x", "-q", "1"]);
    send("cmd/pump/set");
    let expiry = ["-V", "5", "-t", "cmd/valve/set", "-m", "x", "-q", "1"];
    let expiry = [&expiry[..], &["-D", "publish", "message-expiry-interval", "60"]].concat();
    mosquitto_pub(cloud.port, &expiry);
    send("cmd/display");
    gateway.peer().signal(Signal::CONT);
    seen.until("edge/valve/set x");
    seen.until("edge/display x");
    wait_until("a command of now arrives", || {
        send("cmd/lamp/set");
        seen.rest().iter().any(|line| {
            assert!(!line.starts_with("edge/pump"), "{line}");
            line == "edge/lamp/set x"
        })
    });
}

#[test]
fn what_came_by_a_bridge_never_goes_back() {
    let cloud = Mosquitto::start();
    let other = Mosquitto::start();
    let gateway = start(
        &cloud,
        &format!(
            r##"
  cloud:
    url: "@CLOUD@"
    send:    [ {{ from: "shared/#", qos: 1 }} ]
    receive: [ {{ from: "shared/#", qos: 1 }} ]
  other:
    url: "mqtt://127.0.0.1:{}"
    mqtt: 3.1.1
    send:    [ {{ from: "shared/#", to: "onward/#", qos: 1 }} ]
"##,
            other.port
        ),
    );
    cloud.peer().stderr().wait_for("edge-cloud 1 shared/#");
    let at_cloud = mosquitto_sub(cloud.port, &["-t", "#", "-q", "1", "-v"]);
    let at_home = mosquitto_sub(gateway.port, &["-t", "shared/#", "-q", "1", "-v"]);
    let at_other = mosquitto_sub(other.port, &["-t", "#", "-q", "1", "-v"]);
    mosquitto_pub(cloud.port, &["-t", "shared/theirs", "-m", "1", "-q", "1"]);
    at_home.until("shared/theirs 1");
    mosquitto_pub(gateway.port, &["-t", "shared/ours", "-m", "2", "-q", "1"]);
    at_cloud.until("shared/ours 2");
    mosquitto_pub(cloud.port, &["-t", "shared/end", "-m", "3", "-q", "1"]);
    at_home.until("shared/end 3");
    mosquitto_pub(gateway.port, &["-t", "shared/end", "-m", "4", "-q", "1"]);
    at_cloud.until("shared/end 4");
    assert_eq!(at_cloud.rest(), ["shared/theirs 1", "shared/end 3"]);
    at_home.until("shared/end 4");
    assert_eq!(at_home.rest(), ["shared/ours 2"]);
    // Another bridge is another way.
    let onward = [at_other.next(), at_other.next(), at_other.next(), at_other.next()];
    assert_eq!(onward, ["onward/theirs 1", "onward/ours 2", "onward/end 3", "onward/end 4"]);
}

#[test]
fn a_bridge_says_who_it_is_and_what_happens_if_it_is_not_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("passwords");
    let made = Command::new(peer_program("mosquitto_passwd"))
        .args(["-b", "-c", passwords.to_str().unwrap(), "edge", "s3cret"])
        .status()
        .unwrap();
    assert!(made.success());
    let lines = vec![format!("password_file {}", passwords.display()), "allow_anonymous false".into()];
    let cloud = Mosquitto::start_with(&Options { lines, ..Options::default() });
    let mut gateway = start(
        &cloud,
        r##"
  good:
    url: "@CLOUD@"
    username: "{gateway}"
    password: s3cret
    send: [ { from: "x/#", to: "good/#", qos: 1 } ]
  old:
    url: "@CLOUD@"
    mqtt: 3.1.1
    username: edge
    password: s3cret
    send: [ { from: "x/#", to: "old/#", qos: 1 } ]
  bad:
    url: "@CLOUD@"
    username: edge
    password: wr0ng
    send: [ { from: "x/#", to: "bad/#", qos: 1 } ]
"##,
    );
    let seen = mosquitto_sub(cloud.port, &["-u", "edge", "-P", "s3cret", "-t", "#", "-q", "1", "-v"]);
    let log = gateway.peer().stderr().clone();
    let refused = log.wait_for("cannot connect");
    assert!(refused.contains("the server refused: not authorized (0x87)") && refused.contains("bad"), "{refused}");
    mosquitto_pub(gateway.port, &["-t", "x/y", "-m", "z", "-q", "1"]);
    assert_eq!(sorted([seen.next(), seen.next()]), ["good/y z", "old/y z"]);
    assert!(log.lines().iter().all(|line| !line.contains("s3cret") && !line.contains("wr0ng")), "no secret is logged");
}

#[test]
fn the_first_server_that_answers_is_taken() {
    let (dead, mut standby) = (free_port(), Mosquitto::start());
    let cloud = Mosquitto::start();
    let gateway = start(
        &cloud,
        &format!(
            r##"
  cloud:
    url: [ "mqtt://127.0.0.1:{dead}", "mqtt://127.0.0.1:{}", "@CLOUD@" ]
    send: [ {{ from: "x/#", qos: 1 }} ]
"##,
            standby.port
        ),
    );
    let at_standby = mosquitto_sub(standby.port, &["-t", "#", "-q", "1", "-v"]);
    let at_cloud = mosquitto_sub(cloud.port, &["-t", "#", "-q", "1", "-v"]);
    mosquitto_pub(gateway.port, &["-t", "x/1", "-m", "first", "-q", "1"]);
    at_standby.until("x/1 first");
    standby.kill();
    mosquitto_pub(gateway.port, &["-t", "x/2", "-m", "second", "-q", "1"]);
    at_cloud.until("x/2 second");
}

/// A server of 3.1.1: it refuses 5.0 as the specification of 3.1.1 says, and passes on everything else.
struct OldServer {
    port: u16,
}

/// How an old server refuses.
#[derive(Clone, Copy)]
enum Refusal {
    /// CONNACK 0x01, then it closes.
    Said,
    /// It closes.
    Closed,
}

impl OldServer {
    fn start(behind: u16, refusal: Refusal) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("a listener has an address").port();
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                std::thread::spawn(move || Self::serve(client, behind, refusal));
            }
        });
        Self { port }
    }

    fn serve(mut client: TcpStream, behind: u16, refusal: Refusal) -> std::io::Result<()> {
        // Fixed header with a length of one byte or two, then the protocol's name and its level.
        let mut begin = [0; 10];
        client.read_exact(&mut begin)?;
        let name = begin.windows(4).position(|part| part == b"MQTT").expect("CONNECT names the protocol");
        if begin[name + 4] != 4 {
            if let Refusal::Said = refusal {
                client.write_all(&[0x20, 2, 0, 1])?;
            }
            return Ok(());
        }
        let mut server = TcpStream::connect(("127.0.0.1", behind))?;
        server.write_all(&begin)?;
        let (mut to_client, mut from_server) = (client.try_clone()?, server.try_clone()?);
        std::thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
        std::io::copy(&mut client, &mut server).map(|_| ())
    }
}

#[test]
fn a_server_that_refuses_5_0_is_spoken_to_in_3_1_1() {
    let cloud = Mosquitto::start();
    let said = OldServer::start(cloud.port, Refusal::Said);
    let closed = OldServer::start(cloud.port, Refusal::Closed);
    let gateway = start(
        &cloud,
        &format!(
            r##"
  said:
    url: "mqtt://127.0.0.1:{}"
    send: [ {{ from: "x/#", to: "said/#", qos: 2 }} ]
  closed:
    url: "mqtt://127.0.0.1:{}"
    send: [ {{ from: "x/#", to: "closed/#", qos: 2 }} ]
"##,
            said.port, closed.port
        ),
    );
    let seen = mosquitto_sub(cloud.port, &["-t", "#", "-q", "2", "-v"]);
    mosquitto_pub(gateway.port, &["-t", "x/y", "-m", "z", "-q", "1"]);
    assert_eq!(sorted([seen.next(), seen.next()]), ["closed/y z", "said/y z"]);
    // p2 is 3.1.1 in mosquitto's log.
    for id in ["edge-said", "edge-closed"] {
        let line = cloud.peer().stderr().wait_for(&format!("as {id} "));
        assert!(line.contains("(p2,"), "{line}");
    }
}
