//! What must survive: one journal of records. What is in memory is a fold over it.
//!
//! Whoever changes durable state collects [`Record`]s in a [`Batch`], appends it once, and holds every acknowledgement
//! back until the [`Ticket`] that it got is committed.

mod journal;
mod record;

pub use journal::{Journal, Ticket};
pub use record::{Batch, Delivered, QueueId, Record};
