//! What a journal gives back when it is opened, and what it reads back of queues that do not fit into memory.

use std::sync::Arc;

use super::notes::Notes;
use super::record::{QueueId, Sequences, SessionState};
use crate::clock::Moment;
use crate::mqtt::packet::SubscriptionOptions;
use crate::mqtt::{Message, Millis, PacketId, QoS, TopicFilter};

/// What a journal gives back when it is opened.
#[derive(Debug, Default)]
pub struct Restored {
    /// Durable sessions, by their queues.
    pub sessions: Vec<RestoredSession>,
    /// Retained messages, in the order of their topics.
    pub retained: Vec<RestoredRetained>,
    /// What the gateway itself has noted.
    pub notes: Notes,
    /// What the clocks said last: [`crate::clock::resume`] goes on from it.
    pub last_moment: Option<Moment>,
    /// What was found on the way.
    pub report: Report,
}

/// A durable session.
#[derive(Debug)]
pub struct RestoredSession {
    /// Its queue.
    pub queue: QueueId,
    /// What is known of it.
    pub state: SessionState,
    /// Since when it has no connection; `None` where it had one when the process ended.
    pub away_since: Option<Millis>,
    /// Its subscriptions, with their identifiers.
    pub subscriptions: Vec<(TopicFilter, SubscriptionOptions, Option<u32>)>,
    /// What it has noted.
    pub notes: Notes,
    /// The next sequence that it gives out.
    pub next_sequence: u64,
    /// The number of its next inbound exchange.
    pub next_receipt: u64,
    /// Inbound QoS 2 exchanges that have not been released.
    pub receipts: Vec<(u64, PacketId)>,
    /// Outbound messages past their PUBREC.
    pub received: Vec<u64>,
    /// Outbound messages with packet identifiers of their own.
    pub displaced: Vec<(u64, PacketId)>,
    /// What waits for it, in flight or not.
    pub queued: Queued,
}

/// How much waits in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queued {
    /// Messages.
    pub messages: u64,
    /// Their bytes in the journal, roughly.
    pub bytes: u64,
}

/// A retained message.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredRetained {
    /// Its sequence in [`QueueId::RETAINED`].
    pub sequence: u64,
    /// Who published it.
    pub publisher: Option<Arc<str>>,
    /// The message.
    pub message: Message,
}

/// What was found on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes behind the last whole record: a commit that was under way when the process ended.
    pub torn_bytes: u64,
    /// Places where something that was committed cannot be read any more: what was read around them was kept.
    pub damage: Vec<Damage>,
    /// Messages that were there and cannot be read any more.
    pub lost_messages: u64,
}

/// A place in the journal that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// The first byte that cannot be read.
    pub offset: u64,
    /// Bytes until reading went on.
    pub bytes: u64,
}

/// Messages of a queue, read back.
#[derive(Debug, Default)]
pub struct Page {
    /// In the order of their sequences.
    pub messages: Vec<PagedMessage>,
    /// Messages that were there and cannot be read any more. They count as settled.
    pub lost: Vec<Sequences>,
    /// Whether the queue has nothing behind these.
    pub is_last: bool,
}

/// A message of a queue, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct PagedMessage {
    /// Its sequence.
    pub sequence: u64,
    /// QoS of the hop.
    pub qos: QoS,
    /// RETAIN of the hop.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub identifiers: Vec<u32>,
    /// The shared subscription's filter with the name of its group.
    pub share: Option<Arc<str>>,
    /// The name of the bridge's route.
    pub route: Option<Arc<str>>,
    /// When it came, where that is known.
    pub since: Option<Millis>,
    /// The message.
    pub message: Message,
}
