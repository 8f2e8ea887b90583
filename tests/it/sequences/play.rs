//! Plays a sequence against a broker and says where it took another course.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use edgeway::mqtt::codec::{Framing, split_frame};
use edgeway::mqtt::packet::ConnAck;
use edgeway::mqtt::{Packet, Version};

use super::notation::{Ending, Sequence, Step};
use crate::support::PATIENCE;

const MQTT_5: u8 = 5;
const CONNACK: u8 = 0x20;
const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 2] = [0xD0, 0];
/// The largest packet that any sequence waits for is far below.
const MAX_PACKET_BYTES: usize = 64 * 1024;

/// Plays `sequence` on a connection of its own.
///
/// # Errors
/// What was expected and what came.
pub fn play(sequence: &Sequence, port: u16) -> Result<(), String> {
    let mut line = Line::dial(port);
    if let Some(level) = sequence.connect {
        line.connect(level, &sequence.name)?;
    }
    for step in &sequence.steps {
        match step {
            Step::Send(bytes) => line.send(bytes),
            Step::Receive(expected) => line.expect(expected)?,
            Step::Publish { topic, payload, qos } => publish(port, topic, payload, *qos)?,
        }
    }
    match sequence.end {
        Ending::Closed => line.expect_end(),
        Ending::Open => {
            line.send(&PINGREQ);
            line.expect(&PINGRESP)
        }
    }
}

/// Another client comes, publishes and goes.
fn publish(port: u16, topic: &str, payload: &str, qos: u8) -> Result<(), String> {
    let mut line = Line::dial(port);
    line.connect(4, "helper")?;
    let mut body = Vec::new();
    put_string(topic, &mut body);
    if qos > 0 {
        body.extend_from_slice(&[0, 1]);
    }
    body.extend_from_slice(payload.as_bytes());
    line.send(&packet(0x30 | qos << 1, &body));
    if qos == 1 {
        line.expect(&[0x40, 2, 0, 1])?;
    }
    if qos == 2 {
        line.expect(&[0x50, 2, 0, 1])?;
        line.send(&[0x62, 2, 0, 1]);
        line.expect(&[0x70, 2, 0, 1])?;
    }
    // A message of QoS 0 has been taken when what follows it is answered.
    line.send(&PINGREQ);
    line.expect(&PINGRESP)
}

struct Line {
    stream: TcpStream,
    /// What came and was not looked at.
    input: Vec<u8>,
}

impl Line {
    fn dial(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker accepts connections");
        stream.set_nodelay(true).expect("a socket can be told");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket can be told");
        Self { stream, input: Vec::new() }
    }

    /// CONNECT with a clean session, and CONNACK.
    fn connect(&mut self, level: u8, client_id: &str) -> Result<(), String> {
        let mut body = Vec::new();
        put_string(if level == 3 { "MQIsdp" } else { "MQTT" }, &mut body);
        body.extend_from_slice(&[level, 2, 0, 60]);
        if level == MQTT_5 {
            body.push(0);
        }
        put_string(client_id, &mut body);
        self.send(&packet(0x10, &body));
        self.expect(if level == MQTT_5 { &[CONNACK, 3, 0, 0, 0] } else { &[CONNACK, 2, 0, 0] })
    }

    fn send(&mut self, bytes: &[u8]) {
        // Where the broker has closed already, the next step sees it.
        let _ = self.stream.write_all(bytes);
    }

    /// Waits for a packet, or for bytes that are none.
    fn expect(&mut self, expected: &[u8]) -> Result<(), String> {
        let came = self.next()?.unwrap_or_default();
        if same(expected, &came) { Ok(()) } else { Err(format!("expected{}, came{}", hex(expected), hex(&came))) }
    }

    /// Waits until the broker closes, having said nothing more.
    fn expect_end(&mut self) -> Result<(), String> {
        match self.next()? {
            None => Ok(()),
            Some(came) => Err(format!("expected the end, came{}", hex(&came))),
        }
    }

    /// The next packet; `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            match split_frame(&self.input, MAX_PACKET_BYTES) {
                Ok(Framing::Complete(_, length)) => return Ok(Some(self.input.drain(..length).collect())),
                Ok(Framing::Incomplete { .. }) => {}
                Err(error) => return Err(format!("came{}: {error}", hex(&self.input))),
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(_) => return Err("nothing came in time, and the connection is open".into()),
            }
        }
        if self.input.is_empty() { Ok(None) } else { Err(format!("a part of a packet came{}", hex(&self.input))) }
    }
}

/// Whether a packet is the expected one. What a broker says of itself in CONNACK is its own.
fn same(expected: &[u8], came: &[u8]) -> bool {
    expected == came
        || match (connack(expected), connack(came)) {
            (Some(expected), Some(came)) => {
                came == ConnAck {
                    receive_maximum: came.receive_maximum,
                    topic_alias_maximum: came.topic_alias_maximum,
                    maximum_packet_size: came.maximum_packet_size,
                    ..expected
                }
            }
            _ => false,
        }
}

fn connack(bytes: &[u8]) -> Option<ConnAck<'_>> {
    let Ok(Framing::Complete(frame, _)) = split_frame(bytes, MAX_PACKET_BYTES) else {
        return None;
    };
    match Packet::decode(frame, Version::V5) {
        Ok(Packet::ConnAck(connack)) => Some(connack),
        _ => None,
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).ok().filter(|length| *length < 0x80).expect("our own packets are short");
    [&[first, length], body].concat()
}

fn put_string(text: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(&u16::try_from(text.len()).expect("our own texts are short").to_be_bytes());
    into.extend_from_slice(text.as_bytes());
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return " the end".into();
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, " {byte:02X}");
        text
    })
}
