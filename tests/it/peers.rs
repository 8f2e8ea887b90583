//! Whether the test peers themselves work, so that a failing test speaks about the gateway.

use crate::support::PATIENCE;
use crate::support::modbus_server::ModbusServer;
use crate::support::mosquitto::{Mosquitto, Options, mosquitto_pub, mosquitto_sub};
use crate::support::mqtt_client::MqttClient;
use crate::support::process::{Peer, wait_until};
use crate::support::pty::{PtyPair, open_line};
use serde_json::json;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn mosquitto_hands_on_what_its_clients_publish() {
    let broker = Mosquitto::start();
    let subscriber = mosquitto_sub(broker.port, &["-t", "a/#", "-v", "-q", "1"]);
    mosquitto_pub(broker.port, &["-t", "a/b", "-m", "21.5", "-q", "1"]);
    assert_eq!(subscriber.next(), "a/b 21.5");
    assert_eq!(subscriber.rest(), [""; 0]);
}

#[test]
fn a_persistent_mosquitto_remembers_on_the_same_port() {
    let mut broker = Mosquitto::start_with(&Options { persistent: true, ..Options::default() });
    mosquitto_pub(broker.port, &["-t", "kept", "-m", "yes", "-q", "1", "-r"]);
    broker.stop();
    assert!(TcpStream::connect(("127.0.0.1", broker.port)).is_err());
    broker.start_again();
    assert_eq!(mosquitto_sub(broker.port, &["-t", "kept"]).next(), "yes");
}

#[test]
fn pymodbus_answers_over_tcp() {
    let mut server =
        ModbusServer::tcp(&json!({"1": {"holding": {"100": [1, 2, 3]}, "coils": {"5": [true, false, true]}}}));
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut ask = |request: &[u8], length: usize| {
        let mut frame = vec![0, 7, 0, 0, 0, u8::try_from(request.len()).unwrap()];
        frame.extend_from_slice(request);
        stream.write_all(&frame).unwrap();
        let mut answer = vec![0; 6 + length];
        stream.read_exact(&mut answer).unwrap();
        answer.split_off(6)
    };
    assert_eq!(ask(&[1, 3, 0, 100, 0, 3], 9), [1, 3, 6, 0, 1, 0, 2, 0, 3]);
    server.set(1, "holding", 101, &[0x1234]);
    assert_eq!(ask(&[1, 3, 0, 101, 0, 1], 5), [1, 3, 2, 0x12, 0x34]);
    assert_eq!(ask(&[1, 1, 0, 5, 0, 3], 4), [1, 1, 1, 0b101]);
    assert_eq!(ask(&[1, 3, 0, 103, 0, 1], 3), [1, 0x83, 2]);
    assert_eq!(ask(&[1, 6, 0, 102, 0, 9], 6), [1, 6, 0, 102, 0, 9]);
    assert_eq!(server.values(1, "holding", 100, 3), [1, 0x1234, 9]);
    server.fail_with(1, 6);
    assert_eq!(ask(&[1, 3, 0, 100, 0, 1], 3), [1, 0x83, 6]);
    assert_eq!(server.requests(1), 6);
}

#[test]
fn pymodbus_answers_on_a_line_where_other_units_are_silent() {
    let line = PtyPair::open();
    let mut server = ModbusServer::rtu(&line.far, &json!({"1": {"input": {"0": [7]}}, "2": {"input": {"0": [8]}}}));
    server.mute(1);
    let mut port = open_line(&line.near);
    // Unit 1 is muted and unit 9 is not there: the first answer on the line is unit 2's.
    for unit in [1, 9, 2] {
        port.write_all(&with_crc(&[unit, 4, 0, 0, 0, 1])).unwrap();
        // Two requests without silence between them would be one broken frame.
        wait_until("the line carries the request", || server.requests(unit) == 1);
    }
    assert_eq!(next_bytes(&port, 7), with_crc(&[2, 4, 2, 0, 8]));
    server.unmute(1);
    port.write_all(&with_crc(&[1, 4, 0, 0, 0, 1])).unwrap();
    assert_eq!(next_bytes(&port, 7), with_crc(&[1, 4, 2, 0, 7]));
}

#[test]
fn a_pulled_cable_can_be_plugged_in_again() {
    let mut line = PtyPair::open();
    line.unplug();
    assert!(!line.near.exists() && !line.far.exists());
    line.open_again();
    open_line(&line.far).write_all(b"x").unwrap();
    assert_eq!(next_bytes(&open_line(&line.near), 1), b"x");
}

#[test]
fn paho_goes_round_through_mosquitto_at_both_versions() {
    let broker = Mosquitto::start();
    for version in ["3.1.1", "5"] {
        let (mut client, connected) = MqttClient::connect(broker.port, &json!({"version": version}));
        assert_eq!((&connected["reason"], &connected["session_present"]), (&json!(0), &json!(false)));
        for qos in 0..=2 {
            assert_eq!(client.subscribe(&format!("{version}/{qos}"), qos), u64::from(qos));
            client.publish(&format!("{version}/{qos}"), "ä", qos);
            let message = client.message();
            assert_eq!((&message["payload"], &message["qos"]), (&json!("ä"), &json!(qos)), "{version}");
        }
        client.run("disconnect", &json!({}), "disconnected");
    }
}

#[test]
fn paho_carries_properties_and_keeps_its_session_over_a_lost_connection() {
    let broker = Mosquitto::start();
    let session = json!({"client_id": "a", "properties": {"session_expiry_interval": 60}});
    let (mut client, _) = MqttClient::connect(broker.port, &session);
    client.subscribe("t", 2);
    client.tell("kill", &json!({}));
    client.event("disconnected");

    let (mut other, _) = MqttClient::connect(broker.port, &json!({}));
    let properties =
        json!({"user_property": [["a", "1"], ["a", "2"]], "correlation_data": "AAE=", "content_type": "x"});
    let publish =
        json!({"topic": "t", "payload": "{n}", "count": 3, "qos": 2, "tag": "n{n}", "properties": properties});
    other.tell("publish", &publish);
    let tags: Vec<_> = (0..3).map(|_| other.event("published")["tag"].clone()).collect();
    assert_eq!(tags, ["n0", "n1", "n2"]);

    let connected = client.run("reconnect", &json!({}), "connected");
    assert_eq!(connected["session_present"], true);
    for number in 0..3 {
        let message = client.message();
        assert_eq!((&message["payload"], &message["qos"]), (&json!(number.to_string()), &json!(2)));
        assert_eq!(message["properties"], properties);
    }
}

#[test]
fn a_will_and_a_retained_message_reach_paho() {
    let broker = Mosquitto::start();
    let will = json!({"topic": "status", "payload": "offline", "qos": 1, "retain": true});
    let (mut client, _) = MqttClient::connect(broker.port, &json!({"version": "3.1.1", "will": will}));
    client.tell("kill", &json!({}));
    let (mut other, _) = MqttClient::connect(broker.port, &json!({}));
    wait_until("the will is there", || {
        other.subscribe("status", 1);
        other.messages_so_far().iter().any(|message| message["payload"] == "offline" && message["retain"] == true)
    });
}

#[test]
fn nothing_of_a_peer_is_left_when_it_is_dropped() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "sleep 1000 & echo $!; wait"]);
    let peer = Peer::start("shell", &mut command);
    let child = peer.stdout().wait_for_count(1).remove(0);
    assert!(peer.group_is_alive());
    let shell = peer.id();
    drop(peer);
    for process in [shell.to_string(), child] {
        wait_until("the process is gone", || is_gone(&process));
    }
}

/// Whether a process has ended; one that only waits to be collected by its parent has.
fn is_gone(process: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(process).join("stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// The next bytes of a line; a line knows no deadline, so another thread waits for them.
fn next_bytes(line: &File, count: usize) -> Vec<u8> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut line = line.try_clone().expect("a file has a second handle");
    std::thread::spawn(move || {
        let mut bytes = vec![0; count];
        let _ = sender.send(line.read_exact(&mut bytes).map(|()| bytes));
    });
    receiver.recv_timeout(PATIENCE).expect("bytes come in time").expect("the line can be read")
}

/// An RTU frame: the bytes and their CRC-16, low byte first (Modbus over serial line, 6.2.2).
fn with_crc(bytes: &[u8]) -> Vec<u8> {
    let crc = bytes.iter().fold(0xFFFF_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    });
    [bytes, &crc.to_le_bytes()].concat()
}
