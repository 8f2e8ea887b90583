//! Ten minutes without uplink at a thousand messages a second, and the way back: everything arrives in order, quickly, and
//! beside what is published meanwhile; memory and disk stay within what is configured.

use super::Scale;
use super::backlog::used_bytes;
use crate::plug::Phase;
use crate::plug::recorder::Recorder;
use crate::support::edgeway::Edgeway;
use crate::support::gate::Gate;
use crate::support::peer::{Peer, message};
use crate::support::vitals::Vitals;
use edgeway::mqtt::QoS;
use edgeway::mqtt::connection::ConnectOptions;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const GATEWAY: &str = r#"
gateway: { name: edge }
broker: { listen: "mqtt://127.0.0.1:@PORT@" }
storage: { path: "@DIR@/store", limit: 512MB }
log: { level: warn }
bridges:
  cloud:
    url: "mqtt://127.0.0.1:@CLOUD@"
    send: [ { from: "often/#", qos: 1 }, { from: "once/#", qos: 2 } ]
"#;

/// Messages a second, during the outage and afterwards.
const RATE: u32 = 1000;
/// Four in five are at QoS 1, the others at QoS 2.
const TOPICS: [&str; 5] = ["often/0", "often/1", "often/2", "often/3", "once/0"];
const MESSAGE_BYTES: usize = 200;
/// Messages that the publisher has unacknowledged at most.
const WINDOW: usize = 1000;
/// A queue's head and tail in memory, whatever waits on disk.
const MEMORY_KIB: u64 = 64 * 1024;
const DISK_BYTES: u64 = 512 * 1024 * 1024;
/// The bridge has caught up when no more than this is missing at the cloud.
const CAUGHT_UP: usize = 500;
/// Bounds of the full form.
const SLOWEST_DRAIN: f64 = 10_000.0;
const LONGEST_UNTIL_FIRST: Duration = Duration::from_secs(16);

#[test]
fn what_comes_in_a_long_outage_arrives_in_order_beside_what_comes_then() {
    let scale = Scale::from_environment();
    let phase = watch::Sender::new(Phase { life: 0, is_ending: true });
    let recorder = Recorder::start(0, phase.subscribe());
    let mut gate = Gate::open(recorder.port);
    let mut edgeway = Edgeway::start(&GATEWAY.replace("@CLOUD@", &gate.port.to_string()));
    let (process, store) = (edgeway.peer().id(), edgeway.folder().join("store"));
    let publisher = Publisher::start(edgeway.port);
    while recorder.count() < 100 {
        std::thread::sleep(Duration::from_millis(10));
    }

    gate.shut();
    let (mut disk, begun) = (0, Instant::now());
    while begun.elapsed() < scale.outage {
        std::thread::sleep(Duration::from_millis(500));
        disk = used_bytes(&store).max(disk);
    }
    let before = recorder.count();
    let waiting = publisher.published() - before;
    let at_return = Vitals::of(process);

    gate.open_again();
    let back = Instant::now();
    let mut first = None;
    while recorder.count() + CAUGHT_UP < publisher.published() {
        std::thread::sleep(Duration::from_millis(5));
        if first.is_none() && recorder.count() > before {
            first = Some(back.elapsed());
        }
        assert!(back.elapsed() < Duration::from_secs(600), "{} of {}", recorder.count(), publisher.published());
        disk = used_bytes(&store).max(disk);
    }
    let first = first.unwrap_or_default();
    let (drained, took) = (recorder.count() - before, back.elapsed() - first);
    let rate = drained as f64 / took.as_secs_f64();
    let published = publisher.stop();
    let deadline = Instant::now() + Duration::from_secs(60);
    while recorder.count() < published && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let after = Vitals::of(process);
    println!(
        "outage: {:.0?} at {RATE} messages a second, {waiting} messages of {MESSAGE_BYTES} bytes waited, {} MiB on \
         disk at most\n  forwarding again {first:.1?} after the link's return; {drained} in {took:.1?}, {rate:.0}/s, \
         beside {RATE}/s\n  at the return: {at_return}\n  afterwards: {after}",
        scale.outage,
        disk >> 20
    );
    check(&recorder, published);
    assert!(after.peak_kib < MEMORY_KIB, "{} KiB of memory", after.peak_kib);
    assert!(disk < DISK_BYTES, "{disk} bytes on disk");
    if scale.full_outage {
        assert!(rate > SLOWEST_DRAIN, "drained at {rate:.0} messages a second");
        assert!(first < LONGEST_UNTIL_FIRST, "the first message came {first:?} after the link's return");
    }
}

/// Each topic has every number in order, at QoS 2 once.
fn check(recorder: &Recorder, published: usize) {
    let mut next: HashMap<&str, u32> = HashMap::new();
    let taken = recorder.taken();
    let mut repeated = 0;
    for taken in &taken {
        let next = next.entry(&taken.topic).or_default();
        let number: u32 = std::str::from_utf8(&taken.payload).unwrap().trim_end().parse().unwrap();
        if number < *next && taken.topic.starts_with("often/") {
            repeated += 1;
            continue;
        }
        assert_eq!(number, *next, "{}", taken.topic);
        *next += 1;
    }
    println!("  {published} published, {} taken, {repeated} of QoS 1 repeated", taken.len());
    assert_eq!(next.values().sum::<u32>() as usize, published);
    assert_eq!(recorder.faults(), [""; 0]);
}

/// Publishes at its pace until it is stopped.
struct Publisher {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicU32>,
    thread: std::thread::JoinHandle<()>,
}

impl Publisher {
    fn start(port: u16) -> Self {
        let (stop, published) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (stops, counts) = (Arc::clone(&stop), Arc::clone(&published));
        let thread = std::thread::spawn(move || {
            super::pairs::current_thread().block_on(async {
                let mut peer = Peer::new(port, ConnectOptions::new("publisher"));
                peer.connect().await.unwrap();
                let begun = Instant::now();
                let mut tick = tokio::time::interval(Duration::from_millis(5));
                while !stops.load(Ordering::Relaxed) {
                    let due = (begun.elapsed().as_secs_f64() * f64::from(RATE)) as u32;
                    for number in counts.load(Ordering::Relaxed)..due {
                        // A busy machine acknowledges late; what is due then follows.
                        if peer.unsettled() >= WINDOW {
                            break;
                        }
                        let topic = TOPICS[number as usize % TOPICS.len()];
                        let payload = format!("{:<MESSAGE_BYTES$}", number / TOPICS.len() as u32);
                        peer.publish(message(topic, payload.as_bytes(), QoS::AtLeastOnce, false));
                        counts.store(number + 1, Ordering::Relaxed);
                    }
                    tokio::select! {
                        happening = peer.next() => drop(happening.unwrap()),
                        _ = tick.tick() => {}
                    }
                }
                peer.settle().await;
                peer.disconnect().await.unwrap();
            });
        });
        Self { stop, published, thread }
    }

    fn published(&self) -> usize {
        self.published.load(Ordering::Relaxed) as usize
    }

    /// Once all of them are acknowledged; how many there were.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.published.load(Ordering::Relaxed) as usize
    }
}
