//! The far end: it counts what comes and acknowledges it, and may go away for a while.

use super::packet::{PAYLOAD_BYTES, PUBACK, PUBCOMP, PUBREC, acknowledge, first, id};
use super::process::free_port;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub struct Sink {
    pub port: u16,
    shared: Arc<Shared>,
    is_open: Arc<AtomicBool>,
}

#[derive(Default)]
struct Shared {
    count: AtomicU64,
    /// CONNECT that came.
    links: AtomicU64,
    /// The sequence numbers that came, where somebody wants to know.
    numbers: Option<Mutex<HashSet<u64>>>,
    streams: Mutex<Vec<TcpStream>>,
}

impl Sink {
    /// One that only counts, or notes each number.
    pub fn start(notes_numbers: bool) -> Self {
        let shared = Shared { numbers: notes_numbers.then(Mutex::default), ..Shared::default() };
        let mut sink = Self { port: free_port(), shared: Arc::new(shared), is_open: Arc::default() };
        sink.come_back();
        sink
    }

    /// Messages that came, repetitions too.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Waits until somebody has connected, and has had time to read that he has.
    pub fn await_link(&self) {
        while self.shared.links.load(Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(200));
    }

    /// What somebody else may look at while this one is kept.
    pub fn counter(&self) -> impl Fn() -> u64 + Send + Clone + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.count.load(Ordering::Relaxed)
    }

    /// How many different numbers came.
    pub fn different(&self) -> u64 {
        self.shared
            .numbers
            .as_ref()
            .map_or(0, |numbers| numbers.lock().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    /// Ends all connections and refuses others.
    pub fn go_away(&mut self) {
        self.is_open.store(false, Ordering::SeqCst);
        // One more connection, so that the thread looks.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        for stream in self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn come_back(&mut self) {
        let listener = loop {
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)) {
                break listener;
            }
            std::thread::yield_now();
        };
        self.is_open = Arc::new(AtomicBool::new(true));
        let (shared, is_open) = (Arc::clone(&self.shared), Arc::clone(&self.is_open));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if !is_open.load(Ordering::SeqCst) {
                    return;
                }
                let kept = stream.try_clone().expect("a socket can be cloned");
                shared.streams.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.go_away();
    }
}

fn serve(mut stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut length) = (vec![0; 256 * 1024], 0);
    let mut output = Vec::new();
    loop {
        match stream.read(&mut input[length..])? {
            0 => return Ok(()),
            count => length += count,
        }
        let (mut at, mut count) = (0, 0);
        while let Some((kind, body, size)) = first(&input[at..length]) {
            match kind >> 4 {
                1 => {
                    shared.links.fetch_add(1, Ordering::Relaxed);
                    output.extend_from_slice(&[0x20, 2, 0, 0]);
                }
                3 => {
                    count += 1;
                    if let Some(numbers) = &shared.numbers {
                        let payload = &body[body.len() - PAYLOAD_BYTES..];
                        let number = u64::from_be_bytes(payload[..8].try_into().expect("eight bytes"));
                        numbers.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
                    }
                    let packet_id = || id(&body[2 + usize::from(id(body))..]);
                    match kind >> 1 & 3 {
                        0 => {}
                        1 => acknowledge(&mut output, PUBACK, packet_id()),
                        _ => acknowledge(&mut output, PUBREC, packet_id()),
                    }
                }
                6 => acknowledge(&mut output, PUBCOMP, id(body)),
                12 => output.extend_from_slice(&[0xD0, 0]),
                _ => {}
            }
            at += size;
        }
        input.copy_within(at..length, 0);
        length -= at;
        shared.count.fetch_add(count, Ordering::Relaxed);
        stream.write_all(&output)?;
        output.clear();
    }
}
