//! The load: publishers and subscribers as small as they can be, all on one thread, with packets made by hand.

use super::broker::Usage;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Before a run counts.
const WARM_UP: Duration = Duration::from_secs(1);
/// Whoever waits for longer than this waits in vain.
const PATIENCE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(2);

/// What is asked of the broker.
pub struct Load {
    pub publishers: usize,
    /// Messages of each that are not acknowledged, at most.
    pub window: usize,
    pub payload_bytes: usize,
    /// Time between two messages of a publisher; `None` is as fast as the window allows.
    pub pace: Option<Duration>,
}

/// What came of it.
pub struct Outcome {
    /// Messages whose acknowledgement came within `length`.
    pub acknowledged: u64,
    pub length: Duration,
    /// Microseconds, in order.
    latencies: Vec<u32>,
    /// What a broker must not do.
    pub faults: Vec<String>,
}

/// What the publishers and subscribers share.
#[derive(Default)]
struct Shared {
    is_counting: Cell<bool>,
    is_over: Cell<bool>,
    acknowledged: Cell<u64>,
    latencies: RefCell<Vec<u32>>,
    /// Messages of each publisher that were acknowledged, and that its subscriber got.
    published: RefCell<Vec<u64>>,
    delivered: RefCell<Vec<u64>>,
    faults: RefCell<Vec<String>>,
}

impl Outcome {
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        let index = (self.latencies.len() as f64 * percent / 100.0) as usize;
        self.latencies.get(index.min(self.latencies.len().saturating_sub(1))).map_or(0.0, |&us| f64::from(us) / 1e3)
    }
}

/// Runs it for so long; what the broker used meanwhile is the difference between two answers of `usage`.
pub fn run(port: u16, load: &Load, length: Duration, usage: impl Fn() -> Usage) -> (Outcome, Usage) {
    local(async {
        let shared = Rc::<Shared>::default();
        shared.published.borrow_mut().resize(load.publishers, 0);
        shared.delivered.borrow_mut().resize(load.publishers, 0);
        for number in 0..load.publishers {
            let subscriber = Subscriber::start(port, number).await;
            tokio::task::spawn_local(subscriber.run(Rc::clone(&shared)));
        }
        let mut publishers = Vec::new();
        for number in 0..load.publishers {
            let publisher = Publisher::start(port, number, load).await;
            publishers.push(tokio::task::spawn_local(publisher.run(load.window, load.pace, Rc::clone(&shared))));
        }
        tokio::time::sleep(WARM_UP).await;
        let (before, begun) = (usage(), Instant::now());
        shared.is_counting.set(true);
        tokio::time::sleep(length).await;
        shared.is_counting.set(false);
        let (after, length) = (usage(), begun.elapsed());
        shared.is_over.set(true);
        for publisher in publishers {
            let ended = tokio::time::timeout(PATIENCE, publisher).await;
            ended.expect("the broker acknowledges").expect("a publisher does not panic");
        }
        let deadline = Instant::now() + PATIENCE;
        while *shared.delivered.borrow() < *shared.published.borrow() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (published, delivered) = (shared.published.borrow().clone(), shared.delivered.borrow().clone());
        if published != delivered {
            let sums = (published.iter().sum::<u64>(), delivered.iter().sum::<u64>());
            shared.faults.borrow_mut().push(format!("{} acknowledged, {} delivered", sums.0, sums.1));
        }
        let mut latencies = shared.latencies.take();
        latencies.sort_unstable();
        let faults = shared.faults.take();
        let outcome = Outcome { acknowledged: shared.acknowledged.get(), length, latencies, faults };
        (outcome, after.since(before))
    })
}

/// How long so many messages take of a publisher that waits for each acknowledgement, after a quiet time.
pub fn one_by_one(port: u16, count: usize, payload_bytes: usize) -> Duration {
    local(async {
        let shared = Rc::<Shared>::default();
        shared.delivered.borrow_mut().push(0);
        tokio::task::spawn_local(Subscriber::start(port, 0).await.run(Rc::clone(&shared)));
        let load = Load { publishers: 1, window: 1, payload_bytes, pace: None };
        let mut publisher = Publisher::start(port, 0, &load).await;
        tokio::time::sleep(QUIET).await;
        let begun = Instant::now();
        for _ in 0..count {
            publisher.encode();
            publisher.link.flush().await;
            while !publisher.under_way.is_empty() {
                publisher.link.read().await;
                publisher.take_acknowledgements(&shared);
            }
        }
        begun.elapsed()
    })
}

fn local<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    LocalSet::new().block_on(&runtime, future)
}

/// A connection and what is read and to be written.
struct Link {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Link {
    /// Connected; `is_clean` false is a durable session.
    async fn open(port: u16, client_id: &str, is_clean: bool) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the broker listens");
        stream.set_nodelay(true).expect("a socket takes it");
        let mut link = Self { stream, input: Vec::with_capacity(64 * 1024), output: Vec::with_capacity(64 * 1024) };
        link.output.extend_from_slice(&[0x10, 12 + client_id.len() as u8, 0, 4]);
        link.output.extend_from_slice(b"MQTT\x04");
        link.output.extend_from_slice(&[u8::from(is_clean) << 1, 0, 0, 0, client_id.len() as u8]);
        link.output.extend_from_slice(client_id.as_bytes());
        link.flush().await;
        let connack = link.answer().await;
        assert_eq!(connack[..2], [0x20, 2], "no CONNACK: {connack:?}");
        assert_eq!(connack[3], 0, "refused");
        link
    }

    /// The first packet that comes.
    async fn answer(&mut self) -> Vec<u8> {
        loop {
            if let Some((_, length)) = packet(&self.input) {
                return self.input.drain(..length).collect();
            }
            self.read().await;
        }
    }

    /// Waits for bytes.
    async fn read(&mut self) {
        let count = self.stream.read_buf(&mut self.input).await.expect("the link holds");
        assert!(count > 0, "the broker hangs up");
    }

    async fn flush(&mut self) {
        self.stream.write_all(&self.output).await.expect("the link holds");
        self.output.clear();
    }
}

struct Publisher {
    link: Link,
    number: usize,
    /// A whole PUBLISH, in which identifier and sequence are put.
    packet: Vec<u8>,
    identifier_at: usize,
    sequence: u64,
    identifier: u16,
    /// Identifier and time of what is not acknowledged, in the order in which it must be.
    under_way: VecDeque<(u16, Instant)>,
    acknowledged: u64,
}

impl Publisher {
    async fn start(port: u16, number: usize, load: &Load) -> Self {
        let link = Link::open(port, &format!("publisher-{number}"), true).await;
        let topic = topic(number);
        let remaining = 2 + topic.len() + 2 + load.payload_bytes;
        // Its length has two bytes: from 128 to 16,383.
        let mut packet = vec![0x32, (remaining % 128) as u8 | 0x80, (remaining / 128) as u8, 0, topic.len() as u8];
        packet.extend_from_slice(topic.as_bytes());
        let identifier_at = packet.len();
        packet.resize(identifier_at + 2 + load.payload_bytes, b'x');
        let under_way = VecDeque::with_capacity(load.window);
        Self { link, number, packet, identifier_at, sequence: 0, identifier: 0, under_way, acknowledged: 0 }
    }

    async fn run(mut self, window: usize, pace: Option<Duration>, shared: Rc<Shared>) {
        // Not all of them at the same moment.
        let offset = pace.unwrap_or_default() * (self.number as u32 % 16) / 16;
        let mut next = tokio::time::Instant::now() + offset;
        loop {
            if !shared.is_over.get() {
                while self.under_way.len() < window && pace.is_none_or(|_| next <= tokio::time::Instant::now()) {
                    self.encode();
                    next += pace.unwrap_or_default();
                }
            } else if self.under_way.is_empty() {
                shared.published.borrow_mut()[self.number] = self.acknowledged;
                return;
            }
            self.link.flush().await;
            if pace.is_some() && !shared.is_over.get() && self.under_way.len() < window {
                tokio::select! {
                    () = self.link.read() => {}
                    () = tokio::time::sleep_until(next) => {}
                }
            } else {
                self.link.read().await;
            }
            self.take_acknowledgements(&shared);
        }
    }

    fn encode(&mut self) {
        self.identifier = self.identifier % u16::MAX + 1;
        let at = self.identifier_at;
        self.packet[at..at + 2].copy_from_slice(&self.identifier.to_be_bytes());
        self.packet[at + 2..at + 10].copy_from_slice(&self.sequence.to_le_bytes());
        self.sequence += 1;
        self.link.output.extend_from_slice(&self.packet);
        self.under_way.push_back((self.identifier, Instant::now()));
    }

    fn take_acknowledgements(&mut self, shared: &Shared) {
        let now = Instant::now();
        let whole = self.link.input.len() / 4 * 4;
        for puback in self.link.input[..whole].chunks_exact(4) {
            let (identifier, since) = self.under_way.pop_front().expect("what was acknowledged was under way");
            if puback[..2] != [0x40, 2] || puback[2..] != identifier.to_be_bytes() {
                shared.faults.borrow_mut().push(format!("publisher {}: {puback:?} for {identifier}", self.number));
            }
            self.acknowledged += 1;
            if shared.is_counting.get() {
                shared.acknowledged.set(shared.acknowledged.get() + 1);
                let micros = now.duration_since(since).as_micros();
                shared.latencies.borrow_mut().push(u32::try_from(micros).unwrap_or(u32::MAX));
            }
        }
        self.link.input.drain(..whole);
    }
}

struct Subscriber {
    link: Link,
    number: usize,
}

impl Subscriber {
    async fn start(port: u16, number: usize) -> Self {
        let mut link = Link::open(port, &format!("subscriber-{number}"), false).await;
        let topic = topic(number);
        link.output.extend_from_slice(&[0x82, 5 + topic.len() as u8, 0, 1, 0, topic.len() as u8]);
        link.output.extend_from_slice(topic.as_bytes());
        link.output.push(1);
        link.flush().await;
        assert_eq!(link.answer().await, [0x90, 3, 0, 1, 1], "no SUBACK");
        Self { link, number }
    }

    /// Acknowledges what comes, until the broker is gone.
    async fn run(mut self, shared: Rc<Shared>) {
        let topic_bytes = topic(self.number).len();
        let mut expected: u64 = 0;
        loop {
            // The broker is killed at the end, so that the link may be lost then.
            match self.link.stream.read_buf(&mut self.link.input).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            let mut taken = 0;
            while let Some((header, length)) = packet(&self.link.input[taken..]) {
                let publish = &self.link.input[taken + header + 2 + topic_bytes..taken + length];
                let sequence = u64::from_le_bytes(publish[2..10].try_into().expect("eight bytes"));
                if sequence != expected {
                    let fault = format!("subscriber {}: {sequence} instead of {expected}", self.number);
                    shared.faults.borrow_mut().push(fault);
                }
                expected = sequence + 1;
                self.link.output.extend_from_slice(&[0x40, 2, publish[0], publish[1]]);
                shared.delivered.borrow_mut()[self.number] += 1;
                taken += length;
            }
            self.link.input.drain(..taken);
            if self.link.stream.write_all(&self.link.output).await.is_err() {
                return;
            }
            self.link.output.clear();
        }
    }
}

fn topic(number: usize) -> String {
    format!("durable/{number:03}")
}

/// Bytes of the fixed header, and of all, of the packet at the start; `None` where it is not whole.
fn packet(input: &[u8]) -> Option<(usize, usize)> {
    let mut remaining = 0;
    for (index, &byte) in input.get(1..)?.iter().take(4).enumerate() {
        remaining |= (byte as usize & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let header = index + 2;
            return Some((header, header + remaining)).filter(|&(_, length)| length <= input.len());
        }
    }
    None
}
