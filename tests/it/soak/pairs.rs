//! Pairs of a publisher and a subscriber that talk at a small steady rate, and how long that takes.

use super::latency::Latencies;
use crate::support::peer::{Happening, Peer, message, subscriber};
use edgeway::mqtt::QoS;
use edgeway::mqtt::connection::ConnectOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::time::{MissedTickBehavior, interval};

const PAIRS: usize = 10;

/// Ten pairs, half of them at QoS 0 and half at QoS 1.
pub struct Pairs {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Latencies>,
}

impl Pairs {
    pub fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        // A thread of their own, so that the time of the other clients is not theirs.
        let thread = std::thread::spawn(move || {
            current_thread().block_on(async {
                let pairs = (0..PAIRS).map(|number| tokio::spawn(pair(port, number, Arc::clone(&stops))));
                let mut latencies = Latencies::default();
                for pair in pairs.collect::<Vec<_>>() {
                    latencies.append(pair.await.unwrap());
                }
                latencies
            })
        });
        Self { stop, thread }
    }

    /// Once all that they published has come.
    pub fn stop(self) -> Latencies {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().sorted()
    }
}

/// Publishes 50 messages a second until told to stop; all of them come, in order.
async fn pair(port: u16, number: usize, stop: Arc<AtomicBool>) -> Latencies {
    let (topic, qos) =
        (format!("pair/{number}"), if number.is_multiple_of(2) { QoS::AtMostOnce } else { QoS::AtLeastOnce });
    let mut subscriber = subscriber(port, &format!("pair-{number}-in"), &topic, qos, None).await;
    let mut publisher = Peer::new(port, ConnectOptions::new(format!("pair-{number}-out")));
    publisher.connect().await.unwrap();
    let origin = Instant::now();
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut latencies = Latencies::default();
    let (mut published, mut received) = (0_u64, 0);
    while !stop.load(Ordering::Relaxed) || received < published {
        tokio::select! {
            _ = ticks.tick(), if !stop.load(Ordering::Relaxed) => {
                let payload = format!("{published} {:<40}", origin.elapsed().as_nanos());
                publisher.publish(message(&topic, payload.as_bytes(), qos, false));
                published += 1;
            }
            happening = publisher.next() => drop(happening.unwrap()),
            happening = subscriber.patient_next() => if let Happening::Message(delivery) = happening {
                let text = std::str::from_utf8(delivery.message.payload()).unwrap();
                let (number, sent) = text.trim_end().split_once(' ').unwrap();
                assert_eq!(number.parse(), Ok(received));
                received += 1;
                latencies.add(origin.elapsed().saturating_sub(Duration::from_nanos(sent.parse().unwrap())));
            }
        }
    }
    latencies
}

pub fn current_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
