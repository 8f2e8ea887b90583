//! What publishers were promised, and what observers saw.
//!
//! ```text
//! topic    soak/{publisher}/q{qos}     numbers that rise by one, a count for each publisher and QoS
//!          soak/{publisher}/will       the number of the life that ended without DISCONNECT
//! payload  the number in decimal, then spaces
//! ```

use edgeway::mqtt::connection::Delivery;
use edgeway::mqtt::{Message, QoS};
use std::collections::HashMap;

use crate::support::peer::message;

/// The counts of a publisher: one for each QoS, and its wills.
pub const WILL: usize = 3;
const COUNTS: usize = 4;

/// The numbers of one count.
#[derive(Debug, Default, Clone)]
pub struct Numbers(Vec<u64>);

/// What a publisher did.
#[derive(Debug, Default)]
pub struct Published {
    /// The next number of each QoS.
    next: [u32; 3],
    /// By QoS, the numbers whose exchange is over; at `WILL` the lives that ended without DISCONNECT.
    pub promised: [Numbers; COUNTS],
}

/// What an observer has seen of all publishers, and what it should not have seen.
#[derive(Debug, Default)]
pub struct Observed {
    seen: HashMap<(usize, usize), Seen>,
    /// QoS 1 messages that came again, as they may.
    pub repeated: u64,
    pub messages: u64,
    pub faults: Vec<String>,
}

#[derive(Debug, Default)]
struct Seen {
    numbers: Numbers,
    newest: Option<u32>,
}

impl Numbers {
    /// Adds a number; `false` where it was there.
    pub fn add(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    pub fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Those that `other` does not have.
    fn missing_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let missing = word & !other.0.get(index).copied().unwrap_or(0);
            (0..64).filter(move |bit| missing & (1 << bit) != 0).map(move |bit| index * 64 + bit)
        })
    }
}

impl Published {
    /// The next message of this publisher at `qos`, with its number.
    pub fn next_message(&mut self, publisher: usize, qos: QoS, padding: usize) -> (u32, Message) {
        let number = self.next[qos as usize];
        self.next[qos as usize] += 1;
        let payload = format!("{number}{:padding$}", "");
        (number, message(&format!("soak/{publisher}/q{qos}"), payload.as_bytes(), qos, false))
    }

    /// Messages that were published at `qos`.
    pub fn count(&self, qos: QoS) -> u64 {
        u64::from(self.next[qos as usize])
    }
}

/// What a publisher leaves behind in its life of this number.
pub fn will(publisher: usize, life: u32) -> Message {
    message(&format!("soak/{publisher}/will"), life.to_string().as_bytes(), QoS::ExactlyOnce, false)
}

impl Observed {
    /// Notes a message of a topic under `soak/`.
    pub fn note(&mut self, delivery: &Delivery) {
        let Some((publisher, count, number)) = read(&delivery.message) else {
            self.faults.push(format!("what nobody published: {:?}", delivery.message));
            return;
        };
        self.messages += 1;
        let seen = self.seen.entry((publisher, count)).or_default();
        if seen.numbers.add(number) {
            // A will is published when the broker has noticed the end; a takeover may be noticed before an older end.
            if count != WILL && seen.newest.is_some_and(|newest| number < newest) {
                self.faults.push(format!("publisher {publisher}, QoS {count}: {number} after {:?}", seen.newest));
            }
            seen.newest = seen.newest.max(Some(number));
        } else if count == 1 {
            // From a publisher that was cut before its PUBACK, or to an observer that was.
            self.repeated += 1;
        } else {
            self.faults.push(format!("publisher {publisher}, count {count}: {number} a second time"));
        }
    }

    /// What this observer should have seen and has not, and what it should not have seen and has.
    pub fn against(&self, published: &[Published]) -> Vec<String> {
        let mut faults = self.faults.clone();
        let nothing = Numbers::default();
        for (publisher, published) in published.iter().enumerate() {
            for count in [1, 2, WILL] {
                let promised = &published.promised[count];
                let seen = self.seen.get(&(publisher, count)).map_or(&nothing, |seen| &seen.numbers);
                let missing: Vec<usize> = promised.missing_in(seen).collect();
                if !missing.is_empty() {
                    faults.push(format!("publisher {publisher}, count {count}: never came: {missing:?}"));
                }
                if count == WILL {
                    let early: Vec<usize> = seen.missing_in(promised).collect();
                    if !early.is_empty() {
                        faults.push(format!("publisher {publisher}: wills of lives that did not end so: {early:?}"));
                    }
                }
            }
        }
        faults
    }
}

/// Publisher, count and number of a message.
fn read(message: &Message) -> Option<(usize, usize, u32)> {
    let (publisher, count) = message.topic().strip_prefix("soak/")?.split_once('/')?;
    let count = match count {
        "q0" => 0,
        "q1" => 1,
        "q2" => 2,
        "will" => WILL,
        _ => return None,
    };
    let number = std::str::from_utf8(message.payload()).ok()?.trim_end();
    Some((publisher.parse().ok()?, count, number.parse().ok()?))
}
