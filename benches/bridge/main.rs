//! What a bridge costs, and what of an outage arrives: the binary beside Debian's mosquitto, in one run.
//!
//! `make bridge` prints Markdown. Publishers write messages of 200 bytes to a forwarder, whose one bridge sends them to a
//! sink, at the same QoS on both ways, over 3.1.1. The forwarder runs on core 0; publishers and sink are this process, on
//! core 1, where `taskset` is there. Each publisher has at most 20 messages unacknowledged. The stores are under `target/`, on whichever disk that is.
//!
//! | figure | where it comes from |
//! |---|---|
//! | messages/s | what comes at the sink; at most 4,000 messages are between publishers and sink |
//! | CPU µs | user and system time of the forwarder's process, for each message that comes at the sink |
//! | arrived | different messages at the sink, of those that were acknowledged to the publisher |
//! | written | `write_bytes` of `/proc/PID/io` of both processes: what the page cache was given to write |
//!
//! The outage: the sink is away while 20,000 messages of QoS 1 are published, evenly over 60 seconds; after the first half
//! of them the forwarder is killed by SIGKILL and started again, and the publisher sends again what was not acknowledged.
//! Then the sink comes back.
//!
//! `EDGEWAY_BRIDGE_SECONDS` (4) is the length of each run, `EDGEWAY_BRIDGE_ROUNDS` (3) how often each is made, the
//! forwarders in turn; what is printed are medians. `EDGEWAY_BRIDGE_OUTAGE` (60) is the length of the outage in seconds; 0
//! leaves it out.

mod forwarder;
mod load;
mod packet;
#[path = "../common/process.rs"]
mod process;
mod sink;

use self::forwarder::{Forwarder, Kind};
use self::load::{Crowd, Steady};
use self::packet::PAYLOAD_BYTES;
use self::process::{mosquitto, number, pin_ourselves};
use self::sink::Sink;
use std::time::{Duration, Instant};

const PUBLISHERS: [usize; 2] = [1, 16];
const WARM_UP: Duration = Duration::from_secs(1);
const OUTAGE_MESSAGES: u64 = 20_000;
/// After this time in which nothing more came, nothing more is awaited.
const QUIET: Duration = Duration::from_secs(40);

/// `max_queued_messages 0`: by default it drops what more than 1,000 wait.
const USUAL: Kind =
    Kind::Mosquitto { lines: "persistence true\nmax_queued_messages 0", name: "mosquitto, persistence true" };
const NODELAY: Kind = Kind::Mosquitto {
    lines: "persistence true\nmax_queued_messages 0\nset_tcp_nodelay true",
    name: "mosquitto, persistence true, set_tcp_nodelay true",
};
const DEFAULTS: Kind = Kind::Mosquitto { lines: "", name: "mosquitto with its defaults" };
const AUTOSAVE: Kind = Kind::Mosquitto {
    lines: "persistence true\nmax_queued_messages 0\nautosave_interval 1",
    name: "mosquitto, persistence true, autosave_interval 1",
};

fn main() {
    let seconds = Duration::from_secs(number("EDGEWAY_BRIDGE_SECONDS", 4));
    let rounds = number("EDGEWAY_BRIDGE_ROUNDS", 3);
    let outage = Duration::from_secs(number("EDGEWAY_BRIDGE_OUTAGE", 60));
    let is_pinned = pin_ourselves();
    let has_mosquitto = mosquitto().is_some();
    if !has_mosquitto {
        println!("mosquitto is not there (`make peers`): edgeway alone\n");
    }
    let there = |kind: &Kind| has_mosquitto || *kind == Kind::Edgeway;
    println!(
        "{PAYLOAD_BYTES} bytes, {seconds:?}, median of {rounds}; {}\n",
        if is_pinned { "forwarder on core 0, publishers and sink on core 1" } else { "not pinned: no taskset" }
    );
    if rounds > 0 {
        let kinds: Vec<Kind> = [Kind::Edgeway, USUAL, NODELAY].into_iter().filter(there).collect();
        speed(&kinds, seconds, rounds);
    }
    if !outage.is_zero() {
        let kinds: Vec<Kind> = [Kind::Edgeway, DEFAULTS, USUAL, AUTOSAVE].into_iter().filter(there).collect();
        outages(&kinds, outage);
    }
}

/// As fast as it goes.
fn speed(kinds: &[Kind], seconds: Duration, rounds: u64) {
    println!("| QoS | publishers | forwarder | messages/s | CPU µs/message |\n|---:|---:|---|---:|---:|");
    for qos in 0..=2 {
        for publishers in PUBLISHERS {
            let mut all: Vec<Vec<(f64, f64)>> = vec![Vec::new(); kinds.len()];
            for _ in 0..rounds {
                for (kind, figures) in kinds.iter().zip(&mut all) {
                    figures.push(forward(*kind, qos, publishers, seconds));
                }
            }
            for (kind, figures) in kinds.iter().zip(&all) {
                let rate = median(figures.iter().map(|figure| figure.0));
                let cpu = median(figures.iter().map(|figure| figure.1));
                println!("| {qos} | {publishers} | {kind} | {rate:.0} | {cpu:.2} |");
            }
        }
    }
    println!();
}

/// Messages a second, and microseconds of CPU for each.
fn forward(kind: Kind, qos: u8, publishers: usize, seconds: Duration) -> (f64, f64) {
    let sink = Sink::start(false);
    let forwarder = Forwarder::start(kind, sink.port, qos);
    // Without a link, messages of QoS 0 come to nothing.
    sink.await_link();
    let crowd = Crowd::start(forwarder.port, publishers, qos, sink.counter());
    std::thread::sleep(WARM_UP);
    let (begun, cpu, count) = (Instant::now(), forwarder.cpu(), sink.count());
    std::thread::sleep(seconds);
    let (elapsed, cpu, count) = (begun.elapsed(), forwarder.cpu() - cpu, sink.count() - count);
    drop(crowd);
    (count as f64 / elapsed.as_secs_f64(), cpu.as_secs_f64() * 1e6 / count as f64)
}

fn outages(kinds: &[Kind], length: Duration) {
    println!(
        "{OUTAGE_MESSAGES} messages at QoS 1 over {length:?} of outage, SIGKILL after half of them:\n\n| forwarder | \
         acknowledged | arrived | lost | written MB | seconds until all had come |\n|---|---:|---:|---:|---:|---:|"
    );
    // They are nearly idle: side by side they do not disturb each other.
    let threads: Vec<_> = kinds.iter().map(|&kind| (kind, std::thread::spawn(move || suffer(kind, length)))).collect();
    for (kind, thread) in threads {
        let (acknowledged, arrived, written, took) = thread.join().expect("an outage does not panic");
        println!(
            "| {kind} | {acknowledged} | {arrived} | {} | {:.1} | {:.1} |",
            acknowledged - arrived,
            written as f64 / 1e6,
            took.as_secs_f64()
        );
    }
    println!();
}

/// What was acknowledged, how much of it arrived, bytes written, and how long it took after the sink was back.
fn suffer(kind: Kind, length: Duration) -> (u64, u64, u64, Duration) {
    let mut sink = Sink::start(true);
    let mut forwarder = Forwarder::start(kind, sink.port, 1);
    // The link stands before it breaks.
    sink.await_link();
    sink.go_away();
    let mut publisher = Steady::new(forwarder.port);
    publisher.publish(OUTAGE_MESSAGES, length, || forwarder.kill_and_start_again());
    sink.come_back();
    let back = Instant::now();
    let (mut last, mut since) = (sink.count(), Instant::now());
    while sink.different() < publisher.acknowledged && since.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(20));
        if sink.count() > last {
            (last, since) = (sink.count(), Instant::now());
        }
    }
    (publisher.acknowledged, sink.different(), forwarder.written_bytes(), since.duration_since(back))
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
