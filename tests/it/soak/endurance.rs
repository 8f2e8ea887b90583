//! A thousand clients come, talk and die at random; then nothing of them is left, and nothing promised is missing.

use super::Scale;
use super::ledger::{Published, WILL};
use super::mortal::{Mortal, RETAINED};
use super::observer::Observer;
use super::sys::await_told;
use crate::support::edgeway::Edgeway;
use crate::support::peer::{Peer, message};
use crate::support::random::Random;
use crate::support::vitals::Vitals;
use edgeway::mqtt::QoS;
use edgeway::mqtt::connection::ConnectOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// The observers' queues must hold what comes while they are cut: nothing is dropped here.
const GATEWAY: &str = r#"
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  limits: { connections: 4000, queue: 1000000, queue_bytes: 256MB }
  sys_interval: 1s
log: { level: warn }
"#;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[test]
fn a_crowd_that_comes_and_dies_leaves_nothing_behind() {
    let scale = Scale::from_environment();
    let mut crowd = Crowd::gather("leaks", &scale, 0);
    // What stays for ever comes in the first round: the runtime's and the allocator's own, tables that have grown.
    let before = crowd.round(scale.duration / 4);
    let rounds = if scale.full { 3 } else { 1 };
    let after = (0..rounds).map(|_| crowd.round(scale.duration / 4)).last().expect("there is a round");
    // An allocator gives pages back when nothing on them is in use, and what is left behind by chance differs between
    // two rounds. Something forgotten in every life would be more than that after the thousands of a full run.
    let bound = before.resident_kib + before.resident_kib / 10 + 3072;
    assert!(after.resident_kib <= bound, "{} KiB are left, the bound is {bound}", after.resident_kib);
    crowd.disperse();
}

#[test]
fn what_was_acknowledged_amid_a_dying_crowd_arrives() {
    let scale = Scale::from_environment();
    let mut crowd = Crowd::gather("promises", &scale, 5);
    crowd.round(scale.duration);
    crowd.disperse();
}

/// A gateway, and clients that come in rounds.
struct Crowd {
    edgeway: Edgeway,
    runtime: Runtime,
    /// What the gateway held before anybody came.
    at_start: Vitals,
    clients: usize,
    observers: usize,
    rounds: u32,
}

impl Crowd {
    fn gather(name: &str, scale: &Scale, observers: usize) -> Self {
        let mut edgeway = Edgeway::start(GATEWAY);
        let at_start = Vitals::at_rest(edgeway.peer().id());
        println!("{name}: {} clients, {observers} observers\n  before anybody: {at_start}", scale.clients);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { edgeway, runtime, at_start, clients: scale.clients, observers, rounds: 0 }
    }

    /// Lets clients live and die for `length`; what the gateway holds when all are gone.
    ///
    /// # Panics
    /// When anything promised did not come, or connections are left.
    fn round(&mut self, length: Duration) -> Vitals {
        self.rounds += 1;
        let process = self.edgeway.peer().id();
        let round = Round {
            port: self.edgeway.port,
            process,
            open_files: self.at_start.open_files,
            seed: self.rounds,
            clients: self.clients,
            observers: self.observers,
            length,
        };
        let done = self.runtime.block_on(round.run());
        let after = Vitals::once_closed(process, self.at_start.open_files);
        println!("  round {}: {done}\n    then: {after}", self.rounds);
        assert_eq!((after.open_files, after.threads), (self.at_start.open_files, self.at_start.threads));
        after
    }

    fn disperse(mut self) {
        let (status, told) = self.edgeway.terminate();
        assert!(status.success(), "{status}: {told:#?}");
        assert!(told.iter().all(|line| !line.contains("panicked")), "{told:#?}");
    }
}

struct Round {
    port: u16,
    process: u32,
    /// Open files of the gateway without connections.
    open_files: usize,
    seed: u32,
    clients: usize,
    observers: usize,
    length: Duration,
}

/// What a round did, for people.
#[derive(Debug, Default)]
struct Done {
    lives: u64,
    published: [u64; 3],
    promised: [u64; 4],
    observed: u64,
    repeated: u64,
    cuts_of_observers: u64,
}

impl Round {
    /// Runs clients and observers, and compares what was promised with what came.
    async fn run(self) -> Done {
        let random = |number: usize| Random::new(u64::from(self.seed) << 32 | number as u64);
        let stop = Arc::new(AtomicBool::new(false));
        let lives = Arc::new(AtomicU64::new(0));
        let mut observers = Vec::new();
        for number in 0..self.observers {
            let observer = Observer::new(self.port, number).await;
            observers.push(tokio::spawn(observer.run(random(self.clients + number), Arc::clone(&stop))));
        }
        let until = Instant::now() + self.length;
        let crowd: Vec<_> = (0..self.clients)
            .map(|number| {
                let client = Mortal::new(self.port, number, self.clients, random(number));
                tokio::spawn(client.run(until, Arc::clone(&lives)))
            })
            .collect();
        let mut published = Vec::new();
        let mut faults = Vec::new();
        let mut silent = Vec::new();
        for client in crowd {
            let (client, lost) = client.await.unwrap();
            faults.extend(lost.map(|lost| format!("{}: {lost}", client.peer.options.client_id)));
            silent.extend(client.silent);
            published.push(client.published);
        }
        drop(silent);
        stop.store(true, Ordering::Relaxed);
        self.wind_up().await;
        let mut done = Done { lives: lives.load(Ordering::Relaxed), ..Done::default() };
        for observer in observers {
            let Observer { number, observed, cuts, .. } = observer.await.unwrap();
            faults.extend(observed.against(&published).iter().map(|fault| format!("observer {number}: {fault}")));
            done.observed += observed.messages;
            done.repeated += observed.repeated;
            done.cuts_of_observers += cuts;
        }
        for published in &published {
            done.add(published);
        }
        let first = faults[..faults.len().min(20)].join("\n");
        assert!(faults.is_empty(), "{} faults in {done}, the first:\n{first}", faults.len());
        // Those sessions that are left expire; then there is only who asks.
        let alone =
            [("clients/total", 1), ("clients/connected", 1), ("subscriptions/count", 1), ("messages/inflight", 0)];
        await_told(self.port, &alone).await;
        done
    }

    /// Clears the retained messages, and tells the observers that nothing comes any more.
    async fn wind_up(&self) {
        // A connection is closed after its will was published, so then all wills are before the marker.
        Vitals::once_closed(self.process, self.open_files + self.observers);
        let mut peer = Peer::new(self.port, ConnectOptions::new("last"));
        peer.connect().await.unwrap();
        for number in 0..RETAINED {
            peer.publish(message(&format!("retained/{number}"), b"", QoS::AtLeastOnce, true));
        }
        peer.publish(message("marker", b"", QoS::ExactlyOnce, false));
        peer.settle().await;
        peer.disconnect().await.unwrap();
    }
}

impl Done {
    fn add(&mut self, published: &Published) {
        for (index, qos) in QOS.into_iter().enumerate() {
            self.published[index] += published.count(qos);
        }
        for (sum, promised) in self.promised.iter_mut().zip(&published.promised) {
            *sum += promised.len();
        }
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lives, published, promised, observed, repeated, cuts_of_observers } = self;
        write!(
            f,
            "{lives} lives, {published:?} messages published at QoS 0, 1, 2, of which {:?} acknowledged at 1, 2, {} \
             wills; observers were cut {cuts_of_observers} times and saw {observed}, {repeated} of them again",
            &promised[1..3],
            promised[WILL]
        )
    }
}
