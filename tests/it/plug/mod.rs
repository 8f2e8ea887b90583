//! The plug-pull test (`make plug`; a short form in `make test`): publishers and durable subscribers at QoS 1 and 2
//! around a gateway that is killed by SIGKILL again and again, at random moments, and started on the same store. One
//! of the subscribers is behind a bridge: at a cloud that is never killed.
//!
//! At the end: of what was acknowledged nothing is lost, at QoS 2 nothing came twice, each topic kept its order,
//! nobody had to subscribe again, and the retained values are the newest acknowledged ones or newer. `bridge` has a second
//! course, over links that break.
//!
//! What this cannot show: SIGKILL takes the process, not the pages that the system holds for its files. What reaches a
//! disk before the power goes, and what does not, is the part of the store's own tests over a file system that tears,
//! reorders and forgets what was not synced. What this adds is all that lies above: the real binary, its acknowledgements
//! on real sockets, and its start from real files.
//!
//! `EDGEWAY_PLUG_KILLS` is how often (8; `make plug`: 100), `EDGEWAY_PLUG_SEED` repeats the choices of a run; its timing
//! it does not repeat.

mod bridge;
mod ledger;
mod publisher;
pub mod recorder;
mod retained;
mod subscriber;
mod victim;

pub use self::ledger::Life;
use self::ledger::faults;
use self::publisher::Publisher;
use self::subscriber::Subscriber;
use self::victim::Victim;
use crate::support::mosquitto::{Mosquitto, Options};
use crate::support::peer::{Peer, message};
use crate::support::random::Random;
use edgeway::mqtt::connection::ConnectOptions;
use edgeway::mqtt::{QoS, Version};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const GATEWAY: &str = r#"
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  limits: { queue: 100000000, queue_bytes: 8GB }
storage: { path: "@DIR@/store", limit: 8GB }
log: { level: warn }
bridges:
  cloud:
    url: "mqtt://127.0.0.1:@CLOUD@"
    send:
      - { from: "plug/#", max_qos: 2 }
      - { from: fence, max_qos: 2 }
"#;

/// The topic of the last message of all.
const FENCE: &str = "fence";

/// Where the test is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phase {
    /// The life of the gateway that is running, or was killed last.
    pub life: Life,
    /// Whether it is the last, in which everything is finished.
    pub is_ending: bool,
}

/// A gateway, and the cloud that it has a bridge to.
struct Course {
    victim: Victim,
    cloud: Mosquitto,
}

#[test]
fn what_was_acknowledged_outlives_a_kill_at_any_moment() {
    let (kills, seed) = kills_and_seed("plug", 8);
    let begun = Instant::now();
    let cloud = Mosquitto::start_with(&Options {
        quiet: true,
        lines: vec!["max_queued_messages 0".into()],
        ..Options::default()
    });
    let configuration = GATEWAY.replace("@CLOUD@", &cloud.port.to_string());
    let mut course = Course { victim: Victim::start(&configuration, seed, watch::Sender::default()), cloud };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    match runtime.block_on(course.run(seed, kills)) {
        Ok(told) => println!("plug: {told} in {:.1?}", begun.elapsed()),
        Err(faults) => complain(seed, kills, &faults, &course.victim),
    }
}

/// How often it is killed, and the seed of all choices.
fn kills_and_seed(name: &str, kills: u64) -> (Life, u64) {
    let kills = number("EDGEWAY_PLUG_KILLS").unwrap_or(kills) as Life;
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 % 1_000_000;
    let seed = number("EDGEWAY_PLUG_SEED").unwrap_or_else(by_clock);
    println!("{name}: {kills} kills, EDGEWAY_PLUG_SEED={seed}");
    (kills, seed)
}

fn complain(seed: u64, kills: Life, faults: &[String], victim: &Victim) -> ! {
    panic!(
        "EDGEWAY_PLUG_SEED={seed}, {kills} kills: {} faults, the first:\n{}\nthe gateway's warnings:\n{}",
        faults.len(),
        faults[..faults.len().min(20)].join("\n"),
        victim.warnings.join("\n")
    );
}

impl Course {
    async fn run(&mut self, seed: u64, kills: Life) -> Result<String, Vec<String>> {
        let mut next_seed = seed;
        let mut random = || {
            next_seed = next_seed.wrapping_add(1 << 32);
            Random::new(next_seed)
        };
        let mut subscribers = self.subscribers(&mut random).await;
        let publishers = self.publishers(&mut random).await;
        let streams: Vec<_> = publishers.iter().flat_map(|publisher| publisher.streams.clone()).collect();
        for stream in &streams {
            subscribers.iter_mut().for_each(|subscriber| subscriber.expect(stream));
        }
        let retained = streams.iter().filter(|stream| stream.retain).cloned().collect();
        let inspector =
            tokio::spawn(retained::inspect(self.victim.edgeway.port, retained, self.victim.phase.subscribe()));
        let publishers: Vec<_> = publishers.into_iter().map(|publisher| tokio::spawn(publisher.run())).collect();
        let subscribers: Vec<_> = subscribers.into_iter().map(|subscriber| tokio::spawn(subscriber.run())).collect();

        let is_over = || {
            publishers.iter().any(JoinHandle::is_finished)
                || subscribers.iter().any(JoinHandle::is_finished)
                || inspector.is_finished()
        };
        self.victim.live_and_die(kills, is_over).await;
        self.judge(publishers, subscribers, inspector).await
    }

    async fn judge(
        &mut self,
        publishers: Vec<JoinHandle<Result<Publisher, String>>>,
        subscribers: Vec<JoinHandle<Result<Subscriber, String>>>,
        inspector: JoinHandle<Result<u64, String>>,
    ) -> Result<String, Vec<String>> {
        let mut broken = Vec::new();
        let publishers = finished(publishers, "publisher", &mut broken).await;
        if broken.is_empty() {
            fence(self.victim.edgeway.port).await;
        } else {
            // Without all that they were to publish there is nothing to wait for.
            subscribers.iter().for_each(JoinHandle::abort);
        }
        let subscribers = finished(subscribers, "subscriber", &mut broken).await;
        let inspections = finished(vec![inspector], "retained", &mut broken).await.pop().unwrap_or_default();
        let mut acknowledged = 0;
        let mut arrived = 0;
        for publisher in &publishers {
            for (stream, promised) in publisher.streams.iter().zip(&publisher.acknowledged) {
                acknowledged += promised.len();
                for subscriber in &subscribers {
                    let came = subscriber.arrived.get(&stream.topic).map_or(&[][..], Vec::as_slice);
                    let qos = stream.qos.min(subscriber.qos);
                    let name = format!("{} of {}", subscriber.peer.options.client_id, stream.topic);
                    let found = faults(qos, stream.sent(), promised, came);
                    broken.extend(found.iter().map(|fault| format!("{name} at QoS {qos}: {fault}")));
                    arrived += came.len();
                }
            }
        }
        let connections = publishers.iter().map(|publisher| publisher.connections).sum::<u64>()
            + subscribers.iter().map(|subscriber| subscriber.connections).sum::<u64>();
        if broken.is_empty() {
            self.victim.edgeway.terminate();
            self.victim.edgeway.start_again();
            fence(self.victim.edgeway.port).await;
            for subscriber in subscribers {
                let name = subscriber.peer.options.client_id.clone();
                broken.extend(subscriber.finds_nothing_again().await.err().map(|why| format!("{name}: {why}")));
            }
        }
        self.victim.keep_warnings();
        if !broken.is_empty() {
            return Err(broken);
        }
        Ok(format!(
            "{acknowledged} messages acknowledged, {arrived} deliveries over {connections} connections, retained \
             values asked for {inspections} times"
        ))
    }

    /// Durable, at both QoS and versions; two of them are mostly away, one is at the cloud.
    async fn subscribers(&self, random: &mut impl FnMut() -> Random) -> Vec<Subscriber> {
        let here = self.victim.edgeway.port;
        let mut subscribers = Vec::new();
        for (name, port, qos, version, stays_away) in [
            ("steady-1", here, QoS::AtLeastOnce, Version::V3, 0),
            ("steady-2", here, QoS::ExactlyOnce, Version::V5, 0),
            ("away-1", here, QoS::AtLeastOnce, Version::V5, 5),
            ("away-2", here, QoS::ExactlyOnce, Version::V3, 4),
            ("at-the-cloud", self.cloud.port, QoS::ExactlyOnce, Version::V5, 0),
        ] {
            let phase = self.victim.phase.subscribe();
            subscribers.push(Subscriber::start(port, durable(name, version), qos, stays_away, random(), phase).await);
        }
        subscribers
    }

    async fn publishers(&self, random: &mut impl FnMut() -> Random) -> Vec<Publisher> {
        let mut publishers = Vec::new();
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for version in [Version::V3, Version::V5] {
                let options = durable(&format!("publisher-{qos}-{version:?}"), version);
                let phase = self.victim.phase.subscribe();
                publishers.push(Publisher::start(self.victim.edgeway.port, options, qos, random(), phase).await);
            }
        }
        publishers
    }
}

/// What the tasks gave, and what was wrong with the others.
async fn finished<T>(tasks: Vec<JoinHandle<Result<T, String>>>, what: &str, broken: &mut Vec<String>) -> Vec<T> {
    let mut finished = Vec::new();
    for (number, task) in tasks.into_iter().enumerate() {
        match task.await {
            Ok(Ok(done)) => finished.push(done),
            Ok(Err(why)) => broken.push(format!("{what} {number}: {why}")),
            Err(error) if error.is_cancelled() => {}
            Err(error) => broken.push(format!("{what} {number}: {error}")),
        }
    }
    finished
}

/// Publishes what comes after everything else.
async fn fence(port: u16) {
    let mut peer = Peer::new(port, ConnectOptions::new("fence"));
    peer.connect().await.unwrap();
    peer.publish(message(FENCE, b"", QoS::ExactlyOnce, false));
    peer.settle().await;
    peer.disconnect().await.unwrap();
}

/// Connects again until it succeeds, to find the session.
async fn reconnect(peer: &mut Peer, phase: &watch::Receiver<Phase>) -> Result<(), String> {
    let mut refusals_at_the_end = 0;
    loop {
        let life = phase.borrow().life;
        match peer.connect().await {
            Ok(connected) if connected.session_present => return Ok(()),
            Ok(_) => return Err(format!("the session is gone in life {life}")),
            Err(lost) => {
                peer.cut();
                if phase.borrow().is_ending {
                    refusals_at_the_end += 1;
                    if refusals_at_the_end > 20 {
                        return Err(format!("no connection in the last life: {lost}"));
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

fn durable(name: &str, version: Version) -> ConnectOptions {
    let mut options = ConnectOptions::new(name);
    options.version = version;
    options.clean_start = false;
    options.session_expiry_interval = 24 * 3600;
    options
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}
