//! A journal for tests: it commits when it is told to, and what it has committed can be opened again.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::batch::Batch;
use super::extents::SegmentNumber;
use super::fold::Fold;
use super::journal::Ticket;
use super::record::{self, Delivered, HEADER_BYTES, How, MessageView, QueueId, Record};
use super::restored::{Page, PagedMessage, Report, Restored, RestoredRetained};
use crate::mqtt::Publication;

/// Where all of its records stand.
const SEGMENT: SegmentNumber = 1;

/// A journal that commits when it is told to.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Encoded records with their tickets.
    records: Vec<(Ticket, Vec<u8>)>,
    last: Ticket,
    committed: Ticket,
    /// Whether what is appended is committed at once.
    is_eager: bool,
    is_full: bool,
    hurried: Vec<Ticket>,
    waiting: Vec<(Ticket, Waker)>,
    wanting_room: Vec<Waker>,
}

impl Held {
    /// One that begins with `records`, which are committed.
    pub(super) fn with(records: Vec<Vec<u8>>) -> Self {
        let records: Vec<_> = records.into_iter().map(|record| (Ticket::NONE, record)).collect();
        Self(Mutex::new(State { records, ..State::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, batch: &mut Batch) -> Ticket {
        let mut state = self.lock();
        state.last.0 += 1;
        let ticket = state.last;
        if let Some(pending) = &batch.receipt {
            pending.resolve(ticket.0);
        }
        let mut bytes = &batch.bytes[..];
        while let Some(length) = bytes.first_chunk().map(|length| u32::from_le_bytes(*length) as usize) {
            let (record, rest) = bytes.split_at(HEADER_BYTES + length);
            state.records.push((ticket, record[HEADER_BYTES..].to_vec()));
            bytes = rest;
        }
        for &(queue, sequences) in &batch.settled {
            let mut bytes = Vec::new();
            Record::Settle { queue, sequences }.put(&mut bytes);
            state.records.push((ticket, bytes.split_off(HEADER_BYTES)));
        }
        for reading in &batch.readings {
            let mut bytes = Vec::new();
            let encoded: Vec<u8> = reading.deliveries.iter().flat_map(|(_, encoded)| encoded.clone()).collect();
            let publication = Publication::from_message(&reading.message);
            record::put_publish(&mut bytes, &publication, None, reading.deliveries.len(), &encoded);
            state.records.push((ticket, bytes.split_off(HEADER_BYTES)));
        }
        if state.is_eager {
            state.committed = ticket;
        }
        ticket
    }

    pub(super) fn is_committed(&self, ticket: Ticket) -> bool {
        ticket <= self.lock().committed
    }

    pub(super) fn poll_committed(&self, ticket: Ticket, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if ticket <= state.committed {
            return Poll::Ready(());
        }
        state.waiting.push((ticket, cx.waker().clone()));
        Poll::Pending
    }

    pub(super) fn commit(&self) {
        let mut state = self.lock();
        state.committed = state.last;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub(super) fn set_eager(&self, is_eager: bool) {
        self.lock().is_eager = is_eager;
        self.commit();
    }

    pub(super) fn hurry(&self, ticket: Ticket) {
        self.lock().hurried.push(ticket);
    }

    pub(super) fn take_hurried(&self) -> Vec<Ticket> {
        std::mem::take(&mut self.lock().hurried)
    }

    pub(super) fn set_full(&self, is_full: bool) {
        let mut state = self.lock();
        state.is_full = is_full;
        let wanting = std::mem::take(&mut state.wanting_room);
        drop(state);
        wanting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn has_room(&self) -> bool {
        !self.lock().is_full
    }

    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.is_full {
            return Poll::Ready(());
        }
        state.wanting_room.push(cx.waker().clone());
        Poll::Pending
    }

    /// The records that a power cut would leave.
    pub(super) fn committed(&self) -> Vec<Vec<u8>> {
        let state = self.lock();
        let committed = state.records.iter().filter(|(ticket, _)| *ticket <= state.committed);
        committed.map(|(_, record)| record.clone()).collect()
    }

    pub(super) fn read(&self, queue: QueueId, from: u64, messages: usize, bytes: usize) -> io::Result<Page> {
        let state = self.lock();
        let records: Vec<Record<'_>> = state.records.iter().map(|(_, record)| decode(record)).collect();
        let fold = fold(&records);
        let mut found: Vec<PagedMessage> = deliveries(&records)
            .filter(|(_, delivered, _)| {
                delivered.queue == queue && delivered.sequence >= from && fold.is_alive(*delivered)
            })
            .map(|(message, Delivered { sequence, .. }, how)| PagedMessage {
                sequence,
                qos: how.qos,
                retain: how.retain,
                identifiers: how.identifiers.iter().collect(),
                share: how.share.map(Into::into),
                route: how.route.map(Into::into),
                since: how.since,
                message: message.to_message(),
            })
            .collect();
        found.sort_by_key(|message| message.sequence);
        let mut room = bytes;
        let taken = found.iter().take(messages).take_while(|message| {
            let fits = room > 0;
            room = room.saturating_sub(message.message.size());
            fits
        });
        let count = taken.count();
        let is_last = count == found.len();
        found.truncate(count);
        Ok(Page { messages: found, lost: Vec::new(), is_last })
    }
}

/// What is found where a process ended that had committed `records`.
pub(super) fn restore(records: &[Vec<u8>]) -> (Restored, u64, u64) {
    let records: Vec<Record<'_>> = records.iter().map(|record| decode(record)).collect();
    let mut fold = fold(&records);
    assert_eq!(fold.conclude(), 0);
    let retained = deliveries(&records)
        .filter(|(_, delivered, _)| delivered.queue == QueueId::RETAINED && fold.is_alive(*delivered))
        .map(|(message, Delivered { sequence, .. }, how)| RestoredRetained {
            sequence,
            publisher: how.publisher.map(Into::into),
            message: message.to_message(),
        });
    let mut retained: Vec<RestoredRetained> = retained.collect();
    retained.sort_by(|one, other| one.message.topic().cmp(other.message.topic()));
    let (sessions, notes) = (fold.sessions(), fold.notes());
    let restored = Restored { sessions, retained, notes, last_moment: None, report: Report::default() };
    (restored, fold.next_queue(), fold.next_sequence(QueueId::RETAINED))
}

fn decode(record: &[u8]) -> Record<'_> {
    Record::decode(record).expect("the journal has written it")
}

fn fold(records: &[Record<'_>]) -> Fold {
    let mut fold = Fold::new();
    records.iter().for_each(|record| fold.apply(record, SEGMENT));
    fold
}

fn deliveries<'a>(records: &'a [Record<'a>]) -> impl Iterator<Item = (MessageView<'a>, Delivered, How<'a>)> {
    records.iter().flat_map(|record| {
        let (message, deliveries) = match record {
            Record::Publish { message, deliveries, .. } => (Some(*message), Some(*deliveries)),
            _ => (None, None),
        };
        let deliveries = deliveries.into_iter().flat_map(|deliveries| deliveries.iter());
        deliveries.filter_map(move |(delivered, how)| Some((message?, delivered, how)))
    })
}
