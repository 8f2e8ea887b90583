//! `edgeway pub` and `edgeway sub` among Debian's mosquitto and its clients.

use super::support::edgeway::edgeway;
use super::support::mosquitto::{Mosquitto, Options, mosquitto_pub, mosquitto_sub};
use super::support::peer_program;
use super::support::ports::free_port;
use super::support::process::Peer;
use rustix::process::Signal;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const VERSIONS: [&str; 2] = ["5", "311"];

/// Starts `edgeway sub` and waits until it is subscribed.
fn sub(port: u16, arguments: &[&str]) -> Peer {
    let peer = start("sub", port, &[arguments, &["-d"]].concat());
    peer.stderr().wait_for("subscribed");
    peer
}

/// Runs `edgeway pub` to its end.
fn publish(port: u16, arguments: &[&str]) {
    let (status, error) = finish(start("pub", port, arguments));
    assert_eq!(status, 0, "pub {arguments:?}: {error}");
}

fn start(name: &str, port: u16, arguments: &[&str]) -> Peer {
    let mut command = command(name, port);
    command.args(arguments);
    Peer::start(name, &mut command)
}

fn command(name: &str, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeway"));
    command.args([name, "-h", "127.0.0.1", "-p", &port.to_string()]);
    command.env_remove("EDGEWAY_LOG").env("NO_COLOR", "1");
    command
}

/// Closes its input and gives its exit status and what it said on standard error.
fn finish(mut peer: Peer) -> (i32, String) {
    peer.close_stdin();
    let status = peer.wait().code().expect("it ends by itself");
    (status, peer.stderr().lines().join("\n"))
}

/// All that a subscriber printed until it ended well.
fn printed(mut peer: Peer) -> Vec<String> {
    peer.close_stdin();
    let status = peer.wait();
    assert!(status.success(), "{status}\n{}", peer.told());
    peer.stdout().lines()
}

#[test]
fn a_message_goes_from_pub_to_sub_and_to_mosquitto_at_every_qos_and_version() {
    let broker = Mosquitto::start();
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let topic = format!("t/{version}/{qos}");
            let ours = sub(broker.port, &["-V", version, "-q", qos, "-t", &topic, "-C", "1", "-F", "%t %q %r %l %p"]);
            let theirs = mosquitto_sub(broker.port, &["-q", qos, "-t", &topic, "-F", "%t %q %r %l %p"]);
            publish(broker.port, &["-V", version, "-q", qos, "-t", &topic, "-m", "grüße"]);
            let expected = format!("{topic} {qos} 0 7 grüße");
            assert_eq!(printed(ours).join("\n"), expected);
            assert_eq!(theirs.next(), expected);
        }
    }
}

#[test]
fn a_message_of_mosquitto_pub_is_printed_with_its_topic() {
    let broker = Mosquitto::start();
    let ours = sub(broker.port, &["-t", "a/+", "-t", "b", "-T", "a/hidden", "-v", "-C", "3", "-q", "2"]);
    for (topic, payload) in [("a/1", "one"), ("a/hidden", "no"), ("b", "two"), ("c", "no"), ("a/empty", "")] {
        mosquitto_pub(broker.port, &["-t", topic, "-m", payload, "-q", "2"]);
    }
    assert_eq!(printed(ours), ["a/1 one", "b two", "a/empty (null)"]);
}

#[test]
fn each_line_of_standard_input_is_a_message_in_its_order() {
    const COUNT: usize = 500;
    let broker = Mosquitto::start();
    let expected: Vec<String> = (0..COUNT).map(|number| format!("line {number}")).collect();
    for version in VERSIONS {
        for qos in ["1", "2"] {
            let topic = format!("lines/{version}/{qos}");
            let ours = sub(broker.port, &["-q", "2", "-t", &topic, "-C", &COUNT.to_string()]);
            let theirs = mosquitto_sub(broker.port, &["-q", "2", "-t", &topic]);
            let mut lines = start("pub", broker.port, &["-V", version, "-q", qos, "-t", &topic, "-l"]);
            for line in &expected {
                lines.send_line(line);
            }
            lines.send_line("");
            assert_eq!(finish(lines).0, 0);
            assert_eq!(printed(ours), expected, "{version}, QoS {qos}");
            for line in &expected {
                assert_eq!(&theirs.next(), line, "{version}, QoS {qos}");
            }
        }
    }
}

#[test]
fn bytes_of_a_file_and_of_standard_input_arrive_unaltered() {
    let broker = Mosquitto::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("payload");
    let bytes: Vec<u8> = (0..100_000u32).map(|number| (number % 256) as u8).collect();
    std::fs::write(&file, &bytes).unwrap();
    publish(broker.port, &["-t", "file", "-r", "-q", "1", "-f", file.to_str().unwrap()]);
    let mut child =
        command("pub", broker.port).args(["-t", "input", "-r", "-q", "1", "-s"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(child.wait().unwrap().success());
    for topic in ["file", "input"] {
        let output = command("sub", broker.port).args(["-t", topic, "-N", "-C", "1", "-W", "20"]).output().unwrap();
        assert!(output.status.success() && output.stdout == bytes, "{topic}");
    }
}

#[test]
fn retained_messages_are_told_apart() {
    let broker = Mosquitto::start();
    publish(broker.port, &["-t", "r/1", "-m", "kept", "-r"]);
    let ours = sub(broker.port, &["-t", "r/#", "-C", "2", "-F", "%r %p"]);
    let without = sub(broker.port, &["-t", "r/#", "-C", "1", "-R", "-V", "311"]);
    let only = sub(broker.port, &["-t", "r/#", "--retained-only"]);
    ours.stdout().wait_for("1 kept");
    publish(broker.port, &["-t", "r/2", "-m", "fresh"]);
    assert_eq!(printed(ours), ["1 kept", "0 fresh"]);
    assert_eq!(printed(without), ["fresh"]);
    assert_eq!(printed(only), ["kept"]);
    publish(broker.port, &["-t", "r/1", "-n", "-r"]);
    let (status, said) = finish(start("sub", broker.port, &["-t", "r/#", "-W", "1"]));
    assert_eq!(status, 27, "the time is over and nothing came: {said}");
}

#[test]
fn the_will_is_published_after_a_crash_and_not_after_a_goodbye() {
    let broker = Mosquitto::start();
    let theirs = mosquitto_sub(broker.port, &["-t", "will/#", "-q", "2", "-F", "%t %q %p"]);
    let will = |topic| ["-t", "x", "--will-topic", topic, "--will-payload", "gone", "--will-qos", "2"];
    for (version, topic) in [("5", "will/5"), ("311", "will/311")] {
        let mut crashed = sub(broker.port, &[&will(topic)[..], &["-V", version]].concat());
        crashed.kill();
        assert_eq!(theirs.next(), format!("{topic} 2 gone"));
        for signal in [Signal::INT, Signal::TERM] {
            let mut left = sub(broker.port, &[&will("will/never")[..], &["-V", version]].concat());
            left.signal(signal);
            assert_eq!(finish(left).0, 0);
        }
        publish(broker.port, &["-t", "will/marker", "-m", "here", "-q", "2"]);
        assert_eq!(theirs.next(), "will/marker 2 here");
    }
}

#[test]
fn properties_arrive_at_mosquitto_and_come_back() {
    let broker = Mosquitto::start();
    let format = "%C|%R|%D|%P|%p";
    let ours = sub(broker.port, &["-t", "p", "-C", "1", "-F", format]);
    let theirs = mosquitto_sub(broker.port, &["-V", "5", "-t", "p", "-F", format]);
    let mut arguments = vec!["-t", "p", "-m", "x"];
    for property in [
        &["user-property", "unit", "kWh"][..],
        &["content-type", "text/plain"],
        &["response-topic", "answer/here"],
        &["correlation-data", "42"],
        &["message-expiry-interval", "60"],
    ] {
        arguments.extend(["-D", "publish"].iter().chain(property));
    }
    publish(broker.port, &arguments);
    let expected = "text/plain|answer/here|42|unit:kWh|x";
    assert_eq!(printed(ours), [expected]);
    assert_eq!(theirs.next().trim_end(), expected);
    let (status, said) = finish(start("pub", broker.port, &[&["-V", "311"], &arguments[..]].concat()));
    assert!(status == 1 && said.contains("needs MQTT 5.0"), "{said}");
}

#[test]
fn a_kept_session_has_what_came_meanwhile() {
    let broker = Mosquitto::start();
    for version in VERSIONS {
        let session = ["-V", version, "-c", "-i", "kept", "-t", "q", "-q", "2"];
        assert!(printed(start("sub", broker.port, &[&session[..], &["-E"]].concat())).is_empty());
        for number in ["1", "2", "3"] {
            publish(broker.port, &["-t", "q", "-m", number, "-q", number.min("2")]);
        }
        // One at a time: what a run does not print stays for the next.
        for number in ["1", "2", "3"] {
            assert_eq!(printed(start("sub", broker.port, &[&session[..], &["-C", "1"]].concat())), [number]);
        }
        publish(broker.port, &["-V", version, "-i", "kept", "-t", "end", "-n"]);
    }
}

#[test]
fn sub_returns_after_the_broker_was_away() {
    let mut broker = Mosquitto::start();
    let ours = sub(broker.port, &["-t", "t", "-C", "2", "-q", "1"]);
    publish(broker.port, &["-t", "t", "-m", "before", "-q", "1"]);
    ours.stdout().wait_for("before");
    broker.kill();
    ours.stderr().wait_for("link lost");
    broker.start_again();
    ours.stderr().wait_for("connected again");
    publish(broker.port, &["-t", "t", "-m", "after", "-q", "1"]);
    assert_eq!(printed(ours), ["before", "after"]);
}

#[test]
fn what_goes_wrong_is_said_in_words_with_exit_status_1() {
    let port = free_port();
    for name in [&["pub", "-t", "t", "-m", "x"][..], &["sub", "-t", "t"]] {
        let (status, _, said) =
            edgeway(&[name, &["-h", "127.0.0.1", "-p", &port.to_string()]].concat(), Path::new("."));
        assert_eq!(status.code(), Some(1));
        let expected = format!("edgeway {}: connection refused by 127.0.0.1:{port}: is a broker running?", name[0]);
        assert_eq!(said, expected);
    }

    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("passwords");
    let made = Command::new(peer_program("mosquitto_passwd"))
        .args(["-b", "-c", passwords.to_str().unwrap(), "me", "right"])
        .output()
        .unwrap();
    assert!(made.status.success());
    let broker = Mosquitto::start_with(&Options {
        lines: vec![format!("password_file {}", passwords.display())],
        ..Options::default()
    });
    for version in VERSIONS {
        let user = ["-V", version, "-u", "me", "-t", "t"];
        publish(broker.port, &[&user[..], &["-P", "right", "-m", "x"]].concat());
        let (status, said) = finish(start("sub", broker.port, &[&user[..], &["-P", "wrong"]].concat()));
        assert_eq!(status, 1);
        assert_eq!(said, "edgeway sub: the broker refused the connection: not authorized (0x87)");
    }
}

#[test]
fn a_reader_that_leaves_ends_sub_quietly() {
    let broker = Mosquitto::start();
    let mut child = command("sub", broker.port)
        .args(["-t", "t", "-d"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("subscribed") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut said, &mut line).unwrap() > 0);
    }
    publish(broker.port, &["-t", "t", "-m", "x"]);
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest).unwrap();
    assert!(!rest.contains("edgeway sub:"), "{rest}");
}
