//! Reads records out of bytes, borrowing what they hold.

use std::sync::Arc;

use super::{
    Delivered, Deliveries, How, Identifiers, MessageView, QueueId, ReadingView, Receipt, Record, RecordError,
    Sequences, SessionKind, SessionState, StoredWill, flag, kind,
};
use crate::clock::Moment;
use crate::mqtt::packet::{RetainHandling, SubscriptionOptions};
use crate::mqtt::properties::Forwardable;
use crate::mqtt::{Form, Message, Millis, PacketId, Publication, QoS, Quality, Reading, Sampled};

/// The longest topic name that a packet can have (section 1.5.4).
const MAX_TOPIC_BYTES: usize = 65_535;

impl<'a> Record<'a> {
    /// Reads kind and body, without length and checksum.
    ///
    /// # Errors
    /// Where this is no record; what a checksum has held is one, unless a newer version wrote it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let Some((&kind, body)) = bytes.split_first() else {
            return Err(RecordError::Malformed(0));
        };
        if !Self::is_known(kind) {
            return Err(RecordError::UnknownKind(kind));
        }
        let mut reader = Reader(body);
        let record = reader.record(kind).ok_or(RecordError::Malformed(kind))?;
        if reader.0.is_empty() { Ok(record) } else { Err(RecordError::Malformed(kind)) }
    }

    /// Whether records of this kind can be read.
    pub(in crate::store) fn is_known(kind: u8) -> bool {
        (kind::PUBLISH..=kind::NOTE).contains(&kind)
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
                form: reading.form,
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
pub(in crate::store) fn split_deliveries(count: usize, encoded: &[u8]) -> Vec<(Delivered, Vec<u8>)> {
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
pub(super) struct Reader<'a>(pub &'a [u8]);

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
            kind::NOTE => Record::Note { queue: self.queue()?, key: self.text()?, value: self.text()? },
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
        let topic = self.text().filter(|topic| topic.len() <= MAX_TOPIC_BYTES)?;
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
        let quality = match bits & flag::QUALITY {
            0 => Quality::Good,
            1 => Quality::Uncertain,
            2 => Quality::Bad,
            _ => return None,
        };
        let form = match (bits & !flag::UNCERTAIN_TIME) >> flag::FORM_SHIFT {
            0 => Form::Value,
            1 => Form::Text,
            2 => Form::Json,
            3 => Form::Object,
            4 => Form::Template,
            _ => return None,
        };
        Some(ReadingView {
            sampled: Sampled { time_ms, uncertain_at },
            quality,
            form,
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
        if flags & flag::SINCE != 0 {
            how.since = Some(Millis(self.varint()?));
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

    pub fn varint(&mut self) -> Option<u64> {
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
