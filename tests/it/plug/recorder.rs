//! A server that records what bridges publish, and acknowledges only what it has recorded. Sessions are kept over
//! connections, with the identifiers of QoS 2. It reads packets by its own rules: nothing here is the gateway's code.

use super::Phase;
use crate::support::ports::free_port;
use crate::support::random::Random;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A message that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    pub client_id: String,
    pub topic: String,
    pub payload: Vec<u8>,
    pub life: super::Life,
}

/// The server; it ends with the test's process.
pub struct Recorder {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    phase: watch::Receiver<Phase>,
}

#[derive(Default)]
struct State {
    taken: Vec<Taken>,
    sessions: HashMap<String, Session>,
    /// What a client did that it must not.
    faults: Vec<String>,
    connections: u64,
    /// QoS 2 PUBLISH that came again, and were not taken again.
    repeated: u64,
    /// How many of them without DUP.
    unmarked: u64,
    random: Option<Random>,
}

#[derive(Default)]
struct Session {
    /// QoS 2 identifiers between PUBLISH and PUBREL, and where of what was taken their message is.
    ids: HashMap<u16, usize>,
    /// Which connection it is on, by its number.
    connection: u64,
    stream: Option<TcpStream>,
}

impl Recorder {
    pub fn start(seed: u64, phase: watch::Receiver<Phase>) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let state = State { random: Some(Random::new(seed)), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), phase });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || {
                    let _ = Connection::serve(&shared, &stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { port, shared }
    }

    /// All that was taken, in its order.
    pub fn taken(&self) -> Vec<Taken> {
        self.shared.lock().taken.clone()
    }

    /// How much was taken, repetitions of QoS 1 too.
    pub fn count(&self) -> usize {
        self.shared.lock().taken.len()
    }

    pub fn faults(&self) -> Vec<String> {
        self.shared.lock().faults.clone()
    }

    /// Connections, QoS 2 messages that came again, and how many of those without DUP.
    pub fn counts(&self) -> (u64, u64, u64) {
        let state = self.shared.lock();
        (state.connections, state.repeated, state.unmarked)
    }

    /// Whether each client has published that `topic` so often, within a time.
    pub async fn has(&self, topic: &str, times: usize, clients: &[&str], within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            let enough = {
                let state = self.shared.lock();
                let count = |client: &str| {
                    state.taken.iter().filter(|taken| taken.client_id == client && taken.topic == topic).count()
                };
                clients.iter().all(|client| count(client) >= times)
            };
            if enough || Instant::now() > deadline {
                return enough;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chance(&self, percent: u64) -> bool {
        !self.phase.borrow().is_ending && self.lock().random.as_mut().is_some_and(|random| random.chance(percent))
    }

    fn below(&self, bound: u64) -> u64 {
        self.lock().random.as_mut().map_or(0, |random| random.below(bound))
    }
}

/// A connection after its CONNECT.
struct Connection<'a> {
    shared: &'a Shared,
    number: u64,
    client_id: String,
    is_version_5: bool,
    output: Vec<u8>,
}

impl<'a> Connection<'a> {
    fn serve(shared: &'a Shared, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = (stream, stream);
        let (mut input, mut chunk) = (Vec::new(), [0; 16 * 1024]);
        let mut connection = None;
        loop {
            let mut at = 0;
            while let Some((kind, body, end)) = packet(&input[at..]) {
                let body = &input[at..][body..end];
                match &mut connection {
                    None => connection = Some(Self::open(shared, stream, kind, body)?),
                    Some(connection) => connection.handle(kind, body)?,
                }
                at += end;
            }
            input.drain(..at);
            if let Some(connection) = connection.as_mut().filter(|connection| !connection.output.is_empty()) {
                // What was taken is acknowledged late now and then, or the link breaks before.
                if shared.chance(10) {
                    std::thread::sleep(Duration::from_millis(shared.below(40)));
                }
                if shared.chance(1) {
                    return Ok(());
                }
                writer.write_all(&connection.output)?;
                connection.output.clear();
            }
            match reader.read(&mut chunk)? {
                0 => return Ok(()),
                count => input.extend_from_slice(&chunk[..count]),
            }
        }
    }

    fn open(shared: &'a Shared, stream: &TcpStream, kind: u8, body: &[u8]) -> io::Result<Self> {
        if kind >> 4 != 1 || body[..6] != *b"\0\x04MQTT" {
            return Err(io::Error::other("no CONNECT"));
        }
        let (level, is_clean) = (body[6], body[7] & 2 != 0);
        let mut at = 10;
        if level == 5 {
            at += properties(&body[at..]);
        }
        let client_id = String::from_utf8_lossy(text(body, at)).into_owned();
        let mut state = shared.lock();
        state.connections += 1;
        let number = state.connections;
        if is_clean {
            state.sessions.remove(&client_id);
            state.faults.push(format!("{client_id} starts clean on connection {number}"));
        }
        let is_there = state.sessions.contains_key(&client_id);
        let session = state.sessions.entry(client_id.clone()).or_default();
        // From here on nothing of the connection before is looked at.
        session.connection = number;
        if let Some(before) = session.stream.replace(stream.try_clone()?) {
            let _ = before.shutdown(Shutdown::Both);
        }
        drop(state);
        let output = match level {
            5 => vec![0x20, 3, u8::from(is_there), 0, 0],
            _ => vec![0x20, 2, u8::from(is_there), 0],
        };
        Ok(Self { shared, number, client_id, is_version_5: level == 5, output })
    }

    fn handle(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let life = self.shared.phase.borrow().life;
        let mut state = self.shared.lock();
        let State { taken, sessions, faults, repeated, unmarked, .. } = &mut *state;
        let session = sessions.get_mut(&self.client_id).filter(|session| session.connection == self.number);
        let session = session.ok_or_else(|| io::Error::other("another connection has the session"))?;
        match kind >> 4 {
            3 => {
                let topic = text(body, 0);
                let mut at = 2 + topic.len();
                let qos = kind >> 1 & 3;
                let id = if qos > 0 { u16::from_be_bytes([body[at], body[at + 1]]) } else { 0 };
                at += if qos > 0 { 2 } else { 0 };
                if self.is_version_5 {
                    at += properties(&body[at..]);
                }
                let (topic, payload) = (String::from_utf8_lossy(topic).into_owned(), body[at..].to_vec());
                match session.ids.get(&id).filter(|_| qos == 2).map(|&index| &taken[index]) {
                    Some(known) => {
                        *repeated += 1;
                        *unmarked += u64::from(kind & 8 == 0);
                        if (&known.topic, &known.payload) != (&topic, &payload) {
                            faults.push(format!("{}: {id} is another message in life {life}", self.client_id));
                        }
                    }
                    None => {
                        if qos == 2 {
                            session.ids.insert(id, taken.len());
                        }
                        taken.push(Taken { client_id: self.client_id.clone(), topic, payload, life });
                    }
                }
                if qos > 0 {
                    self.acknowledge(if qos == 1 { 0x40 } else { 0x50 }, id);
                }
            }
            6 => {
                let id = u16::from_be_bytes([body[0], body[1]]);
                session.ids.remove(&id);
                self.acknowledge(0x70, id);
            }
            12 => self.output.extend_from_slice(&[0xD0, 0]),
            14 => {}
            other => faults.push(format!("{}: a packet of kind {other} in life {life}", self.client_id)),
        }
        Ok(())
    }

    fn acknowledge(&mut self, kind: u8, id: u16) {
        self.output.extend_from_slice(&[kind, 2]);
        self.output.extend_from_slice(&id.to_be_bytes());
    }
}

/// Of a whole packet at the beginning: its first byte, and where its body begins and ends.
fn packet(input: &[u8]) -> Option<(u8, usize, usize)> {
    let (length, size) = variable(input.get(1..)?)?;
    let body = 1 + size;
    (input.len() >= body + length).then(|| (input[0], body, body + length))
}

/// A Variable Byte Integer, and how many bytes it has.
fn variable(input: &[u8]) -> Option<(usize, usize)> {
    let size = input.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
    let value = input[..size].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    Some((value, size))
}

/// How many bytes the properties take with their length.
fn properties(input: &[u8]) -> usize {
    let (length, size) = variable(input).expect("a packet has all of its bytes");
    size + length
}

/// The text at that place.
fn text(body: &[u8], at: usize) -> &[u8] {
    let length = usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    &body[at + 2..][..length]
}

/// The recorder keeps its own promises.
#[cfg(test)]
mod tests {
    use super::*;

    /// Connects, and says what else there is to say; gives what came within a moment.
    fn say(port: u16, packets: &[&[u8]], answers: usize) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"\x10\x0f\0\x04MQTT\x04\0\0\0\0\x03one").unwrap();
        packets.iter().for_each(|packet| stream.write_all(packet).unwrap());
        let mut answer = vec![0; answers];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    fn calm() -> Recorder {
        let phase = watch::Sender::new(Phase { life: 0, is_ending: true });
        Recorder::start(1, phase.subscribe())
    }

    #[test]
    fn a_qos_2_identifier_is_taken_once_until_its_pubrel_over_connections() {
        let recorder = calm();
        let publish = b"\x34\x06\0\x01t\0\x07x".as_slice();
        let again = b"\x3c\x06\0\x01t\0\x07x".as_slice();
        let release = b"\x62\x02\0\x07".as_slice();
        assert_eq!(say(recorder.port, &[publish], 8), b"\x20\x02\0\0\x50\x02\0\x07");
        assert_eq!(say(recorder.port, &[again, release], 12), b"\x20\x02\x01\0\x50\x02\0\x07\x70\x02\0\x07");
        assert_eq!(recorder.taken().len(), 1);
        // The identifier is free again: this is another message.
        say(recorder.port, &[publish], 8);
        assert_eq!((recorder.taken().len(), recorder.counts()), (2, (3, 1, 0)));
        assert_eq!(recorder.faults(), [""; 0]);
    }

    #[test]
    fn a_qos_1_message_is_taken_as_often_as_it_comes() {
        let recorder = calm();
        let publish = b"\x32\x06\0\x01t\0\x07x".as_slice();
        assert_eq!(say(recorder.port, &[publish, publish], 12), b"\x20\x02\0\0\x40\x02\0\x07\x40\x02\0\x07");
        assert_eq!(recorder.taken().len(), 2);
    }
}
