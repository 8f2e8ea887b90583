//! The publishers: as fast as what waits allows, or paced over an outage.

use super::packet::{self, PUBCOMP, PUBREC, PUBREL, acknowledge, first, id};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Messages of a publisher that are not acknowledged, at most: more of QoS 2 would stop mosquitto for ever.
const WINDOW: usize = 20;
/// As many at QoS 0, or as many as the steady publisher has.
const WIDE_WINDOW: usize = 500;
/// Messages that are published and did not arrive at the sink, at most: nobody measured here drops any.
const UNDER_WAY: u64 = 4000;
/// Messages that are written together.
const BATCH: usize = 50;
/// Of the steady publisher.
const TOPIC: &str = "bench/steady";

/// Publishers that go on until they are dropped.
pub struct Crowd {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// `arrived` tells what has come at the far end.
    pub fn start(port: u16, publishers: usize, qos: u8, arrived: impl Fn() -> u64 + Send + Clone + 'static) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let published = Arc::<AtomicU64>::default();
        let threads = (0..publishers)
            .map(|number| {
                let (is_over, published, arrived) = (Arc::clone(&is_over), Arc::clone(&published), arrived.clone());
                std::thread::spawn(move || hurry(port, number, qos, &is_over, &published, arrived))
            })
            .collect();
        Self { is_over, threads }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn hurry(port: u16, number: usize, qos: u8, is_over: &AtomicBool, published: &AtomicU64, arrived: impl Fn() -> u64) {
    let stream = open(port, &format!("publisher-{number}")).expect("the broker listens");
    let topic = format!("bench/{number:03}");
    let unsettled = Arc::<AtomicUsize>::default();
    let writing = Arc::new(Mutex::new(stream.try_clone().expect("a socket can be cloned")));
    let reader = {
        let (unsettled, writing) = (Arc::clone(&unsettled), Arc::clone(&writing));
        std::thread::spawn(move || settle(&stream, &writing, &unsettled))
    };
    let (mut output, mut sequence, mut packet_id) = (Vec::new(), 0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let room = UNDER_WAY.saturating_sub(published.load(Ordering::Relaxed).saturating_sub(arrived())) as usize;
        let window = if qos > 0 { WINDOW.saturating_sub(unsettled.load(Ordering::Relaxed)) } else { WIDE_WINDOW };
        let count = room.min(window).min(BATCH);
        if count == 0 {
            std::thread::sleep(Duration::from_micros(20));
            continue;
        }
        for _ in 0..count {
            packet_id = packet_id % u16::MAX + 1;
            packet::publish(&mut output, qos, false, &topic, packet_id, sequence);
            sequence += 1;
        }
        unsettled.fetch_add(count, Ordering::Relaxed);
        published.fetch_add(count as u64, Ordering::Relaxed);
        let written = writing.lock().unwrap_or_else(PoisonError::into_inner).write_all(&output);
        if written.is_err() {
            break;
        }
        output.clear();
    }
    let _ = writing.lock().unwrap_or_else(PoisonError::into_inner).shutdown(std::net::Shutdown::Both);
    let _ = reader.join();
}

/// Reads acknowledgements until the connection ends.
fn settle(mut stream: &TcpStream, writing: &Mutex<TcpStream>, unsettled: &AtomicUsize) {
    let (mut input, mut length, mut output) = (vec![0; 64 * 1024], 0, Vec::new());
    while let Ok(count @ 1..) = stream.read(&mut input[length..]) {
        length += count;
        let (mut at, mut settled) = (0, 0);
        while let Some((kind, body, size)) = first(&input[at..length]) {
            match kind & 0xF0 {
                packet::PUBACK | PUBCOMP => settled += 1,
                PUBREC => acknowledge(&mut output, PUBREL, id(body)),
                _ => {}
            }
            at += size;
        }
        input.copy_within(at..length, 0);
        length -= at;
        unsettled.fetch_sub(settled, Ordering::Relaxed);
        if !output.is_empty() && writing.lock().unwrap_or_else(PoisonError::into_inner).write_all(&output).is_err() {
            return;
        }
        output.clear();
    }
}

/// A publisher at QoS 1 with a steady pace, which connects again when it must, and sends again what was not
/// acknowledged.
pub struct Steady {
    port: u16,
    stream: Option<TcpStream>,
    input: Vec<u8>,
    /// Identifier and number of what is not acknowledged.
    unsettled: VecDeque<(u16, u64)>,
    next: u64,
    pub acknowledged: u64,
}

impl Steady {
    pub fn new(port: u16) -> Self {
        Self { port, stream: None, input: Vec::new(), unsettled: VecDeque::new(), next: 0, acknowledged: 0 }
    }

    /// Publishes so many over that time, calls `at_half` after the first half of them, and waits until all are
    /// acknowledged.
    pub fn publish(&mut self, count: u64, length: Duration, at_half: impl FnOnce()) {
        let begun = Instant::now();
        let mut at_half = Some(at_half);
        while self.acknowledged < count {
            let share = begun.elapsed().as_secs_f64() / length.as_secs_f64();
            let due = ((share * count as f64) as u64).min(count);
            if self.step(due).is_err() {
                self.stream = None;
                self.input.clear();
                std::thread::sleep(Duration::from_millis(10));
            }
            if self.next >= count / 2
                && let Some(at_half) = at_half.take()
            {
                at_half();
            }
        }
    }

    /// Writes what is due, and reads for a moment.
    fn step(&mut self, due: u64) -> io::Result<()> {
        let mut output = Vec::new();
        if self.stream.is_none() {
            let stream = open(self.port, "steady")?;
            stream.set_read_timeout(Some(Duration::from_millis(1)))?;
            self.stream = Some(stream);
            for &(id, number) in &self.unsettled {
                packet::publish(&mut output, 1, true, TOPIC, id, number);
            }
        }
        while self.next < due && self.unsettled.len() < WIDE_WINDOW {
            let id = (self.next % u64::from(u16::MAX)) as u16 + 1;
            packet::publish(&mut output, 1, false, TOPIC, id, self.next);
            self.unsettled.push_back((id, self.next));
            self.next += 1;
        }
        let stream = self.stream.as_mut().expect("opened just now");
        stream.write_all(&output)?;
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.input.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        let mut at = 0;
        while let Some((kind, body, size)) = first(&self.input[at..]) {
            if kind == packet::PUBACK {
                let before = self.unsettled.len();
                self.unsettled.retain(|&(id, _)| id != packet::id(body));
                self.acknowledged += (before - self.unsettled.len()) as u64;
            }
            at += size;
        }
        self.input.drain(..at);
        Ok(())
    }
}

fn open(port: u16, client_id: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.write_all(&packet::connect(client_id))?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack)?;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "no CONNACK: {connack:?}");
    Ok(stream)
}
