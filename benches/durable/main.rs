//! What acknowledged messages cost: durable QoS 1 against the binary, and against Debian's mosquitto with persistence.
//!
//! `make durable` prints Markdown. Publishers write messages of 200 bytes, each to a topic of its own with at most 20
//! unacknowledged; each topic has a durable subscriber that is connected and acknowledges what comes, so that every
//! message is one that the broker has to keep. The broker runs on core 0, this process on core 1, where `taskset` is
//! there; the stores are under `target/`, on whichever disk that is.
//!
//! | figure | where it comes from |
//! |---|---|
//! | acknowledged/s, p50, p99 | PUBLISH handed to the socket until its PUBACK is read |
//! | CPU µs | user and system time of the broker's process, for each acknowledged message with its delivery |
//! | device bytes | what the disk under the store was written, for each payload byte, less what it was written in the second before; the file system's own journal is in it, and what others do meanwhile |
//!
//! `write_bytes` of `/proc/PID/io` is no measure: it counts what the page cache holds together, up to hundreds of
//! kilobytes for a commit of one page. The time that the kernel spends in threads of its own is in no figure.
//!
//! `EDGEWAY_DURABLE_SECONDS` (5) is the length of each run, `EDGEWAY_DURABLE_ROUNDS` (3) how often each is made, the
//! brokers in turn; what is printed are medians.

mod broker;
mod load;
#[path = "../common/process.rs"]
mod process;

use self::broker::{Broker, Kind, Usage};
use self::load::{Load, Outcome};
use self::process::number;
use std::process::ExitCode;
use std::time::Duration;

const PUBLISHERS: [usize; 4] = [1, 16, 64, 256];
/// Messages that a publisher has unacknowledged at most.
const WINDOW: usize = 20;
const PAYLOAD_BYTES: usize = 200;
/// Of the paced run: publishers, and messages a second by all of them.
const PACED: (usize, u32) = (16, 1000);
/// In which one sees what others write.
const QUIET: Duration = Duration::from_secs(1);
/// Messages of the lone publisher, one by one.
const LONE: usize = 40;

/// One run.
struct Figures {
    outcome: Outcome,
    cpu: Duration,
    /// `None` where the system does not tell.
    device_bytes: Option<f64>,
}

fn main() -> ExitCode {
    let seconds = Duration::from_secs(number("EDGEWAY_DURABLE_SECONDS", 5));
    let rounds = number("EDGEWAY_DURABLE_ROUNDS", 3);
    let is_pinned = process::pin_ourselves();
    let mut brokers = vec![Kind::Edgeway];
    match process::mosquitto() {
        Some(_) => brokers.push(Kind::Mosquitto),
        None => println!("mosquitto is not there (`make peers`): edgeway alone\n"),
    }
    println!(
        "QoS 1, {PAYLOAD_BYTES} bytes, window {WINDOW}, a durable subscriber for each publisher; {seconds:?}, median of \
         {rounds}; {}\n",
        if is_pinned { "broker on core 0, load on core 1" } else { "not pinned: taskset is not there" }
    );
    let all = [full_speed(&brokers, seconds, rounds), paced(&brokers, seconds * 2, rounds), lone(&brokers, rounds)];
    if brokers.contains(&Kind::Mosquitto) {
        println!(
            "mosquitto: `persistence true` with its defaults, `autosave_interval 1800` and `autosave_on_changes false`: \
             it acknowledges before it writes, and writes all of its memory every half an hour and at its end."
        );
    }
    let faults: Vec<String> = all.into_iter().flatten().collect();
    faults.iter().for_each(|fault| println!("FAULT: {fault}"));
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// As fast as the window allows.
fn full_speed(brokers: &[Kind], seconds: Duration, rounds: u64) -> Vec<String> {
    let mut faults = Vec::new();
    println!(
        "| publishers | broker | acknowledged/s | CPU µs/message | p50 ms | p99 ms | device bytes per payload byte |"
    );
    println!("|---:|---|---:|---:|---:|---:|---:|");
    for publishers in PUBLISHERS {
        let load = Load { publishers, window: WINDOW, payload_bytes: PAYLOAD_BYTES, pace: None };
        for (broker, figures) in in_turn(brokers, rounds, |broker| run(broker, &load, seconds, &mut faults)) {
            println!(
                "| {publishers} | {broker} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
                median(&figures, |figures| figures.outcome.acknowledged as f64 / figures.outcome.length.as_secs_f64()),
                median(&figures, |figures| figures.cpu.as_secs_f64() * 1e6 / figures.outcome.acknowledged as f64),
                median(&figures, |figures| figures.outcome.percentile_ms(50.0)),
                median(&figures, |figures| figures.outcome.percentile_ms(99.0)),
                median(&figures, Figures::bytes_per_payload_byte),
            );
        }
    }
    println!();
    faults
}

/// At a steady rate, whatever the acknowledgements do up to the window.
fn paced(brokers: &[Kind], seconds: Duration, rounds: u64) -> Vec<String> {
    let mut faults = Vec::new();
    let (publishers, rate) = PACED;
    println!("{rate} messages a second by {publishers} publishers together, for {seconds:?}:\n");
    println!("| broker | acknowledged/s | CPU µs/message | p50 ms | p99 ms | device bytes per payload byte |");
    println!("|---|---:|---:|---:|---:|---:|");
    let pace = Some(Duration::from_secs(1) * publishers as u32 / rate);
    let load = Load { publishers, window: WINDOW, payload_bytes: PAYLOAD_BYTES, pace };
    for (broker, figures) in in_turn(brokers, rounds, |broker| run(broker, &load, seconds, &mut faults)) {
        println!(
            "| {broker} | {:.0} | {:.1} | {:.2} | {:.2} | {:.2} |",
            median(&figures, |figures| figures.outcome.acknowledged as f64 / figures.outcome.length.as_secs_f64()),
            median(&figures, |figures| figures.cpu.as_secs_f64() * 1e6 / figures.outcome.acknowledged as f64),
            median(&figures, |figures| figures.outcome.percentile_ms(50.0)),
            median(&figures, |figures| figures.outcome.percentile_ms(99.0)),
            median(&figures, Figures::bytes_per_payload_byte),
        );
    }
    println!();
    faults
}

/// One message after the other, each when the one before is acknowledged, after a quiet time.
fn lone(brokers: &[Kind], rounds: u64) -> Vec<String> {
    println!("{LONE} messages one by one after two quiet seconds:\n");
    println!("| broker | all of them ms |");
    println!("|---|---:|");
    for (broker, times) in in_turn(brokers, rounds, |broker| load::one_by_one(broker.port, LONE, PAYLOAD_BYTES)) {
        println!("| {broker} | {:.1} |", median(&times, |time| time.as_secs_f64() * 1e3));
    }
    println!();
    Vec::new()
}

fn run(broker: &Broker, load: &Load, seconds: Duration, faults: &mut Vec<String>) -> Figures {
    // What the runs before have left for later must not be taken for what others write.
    let _ = std::process::Command::new("sync").status();
    let quiet = broker.usage();
    std::thread::sleep(QUIET);
    let others = rate(quiet, broker.usage());
    let (outcome, [before, after]) = load::run(broker.port, load, seconds, || broker.usage());
    let run = format!("{} publishers against {}", load.publishers, broker.kind);
    faults.extend(outcome.faults.iter().map(|fault| format!("{run}: {fault}")));
    let own = rate(before, after).zip(others).map(|(all, others)| (all - others).max(0.0));
    let device_bytes = own.map(|rate| rate * outcome.length.as_secs_f64());
    Figures { outcome, cpu: after.cpu - before.cpu, device_bytes }
}

/// Bytes a second that the disk was written.
fn rate(before: Usage, after: Usage) -> Option<f64> {
    let bytes = after.device_bytes?.checked_sub(before.device_bytes?)?;
    Some(bytes as f64 / after.at.duration_since(before.at).as_secs_f64())
}

/// Each broker fresh for each run, one after the other in each round.
fn in_turn<T>(brokers: &[Kind], rounds: u64, mut run: impl FnMut(&Broker) -> T) -> Vec<(Kind, Vec<T>)> {
    let mut all: Vec<_> = brokers.iter().map(|&broker| (broker, Vec::new())).collect();
    for _ in 0..rounds {
        for (kind, figures) in &mut all {
            let broker = Broker::start(*kind);
            figures.push(run(&broker));
        }
    }
    all
}

impl Figures {
    fn bytes_per_payload_byte(&self) -> f64 {
        self.device_bytes.unwrap_or(f64::NAN) / (self.outcome.acknowledged as f64 * PAYLOAD_BYTES as f64)
    }
}

fn median<T>(all: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut figures: Vec<f64> = all.iter().map(figure).collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
