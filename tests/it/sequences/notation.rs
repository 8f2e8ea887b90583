//! The notation in which the mosquitto project writes bytes: `82 r6 m1234 s1 'p' 01`.

use serde::Deserialize;

/// Sequences that belong together, as they stand in a file.
#[derive(Deserialize)]
pub struct Group {
    pub group: String,
    #[serde(default)]
    disable: bool,
    #[serde(flatten)]
    rules: Rules,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    name: String,
    #[serde(flatten)]
    rules: Rules,
    msgs: Vec<Message>,
}

/// What a sequence may say for itself, else its group for it.
#[derive(Deserialize, Clone, Copy)]
struct Rules {
    ver: Option<u8>,
    connect: Option<bool>,
    expect_disconnect: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
enum Message {
    Send { payload: String },
    Recv { payload: String },
    Publish { topic: String, payload: String, qos: u8 },
}

/// A connection's course: what is sent, and what must come.
pub struct Sequence {
    /// Group and name.
    pub name: String,
    /// Protocol level of the CONNECT that goes before, if one does.
    pub connect: Option<u8>,
    pub steps: Vec<Step>,
    pub end: Ending,
}

pub enum Step {
    Send(Vec<u8>),
    Receive(Vec<u8>),
    /// Another client publishes.
    Publish {
        topic: String,
        payload: String,
        qos: u8,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The broker closes the connection.
    Closed,
    /// The connection still answers PINGREQ.
    Open,
}

impl Group {
    /// Its sequences, in their order.
    ///
    /// # Errors
    /// What is no notation.
    pub fn sequences(self) -> Result<Vec<Sequence>, String> {
        if self.disable {
            return Ok(Vec::new());
        }
        let of_group = self.rules;
        self.tests.into_iter().map(|test| test.sequence(&self.group, of_group)).collect()
    }
}

impl Test {
    fn sequence(self, group: &str, of_group: Rules) -> Result<Sequence, String> {
        let name = format!("{group}: {}", self.name);
        let level = self.rules.ver.or(of_group.ver).unwrap_or(4);
        let connects = self.rules.connect.or(of_group.connect).unwrap_or(true);
        let closed = self.rules.expect_disconnect.or(of_group.expect_disconnect).unwrap_or(true);
        let steps = self.msgs.into_iter().map(Message::step).collect::<Result<_, _>>();
        Ok(Sequence {
            connect: connects.then_some(level),
            steps: steps.map_err(|error| format!("{name}: {error}"))?,
            end: if closed { Ending::Closed } else { Ending::Open },
            name,
        })
    }
}

impl Message {
    fn step(self) -> Result<Step, String> {
        Ok(match self {
            Self::Send { payload } => Step::Send(bytes(&payload)?),
            Self::Recv { payload } => Step::Receive(bytes(&payload)?),
            Self::Publish { topic, payload, qos } => Step::Publish { topic, payload, qos },
        })
    }
}

/// The bytes that some words stand for:
///
/// | word | bytes |
/// |---|---|
/// | `82`, `0101` | those |
/// | `i7` | one |
/// | `m7`, `s7`, `k7`, `H7` | two: a packet identifier, a length, a keep alive, any number |
/// | `L7` | four |
/// | `r7`, `v7` | a variable byte integer: a remaining length, any; also one that is too large |
/// | `'text'` | UTF-8 |
///
/// In older releases a byte's two digits may stand in two words.
///
/// # Errors
/// Says which word it is that means nothing.
pub fn bytes(words: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut half = None;
    let mut rest = words.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = if first == '\'' {
            let end = rest[1..].find('\'').ok_or_else(|| format!("{rest} has no end"))?;
            (&rest[..end + 2], &rest[end + 2..])
        } else {
            rest.split_at(rest.find(' ').unwrap_or(rest.len()))
        };
        put(word, &mut half, &mut bytes).ok_or_else(|| format!("{word} in {words} means nothing"))?;
        rest = after.trim_start();
    }
    if half.is_some() { Err(format!("{words} ends within a byte")) } else { Ok(bytes) }
}

/// Appends what a word stands for; `half` is a first digit whose second has not come.
fn put(word: &str, half: &mut Option<u8>, into: &mut Vec<u8>) -> Option<()> {
    if word.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        for digit in word.chars() {
            let digit = digit.to_digit(16)? as u8;
            match half.take() {
                Some(first) => into.push(first << 4 | digit),
                None => *half = Some(digit),
            }
        }
        return Some(());
    }
    if half.is_some() {
        return None;
    }
    let number = word.get(1..)?;
    match word.as_bytes()[0] {
        b'\'' => into.extend_from_slice(&word.as_bytes()[1..word.len() - 1]),
        b'i' => into.push(number.parse().ok()?),
        b'm' | b's' | b'k' | b'H' => into.extend_from_slice(&number.parse::<u16>().ok()?.to_be_bytes()),
        b'L' => into.extend_from_slice(&number.parse::<u32>().ok()?.to_be_bytes()),
        b'r' | b'v' => {
            let mut value: u64 = number.parse().ok()?;
            while value > 0x7F {
                into.push((value & 0x7F) as u8 | 0x80);
                value >>= 7;
            }
            into.push(value as u8);
        }
        _ => return None,
    }
    Some(())
}

#[test]
fn words_become_bytes() {
    assert_eq!(bytes("82 r6 m1234 s1 'p' 01").unwrap(), [0x82, 6, 0x04, 0xD2, 0, 1, b'p', 1]);
    assert_eq!(bytes(" 0101 i255  L65536 k60 H1").unwrap(), [1, 1, 255, 0, 1, 0, 0, 0, 60, 0, 1]);
    assert_eq!(bytes("v127 r128 r268435456").unwrap(), [0x7F, 0x80, 1, 0x80, 0x80, 0x80, 0x80, 1]);
    assert_eq!(bytes("'a b' 'ä'").unwrap(), b"a b\xC3\xA4");
    assert_eq!(bytes("081 F00 1 0").unwrap(), [0x08, 0x1F, 0x00, 0x10]);
    for wrong in ["8", "8 m1", "8g", "i256", "m", "'a", "x1", "ää"] {
        assert!(bytes(wrong).is_err(), "{wrong}");
    }
}
