//! Keeps account of what should arrive in the cloud: what waits, what came, and whether it came in order.

use std::collections::{HashMap, VecDeque};

/// What is remembered of each topic, in messages. Older ones are forgotten.
const MEMORY: usize = 10_000;
/// Arrivals that are remembered because they may overtake their own news.
const EARLY: usize = 16;

/// The account of all topics of the cloud.
#[derive(Debug, Default)]
pub struct Ledger {
    topics: HashMap<String, Account>,
    /// Messages of the last outage that have not arrived yet.
    due: usize,
    skipped: usize,
}

#[derive(Debug, Default)]
struct Account {
    waiting: VecDeque<Waiting>,
    /// What arrived before we knew that it was sent: two observers do not tell in one order.
    early: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Waiting {
    payload: Vec<u8>,
    is_due: bool,
}

impl Ledger {
    /// A message was published that is to arrive as `topic`.
    pub fn sent(&mut self, topic: &str, payload: &[u8]) {
        let account = self.topics.entry(topic.to_owned()).or_default();
        match account.early.iter().position(|early| early == payload) {
            // What came before it was published before it.
            Some(index) => drop(account.early.drain(..=index)),
            None => {
                account.waiting.push_back(Waiting { payload: payload.to_vec(), is_due: false });
                if account.waiting.len() > MEMORY {
                    let forgotten = account.waiting.pop_front();
                    self.due -= usize::from(forgotten.is_some_and(|waiting| waiting.is_due));
                }
            }
        }
    }

    /// A message arrived as `topic`.
    pub fn arrived(&mut self, topic: &str, payload: &[u8]) {
        let account = self.topics.entry(topic.to_owned()).or_default();
        match account.waiting.iter().position(|waiting| waiting.payload == payload) {
            Some(index) => {
                self.skipped += index;
                self.due -= account.waiting.drain(..=index).filter(|waiting| waiting.is_due).count();
            }
            None => {
                account.early.push_back(payload.to_vec());
                if account.early.len() > EARLY {
                    account.early.pop_front();
                }
            }
        }
    }

    /// Messages of `topic` that have not arrived.
    pub fn waiting_for(&self, topic: &str) -> usize {
        self.topics.get(topic).map_or(0, |account| account.waiting.len())
    }

    /// Messages that have not arrived.
    pub fn waiting(&self) -> usize {
        self.topics.values().map(|account| account.waiting.len()).sum()
    }

    /// From now on [`Ledger::due`] counts what waits at this moment; gives how many that are.
    pub fn mark(&mut self) -> usize {
        for waiting in self.topics.values_mut().flat_map(|account| &mut account.waiting) {
            waiting.is_due = true;
        }
        self.due = self.waiting();
        self.skipped = 0;
        self.due
    }

    /// Of the messages that were marked, those that have not arrived.
    pub fn due(&self) -> usize {
        self.due
    }

    /// Messages that were overtaken by a later one of their topic since the last mark: lost, or out of order.
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_what_was_sent_and_has_not_arrived() {
        let mut ledger = Ledger::default();
        for number in 0..5u8 {
            ledger.sent("a", &[number]);
        }
        ledger.sent("b", b"x");
        ledger.arrived("a", &[0]);
        assert_eq!((ledger.waiting(), ledger.waiting_for("a"), ledger.waiting_for("c")), (5, 4, 0));
        assert_eq!(ledger.mark(), 5);
        ledger.sent("a", &[9]);
        for number in 1..5 {
            ledger.arrived("a", &[number]);
        }
        ledger.arrived("b", b"x");
        assert_eq!((ledger.due(), ledger.skipped(), ledger.waiting()), (0, 0, 1));
    }

    #[test]
    fn an_overtaken_message_is_counted() {
        let mut ledger = Ledger::default();
        for number in 0..3u8 {
            ledger.sent("a", &[number]);
        }
        ledger.mark();
        ledger.arrived("a", &[2]);
        assert_eq!((ledger.due(), ledger.skipped()), (0, 2));
    }

    #[test]
    fn an_arrival_may_overtake_its_own_news() {
        let mut ledger = Ledger::default();
        ledger.arrived("a", b"old");
        ledger.arrived("a", b"1");
        ledger.sent("a", b"1");
        ledger.sent("a", b"old");
        assert_eq!(ledger.waiting(), 1, "the old one was told of before the first");
    }
}
