//! What one read batch changes: records that are appended together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::record::{self, Delivered, How, QueueId, Receipt, Record, Sequences};
use crate::mqtt::{Message, Publication, QoS};

/// Records that are appended together: those of one read batch. They are encoded as they come.
#[derive(Debug)]
pub struct Batch {
    /// Whether anything is collected; nothing is where the journal keeps nothing.
    is_recording: bool,
    /// Encoded records, their checksums left out.
    pub(super) bytes: Vec<u8>,
    /// How many, those that `settled` and `readings` will be among them.
    pub(super) records: u64,
    /// Exchanges that are over.
    pub(super) settled: Vec<(QueueId, Sequences)>,
    /// Readings, which are not written at once.
    pub(super) readings: Vec<PendingReading>,
    /// Whether readings are written at once, too.
    is_prompt: bool,
    /// What tells the batch's ticket to deliveries that wait for their record.
    pub(super) receipt: Option<Arc<Pending>>,
    /// The deliveries of the publication at hand.
    deliveries: Vec<u8>,
    delivery_count: usize,
    /// Whether one of them must be written at once.
    is_urgent: bool,
}

/// A reading that is not in the journal yet.
#[derive(Debug)]
pub(super) struct PendingReading {
    pub(super) message: Message,
    /// Each with its encoded form.
    pub(super) deliveries: Vec<(Delivered, Vec<u8>)>,
}

/// The ticket of a batch that has not been appended yet.
#[derive(Debug)]
pub struct Pending(AtomicU64);

impl Pending {
    /// The ticket, once the batch has been appended.
    pub(super) fn ticket(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|&ticket| ticket < u64::MAX)
    }

    pub(super) fn resolve(&self, ticket: u64) {
        self.0.store(ticket, Ordering::Release);
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            is_recording: true,
            bytes: Vec::new(),
            records: 0,
            settled: Vec::new(),
            readings: Vec::new(),
            is_prompt: false,
            receipt: None,
            deliveries: Vec::new(),
            delivery_count: 0,
            is_urgent: false,
        }
    }
}

impl Batch {
    /// Says whether anything is to be collected, or the journal keeps nothing anyway.
    pub fn set_recording(&mut self, is_recording: bool) {
        self.is_recording = is_recording;
    }

    /// Says that readings are written at once, too, in their order with all else.
    pub fn set_prompt(&mut self) {
        self.is_prompt = true;
    }

    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Notes a delivery of the publication at hand, which [`Batch::publish`] ends.
    pub fn deliver(&mut self, delivered: Delivered, how: &How<'_>) {
        if self.is_recording {
            record::put_delivery(&mut self.deliveries, delivered, how);
            self.is_urgent |= how.qos == QoS::ExactlyOnce && delivered.queue != QueueId::RETAINED;
        }
        self.delivery_count += 1;
    }

    /// Whether the publication at hand has deliveries.
    pub fn has_deliveries(&self) -> bool {
        self.delivery_count > 0
    }

    /// Records a publication with the deliveries that were noted before, if there are any, or it is a receipt.
    ///
    /// A reading is not written at once, unless one of its deliveries must not leave before it is.
    pub fn publish(&mut self, publication: &Publication<'_>, receipt: Option<Receipt>) {
        let count = std::mem::take(&mut self.delivery_count);
        let is_urgent = std::mem::take(&mut self.is_urgent);
        if count == 0 && receipt.is_none() {
            return;
        }
        self.records += 1;
        if !self.is_recording {
            return;
        }
        if publication.reading().is_some() && receipt.is_none() && !is_urgent && !self.is_prompt {
            let deliveries = record::split_deliveries(count, &self.deliveries);
            self.readings.push(PendingReading { message: publication.keep().clone(), deliveries });
        } else {
            record::put_publish(&mut self.bytes, publication, receipt, count, &self.deliveries);
        }
        self.deliveries.clear();
    }

    /// Records that the exchange of a message is over, or that it has been given up.
    pub fn settle(&mut self, Delivered { queue, sequence }: Delivered) {
        self.records += 1;
        if !self.is_recording {
            return;
        }
        match self.settled.last_mut() {
            // Acknowledgements mostly come in order.
            Some((last, sequences)) if *last == queue && sequences.last + 1 == sequence => sequences.last = sequence,
            _ => self.settled.push((queue, Sequences { first: sequence, last: sequence })),
        }
    }

    /// Records that all these messages of a queue are over.
    pub fn settle_all(&mut self, queue: QueueId, sequences: Sequences) {
        self.records += 1;
        if self.is_recording {
            self.settled.push((queue, sequences));
        }
    }

    /// Records anything else.
    pub fn push(&mut self, record: &Record<'_>) {
        self.records += 1;
        if self.is_recording {
            record.put(&mut self.bytes);
        }
    }

    /// What will know the ticket of this batch once it has been appended: for deliveries that must not leave before
    /// they are committed.
    pub fn pending(&mut self) -> Arc<Pending> {
        Arc::clone(self.receipt.get_or_insert_with(|| Arc::new(Pending(AtomicU64::new(u64::MAX)))))
    }

    /// Appends what `other` has collected, and empties it.
    pub fn append(&mut self, other: &mut Self) {
        self.records += std::mem::take(&mut other.records);
        self.bytes.append(&mut other.bytes);
        self.settled.append(&mut other.settled);
        self.readings.append(&mut other.readings);
    }

    /// Forgets all, and keeps the memory for the next batch.
    pub(super) fn clear(&mut self) {
        self.records = 0;
        self.bytes.clear();
        self.settled.clear();
        self.readings.clear();
        self.receipt = None;
    }
}
