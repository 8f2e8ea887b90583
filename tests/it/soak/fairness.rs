//! A subscriber that stops reading and a publisher that floods harm nobody else, and memory stays bounded.

use super::Scale;
use super::flood::Flood;
use super::pairs::Pairs;
use crate::support::edgeway::Edgeway;
use crate::support::peer::{Happening, Peer, message, subscriber};
use crate::support::vitals::Vitals;
use edgeway::mqtt::connection::ConnectOptions;
use edgeway::mqtt::{Message, QoS};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const QUEUE_KIB: u64 = 1024;
const GATEWAY: &str = r#"
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  limits: { queue: 1000000, queue_bytes: 1MB }
log: { level: warn }
"#;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const TOPICS: u32 = 9;
/// The publisher goes no further than this ahead of the readers: below what a queue holds, so that nothing is dropped
/// for those who read, however little of the processor they get.
const AHEAD: u32 = 500;

#[test]
fn one_who_sleeps_and_one_who_floods_harm_nobody_else() {
    let scale = Scale::from_environment();
    let mut edgeway = Edgeway::start(GATEWAY);
    let (port, process) = (edgeway.port, edgeway.peer().id());
    let before = Vitals::at_rest(process);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sleepers: Vec<Peer> = runtime.block_on(async {
        let mut sleepers = Vec::new();
        for qos in QOS {
            sleepers.push(subscriber(port, &format!("sleeper-{qos}"), "news/#", qos, Some(8192)).await);
        }
        sleepers
    });
    let flood = Flood::start(port);
    let pairs = Pairs::start(port);
    let begun = Instant::now();
    runtime.block_on(spread_the_news(port, scale.messages));
    let elapsed = begun.elapsed();
    if scale.full {
        // The others in a flood for longer than that takes.
        std::thread::sleep((scale.duration / 4).saturating_sub(elapsed));
    }
    let flooding = begun.elapsed();
    let latencies = pairs.stop();
    let flooded = flood.stop();
    let after = Vitals::of(process);
    let grown = after.peak_kib - before.resident_kib;
    println!(
        "fairness: {} messages of 1 kB at QoS 0, 1, 2 to three readers past three sleepers in {elapsed:.1?}, beside {} \
         messages a second of flood\n  pairs: {latencies}\n  memory: {grown} KiB more at most; {after}",
        scale.messages,
        (flooded as f64 / flooding.as_secs_f64()) as u64
    );
    // A full queue for each sleeper with its entries and the allocator's loss, for the reader of the flood too, where an
    // entry is as large as its message; for them and the readers 256 KiB in a buffer that doubles as it grows.
    let queues = sleepers.len() as u64 * QUEUE_KIB * 3 / 2 + QUEUE_KIB * 3;
    let buffers = (sleepers.len() as u64 + 4) * 512;
    let bound = queues + buffers + 4096;
    assert!(grown <= bound, "memory grew by {grown} KiB, the bound is {bound}");
    if scale.full {
        let p99 = latencies.percentile(99.0);
        assert!(p99 < Duration::from_millis(100), "p99 of the others is {p99:?}");
    }
    runtime.block_on(async {
        for sleeper in sleepers {
            wake(sleeper, scale.messages).await;
        }
    });
}

/// Number of the message, in the payload of 1 kB; its topic and QoS follow from it.
fn news(number: u32) -> Message {
    let payload = format!("{number:<1000}");
    message(&format!("news/{}", number % TOPICS), payload.as_bytes(), QOS[(number % 3) as usize], false)
}

fn number_of(message: &Message) -> u32 {
    std::str::from_utf8(message.payload()).unwrap().trim_end().parse().unwrap()
}

/// Publishes all messages, while one reader for each QoS takes all of them, each topic in its order.
async fn spread_the_news(port: u16, count: u32) {
    let progress: Arc<[AtomicU32; 3]> = Arc::default();
    let progressed = Arc::new(Notify::new());
    let mut readers = Vec::new();
    for (index, qos) in QOS.into_iter().enumerate() {
        let mut peer = subscriber(port, &format!("reader-{qos}"), "news/#", qos, None).await;
        let (progress, progressed) = (Arc::clone(&progress), Arc::clone(&progressed));
        readers.push(tokio::spawn(async move {
            let mut next: [u32; TOPICS as usize] = std::array::from_fn(|topic| topic as u32);
            for received in 1..=count {
                let message = loop {
                    if let Happening::Message(delivery) = peer.patient_next().await {
                        break delivery.message;
                    }
                };
                let number = number_of(&message);
                let expected = &mut next[(number % TOPICS) as usize];
                assert_eq!(number, *expected, "the reader of QoS {qos} on {}", message.topic());
                *expected += TOPICS;
                progress[index].store(received, Ordering::Relaxed);
                progressed.notify_one();
            }
            peer.settle().await;
        }));
    }
    let mut publisher = Peer::new(port, ConnectOptions::new("publisher"));
    publisher.connect().await.unwrap();
    for number in 0..count {
        publisher.publish(news(number));
        loop {
            let slowest = progress.iter().map(|count| count.load(Ordering::Relaxed)).min().unwrap_or(0);
            if publisher.unwritten() < 16 * 1024 && publisher.unsettled() < 100 && number - slowest.min(number) < AHEAD
            {
                break;
            }
            tokio::select! {
                biased;
                happening = publisher.next() => drop(happening.unwrap()),
                () = progressed.notified() => {}
            }
            if readers.iter().any(tokio::task::JoinHandle::is_finished) {
                break;
            }
        }
    }
    publisher.settle().await;
    for reader in readers {
        reader.await.unwrap();
    }
}

/// A sleeper reads on: what was dropped was the oldest, and the rest comes in order to the newest.
async fn wake(mut sleeper: Peer, count: u32) {
    let mut newest = [None; TOPICS as usize];
    let mut received = 0;
    while !(count - TOPICS..count).all(|number| newest[(number % TOPICS) as usize] == Some(number)) {
        if let Happening::Message(delivery) = sleeper.patient_next().await {
            let number = number_of(&delivery.message);
            let newest = &mut newest[(number % TOPICS) as usize];
            assert!(newest.is_none_or(|newest| number > newest), "{number} after {newest:?}");
            *newest = Some(number);
            received += 1;
        }
    }
    println!("  {} wakes, and gets {received} of {count}, the newest last", sleeper.options.client_id);
}
