//! Real clients come by TCP, TLS, WebSocket and Unix sockets; what only blocks a connection is sent away.

use crate::connect::VERSIONS;
use crate::support::certificates::{Authority, read_to_the_end};
use crate::support::edgeway::{Edgeway, edgeway};
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub, mosquitto_try_pub};
use crate::support::mqtt_client::MqttClient;
use crate::support::ports::free_port;
use crate::support::process::wait_until;
use crate::support::rumqttc::Way;
use crate::support::{PATIENCE, mosquitto::Subscriber};
use rumqttc::{TlsConfiguration, Transport};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A gateway that listens in every way.
struct Gateway {
    edgeway: Edgeway,
    authority: Authority,
    /// Of `mqtts://`, of one that wants certificates, of `ws://` and of `wss://`.
    tls: u16,
    certificates: u16,
    ws: u16,
    wss: u16,
}

impl Gateway {
    fn start() -> Self {
        let authority = Authority::new();
        for name in ["server", "pump"] {
            authority.issue(name);
        }
        let [tls, certificates, ws, wss] = [(); 4].map(|()| free_port());
        let folder = authority.folder().display();
        let edgeway = Edgeway::start(&format!(
            "\
broker:
  tls: {{ cert: {folder}/server.crt, key: {folder}/server.key }}
  limits: {{ connect_timeout: 1s }}
  listen:
    - mqtt://127.0.0.1:@PORT@
    - mqtts://127.0.0.1:{tls}
    - ws://127.0.0.1:{ws}
    - wss://127.0.0.1:{wss}/mqtt
    - unix://@DIR@/mqtt.sock
    - url: mqtts://127.0.0.1:{certificates}
      tls: {{ cert: {folder}/server.crt, key: {folder}/server.key, client_ca: {folder}/ca.crt }}
"
        ));
        Self { edgeway, authority, tls, certificates, ws, wss }
    }

    fn socket(&self) -> String {
        self.edgeway.folder().join("mqtt.sock").display().to_string()
    }

    /// The options of mosquitto's clients for TLS.
    fn tls_options(&self, version: &str) -> Vec<String> {
        ["--cafile", &self.authority.text("ca.crt"), "--tls-version", version].map(str::to_owned).to_vec()
    }

    /// Those of the certificate that names the user.
    fn certificate_options(&self, version: &str) -> Vec<String> {
        let identity = ["--cert", &self.authority.text("pump.crt"), "--key", &self.authority.text("pump.key")];
        self.tls_options(version).into_iter().chain(identity.map(str::to_owned)).collect()
    }
}

fn with<'a>(options: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    options.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

#[test]
fn mosquittos_clients_talk_over_tls_1_2_and_1_3() {
    let gateway = Gateway::start();
    for version in ["tlsv1.2", "tlsv1.3"] {
        let options = gateway.tls_options(version);
        let subscriber = mosquitto_sub(gateway.tls, &with(&options, &["-t", "t", "-q", "2"]));
        mosquitto_pub(gateway.tls, &with(&options, &["-t", "t", "-m", version, "-q", "2"]));
        assert_eq!(subscriber.next(), version);
        // One broker, however one comes in.
        mosquitto_pub(gateway.edgeway.port, &["-t", "t", "-m", "plain"]);
        assert_eq!(subscriber.next(), "plain");
    }
}

#[test]
fn where_certificates_are_wanted_nobody_comes_in_without_one() {
    let gateway = Gateway::start();
    let stranger = Authority::new();
    stranger.issue("pump");
    for version in ["tlsv1.2", "tlsv1.3"] {
        let options = gateway.certificate_options(version);
        let subscriber = mosquitto_sub(gateway.certificates, &with(&options, &["-t", "t"]));
        mosquitto_pub(gateway.certificates, &with(&options, &["-t", "t", "-m", version]));
        assert_eq!(subscriber.next(), version);
        let publish = ["-t", "t", "-m", "no"];
        assert!(!mosquitto_try_pub(gateway.certificates, &with(&gateway.tls_options(version), &publish)));
        let mut other = gateway.tls_options(version);
        other.extend(["--cert".into(), stranger.text("pump.crt"), "--key".into(), stranger.text("pump.key")]);
        assert!(!mosquitto_try_pub(gateway.certificates, &with(&other, &publish)));
        mosquitto_pub(gateway.edgeway.port, &["-t", "t", "-m", "last"]);
        assert_eq!(subscriber.next(), "last");
    }
}

#[test]
fn the_common_name_of_a_certificate_is_the_user() {
    let authority = Authority::new();
    for name in ["server", "pump", "valve"] {
        authority.issue(name);
    }
    let (tls, folder) = (free_port(), authority.folder().display());
    let gateway = Edgeway::start(&format!(
        "\
broker:
  users: {{ ann: {{ password: secret, read: \"#\" }} }}
  listen:
    - mqtt://127.0.0.1:@PORT@
    - url: mqtts://127.0.0.1:{tls}
      tls: {{ cert: {folder}/server.crt, key: {folder}/server.key, client_ca: {folder}/ca.crt }}
      users: {{ pump: {{ read: \"#\", write: \"{{user}}/#\" }} }}
"
    ));
    let options = |name: &str, more: &[&'static str]| -> Vec<String> {
        let (certificate, key) = (authority.text(&format!("{name}.crt")), authority.text(&format!("{name}.key")));
        let options = ["--cafile", &authority.text("ca.crt"), "--cert", &certificate, "--key", &key];
        options.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let listening = mosquitto_sub(gateway.port, &["-u", "ann", "-P", "secret", "-t", "+/+", "-t", "last", "-v"]);
    let publish = |name: &str, topic: &'static str| {
        let options = options(name, &["-V", "5", "-q", "1", "-m", "x", "-t", topic]);
        mosquitto_try_pub(tls, &with(&options, &[]))
    };
    publish("pump", "valve/state");
    assert!(publish("pump", "pump/state"));
    assert!(!publish("valve", "valve/state"), "who is no user here is not let in");
    mosquitto_pub(gateway.port, &["-t", "last", "-m", "x", "-q", "1"]);
    let came: Vec<String> = std::iter::repeat_with(|| listening.next()).take_while(|line| line != "last x").collect();
    let from_clients: Vec<&String> = came.iter().filter(|line| !line.ends_with("/status online")).collect();
    assert_eq!(from_clients, ["pump/state x"]);
    // The users of one listener are nobody at the other.
    assert!(!mosquitto_try_pub(gateway.port, &["-u", "pump", "-P", "secret", "-t", "pump/state", "-m", "y"]));
}

#[test]
fn paho_goes_round_by_every_way_at_both_versions() {
    let gateway = Gateway::start();
    let tls = json!({"ca": gateway.authority.text("ca.crt")});
    let mut certificate = tls.clone();
    certificate["cert"] = json!(gateway.authority.text("pump.crt"));
    certificate["key"] = json!(gateway.authority.text("pump.key"));
    let large = "x".repeat(300_000);
    for (port, options) in [
        (gateway.tls, json!({"tls": tls})),
        (gateway.certificates, json!({"tls": certificate})),
        (gateway.ws, json!({"transport": "websockets", "path": "/any/path"})),
        (gateway.wss, json!({"transport": "websockets", "tls": tls})),
        (1, json!({"transport": "unix", "host": gateway.socket()})),
    ] {
        for (version, _) in VERSIONS {
            let mut options = options.clone();
            options["version"] = json!(version);
            let (mut client, connected) = MqttClient::connect(port, &options);
            assert_eq!(connected["reason"], 0, "{options}");
            for qos in 0..=2 {
                let topic = format!("{version}/{qos}");
                assert_eq!(client.subscribe(&topic, qos), u64::from(qos));
                for payload in ["", "grüße", &large] {
                    client.publish(&topic, payload, qos);
                    let message = client.message();
                    assert!(message["payload"] == *payload && message["qos"] == qos, "{options}: {topic}");
                }
            }
            // Many small packets share reads, writes and frames.
            let many = json!({"topic": format!("{version}/1"), "payload": "{n}", "count": 100, "qos": 1, "tag": "{n}"});
            client.tell("publish", &many);
            for number in 0..100 {
                assert_eq!(client.message()["payload"], number.to_string(), "{options}");
            }
            client.run("disconnect", &json!({}), "disconnected");
        }
    }
}

#[test]
fn rumqttc_goes_round_by_every_way_at_both_versions() {
    let gateway = Gateway::start();
    let tls = || TlsConfiguration::Rustls(gateway.authority.client());
    let way = |host: &str, port, transport| Way { host: host.to_owned(), port, transport };
    let ways: [(&str, &dyn Fn() -> Way); 4] = [
        ("tcp", &|| way("127.0.0.1", gateway.edgeway.port, Transport::tcp())),
        ("tls", &|| way("127.0.0.1", gateway.tls, Transport::tls_with_config(tls()))),
        ("ws", &|| way(&format!("ws://127.0.0.1:{}/mqtt", gateway.ws), gateway.ws, Transport::ws())),
        ("wss", &|| {
            way(&format!("wss://127.0.0.1:{}/mqtt", gateway.wss), gateway.wss, Transport::wss_with_config(tls()))
        }),
    ];
    for (name, way) in ways {
        let payload = name.repeat(2_000);
        assert_eq!(way().round_trip_v4(&format!("{name}/4"), payload.as_bytes()), payload.as_bytes());
        assert_eq!(way().round_trip_v5(&format!("{name}/5"), payload.as_bytes()), payload.as_bytes());
    }
}

#[test]
fn mosquittos_clients_talk_over_a_unix_socket_whose_file_goes_at_the_end() {
    let mut gateway = Gateway::start();
    let socket = gateway.socket();
    let subscriber: Subscriber = mosquitto_sub(gateway.edgeway.port, &["--unix", &socket, "-t", "t", "-q", "1"]);
    mosquitto_pub(gateway.edgeway.port, &["--unix", &socket, "-t", "t", "-m", "over a file", "-q", "1"]);
    assert_eq!(subscriber.next(), "over a file");
    // A file that was left behind is in nobody's way.
    gateway.edgeway.kill();
    assert!(std::fs::exists(&socket).unwrap());
    gateway.edgeway.start_again();
    mosquitto_pub(gateway.edgeway.port, &["--unix", &socket, "-t", "t", "-m", "again", "-q", "1"]);
    let (status, log) = gateway.edgeway.terminate();
    assert!(status.success(), "{log:?}");
    assert!(!std::fs::exists(&socket).unwrap());
}

#[test]
fn a_new_certificate_is_shown_without_a_restart_and_a_broken_one_is_not_taken() {
    let mut gateway = Gateway::start();
    let port = gateway.tls;
    let tls = json!({"ca": gateway.authority.text("ca.crt")});
    let (mut client, _) = MqttClient::connect(port, &json!({"tls": tls}));
    client.subscribe("t", 1);

    let second = gateway.authority.issue("server");
    wait_until("the second certificate is shown", || gateway.authority.shows(port, &second));

    gateway.authority.write("server.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let told = |gateway: &mut Gateway, text: &str| {
        gateway.edgeway.peer().stderr().lines().iter().filter(|line| line.contains(text)).count()
    };
    // Two listeners have TLS of their own.
    wait_until("the log says so", || told(&mut gateway, "new TLS files cannot be used") == 2);
    assert!(gateway.authority.shows(port, &second));

    let third = gateway.authority.issue("server");
    wait_until("the third certificate is shown", || gateway.authority.shows(port, &third));
    assert_eq!(told(&mut gateway, "new TLS files cannot be used"), 2, "it was said once");

    // The first connection has lived through all of it.
    client.publish("t", "still here", 1);
    assert_eq!(client.message()["payload"], "still here");
}

#[test]
fn who_only_holds_a_connection_is_sent_away_in_time() {
    let gateway = Gateway::start();
    let (mut client, _) = MqttClient::connect(gateway.edgeway.port, &json!({}));
    let connect = |port: u16, bytes: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    let hello: &[u8] = &[0x16, 3, 1, 0, 0xc8, 1, 0, 0, 0xc4, 3, 3];
    let mqtt_connect: &[u8] = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc";
    let upgrade: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let whole_upgrade = [upgrade, b"\r\n"].concat();
    let mut streams: Vec<(&str, TcpStream)> = vec![
        ("silence", connect(gateway.edgeway.port, b"")),
        ("half a CONNECT", connect(gateway.edgeway.port, &mqtt_connect[..9])),
        ("HTTP on MQTT's port", connect(gateway.edgeway.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        ("TLS on MQTT's port", connect(gateway.edgeway.port, hello)),
        ("SUBSCRIBE first", connect(gateway.edgeway.port, &[0x82, 7, 0, 1, 0, 0, 1, b't', 0])),
        ("PINGREQ first", connect(gateway.edgeway.port, &[0xc0, 0])),
        ("silence on TLS", connect(gateway.tls, b"")),
        ("MQTT on TLS", connect(gateway.tls, mqtt_connect)),
        ("a handshake that stops", connect(gateway.tls, hello)),
        ("silence on WebSocket", connect(gateway.ws, b"")),
        ("MQTT on WebSocket", connect(gateway.ws, mqtt_connect)),
        ("an upgrade that stops", connect(gateway.ws, upgrade)),
        ("silence after the upgrade", connect(gateway.ws, &whole_upgrade)),
        ("a text frame", connect(gateway.ws, &[&whole_upgrade, &b"\x81\x81\0\0\0\0x"[..]].concat())),
        ("TLS on WebSocket", connect(gateway.ws, hello)),
        ("HTTP on secure WebSocket", connect(gateway.wss, upgrade)),
    ];
    for (what, stream) in &mut streams {
        let answer = read_to_the_end(stream);
        let text = String::from_utf8_lossy(&answer);
        let is_http = ["MQTT on WebSocket", "TLS on WebSocket"].contains(what);
        assert!(!is_http || text.starts_with("HTTP/1.1 400 "), "{what}: {text}");
        let is_upgrade = what.ends_with("the upgrade") || *what == "a text frame";
        assert!(!is_upgrade || text.starts_with("HTTP/1.1 101 "), "{what}: {text}");
        assert!(*what != "a text frame" || answer.ends_with(&[0x88, 2, 0x03, 0xeb]), "{what}: {answer:?}");
    }
    // TLS that was set up, and then nothing.
    let mut quiet = gateway.authority.connect(gateway.tls).unwrap();
    read_to_the_end(&mut quiet);
    client.subscribe("t", 0);
    client.publish("t", "who said CONNECT stays", 0);
    assert_eq!(client.message()["payload"], "who said CONNECT stays");
}

#[test]
fn a_web_page_of_elsewhere_has_no_rights_of_the_machine_that_looks_at_it() {
    let ws = free_port();
    let _gateway = Edgeway::start(&format!(
        "\
broker:
  listen: [\"mqtt://127.0.0.1:@PORT@\", \"ws://127.0.0.1:{ws}\"]
  users: {{ ann: {{ password: secret, read: \"#\" }} }}
"
    ));
    let page = |origin: &str| json!({"transport": "websockets", "origin": origin});
    let (_, connected) = MqttClient::connect(ws, &page("http://localhost:3000"));
    assert_eq!(connected["reason"], 0, "anonymous, on this machine");
    let (_, refused) = MqttClient::connect(ws, &page("https://evil.example.com"));
    assert_eq!(refused["reason"], 0x87);
    let mut user = page("https://dashboard.example.com");
    user["username"] = json!("ann");
    user["password"] = json!("secret");
    let (_, connected) = MqttClient::connect(ws, &user);
    assert_eq!(connected["reason"], 0, "a user is a user");
}

#[test]
fn a_wrong_path_of_a_websocket_is_told_so() {
    let gateway = Gateway::start();
    let mut stream = gateway.authority.connect(gateway.wss).unwrap();
    stream.write_all(b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let answer = read_to_the_end(&mut stream);
    assert!(answer.starts_with(b"HTTP/1.1 404 "), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn without_file_descriptors_it_waits_at_rest_and_goes_on_by_itself() {
    let text = "broker: { listen: \"mqtt://127.0.0.1:@PORT@\", limits: { connect_timeout: 10m } }\n";
    let mut gateway = Edgeway::start_with_descriptors(text, 64);
    let port = gateway.port;
    let (mut client, _) = MqttClient::connect(port, &json!({}));
    client.subscribe("t", 1);
    let streams: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    gateway.peer().stderr().wait_for("cannot accept connections");

    let before = cpu_ticks(gateway.peer().id());
    // The one thing to be seen is what it does not do meanwhile.
    std::thread::sleep(Duration::from_secs(2));
    let ticks = cpu_ticks(gateway.peer().id()) - before;
    // A loop around accept would take 200, or what the machine leaves it.
    assert!(ticks <= 20, "{ticks} ticks of 10 ms in 2 s");
    client.publish("t", "served meanwhile", 1);
    assert_eq!(client.message()["payload"], "served meanwhile");

    drop(streams);
    mosquitto_pub(port, &["-t", "t", "-m", "from a new client", "-q", "1"]);
    assert_eq!(client.message()["payload"], "from a new client");
    gateway.peer().stderr().wait_for("connections are accepted again");
    let log = gateway.peer().stderr().lines();
    let told = log.iter().filter(|line| line.contains("cannot accept connections")).count();
    assert_eq!(told, 1, "{log:#?}");
}

#[test]
fn check_names_the_file_that_does_not_fit() {
    let authority = Authority::new();
    authority.issue("server");
    authority.issue("other");
    let text = "\
broker:
  listen: mqtts://127.0.0.1
  tls: { cert: server.crt, key: other.key }
";
    authority.write("edgeway.yaml", text);
    let (status, _, told) = edgeway(&["check", "-c", "edgeway.yaml"], authority.folder());
    assert_eq!(status.code(), Some(2));
    assert!(told.contains("edgeway.yaml:3:33") && told.contains("is not the key of"), "{told}");
    authority.write("edgeway.yaml", &text.replace("other", "server"));
    let (status, summary, _) = edgeway(&["check", "-c", "edgeway.yaml"], authority.folder());
    assert!(status.success() && summary.contains("listens   mqtts://127.0.0.1:8883"), "{summary}");
}

#[test]
fn two_gateways_do_not_take_one_unix_socket() {
    let gateway = Gateway::start();
    // A relative path is of the configuration's folder.
    let text = "broker: { listen: \"unix://mqtt.sock\" }\n";
    std::fs::write(gateway.edgeway.folder().join("second.yaml"), text).unwrap();
    let (status, _, told) = edgeway(&["run", "-c", "second.yaml"], gateway.edgeway.folder());
    assert!(!status.success() && told.contains("is taken by another process"), "{told}");
    mosquitto_pub(gateway.edgeway.port, &["--unix", &gateway.socket(), "-t", "t", "-m", "x", "-q", "1"]);
}

/// User and system time of a process, in hundredths of a second.
fn cpu_ticks(process: u32) -> u64 {
    let mut text = String::new();
    std::fs::File::open(format!("/proc/{process}/stat")).unwrap().read_to_string(&mut text).unwrap();
    // The name, in parentheses, may hold anything; fields 14 and 15 are counted from the third on.
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
