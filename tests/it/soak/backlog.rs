//! A backlog on disk for a session that is away: little memory, a quick start, a quick end, and the room comes back.

use super::Scale;
use crate::support::PATIENCE;
use crate::support::edgeway::Edgeway;
use crate::support::peer::{Happening, Peer, message};
use crate::support::process::wait_until;
use crate::support::vitals::Vitals;
use edgeway::mqtt::connection::ConnectOptions;
use edgeway::mqtt::{Message, QoS};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const GATEWAY: &str = r#"
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  limits: { inflight: 1000, queue: 5000000, queue_bytes: 4GB }
storage: { path: "@DIR@/store", limit: 4GB }
log: { level: warn }
"#;

const MESSAGE_BYTES: usize = 200;
const MEMORY_KIB: u64 = 64 * 1024;
/// What an empty store may take: a few segments.
const EMPTY_BYTES: u64 = 24 * 1024 * 1024;
/// Bounds of the full form.
const LONGEST_START: Duration = Duration::from_secs(10);
const SLOWEST_DRAIN: f64 = 10_000.0;

#[test]
fn a_backlog_on_disk_takes_little_memory_and_its_room_comes_back() {
    let scale = Scale::from_environment();
    let count = scale.backlog;
    let mut edgeway = Edgeway::start(GATEWAY);
    let (port, store) = (edgeway.port, edgeway.folder().join("store"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begun = Instant::now();
    runtime.block_on(pile_up(port, count));
    let piled = begun.elapsed();
    let (before, disk) = (Vitals::of(edgeway.peer().id()), used_bytes(&store));

    edgeway.kill();
    let begun = Instant::now();
    edgeway.start_again();
    // It listens before it has read its journal, and answers then.
    runtime.block_on(Peer::new(port, ConnectOptions::new("ready")).connect()).unwrap();
    let start = begun.elapsed();
    let started = Vitals::of(edgeway.peer().id());

    let begun = Instant::now();
    runtime.block_on(drain(port, count));
    let drained = begun.elapsed();
    let after = Vitals::of(edgeway.peer().id());
    let rate = f64::from(count) / drained.as_secs_f64();
    println!(
        "backlog: {count} messages of {MESSAGE_BYTES} bytes acknowledged in {piled:.1?}, {} MiB on disk\n  peak {} KiB \
         while they came, started again in {start:.1?} with {} KiB, drained at {rate:.0}/s with {} KiB at most",
        disk >> 20,
        before.peak_kib,
        started.resident_kib,
        after.peak_kib
    );
    for peak in [before.peak_kib, after.peak_kib] {
        assert!(peak < MEMORY_KIB, "{peak} KiB of memory");
    }
    wait_until("the room on the disk comes back", || used_bytes(&store) < EMPTY_BYTES);
    println!("  then {} KiB on disk", used_bytes(&store) >> 10);
    if scale.full {
        assert!(start < LONGEST_START, "the start took {start:?}");
        assert!(rate > SLOWEST_DRAIN, "drained at {rate:.0} messages a second");
    }
}

/// Everything is acknowledged, and waits for a session that is away.
async fn pile_up(port: u16, count: u32) {
    let mut absent = absent(port);
    absent.connect().await.unwrap();
    absent.subscribed(&[("backlog".into(), QoS::AtLeastOnce)]).await;
    absent.disconnect().await.unwrap();
    let mut publisher = Peer::new(port, ConnectOptions::new("publisher"));
    publisher.connect().await.unwrap();
    for number in 0..count {
        publisher.publish(numbered(number));
        while publisher.unsettled() >= 1000 {
            publisher.patient_next().await;
        }
    }
    publisher.settle().await;
    publisher.disconnect().await.unwrap();
}

/// Each comes once, in its order.
async fn drain(port: u16, count: u32) {
    let mut absent = absent(port);
    assert!(absent.connect().await.unwrap().session_present);
    for number in 0..count {
        match absent.patient_next().await {
            Happening::Message(delivery) => assert!(delivery.message.payload() == numbered(number).payload()),
            other => panic!("{other:?} instead of message {number}"),
        }
    }
    absent.flush().await;
    timeout(PATIENCE, absent.disconnect()).await.expect("the gateway closes").unwrap();
}

fn absent(port: u16) -> Peer {
    let mut options = ConnectOptions::new("absent");
    options.clean_start = false;
    options.session_expiry_interval = 24 * 3600;
    options.receive_maximum = 1000;
    Peer::new(port, options)
}

fn numbered(number: u32) -> Message {
    message("backlog", format!("{number:<MESSAGE_BYTES$}").as_bytes(), QoS::AtLeastOnce, false)
}

/// What the files of a folder take of the disk.
pub fn used_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap();
    // One may be removed just now.
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|file| file.blocks() * 512).sum()
}
