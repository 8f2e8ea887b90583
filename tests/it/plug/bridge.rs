//! The second course: two bridges, of 5.0 and of 3.1.1, to a cloud that records, over links that are cut and swallow
//! everything at random, while the gateway is killed.
//!
//! At the end, for each bridge: of what the gateway acknowledged nothing is lost, at QoS 2 nothing was taken twice, and
//! each topic kept its order.

use super::ledger::{Noted, faults};
use super::publisher::Publisher;
use super::recorder::Recorder;
use super::victim::Victim;
use super::{FENCE, Life, Phase, complain, durable, fence, finished, kills_and_seed};
use crate::support::gate::Gate;
use crate::support::random::Random;
use edgeway::mqtt::{QoS, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const GATEWAY: &str = r#"
gateway: { name: edge }
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  limits: { queue: 100000000, queue_bytes: 8GB }
storage: { path: "@DIR@/store", limit: 8GB }
log: { level: warn }
bridges:
  new:
    url: "mqtt://127.0.0.1:@NEW@"
    keep_alive: 1s
    send: [ { from: "plug/once/#", qos: 2 }, { from: "plug/often/#", qos: 1 }, { from: fence, qos: 2 } ]
  old:
    url: "mqtt://127.0.0.1:@OLD@"
    mqtt: 3.1.1
    keep_alive: 1s
    send: [ { from: "plug/once/#", qos: 2 }, { from: "plug/often/#", qos: 1 }, { from: fence, qos: 2 } ]
"#;

/// The bridges' client ids.
const BRIDGES: [&str; 2] = ["edge-new", "edge-old"];

/// A link that returns after a long outage is used within 15 seconds; then all that waits has to pass.
const LONGEST_DRAIN: Duration = Duration::from_secs(90);

#[test]
fn what_a_bridge_carries_outlives_kills_and_broken_links() {
    let (kills, seed) = kills_and_seed("plug over bridges", 6);
    let begun = Instant::now();
    let phase = watch::Sender::<Phase>::default();
    let recorder = Recorder::start(seed, phase.subscribe());
    let gates = BRIDGES.map(|_| Gate::open(recorder.port));
    let ports = gates.each_ref().map(|gate| gate.port.to_string());
    let configuration = GATEWAY.replace("@NEW@", &ports[0]).replace("@OLD@", &ports[1]);
    let mut victim = Victim::start(&configuration, seed, phase);
    let vandals = gates.into_iter().zip(1..).map(|(gate, number)| Vandal::start(gate, seed ^ number << 20)).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    match runtime.block_on(run(&mut victim, &recorder, vandals, seed, kills)) {
        Ok(told) => println!("plug over bridges: {told} in {:.1?}", begun.elapsed()),
        Err(faults) => complain(seed, kills, &faults, &victim),
    }
}

async fn run(
    victim: &mut Victim,
    recorder: &Recorder,
    vandals: Vec<Vandal>,
    seed: u64,
    kills: Life,
) -> Result<String, Vec<String>> {
    let mut publishers = Vec::new();
    for (number, (name, qos)) in [("once", QoS::ExactlyOnce), ("often", QoS::AtLeastOnce)].into_iter().enumerate() {
        for version in [Version::V3, Version::V5] {
            let options = durable(&format!("{name}/{version:?}"), version);
            let random = Random::new(seed.wrapping_add((publishers.len() as u64 + number as u64 + 1) << 32));
            let phase = victim.phase.subscribe();
            publishers.push(Publisher::start(victim.edgeway.port, options, qos, random, phase).await);
        }
    }
    let publishers: Vec<_> = publishers.into_iter().map(|publisher| tokio::spawn(publisher.run())).collect();
    victim.live_and_die(kills, || publishers.iter().any(tokio::task::JoinHandle::is_finished)).await;
    let (mut cuts, mut silences) = (0, 0);
    // The gates stay open from here on.
    let gates: Vec<Gate> = vandals
        .into_iter()
        .map(|vandal| {
            let (gate, did) = vandal.stop();
            (cuts, silences) = (cuts + did.0, silences + did.1);
            gate
        })
        .collect();
    let mut broken = Vec::new();
    let publishers = finished(publishers, "publisher", &mut broken).await;
    fence(victim.edgeway.port).await;
    if !recorder.has(FENCE, 1, &BRIDGES, LONGEST_DRAIN).await {
        broken.push("the fence did not come over both bridges".to_owned());
    }
    let taken = recorder.taken();
    let mut acknowledged = 0;
    for stream_of in &publishers {
        for (stream, promised) in stream_of.streams.iter().zip(&stream_of.acknowledged) {
            acknowledged += promised.len();
            for client in BRIDGES {
                let of_stream = taken.iter().filter(|taken| taken.client_id == client && taken.topic == stream.topic);
                let mut came = Vec::new();
                for taken in of_stream {
                    match stream.number_in(&taken.payload) {
                        Some(number) => came.push(Noted { number, life: taken.life }),
                        None => broken.push(format!("{client}: nobody published {taken:?}")),
                    }
                }
                let found = faults(stream.qos, stream.sent(), promised, &came);
                broken.extend(found.iter().map(|fault| format!("{client}, {}: {fault}", stream.topic)));
            }
        }
    }
    if broken.is_empty() {
        // All was acknowledged: after an end in order nothing comes again.
        victim.edgeway.terminate();
        victim.edgeway.start_again();
        fence(victim.edgeway.port).await;
        if !recorder.has(FENCE, 2, &BRIDGES, LONGEST_DRAIN).await {
            broken.push("the second fence did not come over both bridges".to_owned());
        }
        let again = recorder.taken().split_off(taken.len());
        let again = again.iter().filter(|taken| taken.topic.starts_with("plug/")).count();
        if again > 0 {
            broken.push(format!("{again} messages came again after they had been acknowledged"));
        }
    }
    drop(gates);
    victim.keep_warnings();
    broken.extend(recorder.faults());
    if !broken.is_empty() {
        return Err(broken);
    }
    let (connections, repeated, unmarked) = recorder.counts();
    Ok(format!(
        "{acknowledged} messages acknowledged, {} taken over {connections} connections, {repeated} of QoS 2 repeated \
         and known ({unmarked} without DUP), {cuts} cuts, {silences} silences",
        taken.len()
    ))
}

/// Somebody who cuts a link and has it swallow everything at random.
struct Vandal {
    stop: Arc<AtomicBool>,
    /// Gives the gate, open, and how often it was cut and silent.
    thread: JoinHandle<(Gate, (u32, u32))>,
}

impl Vandal {
    fn start(mut gate: Gate, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut random = Random::new(seed);
            let mut sleep = |longest: u64| std::thread::sleep(Duration::from_millis(random.below(longest)));
            let (mut cuts, mut silences) = (0, 0);
            while !stops.load(Ordering::Relaxed) {
                sleep(1000);
                if (cuts + silences) % 3 < 2 {
                    cuts += 1;
                    gate.shut();
                    sleep(300);
                    gate.open_again();
                } else {
                    silences += 1;
                    gate.fall_silent();
                    // At times longer than one and a half keep alives.
                    sleep(3000);
                    gate.speak();
                }
            }
            (gate, (cuts, silences))
        });
        Self { stop, thread }
    }

    fn stop(self) -> (Gate, (u32, u32)) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a vandal does not panic")
    }
}
