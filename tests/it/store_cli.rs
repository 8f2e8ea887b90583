//! What `edgeway store` says of the journal of a gateway that runs, that was stopped and that was killed.

use super::support::edgeway::{Edgeway, edgeway};
use super::support::mosquitto::mosquitto_pub;
use super::support::mqtt_client::MqttClient;
use serde_json::json;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

const CONFIGURATION: &str = "broker: { listen: \"mqtt://127.0.0.1:@PORT@\" }\nstorage: { path: \"@DIR@/store\" }\n";
const PAYLOAD_BYTES: usize = 1000;

/// A gateway with a session that is away, for which `messages` wait.
fn gateway(messages: usize) -> Edgeway {
    let gateway = Edgeway::start(CONFIGURATION);
    let options = json!({"version": "3.1.1", "client_id": "meter reader", "clean": false});
    let (mut client, _) = MqttClient::connect(gateway.port, &options);
    client.subscribe("plants/#", 1);
    client.run("disconnect", &json!({}), "disconnected");
    let (mut publisher, _) = MqttClient::connect(gateway.port, &json!({"version": "5", "client_id": "meter"}));
    for number in 0..messages {
        publisher.publish(&format!("plants/{number}"), &"x".repeat(PAYLOAD_BYTES), 1);
    }
    mosquitto_pub(gateway.port, &["-t", "plants/status", "-m", "on line", "-q", "1", "-r"]);
    gateway
}

fn store(command: &str, folder: &Path) -> (Option<i32>, String, String) {
    let (status, output, said) = edgeway(&["store", command, "store"], folder);
    (status.code(), output, said)
}

/// Names and contents of the journal's files.
fn contents(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder.join("store")).unwrap().map(|entry| entry.unwrap().path());
    let mut contents: Vec<_> = entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    contents.sort();
    contents
}

#[test]
fn a_journal_is_refused_while_a_gateway_runs_and_read_when_it_has_ended() {
    let mut gateway = gateway(3);
    for command in ["check", "dump"] {
        let (status, output, said) = store(command, gateway.folder());
        assert_eq!((status, output.as_str()), (Some(2), ""));
        assert!(said.contains("store: a gateway is running on it: stop it first"), "{said}");
    }
    // It must be readable after either end.
    for end in [Edgeway::kill, |gateway: &mut Edgeway| drop(gateway.terminate())] {
        end(&mut gateway);
        let before = contents(gateway.folder());
        let (status, output, said) = store("check", gateway.folder());
        assert_eq!((status, said.as_str()), (Some(0), ""), "{output}");
        assert!(output.ends_with("nothing is damaged"), "{output}");
        let line = output.lines().find(|line| line.contains("client \"meter reader\"")).expect("the session's line");
        assert_eq!(line.split_whitespace().nth(1), Some("4"), "{output}");
        let line =
            output.lines().find(|line| line.ends_with("retained messages")).expect("the retained messages' line");
        // The gateway's own status is one.
        assert_eq!(line.split_whitespace().nth(1), Some("2"), "{output}");

        let (status, output, _) = store("dump", gateway.folder());
        assert_eq!(status, Some(0));
        let has = |parts: &[&str]| output.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(has(&[" session queue ", "client \"meter reader\""]), "{output}");
        assert!(has(&[" publish ", "\"plants/2\" 1000 bytes qos 1", " to "]), "{output}");
        assert!(!output.contains("payload"), "{output}");
        let (_, shown, _) = edgeway(&["store", "dump", "--payload", "store"], gateway.folder());
        assert!(shown.contains(" payload \"on line\""), "{shown}");
        assert_eq!(contents(gateway.folder()), before);
        gateway.start_again();
    }
}

#[test]
fn damage_ends_with_status_1_and_a_folder_without_a_journal_with_2() {
    let mut gateway = gateway(3);
    gateway.terminate();
    let path = contents(gateway.folder()).remove(0).0;
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(10).position(|window| window == b"xxxxxxxxxx").expect("a payload in the journal");
    bytes[place] = b'y';
    std::fs::write(&path, bytes).unwrap();
    let (status, output, _) = store("check", gateway.folder());
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("damaged: ") && output.ends_with("1 place damaged"), "{output}");

    std::fs::remove_dir_all(gateway.folder().join("store")).unwrap();
    let (status, _, said) = store("check", gateway.folder());
    assert_eq!(
        (status, said.as_str()),
        (Some(2), "edgeway store check: store: No such file or directory (os error 2)")
    );
}

#[test]
fn a_dump_ends_quietly_when_nobody_reads_on() {
    let mut gateway = gateway(200);
    gateway.terminate();
    let mut dump = Command::new(env!("CARGO_BIN_EXE_edgeway"));
    dump.args(["store", "dump", "--payload", "store"]).current_dir(gateway.folder());
    let mut dump = dump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More than a pipe holds is still to come when it is closed.
    let mut first = [0; 100];
    dump.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ended = dump.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}
