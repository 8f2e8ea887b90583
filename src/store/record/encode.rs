//! Writes records as the journal keeps them.

use super::{Delivered, HEADER_BYTES, How, MessageView, Receipt, Record, SessionKind, SessionState, flag, kind};
use crate::clock::Moment;
use crate::mqtt::Publication;
use crate::mqtt::packet::SubscriptionOptions;

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
pub(in crate::store) fn put_publish(
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
pub(in crate::store) fn put_moved(into: &mut Vec<u8>, message: &MessageView<'_>, count: usize, deliveries: &[u8]) {
    put_record(into, kind::MOVED, |into| {
        into.extend_from_slice(message.encoded);
        put_varint(into, count as u64);
        into.extend_from_slice(deliveries);
    });
}

/// Appends one delivery.
pub(in crate::store) fn put_delivery(into: &mut Vec<u8>, delivered: Delivered, how: &How<'_>) {
    put_varint(into, delivered.queue.0);
    put_varint(into, delivered.sequence);
    let mut identifiers = how.identifiers.iter().peekable();
    let has_details =
        identifiers.peek().is_some() || how.share.is_some() || how.route.is_some() || how.publisher.is_some();
    let mut flags = how.qos as u8;
    flags |= if how.retain { flag::RETAIN } else { 0 };
    flags |= if has_details { flag::DETAILS } else { 0 };
    flags |= if how.since.is_some() { flag::SINCE } else { 0 };
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
    if let Some(since) = how.since {
        put_varint(into, since.0);
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
        let bits = reading.quality as u8 | (reading.form as u8) << flag::FORM_SHIFT;
        match reading.sampled.uncertain_at {
            None => into.push(bits),
            Some(at) => {
                into.push(bits | flag::UNCERTAIN_TIME);
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
    pub(in crate::store) fn put(&self, into: &mut Vec<u8>) {
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
            Self::Note { queue, key, value } => put_record(into, kind::NOTE, |into| {
                put_varint(into, queue.0);
                put_bytes(into, key.as_bytes());
                put_bytes(into, value.as_bytes());
            }),
            Self::Time(Moment { now, unbroken_since, wall_ms, is_synchronised }) => {
                put_record(into, kind::TIME, |into| {
                    put_varint(into, now.0);
                    put_varint(into, unbroken_since.0);
                    into.extend_from_slice(&wall_ms.to_le_bytes());
                    into.push(u8::from(*is_synchronised));
                });
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

fn put_varint(into: &mut Vec<u8>, mut value: u64) {
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
