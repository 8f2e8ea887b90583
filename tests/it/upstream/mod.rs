//! A scripted upstream: an MQTT server that misbehaves as a test says, and writes down all that came.
//!
//! ```ignore
//! let upstream = Upstream::start([Behaviour::closes().on_version_5(), Behaviour::good()]);
//! let gateway = upstream.gateway("send: [ { from: \"x/#\", qos: 1 } ]");
//! mosquitto_pub(gateway.port, &["-t", "x/y", "-m", "1", "-q", "1"]);
//! upstream.until("the message", |record| record.payloads("x/y") == ["1"]);
//! assert_eq!(upstream.record().versions(), [Version::V5, Version::V3]);
//! ```
//!
//! * **Step by step.** Each connection takes the next [`Behaviour`]; the last of them stays for all that follow.
//!   [`Upstream::obey`] gives others to the connections from then on, [`Upstream::cut`] ends those that stand.
//! * **Behaviours are data** ([`script`]): what CONNECT and SUBSCRIBE are answered, what CONNACK says ([`Terms`]), and
//!   rules: [`When`] something comes, [`Do`] something else than a good server would.
//! * **It acknowledges only what it has recorded**, and is strict: who sends more in flight, larger packets, a higher
//!   QoS, RETAIN or aliases beyond its [`Terms`] gets DISCONNECT, and [`Event::Violation`] is in the record.
//! * **Sessions** live over connections where the client asks for them, until [`Behaviour::forgetful`]: a QoS 2
//!   identifier that is known is a repetition, and is not [`Published::taken`] a second time.
//! * **The record** ([`record`]) has everything in the order in which it came; [`Upstream::until`] waits for it.
//! * [`Upstream::go_away`] and [`Upstream::come_back`] are an outage: connections are refused meanwhile.
//! * [`Upstream::publish`] and [`Upstream::disconnect`] speak on the connection that came last.

#![allow(dead_code, reason = "each test takes the part of the script that it needs")]

mod itself;
mod link;
mod poison;
pub mod record;
pub mod script;
mod serve;
mod terms;

use super::support::PATIENCE;
use super::support::edgeway::Edgeway;
use super::support::ports::free_port;
use super::support::process::wait_until;
use edgeway::mqtt::packet::{Disconnect, Publish, PublishProperties};
use edgeway::mqtt::{Packet, PacketId, QoS, ReasonCode, Version};
pub use record::{Arrival, Entry, Event, Published, Record};
pub use script::{Behaviour, Do, Terms, When};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// The server; it ends when it is dropped.
pub struct Upstream {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What the threads of the connections share with the test.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_away: bool,
    behaviours: VecDeque<Behaviour>,
    record: Record,
    connections: usize,
    /// Those that stand, by their number: what is written to them, and the version they speak, once CONNACK was said.
    standing: HashMap<usize, (Arc<Mutex<TcpStream>>, Option<Version>)>,
    /// QoS 2 identifiers between PUBLISH and PUBREL, by client id, as long as there is a session.
    sessions: HashMap<String, HashSet<PacketId>>,
}

impl Upstream {
    /// Listens on a free port; connections behave in turn as `behaviours` say, the last of them for ever.
    pub fn start(behaviours: impl IntoIterator<Item = Behaviour>) -> Self {
        let mut upstream = Self { port: free_port(), shared: Arc::default(), accepting: None };
        upstream.obey(behaviours);
        upstream.come_back();
        upstream
    }

    /// A gateway `edge` with one bridge `cloud` to it, which has `lines` besides its URL: one key in a line.
    pub fn gateway(&self, lines: &str) -> Edgeway {
        Edgeway::start(&self.configuration(lines))
    }

    /// The configuration of [`Upstream::gateway`].
    pub fn configuration(&self, lines: &str) -> String {
        let mut text = "gateway: { name: edge }\nbroker: { listen: \"mqtt://127.0.0.1:@PORT@\" }\n".to_owned();
        text += &format!("bridges:\n  cloud:\n    url: \"{}\"\n", self.url());
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            text += &format!("    {line}\n");
        }
        text
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Has the connections from now on behave so, in turn, the last of them for ever.
    pub fn obey(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.shared.lock().behaviours = behaviours.into_iter().collect();
    }

    /// Ends all connections without a word.
    pub fn cut(&self) {
        for (stream, _) in self.shared.lock().standing.values() {
            let _ = lock(stream).shutdown(Shutdown::Both);
        }
    }

    /// Ends all connections, and refuses others until [`Upstream::come_back`].
    pub fn go_away(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            self.shared.lock().is_away = true;
            // One more connection, so that the thread looks.
            let _ = TcpStream::connect(("127.0.0.1", self.port));
            accepting.join().expect("the upstream does not panic");
        }
        self.cut();
    }

    /// Takes connections again.
    pub fn come_back(&mut self) {
        assert!(self.accepting.is_none(), "the upstream is there");
        let mut listener = None;
        wait_until("the upstream's port is free", || {
            listener = TcpListener::bind(("127.0.0.1", self.port)).ok();
            listener.is_some()
        });
        let listener = listener.expect("it was bound just now");
        self.shared.lock().is_away = false;
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.lock().is_away {
                    return;
                }
                serve::start(Arc::clone(&shared), stream);
            }
        }));
    }

    /// Publishes to the client that was let in last; whether there is one. QoS 2 is not for this.
    pub fn publish(&self, topic: &str, payload: &str, qos: QoS, retain: bool) -> bool {
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id: (qos != QoS::AtMostOnce).then_some(PacketId::MAX),
            properties: PublishProperties::default(),
            payload: payload.as_bytes(),
        };
        self.say(&Packet::Publish(publish))
    }

    /// Says DISCONNECT to the client that was let in last (5.0), and closes.
    pub fn disconnect(&self, reason: ReasonCode) {
        self.say(&Packet::Disconnect(Disconnect::new(reason)));
        self.cut();
    }

    /// All that came so far.
    pub fn record(&self) -> Record {
        self.shared.lock().record.clone()
    }

    /// Waits until the record is as `condition` says, and gives it.
    ///
    /// # Panics
    /// When it is not within [`PATIENCE`]; the message names `what` and shows the record.
    pub fn until(&self, what: &str, mut condition: impl FnMut(&Record) -> bool) -> Record {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        while !condition(&state.record) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let record = state.record.clone();
                drop(state);
                panic!("the upstream waited without {what}; it has recorded\n{record}");
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.record.clone()
    }

    fn say(&self, packet: &Packet<'_>) -> bool {
        let state = self.shared.lock();
        let welcome =
            state.standing.iter().filter_map(|(number, (stream, version))| Some((number, stream, (*version)?)));
        let Some((_, stream, version)) = welcome.max_by_key(|(number, ..)| **number) else {
            return false;
        };
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        lock(stream).write_all(&bytes).is_ok()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.go_away();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn note(&self, connection: usize, event: Event) {
        self.lock().record.entries.push(Entry { connection, event });
        self.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panics leaves what it waited for as it was.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
