//! The records of the journal.

use std::ops::Range;
use std::sync::Arc;

use crate::mqtt::packet::SubscriptionOptions;
use crate::mqtt::{Message, PacketId, TopicFilter};

/// Names the queue of a durable session in the journal, for as long as the session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// One delivery that a published message led to: a queue and the sequence that the message has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The queue.
    pub queue: QueueId,
    /// Its sequence there.
    pub sequence: u64,
}

/// Something that changes durable state.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A message, stored once with the queues that it went to. With `origin` it is also the receipt of a QoS 2
    /// PUBLISH: the session it came from and its packet identifier.
    Publish {
        /// The message.
        message: Message,
        /// Session and packet identifier of a QoS 2 PUBLISH.
        origin: Option<(QueueId, PacketId)>,
        /// Its deliveries, in [`Batch::deliveries`].
        deliveries: Range<u32>,
    },
    /// The newest retained message of its topic; an empty payload removes it.
    Retain {
        /// The message.
        message: Message,
    },
    /// An outbound QoS 2 message is past its PUBREC: from now on PUBREL is sent, never PUBLISH.
    Received {
        /// The message in its queue.
        delivered: Delivered,
    },
    /// The exchange of a message is over.
    Settle {
        /// The message in its queue.
        delivered: Delivered,
    },
    /// The packet identifier of an inbound QoS 2 message has been released.
    Release {
        /// The session.
        queue: QueueId,
        /// The identifier.
        packet_id: PacketId,
    },
    /// A durable session exists.
    Session {
        /// Its queue.
        queue: QueueId,
        /// Its client identifier.
        client_id: Arc<str>,
        /// Seconds that it outlives its connection.
        expiry_interval: u32,
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
        filter: TopicFilter,
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
        filter: TopicFilter,
    },
}

/// Records that are appended together: those of one read batch.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records, in their order.
    pub records: Vec<Record>,
    /// What the ranges of [`Record::Publish`] point into.
    pub deliveries: Vec<Delivered>,
}

impl Batch {
    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Forgets all, and keeps the memory for the next batch.
    pub fn clear(&mut self) {
        self.records.clear();
        self.deliveries.clear();
    }
}
