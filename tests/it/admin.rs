//! What operators see of the journal: `/healthz` and `/metrics` of a running gateway, and what it says at its start.

use super::support::edgeway::{Edgeway, edgeway};
use super::support::http::get;
use super::support::mosquitto::{Mosquitto, mosquitto_pub, mosquitto_sub};
use super::support::ports::free_port;
use super::support::process::wait_until;
use super::support::python::python;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A gateway that keeps everything in `data`, with a bridge to where nobody is.
fn start(admin: u16) -> Edgeway {
    Edgeway::start(&format!(
        "\
gateway: {{ name: edge }}
broker: {{ listen: \"mqtt://127.0.0.1:@PORT@\" }}
storage: {{ path: data }}
admin: {{ listen: \"127.0.0.1:{admin}\" }}
bridges:
  nobody: {{ url: \"mqtt://127.0.0.1:{}\", send: [ {{ from: keep/#, qos: 1 }} ] }}
",
        free_port()
    ))
}

fn healthz(admin: u16) -> (u16, Value) {
    let (status, body) = get(admin, "/healthz");
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn a_parser_of_others_reads_every_metric_with_its_type_and_help() {
    let admin = free_port();
    let gateway = start(admin);
    for _ in 0..3 {
        mosquitto_pub(gateway.port, &["-t", "keep/this", "-m", "12345", "-q", "1"]);
    }
    let reader = python("metrics_reader.py", &[&admin.to_string()]);
    let mut values = BTreeMap::new();
    for line in reader.stdout().lines().iter().filter(|line| line.starts_with('{')) {
        let sample: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| sample[key].as_str().unwrap().to_owned();
        assert!(text("type") == "counter" || text("type") == "gauge", "{line}");
        assert_eq!(text("type") == "counter", text("name").ends_with("_total"), "{line}");
        assert!(text("help").len() > 4, "{line}");
        let labels = sample["labels"].as_object().unwrap().iter().map(|(key, value)| format!("{key}={value}"));
        let of = labels.collect::<Vec<_>>().join(",");
        assert_eq!(values.insert((text("name"), of), sample["value"].as_f64().unwrap()), None, "{line}");
    }
    let value = |name: &str, labels: &str| values[&(format!("edgeway_{name}"), labels.to_owned())];
    assert_eq!(value("publishes_total", "direction=\"received\""), 3.0);
    assert_eq!(value("publish_payload_bytes_total", "direction=\"received\""), 15.0);
    assert_eq!(value("bridge_queued_messages", "bridge=\"nobody\""), 3.0);
    assert_eq!(value("bridge_connected", "bridge=\"nobody\""), 0.0);
    assert_eq!((value("healthy", ""), value("store_durable", ""), value("store_failed", "")), (1.0, 1.0, 0.0));
    // Each was acknowledged before the next was sent, so each was a commit.
    assert!(value("store_commits_total", "") >= 3.0 && value("store_records_total", "") >= 3.0, "{values:?}");
    assert!(value("store_device_written_bytes_total", "") >= value("store_written_bytes_total", ""), "{values:?}");
    assert!(value("store_disk_bytes", "") > value("store_alive_bytes", ""), "{values:?}");
    assert!(value("store_alive_bytes", "") > 15.0, "{values:?}");
}

#[test]
fn health_and_sys_tell_of_the_journal() {
    let admin = free_port();
    let gateway = start(admin);
    let (status, told) = healthz(admin);
    assert_eq!((status, &told["status"], &told["store"]), (200, &json!("ok"), &json!({ "state": "ok" })), "{told}");
    let sys = mosquitto_sub(gateway.port, &["-t", "$SYS/gateway/#", "-F", "%t %p"]);
    sys.take("the state of the journal", |line| line == "$SYS/gateway/store/state ok");
    sys.take("the bytes of a day", |line| line.starts_with("$SYS/gateway/store/bytes/day "));
}

#[test]
fn a_full_queue_is_a_503_until_it_is_delivered_and_a_warning_afterwards() {
    let mut cloud = Mosquitto::start();
    cloud.stop();
    let admin = free_port();
    let gateway = Edgeway::start(&format!(
        "\
broker: {{ listen: \"mqtt://127.0.0.1:@PORT@\" }}
storage: {{ path: data }}
admin: {{ listen: \"127.0.0.1:{admin}\" }}
bridges:
  cloud:
    url: mqtt://127.0.0.1:{}
    send: [ {{ from: keep/#, qos: 1 }} ]
    queue: {{ limit: 16KB, when_full: drop_newest }}
",
        cloud.port
    ));
    for _ in 0..6 {
        mosquitto_pub(gateway.port, &["-t", "keep/this", "-m", &"x".repeat(4000), "-q", "1"]);
    }
    let (status, told) = healthz(admin);
    assert_eq!((status, &told["bridges"]["cloud"]["full"]), (503, &json!(true)), "{told}");
    assert_eq!(told["failures"], json!(["the queue of the bridge cloud is full"]));
    cloud.start_again();
    wait_until("the queue is delivered", || healthz(admin).0 == 200);
    let told = healthz(admin).1;
    assert_eq!(told["status"], "warning");
    assert!(
        told["warnings"][0].as_str().unwrap().starts_with("the full queue of the bridge cloud has dropped "),
        "{told}"
    );
}

#[test]
fn what_a_bridge_waits_for_is_there_after_a_kill() {
    let admin = free_port();
    let mut gateway = start(admin);
    for n in 0..5 {
        mosquitto_pub(gateway.port, &["-t", "keep/this", "-m", &n.to_string(), "-q", "1"]);
    }
    gateway.kill();
    gateway.start_again();
    let queued = || healthz(admin).1["bridges"]["nobody"]["queued"].clone();
    wait_until("the five are there", || queued() == 5);
    let (status, said) = gateway.terminate();
    assert!(status.success(), "{said:?}");
    assert!(said.iter().any(|line| line.contains("the journal is open") && line.contains("messages=5")), "{said:?}");
}

#[test]
fn a_folder_that_cannot_be_used_is_said_with_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edgeway.yaml");
    let text =
        format!("broker: {{ listen: \"mqtt://127.0.0.1:{}\" }}\nstorage: {{ path: edgeway.yaml/data }}\n", free_port());
    std::fs::write(&path, &text).unwrap();
    let (status, _, said) = edgeway(&["run", "-c", "edgeway.yaml"], folder.path());
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("edgeway: cannot keep messages in edgeway.yaml/data: "), "{said}");
    assert!(said.contains("name another by `storage: { path: ... }`"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_second_gateway_on_the_same_folder_is_refused() {
    let gateway = start(free_port());
    let other = format!("broker: {{ listen: \"mqtt://127.0.0.1:{}\" }}\nstorage: {{ path: data }}\n", free_port());
    std::fs::write(gateway.folder().join("other.yaml"), other).unwrap();
    let (status, _, said) = edgeway(&["run", "-c", "other.yaml"], gateway.folder());
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("data: another process uses it; stop it, or name another folder"), "{said}");
    mosquitto_pub(gateway.port, &["-t", "keep/this", "-m", "still here", "-q", "1"]);
}
