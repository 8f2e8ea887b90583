//! What a journal should hold, as plain maps: slow, and too simple to be wrong in the same way.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::mqtt::PacketId;
use crate::mqtt::packet::SubscriptionOptions;

/// A message as it was delivered to one queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub identifiers: Vec<u32>,
}

/// What one record changes.
#[derive(Debug, Clone)]
pub enum Change {
    Session { queue: u64, window: u16 },
    Away { queue: u64, at: u64 },
    End { queue: u64 },
    Subscribe { queue: u64, filter: String, options: SubscriptionOptions, identifier: Option<u32> },
    Unsubscribe { queue: u64, filter: String },
    Note { queue: u64, key: String, value: String },
    Publish { stored: Stored, deliveries: Vec<(u64, u64)>, receipt: Option<(u64, u64, PacketId)> },
    Settle { queue: u64, first: u64, last: u64 },
    Release { queue: u64, number: u64 },
    Received { queue: u64, sequence: u64 },
    Displaced { queue: u64, sequence: u64, packet_id: PacketId },
}

/// One thing that is there or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Session(u64),
    Away(u64),
    Subscription(u64, String),
    Note(u64, String),
    Receipt(u64, u64),
    Received(u64, u64),
    Displaced(u64, u64),
    Message(u64, u64),
}

/// What stands in a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Window(u16),
    Since(u64),
    Subscription(SubscriptionOptions, Option<u32>),
    Note(String),
    PacketId(PacketId),
    Received,
    Message(Stored),
}

impl Cell {
    pub fn queue(&self) -> u64 {
        match *self {
            Self::Session(queue)
            | Self::Away(queue)
            | Self::Subscription(queue, _)
            | Self::Note(queue, _)
            | Self::Receipt(queue, _)
            | Self::Received(queue, _)
            | Self::Displaced(queue, _)
            | Self::Message(queue, _) => queue,
        }
    }

    fn is_of(&self, queue: u64, sequences: std::ops::RangeInclusive<u64>) -> bool {
        match self {
            Self::Received(of, sequence) | Self::Displaced(of, sequence) | Self::Message(of, sequence) => {
                *of == queue && sequences.contains(sequence)
            }
            _ => false,
        }
    }
}

/// What a journal should hold.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    pub cells: BTreeMap<Cell, Value>,
    /// Messages that are over, whether they have come or not.
    settled: BTreeSet<(u64, u64)>,
    released: BTreeSet<(u64, u64)>,
    /// Every session that there ever was.
    pub began: BTreeSet<u64>,
}

impl Expected {
    pub fn new(cells: BTreeMap<Cell, Value>) -> Self {
        Self { cells, ..Self::default() }
    }

    pub fn is_session(&self, queue: u64) -> bool {
        queue == 0 || self.cells.contains_key(&Cell::Session(queue))
    }

    pub fn apply(&mut self, change: &Change) {
        if let Change::Session { queue, .. } = change {
            self.began.insert(*queue);
        }
        for (cells, value) in self.effects(change) {
            match (cells, value) {
                (Cells::One(cell), Some(value)) => {
                    let is_new = matches!(cell, Cell::Session(_)) || self.is_session(cell.queue());
                    let has_message = match cell {
                        Cell::Received(queue, sequence) | Cell::Displaced(queue, sequence) => {
                            self.cells.contains_key(&Cell::Message(queue, sequence))
                        }
                        _ => true,
                    };
                    if is_new && has_message {
                        self.cells.insert(cell, value);
                    }
                }
                (cells, _) => self.cells.retain(|cell, _| !cells.contain(cell)),
            }
        }
        match change {
            Change::Settle { queue, first, last } if self.is_session(*queue) => {
                self.settled.extend((*first..=*last).map(|sequence| (*queue, sequence)));
            }
            Change::Release { queue, number } if self.is_session(*queue) => {
                self.released.insert((*queue, *number));
            }
            _ => {}
        }
    }

    /// What a change does, to a state in which what is over is over.
    fn effects(&self, change: &Change) -> Vec<(Cells, Option<Value>)> {
        match change.clone() {
            Change::Session { queue, window } => vec![
                (Cells::One(Cell::Session(queue)), Some(Value::Window(window))),
                (Cells::One(Cell::Away(queue)), None),
            ],
            Change::Away { queue, at } => vec![(Cells::One(Cell::Away(queue)), Some(Value::Since(at)))],
            Change::End { queue } => vec![(Cells::Queue(queue), None)],
            Change::Subscribe { queue, filter, options, identifier } => {
                let value = Value::Subscription(options, identifier);
                vec![(Cells::One(Cell::Subscription(queue, filter)), Some(value))]
            }
            Change::Unsubscribe { queue, filter } => vec![(Cells::One(Cell::Subscription(queue, filter)), None)],
            Change::Note { queue, key, value } => {
                let value = (!value.is_empty()).then_some(Value::Note(value));
                vec![(Cells::One(Cell::Note(queue, key)), value)]
            }
            Change::Publish { stored, deliveries, receipt } => {
                let receipt = receipt.filter(|&(queue, number, _)| !self.released.contains(&(queue, number)));
                let receipt = receipt.map(|(queue, number, packet_id)| {
                    (Cells::One(Cell::Receipt(queue, number)), Some(Value::PacketId(packet_id)))
                });
                let deliveries = deliveries.into_iter().filter(|delivered| !self.settled.contains(delivered));
                deliveries
                    .map(|(queue, sequence)| {
                        (Cells::One(Cell::Message(queue, sequence)), Some(Value::Message(stored.clone())))
                    })
                    .chain(receipt)
                    .collect()
            }
            Change::Settle { queue, first, last } => vec![(Cells::Sequences(queue, first, last), None)],
            Change::Release { queue, number } => vec![(Cells::One(Cell::Receipt(queue, number)), None)],
            Change::Received { queue, sequence } => {
                vec![(Cells::One(Cell::Received(queue, sequence)), Some(Value::Received))]
            }
            Change::Displaced { queue, sequence, packet_id } => {
                vec![(Cells::One(Cell::Displaced(queue, sequence)), Some(Value::PacketId(packet_id)))]
            }
        }
    }

    /// Where `found` is neither this, nor this with some of `uncertain`.
    pub fn differences(&self, found: &BTreeMap<Cell, Value>, uncertain: &[Change]) -> Vec<String> {
        let effects: Vec<(Cells, Option<Value>)> = uncertain.iter().flat_map(|change| self.effects(change)).collect();
        let cells: BTreeSet<&Cell> = self.cells.keys().chain(found.keys()).collect();
        let differs = |cell: &&Cell| {
            let (is, was) = (found.get(*cell), self.cells.get(*cell));
            let is_possible =
                is == was || effects.iter().any(|(cells, value)| cells.contain(cell) && value.as_ref() == is);
            (!is_possible).then(|| format!("{cell:?}: {is:?} instead of {was:?}"))
        };
        let mut differences: Vec<String> = cells.iter().filter_map(differs).collect();
        let homeless =
            found.keys().filter(|cell| cell.queue() > 0 && !found.contains_key(&Cell::Session(cell.queue())));
        differences.extend(homeless.map(|cell| format!("{cell:?}: its session is not there")));
        differences
    }

    /// The highest number that a queue has certainly seen.
    pub fn highest_sequence(&self, queue: u64) -> Option<u64> {
        let messages = self.cells.keys().filter_map(|cell| match cell {
            Cell::Message(of, sequence) if *of == queue => Some(*sequence),
            _ => None,
        });
        let settled = self.settled.range((queue, 0)..=(queue, u64::MAX)).map(|&(_, sequence)| sequence);
        messages.chain(settled).max()
    }

    /// The highest number of an exchange that a session has certainly seen.
    pub fn highest_receipt(&self, queue: u64) -> Option<u64> {
        let receipts = self.cells.keys().filter_map(|cell| match cell {
            Cell::Receipt(of, number) if *of == queue => Some(*number),
            _ => None,
        });
        let released = self.released.range((queue, 0)..=(queue, u64::MAX)).map(|&(_, number)| number);
        receipts.chain(released).max()
    }
}

/// Cells that a change changes.
enum Cells {
    One(Cell),
    Queue(u64),
    Sequences(u64, u64, u64),
}

impl Cells {
    fn contain(&self, cell: &Cell) -> bool {
        match self {
            Self::One(one) => one == cell,
            Self::Queue(queue) => cell.queue() == *queue && *queue > 0,
            Self::Sequences(queue, first, last) => cell.is_of(*queue, *first..=*last),
        }
    }
}
