//! The publishers: as fast as what waits allows, or paced over an outage.

use super::packet::{self, PUBCOMP, PUBREC, PUBREL, acknowledge, first, id};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Messages of a publisher that are not acknowledged, at most: more of QoS 2 would stop mosquitto for ever.
const WINDOW: usize = 20;
/// As many as the steady publisher has.
const WIDE_WINDOW: usize = 500;
/// Messages that are published and did not arrive at the sink, at most: nobody measured here drops any.
const UNDER_WAY: u64 = 4000;
/// Messages of QoS 0 that are written together.
const BATCH: usize = 50;
/// How long the thread sleeps when there is nothing to do.
const IDLE: Duration = Duration::from_micros(20);
/// Of the steady publisher.
const TOPIC: &str = "bench/steady";

/// Publishers on one thread, which go on until they are dropped.
pub struct Crowd {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One of them.
struct Publisher {
    stream: TcpStream,
    topic: String,
    qos: u8,
    input: Vec<u8>,
    /// What the socket has not taken.
    output: Vec<u8>,
    id: u16,
    sequence: u64,
    unsettled: usize,
}

impl Crowd {
    /// `arrived` tells what has come at the far end.
    pub fn start(port: u16, publishers: usize, qos: u8, arrived: impl Fn() -> u64 + Send + 'static) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&is_over);
        let mut all: Vec<Publisher> = (0..publishers).map(|number| Publisher::start(port, number, qos)).collect();
        let thread = std::thread::spawn(move || {
            let mut published = 0;
            while !ends.load(Ordering::Relaxed) {
                let mut is_idle = true;
                for publisher in &mut all {
                    let room = UNDER_WAY.saturating_sub(published - arrived()) as usize;
                    let Ok((read, written)) = publisher.turn(room) else { return };
                    published += written as u64;
                    is_idle &= read == 0 && written == 0;
                }
                if is_idle {
                    std::thread::sleep(IDLE);
                }
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

impl Publisher {
    fn start(port: u16, number: usize, qos: u8) -> Self {
        let stream = open(port, &format!("publisher-{number}")).expect("the broker listens");
        stream.set_nonblocking(true).expect("a socket takes it");
        let (input, output) = Default::default();
        Self { stream, topic: format!("bench/{number:03}"), qos, input, output, id: 0, sequence: 0, unsettled: 0 }
    }

    /// Reads what has come and writes what it may, without waiting; bytes that came, and messages that it published.
    fn turn(&mut self, room: usize) -> io::Result<(usize, usize)> {
        let mut chunk = [0; 16 * 1024];
        let read = if self.qos == 0 { 0 } else { without_waiting(self.stream.read(&mut chunk))? };
        self.input.extend_from_slice(&chunk[..read]);
        let mut at = 0;
        while let Some((kind, body, size)) = first(&self.input[at..]) {
            match kind & 0xF0 {
                packet::PUBACK | PUBCOMP => self.unsettled -= 1,
                PUBREC => acknowledge(&mut self.output, PUBREL, id(body)),
                _ => {}
            }
            at += size;
        }
        self.input.drain(..at);
        let window = if self.qos > 0 { WINDOW - self.unsettled } else { BATCH };
        let count = if self.output.len() > 64 * 1024 { 0 } else { room.min(window) };
        for _ in 0..count {
            self.id = self.id % u16::MAX + 1;
            packet::publish(&mut self.output, self.qos, false, &self.topic, self.id, self.sequence);
            self.sequence += 1;
        }
        self.unsettled += if self.qos > 0 { count } else { 0 };
        if !self.output.is_empty() {
            let written = without_waiting(self.stream.write(&self.output))?;
            self.output.drain(..written);
        }
        Ok((read, count))
    }
}

fn without_waiting(done: io::Result<usize>) -> io::Result<usize> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
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
