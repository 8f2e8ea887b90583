//! Who may connect and do what, as real clients see it, with the files of the real mosquitto_passwd.

use crate::support::edgeway::{Edgeway, edgeway};
use crate::support::mosquitto::{mosquitto_pub, mosquitto_sub};
use crate::support::mqtt_client::MqttClient;
use crate::support::peer_program;
use crate::support::process::{Peer, wait_until};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetattr;
use serde_json::json;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const USERS: &str = r##"
gateway: { name: edge }
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  anonymous: false
  users:
    nodered: { password: "@HASH@", read: ["#"], write: ["{gateway}/+/set", "flows/#"] }
    display: { password: only to look, read: ["{gateway}/#"] }
    sensor:  { password: s3nsor, write: ["in/{client}/#"] }
"##;

/// The hash that `edgeway passwd` makes of a password in its standard input.
fn hashed(password: &str, folder: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeway"));
    let mut peer = Peer::start("edgeway passwd", command.args(["passwd", "--bare"]).current_dir(folder));
    peer.send_line(password);
    peer.close_stdin();
    assert!(peer.wait().success(), "{}", peer.told());
    peer.stdout().lines().join("\n")
}

fn gateway() -> Edgeway {
    let folder = tempfile::tempdir().unwrap();
    let hash = hashed("open sesame", folder.path());
    assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
    Edgeway::start_in(folder, &USERS.replace("@HASH@", &hash))
}

/// What mosquitto_pub says when it fails.
fn refused(program: &str, port: u16, arguments: &[&str]) -> String {
    let mut command = Command::new(peer_program(program));
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments);
    let mut peer = Peer::start(program, &mut command);
    peer.close_stdin();
    assert!(!peer.wait().success(), "{program} {arguments:?} was let in");
    peer.told()
}

#[test]
fn users_come_in_by_their_password_and_do_what_they_may() {
    let mut gateway = gateway();
    let port = gateway.port;
    for version in ["5", "311"] {
        let nodered = ["-V", version, "-u", "nodered", "-P", "open sesame"];
        let display = ["-V", version, "-u", "display", "-P", "only to look"];
        let sensor = ["-V", version, "-u", "sensor", "-P", "s3nsor", "-i", "s1"];
        let with = |user: &[&'static str], more: &[&'static str]| [user, more].concat();
        let everything = mosquitto_sub(port, &with(&nodered, &["-t", "#", "-v", "-q", "1", "-R"]));
        // More than it may read: it gets what it may.
        let some = mosquitto_sub(port, &with(&display, &["-t", "#", "-v", "-q", "1", "-R"]));
        mosquitto_pub(port, &with(&nodered, &["-t", "edge/plug/set", "-m", "on", "-q", "1"]));
        mosquitto_pub(port, &with(&nodered, &["-t", "flows/a", "-m", "1", "-q", "1"]));
        mosquitto_pub(port, &with(&sensor, &["-t", "in/s1/t", "-m", "21.5", "-q", "2"]));
        if version == "311" {
            // 3.1.1 has no way to say no: it is taken, and goes nowhere.
            mosquitto_pub(port, &with(&sensor, &["-t", "in/s2/t", "-m", "forged", "-q", "1"]));
            mosquitto_pub(port, &with(&display, &["-t", "edge/plug/set", "-m", "off", "-q", "1"]));
        }
        mosquitto_pub(port, &with(&nodered, &["-t", "edge/lamp/set", "-m", "on", "-q", "1"]));
        for line in ["edge/plug/set on", "flows/a 1", "in/s1/t 21.5", "edge/lamp/set on"] {
            assert_eq!(everything.next(), line);
        }
        for line in ["edge/plug/set on", "edge/lamp/set on"] {
            assert_eq!(some.next(), line);
        }
        assert_eq!((everything.rest(), some.rest()), (vec![], vec![]));
    }
    // The log says what went wrong, and for whom.
    gateway.peer().stderr().wait_for("the client may not write to this topic");
}

#[test]
fn paho_is_told_that_it_may_not_and_never_why() {
    let mut gateway = gateway();
    let port = gateway.port;
    for (version, wrong, nobody) in [("5", 0x86, 0x87), ("3.1.1", 0x86, 0x87)] {
        for (user, password) in [("nodered", "sesame"), ("stranger", "open sesame"), ("display", "")] {
            let options = json!({"version": version, "port": port, "username": user, "password": password});
            let mut client = MqttClient::start();
            assert_eq!(client.run("connect", &options, "connected")["reason"], wrong, "{user} {version}");
        }
        let options = json!({"version": version, "port": port});
        assert_eq!(MqttClient::start().run("connect", &options, "connected")["reason"], nobody);
    }
    for line in ["wrong password", "no user has this name", "without a user name nobody may connect from there"] {
        gateway.peer().stderr().wait_for(line);
    }
    let login = json!({"username": "sensor", "password": "s3nsor", "client_id": "s1"});
    let (mut sensor, connected) = MqttClient::connect(port, &login);
    assert_eq!(connected["reason"], 0);
    assert_eq!(sensor.subscribe("in/s1/t", 1), 0x87);
    for (topic, reason) in [("in/s2/t", 0x87), ("in/s1/t", 0x10)] {
        let published = sensor.run("publish", &json!({"topic": topic, "payload": "x", "qos": 1}), "published");
        assert_eq!(published["reason"], reason, "{topic}");
    }
    // A client cannot name itself a wildcard.
    let (mut wide, _) =
        MqttClient::connect(port, &json!({"username": "sensor", "password": "s3nsor", "client_id": "+"}));
    let published = wide.run("publish", &json!({"topic": "in/s1/t", "payload": "x", "qos": 1}), "published");
    assert_eq!(published["reason"], 0x87);
    gateway.peer().stderr().wait_for("a filter of this client matches nothing");
}

#[test]
fn a_password_file_of_the_real_mosquitto_passwd_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwd");
    for (number, (user, password)) in [("ann", "first"), ("bob", "sécond"), ("carl", "p:w$d")].iter().enumerate() {
        let mut command = Command::new(peer_program("mosquitto_passwd"));
        command.args(if number == 0 { vec!["-c", "-b"] } else { vec!["-b"] }).arg(&file).args([user, password]);
        let mut peer = Peer::start("mosquitto_passwd", &mut command);
        peer.close_stdin();
        assert!(peer.wait().success(), "{}", peer.told());
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().all(|line| line.contains(":$7$")), "{text}");

    let configuration = r##"
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  password_file: { path: passwd, read: ["#"], write: ["of/{user}/#"] }
  users: { carl: { write: ["#"] } }
"##;
    let gateway = Edgeway::start_in(folder, configuration);
    let subscriber = mosquitto_sub(gateway.port, &["-u", "ann", "-P", "first", "-t", "#", "-v", "-q", "1", "-R"]);
    for (user, password, topic) in [
        ("bob", "sécond", "of/bob/x"),
        ("bob", "sécond", "of/ann/x"),
        ("carl", "p:w$d", "of/ann/y"),
        ("ann", "first", "of/ann/z"),
    ] {
        let version = ["-V", "311", "-q", "1"];
        mosquitto_pub(gateway.port, &[&version[..], &["-u", user, "-P", password, "-t", topic, "-m", user]].concat());
    }
    for line in ["of/bob/x bob", "of/ann/y carl", "of/ann/z ann"] {
        assert_eq!(subscriber.next(), line);
    }
    for (user, password) in [("ann", "sécond"), ("bob", "sécon"), ("dora", "first")] {
        refused("mosquitto_pub", gateway.port, &["-u", user, "-P", password, "-t", "x", "-m", "x"]);
    }
    // Users or not, this machine needs none.
    mosquitto_pub(gateway.port, &["-t", "x", "-m", "anonymous", "-q", "1"]);
    assert_eq!(subscriber.next(), "x anonymous");
}

/// An address of this machine that is not loopback, where it has one.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent; the system says from where it would be.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}

#[test]
fn the_anonymous_from_elsewhere_do_what_was_said_and_no_command() {
    let Some(address) = own_address() else {
        eprintln!("this machine has no address but loopback");
        return;
    };
    let configuration = format!(
        r##"
broker:
  listen: "mqtt://0.0.0.0:@PORT@"
  anonymous: {{ from: [loopback, {address}], read: ["sensors/#"], write: ["sensors/#", "lamp/set"] }}
"##
    );
    let gateway = Edgeway::start(&configuration);
    let connect = json!({"host": address});
    let (mut client, connected) = MqttClient::connect(gateway.port, &connect);
    assert_eq!(connected["reason"], 0);
    assert_eq!(client.subscribe("sensors/#", 1), 1);
    assert_eq!(client.subscribe("plant/#", 1), 0x87);
    for (topic, reason) in [("sensors/a", 0), ("sensors/a/set", 0x87), ("lamp/set", 0x10), ("plant/a", 0x87)] {
        let published = client.run("publish", &json!({"topic": topic, "payload": "x", "qos": 1}), "published");
        assert_eq!(published["reason"], reason, "{topic}");
    }
    assert_eq!(client.message()["topic"], "sensors/a");

    let gateway = Edgeway::start(
        "broker: { listen: \"mqtt://0.0.0.0:@PORT@\", anonymous: { from: 198.51.100.0/24, read: [\"#\"] } }\n",
    );
    for host in [address.as_str(), "127.0.0.1"] {
        let options = json!({"port": gateway.port, "host": host});
        assert_eq!(MqttClient::start().run("connect", &options, "connected")["reason"], 0x87, "{host}");
    }
}

/// CONNECT of 3.1.1 with clean session, as `user` with `password`.
fn connect_packet(user: &str, password: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xC2, 0, 30, 0, 0];
    for text in [user, password] {
        body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        body.extend(text.as_bytes());
    }
    [&[0x10, u8::try_from(body.len()).unwrap()], body.as_slice()].concat()
}

#[test]
fn a_flood_of_wrong_passwords_leaves_others_served() {
    let mut gateway = gateway();
    let port = gateway.port;
    let subscriber = mosquitto_sub(port, &["-u", "nodered", "-P", "open sesame", "-t", "flows/#", "-q", "1"]);
    let mut publisher = MqttClient::connect(port, &json!({"username": "nodered", "password": "open sesame"})).0;
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let flood = std::thread::spawn(move || {
        let mut answers = [0_u64; 6];
        let mut guess = 0;
        while stopped.try_recv().is_err() {
            // Each guess is another one, so that none is known.
            let mut connections: Vec<TcpStream> = Vec::new();
            for _ in 0..20 {
                guess += 1;
                let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
                connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                connection.write_all(&connect_packet("nodered", &format!("guess {guess}"))).unwrap();
                connections.push(connection);
            }
            for mut connection in connections {
                let mut answer = [0; 4];
                connection.read_exact(&mut answer).unwrap();
                answers[usize::from(answer[3])] += 1;
            }
        }
        answers
    });
    for number in 0..50 {
        publisher.publish("flows/x", &number.to_string(), 1);
        // One who is known comes in all the time, too.
        if number % 10 == 0 {
            mosquitto_pub(port, &["-u", "nodered", "-P", "open sesame", "-t", "flows/new", "-m", "new", "-q", "1"]);
            assert_eq!(subscriber.next(), number.to_string());
            assert_eq!(subscriber.next(), "new");
        } else {
            assert_eq!(subscriber.next(), number.to_string());
        }
    }
    stop.send(()).unwrap();
    let answers = flood.join().unwrap();
    // Wrong password, or come again.
    assert_eq!(answers.iter().sum::<u64>(), answers[4] + answers[3], "{answers:?}");
    assert!(answers[4] > 0, "{answers:?}");
    let (_, said) = gateway.terminate();
    let lines = said.iter().filter(|line| line.contains("wrong password")).count();
    assert_eq!(lines, 1, "{}", said.join("\n"));
}

#[test]
fn passwd_asks_twice_on_a_terminal_and_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (typed, fails) in
        [("g\u{fc}x\u{7f}n\rg\u{fc}n\r", None), ("one\rtwo\r", Some("not the same")), ("on\u{3}", Some("called off"))]
    {
        let mut master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal = File::options().read(true).write(true).open(Path::new(name.to_str().unwrap())).unwrap();
        let before = tcgetattr(&terminal).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeway"));
        command.args(["passwd"]).current_dir(folder.path());
        command
            .stdin(terminal.try_clone().unwrap())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        // What is typed earlier is thrown away.
        wait_until("the terminal is quiet", || {
            !tcgetattr(&terminal).unwrap().local_modes.contains(rustix::termios::LocalModes::ECHO)
        });
        for byte in typed.as_bytes() {
            rustix::io::write(&mut master, &[*byte]).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let (said, asked) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let after = tcgetattr(&terminal).unwrap();
        assert_eq!(format!("{:?}", after.local_modes), format!("{:?}", before.local_modes));
        assert!(asked.starts_with("Password: \n") || fails == Some("called off"), "{asked:?}");
        match fails {
            Some(text) => {
                assert!(!output.status.success() && asked.contains(text) && said.is_empty(), "{asked}");
            }
            None => {
                assert!(output.status.success() && said.starts_with("password: \"$argon2id$"), "{said}{asked}");
            }
        }
    }
    let (status, said, why) = edgeway(&["passwd"], folder.path());
    assert_eq!((status.code(), said.as_str()), (Some(1), ""));
    assert!(why.contains("an empty password lets everybody in"), "{why}");
}
