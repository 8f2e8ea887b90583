//! The records of the journal: what each says, and its bytes.
//!
//! ```text
//! record  length u32 | CRC32C u32 | kind u8 | body          length counts kind and body; integers are little-endian
//! varint  seven bits a byte, the lowest first, as in LEB128
//! text    varint length | UTF-8
//!
//! message       flags u8 | expires varint? | topic text | properties bytes? | payload bytes | reading?
//! deliveries    count varint | each: queue varint | sequence varint | flags u8 | details?
//! details       identifiers: count varint, each varint | share text | route text | publisher text   (empty is none)
//! ```
//!
//! The checksum is seeded with the number of the segment that the record stands in, and filled in when it is written
//! there: what an earlier use of the file left behind is never taken for a record.

use std::sync::Arc;

use crate::clock::Moment;
use crate::mqtt::packet::{RetainHandling, SubscriptionOptions};
use crate::mqtt::properties::Forwardable;
use crate::mqtt::{Message, Millis, PacketId, Publication, QoS, Quality, Reading, Sampled};

/// Names the queue of a durable session in the journal, for as long as the session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

impl QueueId {
    /// The queue of retained messages: the newest of each topic is its one that lives.
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
}

impl How<'_> {
    /// A plain delivery.
    pub const fn plain(qos: QoS, retain: bool) -> Self {
        Self { qos, retain, identifiers: Identifiers::Decoded(&[]), share: None, route: None, publisher: None }
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
}

mod flag {
    pub const QOS: u8 = 0b11;
    pub const RETAIN: u8 = 1 << 2;
    pub const EXPIRES: u8 = 1 << 3;
    pub const PROPERTIES: u8 = 1 << 4;
    pub const READING: u8 = 1 << 5;
    /// Of a delivery: identifiers, share, route and publisher follow.
    pub const DETAILS: u8 = 1 << 3;
    /// Of a reading: what the gateway's clock said at the sample follows.
    pub const UNCERTAIN_TIME: u8 = 1 << 7;
}

/// Appends a record whose body `write` writes; its checksum is left out.
fn put_record(into: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = into.len();
    into.extend_from_slice(&[0; HEADER_BYTES]);
    into.push(kind);
    write(into);
    let length = (into.len() - begin - HEADER_BYTES) as u32;
    into[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends the record of a publication; `deliveries` were written by [`put_delivery`].
pub(super) fn put_publish(
    into: &mut Vec<u8>,
    publication: &Publication<'_>,
    receipt: Option<Receipt>,
    count: usize,
    deliveries: &[u8],
) {
    put_record(into, kind::PUBLISH, |into| {
        match receipt {
            None => into.push(0),
            Some(Receipt { queue, packet_id, number }) => {
                into.push(1);
                put_varint(into, queue.0);
                into.extend_from_slice(&packet_id.get().to_le_bytes());
                put_varint(into, number);
            }
        }
        put_message(into, publication);
        put_varint(into, count as u64);
        into.extend_from_slice(deliveries);
    });
}

/// Appends the record of a message that is brought forward.
pub(super) fn put_moved(into: &mut Vec<u8>, message: &MessageView<'_>, count: usize, deliveries: &[u8]) {
    put_record(into, kind::MOVED, |into| {
        into.extend_from_slice(message.encoded);
        put_varint(into, count as u64);
        into.extend_from_slice(deliveries);
    });
}

/// Appends one delivery.
pub(super) fn put_delivery(into: &mut Vec<u8>, delivered: Delivered, how: &How<'_>) {
    put_varint(into, delivered.queue.0);
    put_varint(into, delivered.sequence);
    let mut identifiers = how.identifiers.iter().peekable();
    let has_details =
        identifiers.peek().is_some() || how.share.is_some() || how.route.is_some() || how.publisher.is_some();
    let mut flags = how.qos as u8;
    flags |= if how.retain { flag::RETAIN } else { 0 };
    flags |= if has_details { flag::DETAILS } else { 0 };
    into.push(flags);
    if has_details {
        put_varint(into, how.identifiers.iter().count() as u64);
        for identifier in identifiers {
            put_varint(into, u64::from(identifier));
        }
        for text in [how.share, how.route, how.publisher] {
            put_bytes(into, text.unwrap_or_default().as_bytes());
        }
    }
}

fn put_message(into: &mut Vec<u8>, publication: &Publication<'_>) {
    let reading = publication.reading();
    let mut flags = publication.qos as u8;
    flags |= if publication.retain { flag::RETAIN } else { 0 };
    flags |= if publication.expires_at.is_some() { flag::EXPIRES } else { 0 };
    flags |= if publication.properties.is_empty() { 0 } else { flag::PROPERTIES };
    flags |= if reading.is_some() { flag::READING } else { 0 };
    into.push(flags);
    if let Some(at) = publication.expires_at {
        put_varint(into, at.0);
    }
    put_bytes(into, publication.topic.as_bytes());
    if !publication.properties.is_empty() {
        put_varint(into, publication.properties.len() as u64);
        publication.properties.write(into);
    }
    put_bytes(into, publication.payload);
    if let Some(reading) = reading {
        into.extend_from_slice(&reading.sampled.time_ms.to_le_bytes());
        match reading.sampled.uncertain_at {
            None => into.push(reading.quality as u8),
            Some(at) => {
                into.push(reading.quality as u8 | flag::UNCERTAIN_TIME);
                put_varint(into, at.0);
            }
        }
        for text in [reading.unit.as_deref(), Some(&*reading.device), reading.point.as_deref()] {
            // One more than the length, so that "none" and "empty" differ.
            put_varint(into, text.map_or(0, |text| text.len() as u64 + 1));
            into.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
    }
}

impl Record<'_> {
    /// Appends the record; its checksum is left out.
    pub(super) fn put(&self, into: &mut Vec<u8>) {
        match self {
            Self::Publish { message, receipt, deliveries } => {
                let message = message.to_message();
                let publication = Publication::from_message(&message);
                put_publish(into, &publication, *receipt, deliveries.count, deliveries.encoded);
            }
            Self::Moved { message, deliveries } => put_moved(into, message, deliveries.count, deliveries.encoded),
            Self::Received { delivered } => put_record(into, kind::RECEIVED, |into| put_delivered(into, *delivered)),
            Self::Settle { queue, sequences } => put_record(into, kind::SETTLE, |into| {
                put_varint(into, queue.0);
                put_varint(into, sequences.first);
                put_varint(into, sequences.last - sequences.first);
            }),
            Self::Release { queue, number } => put_record(into, kind::RELEASE, |into| {
                put_varint(into, queue.0);
                put_varint(into, *number);
            }),
            Self::Displaced { delivered, packet_id } => put_record(into, kind::DISPLACED, |into| {
                put_delivered(into, *delivered);
                into.extend_from_slice(&packet_id.get().to_le_bytes());
            }),
            Self::Session { queue, state } => put_record(into, kind::SESSION, |into| {
                put_varint(into, queue.0);
                put_session(into, state);
            }),
            Self::Away { queue, at } => put_record(into, kind::AWAY, |into| {
                put_varint(into, queue.0);
                put_varint(into, at.0);
            }),
            Self::SessionEnd { queue } => put_record(into, kind::SESSION_END, |into| put_varint(into, queue.0)),
            Self::Subscribe { queue, filter, options, identifier } => put_record(into, kind::SUBSCRIBE, |into| {
                put_varint(into, queue.0);
                put_bytes(into, filter.as_bytes());
                put_options(into, *options);
                put_varint(into, identifier.map_or(0, u64::from));
            }),
            Self::Unsubscribe { queue, filter } => put_record(into, kind::UNSUBSCRIBE, |into| {
                put_varint(into, queue.0);
                put_bytes(into, filter.as_bytes());
            }),
            Self::Time(Moment { now, unbroken_since, wall_ms, is_synchronised }) => {
                put_record(into, kind::TIME, |into| {
                    put_varint(into, now.0);
                    put_varint(into, unbroken_since.0);
                    into.extend_from_slice(&wall_ms.to_le_bytes());
                    into.push(u8::from(*is_synchronised));
                })
            }
            Self::CheckpointBegin { next_queue } => {
                put_record(into, kind::CHECKPOINT_BEGIN, |into| put_varint(into, *next_queue));
            }
            Self::Queue { .. } => put_record(into, kind::QUEUE, |into| self.put_queue(into)),
            Self::CheckpointEnd => put_record(into, kind::CHECKPOINT_END, |_| ()),
        }
    }

    fn put_queue(&self, into: &mut Vec<u8>) {
        let Self::Queue {
            queue,
            next_sequence,
            next_receipt,
            alive,
            early,
            received,
            receipts,
            early_releases,
            displaced,
            away_since,
        } = self
        else {
            return;
        };
        put_varint(into, queue.0);
        put_varint(into, *next_sequence);
        put_varint(into, *next_receipt);
        put_varint(into, away_since.map_or(0, |at| at.0));
        put_varint(into, alive.len() as u64);
        let mut at = 0;
        for sequences in alive {
            // They rise, so their distances are small.
            put_varint(into, sequences.first - at);
            put_varint(into, sequences.last - sequences.first);
            at = sequences.last;
        }
        for list in [early, received, early_releases] {
            put_varint(into, list.len() as u64);
            list.iter().for_each(|value| put_varint(into, *value));
        }
        for list in [receipts, displaced] {
            put_varint(into, list.len() as u64);
            for (number, packet_id) in list {
                put_varint(into, *number);
                into.extend_from_slice(&packet_id.get().to_le_bytes());
            }
        }
    }
}

fn put_delivered(into: &mut Vec<u8>, Delivered { queue, sequence }: Delivered) {
    put_varint(into, queue.0);
    put_varint(into, sequence);
}

fn put_options(into: &mut Vec<u8>, options: SubscriptionOptions) {
    let mut bits = options.qos as u8;
    bits |= if options.no_local { 1 << 2 } else { 0 };
    bits |= if options.retain_as_published { 1 << 3 } else { 0 };
    bits |= (options.retain_handling as u8) << 4;
    into.push(bits);
}

fn put_session(into: &mut Vec<u8>, state: &SessionState) {
    let is_bridge = u8::from(state.kind == SessionKind::Bridge);
    into.push(is_bridge | u8::from(state.owner.is_some()) << 1 | u8::from(state.will.is_some()) << 2);
    put_bytes(into, state.client_id.as_bytes());
    if let Some(owner) = &state.owner {
        put_bytes(into, owner.as_bytes());
    }
    into.extend_from_slice(&state.expiry_interval.to_le_bytes());
    into.extend_from_slice(&state.window.to_le_bytes());
    if let Some(will) = &state.will {
        into.extend_from_slice(&will.delay_interval.to_le_bytes());
        // One more, so that "none" and 0 differ.
        put_varint(into, will.expiry_interval.map_or(0, |seconds| u64::from(seconds) + 1));
        put_message(into, &Publication::from_message(&will.message));
    }
}

pub(super) fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

impl<'a> Record<'a> {
    /// Reads kind and body, without length and checksum.
    ///
    /// # Errors
    /// Where this is no record; what a checksum has held is one, unless a newer version wrote it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let Some((&kind, body)) = bytes.split_first() else {
            return Err(RecordError::Malformed(0));
        };
        if !(kind::PUBLISH..=kind::CHECKPOINT_END).contains(&kind) {
            return Err(RecordError::UnknownKind(kind));
        }
        let mut reader = Reader(body);
        let record = reader.record(kind).ok_or(RecordError::Malformed(kind))?;
        if reader.0.is_empty() { Ok(record) } else { Err(RecordError::Malformed(kind)) }
    }
}

impl<'a> MessageView<'a> {
    /// The message, in memory of its own.
    pub fn to_message(&self) -> Message {
        let mut publication = Publication::new(self.topic, self.payload, self.properties, self.qos, self.retain);
        publication.expires_at = self.expires_at;
        let reading = self.reading.map(|reading| {
            Arc::new(Reading {
                sampled: reading.sampled,
                unit: reading.unit.map(Into::into),
                quality: reading.quality,
                device: reading.device.into(),
                point: reading.point.map(Into::into),
            })
        });
        publication.with_reading(reading.as_ref()).keep().clone()
    }
}

impl<'a> Deliveries<'a> {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = (Delivered, How<'a>)> + use<'a> {
        let mut reader = Reader(self.encoded);
        // They were read once when the record was, so none is malformed.
        (0..self.count).map_while(move |_| reader.delivery())
    }
}

impl PartialEq for Deliveries<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// Each of `count` encoded deliveries with its bytes.
pub(super) fn split_deliveries(count: usize, encoded: &[u8]) -> Vec<(Delivered, Vec<u8>)> {
    let mut reader = Reader(encoded);
    let mut next = || {
        let begin = reader.0;
        let (delivered, _) = reader.delivery()?;
        Some((delivered, begin[..begin.len() - reader.0.len()].to_vec()))
    };
    (0..count).map_while(|_| next()).collect()
}

/// Takes values off the front of bytes.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn record(&mut self, kind: u8) -> Option<Record<'a>> {
        Some(match kind {
            kind::PUBLISH => {
                let receipt = match self.byte()? {
                    0 => None,
                    1 => Some(Receipt { queue: self.queue()?, packet_id: self.packet_id()?, number: self.varint()? }),
                    _ => return None,
                };
                Record::Publish { receipt, message: self.message()?, deliveries: self.deliveries()? }
            }
            kind::MOVED => Record::Moved { message: self.message()?, deliveries: self.deliveries()? },
            kind::RECEIVED => Record::Received { delivered: self.delivered()? },
            kind::SETTLE => {
                let (queue, first, more) = (self.queue()?, self.varint()?, self.varint()?);
                Record::Settle { queue, sequences: Sequences { first, last: first.checked_add(more)? } }
            }
            kind::RELEASE => Record::Release { queue: self.queue()?, number: self.varint()? },
            kind::DISPLACED => Record::Displaced { delivered: self.delivered()?, packet_id: self.packet_id()? },
            kind::SESSION => Record::Session { queue: self.queue()?, state: self.session()? },
            kind::AWAY => Record::Away { queue: self.queue()?, at: Millis(self.varint()?) },
            kind::SESSION_END => Record::SessionEnd { queue: self.queue()? },
            kind::SUBSCRIBE => Record::Subscribe {
                queue: self.queue()?,
                filter: self.text()?,
                options: self.options()?,
                identifier: Some(u32::try_from(self.varint()?).ok()?).filter(|&identifier| identifier > 0),
            },
            kind::UNSUBSCRIBE => Record::Unsubscribe { queue: self.queue()?, filter: self.text()? },
            kind::TIME => Record::Time(Moment {
                now: Millis(self.varint()?),
                unbroken_since: Millis(self.varint()?),
                wall_ms: i64::from_le_bytes(self.array()?),
                is_synchronised: self.byte()? != 0,
            }),
            kind::CHECKPOINT_BEGIN => Record::CheckpointBegin { next_queue: self.varint()? },
            kind::QUEUE => self.queue_record()?,
            kind::CHECKPOINT_END => Record::CheckpointEnd,
            _ => return None,
        })
    }

    fn queue_record(&mut self) -> Option<Record<'a>> {
        let (queue, next_sequence, next_receipt) = (self.queue()?, self.varint()?, self.varint()?);
        let away_since = Some(Millis(self.varint()?)).filter(|at| at.0 > 0);
        let mut at = 0u64;
        let alive = (0..self.varint()?)
            .map(|_| {
                let first = at.checked_add(self.varint()?)?;
                let last = first.checked_add(self.varint()?)?;
                at = last;
                Some(Sequences { first, last })
            })
            .collect::<Option<_>>()?;
        let mut numbers = || (0..self.varint()?).map(|_| self.varint()).collect::<Option<Vec<u64>>>();
        let (early, received, early_releases) = (numbers()?, numbers()?, numbers()?);
        let mut pairs =
            || (0..self.varint()?).map(|_| Some((self.varint()?, self.packet_id()?))).collect::<Option<Vec<_>>>();
        let (receipts, displaced) = (pairs()?, pairs()?);
        Some(Record::Queue {
            queue,
            next_sequence,
            next_receipt,
            alive,
            early,
            received,
            receipts,
            early_releases,
            displaced,
            away_since,
        })
    }

    fn message(&mut self) -> Option<MessageView<'a>> {
        let begin = self.0;
        let flags = self.byte()?;
        let qos = QoS::from_wire(flags & flag::QOS)?;
        let expires_at = if flags & flag::EXPIRES != 0 { Some(Millis(self.varint()?)) } else { None };
        let topic = self.text()?;
        let properties = if flags & flag::PROPERTIES != 0 { self.bytes()? } else { &[] };
        let payload = self.bytes()?;
        let reading = if flags & flag::READING != 0 { Some(self.reading()?) } else { None };
        Some(MessageView {
            topic,
            payload,
            properties: Forwardable::plain(properties),
            qos,
            retain: flags & flag::RETAIN != 0,
            expires_at,
            reading,
            encoded: &begin[..begin.len() - self.0.len()],
        })
    }

    fn reading(&mut self) -> Option<ReadingView<'a>> {
        let time_ms = i64::from_le_bytes(self.array()?);
        let bits = self.byte()?;
        let is_uncertain = bits & flag::UNCERTAIN_TIME != 0;
        let uncertain_at = if is_uncertain { Some(Millis(self.varint()?)) } else { None };
        let quality = match bits & !flag::UNCERTAIN_TIME {
            0 => Quality::Good,
            1 => Quality::Uncertain,
            2 => Quality::Bad,
            _ => return None,
        };
        Some(ReadingView {
            sampled: Sampled { time_ms, uncertain_at },
            quality,
            unit: self.optional_text()?,
            device: self.optional_text()??,
            point: self.optional_text()?,
        })
    }

    fn deliveries(&mut self) -> Option<Deliveries<'a>> {
        let count = usize::try_from(self.varint()?).ok()?;
        let begin = self.0;
        for _ in 0..count {
            self.delivery()?;
        }
        Some(Deliveries { count, encoded: &begin[..begin.len() - self.0.len()] })
    }

    fn delivery(&mut self) -> Option<(Delivered, How<'a>)> {
        let delivered = self.delivered()?;
        let flags = self.byte()?;
        let qos = QoS::from_wire(flags & flag::QOS)?;
        let mut how = How::plain(qos, flags & flag::RETAIN != 0);
        if flags & flag::DETAILS != 0 {
            let count = self.varint()?;
            let begin = self.0;
            for _ in 0..count {
                u32::try_from(self.varint()?).ok()?;
            }
            how.identifiers = Identifiers::Encoded(&begin[..begin.len() - self.0.len()]);
            let mut text = || Some(Some(self.text()?).filter(|text| !text.is_empty()));
            (how.share, how.route, how.publisher) = (text()?, text()?, text()?);
        }
        Some((delivered, how))
    }

    fn session(&mut self) -> Option<SessionState> {
        let flags = self.byte()?;
        let kind = if flags & 1 != 0 { SessionKind::Bridge } else { SessionKind::Client };
        let client_id = self.text()?.into();
        let owner = if flags & 2 != 0 { Some(self.text()?.into()) } else { None };
        let expiry_interval = u32::from_le_bytes(self.array()?);
        let window = u16::from_le_bytes(self.array()?);
        let will = if flags & 4 != 0 {
            let delay_interval = u32::from_le_bytes(self.array()?);
            let expiry_interval = self.varint()?.checked_sub(1).map(u32::try_from).transpose().ok()?;
            Some(StoredWill { message: self.message()?.to_message(), delay_interval, expiry_interval })
        } else {
            None
        };
        Some(SessionState { kind, client_id, owner, expiry_interval, window, will })
    }

    fn options(&mut self) -> Option<SubscriptionOptions> {
        let bits = self.byte()?;
        let retain_handling = match bits >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        };
        Some(SubscriptionOptions {
            qos: QoS::from_wire(bits & 3)?,
            no_local: bits & 1 << 2 != 0,
            retain_as_published: bits & 1 << 3 != 0,
            retain_handling,
        })
    }

    fn delivered(&mut self) -> Option<Delivered> {
        Some(Delivered { queue: self.queue()?, sequence: self.varint()? })
    }

    fn queue(&mut self) -> Option<QueueId> {
        self.varint().map(QueueId)
    }

    fn packet_id(&mut self) -> Option<PacketId> {
        PacketId::new(u16::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn optional_text(&mut self) -> Option<Option<&'a str>> {
        match self.varint()? {
            0 => Some(None),
            more => {
                let (text, rest) = self.0.split_at_checked(usize::try_from(more - 1).ok()?)?;
                self.0 = rest;
                Some(Some(std::str::from_utf8(text).ok()?))
            }
        }
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
