//! The records of the journal: what each says, and its bytes.
//!
//! ```text
//! record  length u32 | CRC32C u32 | kind u8 | body          length counts kind and body; integers are little-endian
//! varint  seven bits a byte, the lowest first, as in LEB128
//! text    varint length | UTF-8
//!
//! message       flags u8 | expires varint? | topic text | properties bytes? | payload bytes | reading?
//! deliveries    count varint | each: queue varint | sequence varint | flags u8 | details? | since varint?
//! details       identifiers: count varint, each varint | share text | route text | publisher text   (empty is none)
//! ```
//!
//! The checksum is seeded with the number of the segment that the record stands in, and filled in when it is written
//! there: what an earlier use of the file left behind is never taken for a record.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use decode::Reader;
pub(super) use decode::split_deliveries;
pub(super) use encode::{put_delivery, put_moved, put_publish};

use crate::clock::Moment;
use crate::mqtt::packet::SubscriptionOptions;
use crate::mqtt::properties::Forwardable;
use crate::mqtt::{Form, Message, Millis, PacketId, QoS, Quality, Sampled};

/// Names the queue of a durable session in the journal, for as long as the session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

impl QueueId {
    /// The queue of retained messages: the newest of each topic is its one that lives. Its notes are the gateway's.
    pub const RETAINED: Self = Self(0);
}

/// One delivery that a published message led to: a queue and the sequence that the message has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Delivered {
    /// The queue.
    pub queue: QueueId,
    /// Its sequence there.
    pub sequence: u64,
}

/// How a message is delivered to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How<'a> {
    /// QoS of the hop, 1 or 2.
    pub qos: QoS,
    /// RETAIN of the hop.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub identifiers: Identifiers<'a>,
    /// The shared subscription's filter with the name of its group.
    pub share: Option<&'a str>,
    /// The name of the bridge's route.
    pub route: Option<&'a str>,
    /// Who published a retained message.
    pub publisher: Option<&'a str>,
    /// When it came, by the gateway's clock; known of what goes to bridges.
    pub since: Option<Millis>,
}

impl How<'_> {
    /// A plain delivery.
    pub const fn plain(qos: QoS, retain: bool) -> Self {
        Self {
            qos,
            retain,
            identifiers: Identifiers::Decoded(&[]),
            share: None,
            route: None,
            publisher: None,
            since: None,
        }
    }
}

/// Subscription identifiers, as somebody has them or as they stand in a record.
#[derive(Debug, Clone, Copy)]
pub enum Identifiers<'a> {
    /// As numbers.
    Decoded(&'a [u32]),
    /// As varints.
    Encoded(&'a [u8]),
}

impl<'a> Identifiers<'a> {
    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = u32> + use<'a> {
        let (decoded, mut encoded) = match self {
            Self::Decoded(decoded) => (decoded, Reader(&[])),
            Self::Encoded(bytes) => (&[][..], Reader(bytes)),
        };
        decoded.iter().copied().chain(std::iter::from_fn(move || encoded.varint().map(|value| value as u32)))
    }
}

impl PartialEq for Identifiers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Identifiers<'_> {}

/// Sequences of one queue, from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequences {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// The receipt of a QoS 2 PUBLISH: the session that it came from, its packet identifier, and the number of the
/// exchange among those of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The session.
    pub queue: QueueId,
    /// The packet identifier.
    pub packet_id: PacketId,
    /// The number of the exchange; each session counts its own.
    pub number: u64,
}

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// A client's.
    Client,
    /// A bridge's: its subscriptions stand in the configuration.
    Bridge,
}

/// What is known of a durable session beyond its queue and subscriptions.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionState {
    /// Whose it is.
    pub kind: SessionKind,
    /// The client identifier, or the name of the bridge.
    pub client_id: Arc<str>,
    /// The user whose session it is.
    pub owner: Option<Arc<str>>,
    /// Seconds that it outlives its connection.
    pub expiry_interval: u32,
    /// Messages that its connection took in flight.
    pub window: u16,
    /// The will of its connection.
    pub will: Option<StoredWill>,
}

/// The will of a connection.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredWill {
    /// The message; its expiry counts from when it is published.
    pub message: Message,
    /// Seconds between the end of the connection and the will.
    pub delay_interval: u32,
    /// Seconds for which the message is of use.
    pub expiry_interval: Option<u32>,
}

/// Something that changes durable state, as it stands in the journal.
#[derive(Debug, Clone, PartialEq)]
pub enum Record<'a> {
    /// A message, stored once with the queues that it went to. With `receipt` it is also the receipt of a QoS 2 PUBLISH.
    Publish {
        /// The message.
        message: MessageView<'a>,
        /// The receipt of a QoS 2 PUBLISH.
        receipt: Option<Receipt>,
        /// Its deliveries.
        deliveries: Deliveries<'a>,
    },
    /// A message that has been brought forward from an old segment, with those of its deliveries that were open then.
    Moved {
        /// The message.
        message: MessageView<'a>,
        /// Its deliveries.
        deliveries: Deliveries<'a>,
    },
    /// An outbound QoS 2 message is past its PUBREC: from now on PUBREL is sent, never PUBLISH.
    Received {
        /// The message in its queue.
        delivered: Delivered,
    },
    /// The exchanges of these messages are over, or they have been given up.
    Settle {
        /// The queue.
        queue: QueueId,
        /// The messages.
        sequences: Sequences,
    },
    /// The packet identifier of an inbound QoS 2 message has been released.
    Release {
        /// The session.
        queue: QueueId,
        /// The number of the exchange.
        number: u64,
    },
    /// A message is sent with a packet identifier that is not the one that its sequence stands for.
    Displaced {
        /// The message in its queue.
        delivered: Delivered,
        /// The identifier.
        packet_id: PacketId,
    },
    /// A durable session has a connection, or has changed.
    Session {
        /// Its queue.
        queue: QueueId,
        /// What is known of it.
        state: SessionState,
    },
    /// A durable session has no connection any more.
    Away {
        /// Its queue.
        queue: QueueId,
        /// Since when.
        at: Millis,
    },
    /// A durable session ended, with all that it had.
    SessionEnd {
        /// Its queue.
        queue: QueueId,
    },
    /// A session subscribed, or changed a subscription.
    Subscribe {
        /// Its queue.
        queue: QueueId,
        /// The filter.
        filter: &'a str,
        /// The options.
        options: SubscriptionOptions,
        /// The subscription identifier.
        identifier: Option<u32>,
    },
    /// A session unsubscribed.
    Unsubscribe {
        /// Its queue.
        queue: QueueId,
        /// The filter.
        filter: &'a str,
    },
    /// A durable session, or the gateway itself ([`QueueId::RETAINED`]), notes something.
    Note {
        /// Its queue.
        queue: QueueId,
        /// What it is about.
        key: &'a str,
        /// What is noted; empty removes what was.
        value: &'a str,
    },
    /// What the clocks said.
    Time(Moment),
    /// From here to [`Record::CheckpointEnd`] stands all that is alive, but for the messages themselves.
    CheckpointBegin {
        /// The next queue's number.
        next_queue: u64,
    },
    /// What is alive of a queue at a checkpoint.
    Queue {
        /// The queue.
        queue: QueueId,
        /// The next sequence that it gives out.
        next_sequence: u64,
        /// The number of the next inbound exchange.
        next_receipt: u64,
        /// The messages that wait, or are in flight.
        alive: Vec<Sequences>,
        /// Messages that were settled before they came.
        early: Vec<u64>,
        /// Messages past their PUBREC.
        received: Vec<u64>,
        /// Inbound QoS 2 exchanges that have not been released.
        receipts: Vec<(u64, PacketId)>,
        /// Exchanges that were released before their message came.
        early_releases: Vec<u64>,
        /// Messages with other packet identifiers than those that their sequences stand for.
        displaced: Vec<(u64, PacketId)>,
        /// Since when the session has no connection.
        away_since: Option<Millis>,
    },
    /// The checkpoint is complete.
    CheckpointEnd,
}

/// A message in a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MessageView<'a> {
    /// The topic name.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// Its forwardable properties.
    pub properties: Forwardable<'a>,
    /// QoS that it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN.
    pub retain: bool,
    /// When it is no longer of use.
    pub expires_at: Option<Millis>,
    /// What the adapter knew of it.
    pub reading: Option<ReadingView<'a>>,
    /// All of it, as it stands in the record.
    encoded: &'a [u8],
}

/// A [`Reading`] in a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadingView<'a> {
    sampled: Sampled,
    quality: Quality,
    form: Form,
    unit: Option<&'a str>,
    device: &'a str,
    point: Option<&'a str>,
}

/// The deliveries of a message in a record.
#[derive(Debug, Clone, Copy)]
pub struct Deliveries<'a> {
    count: usize,
    encoded: &'a [u8],
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A kind that this version does not know.
    #[error("a record of the unknown kind {0}")]
    UnknownKind(u8),
    /// The body is not what its kind says.
    #[error("a record of kind {0} that cannot be read")]
    Malformed(u8),
}

/// Bytes before the kind: length and checksum.
pub(super) const HEADER_BYTES: usize = 8;

mod kind {
    pub const PUBLISH: u8 = 1;
    pub const MOVED: u8 = 2;
    pub const RECEIVED: u8 = 3;
    pub const SETTLE: u8 = 4;
    pub const RELEASE: u8 = 5;
    pub const DISPLACED: u8 = 6;
    pub const SESSION: u8 = 7;
    pub const AWAY: u8 = 8;
    pub const SESSION_END: u8 = 9;
    pub const SUBSCRIBE: u8 = 10;
    pub const UNSUBSCRIBE: u8 = 11;
    pub const TIME: u8 = 12;
    pub const CHECKPOINT_BEGIN: u8 = 13;
    pub const QUEUE: u8 = 14;
    pub const CHECKPOINT_END: u8 = 15;
    /// From format 2 on.
    pub const NOTE: u8 = 16;
}

mod flag {
    pub const QOS: u8 = 0b11;
    pub const RETAIN: u8 = 1 << 2;
    pub const EXPIRES: u8 = 1 << 3;
    pub const PROPERTIES: u8 = 1 << 4;
    pub const READING: u8 = 1 << 5;
    /// Of a delivery: identifiers, share, route and publisher follow.
    pub const DETAILS: u8 = 1 << 3;
    /// Of a delivery: when it came follows.
    pub const SINCE: u8 = 1 << 4;
    /// Of a reading, besides its form, which begins at `FORM_SHIFT`.
    pub const QUALITY: u8 = 0b11;
    pub const FORM_SHIFT: u32 = 2;
    /// Of a reading: what the gateway's clock said at the sample follows.
    pub const UNCERTAIN_TIME: u8 = 1 << 7;
}
