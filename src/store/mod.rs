//! What must survive: one journal of records. What is in memory is a fold over it.
//!
//! Whoever changes durable state collects records in a [`Batch`], appends it once, and holds every acknowledgement
//! back until the [`Ticket`] that it got is committed.

mod batch;
mod extents;
mod filesystem;
mod fold;
mod journal;
mod readings;
mod record;
mod restored;
#[cfg(test)]
mod simulated;
mod statistics;

pub use batch::{Batch, Pending};
pub use filesystem::{File, Filesystem, Folder, Lock, LockError};
pub use journal::{Journal, Ticket};
pub use record::{
    Delivered, Deliveries, How, Identifiers, MessageView, QueueId, Receipt, Record, RecordError, Sequences,
    SessionKind, SessionState, StoredWill,
};
pub use restored::{Damage, Page, PagedMessage, Queued, Report, Restored, RestoredRetained, RestoredSession};
pub use statistics::{Day, Failure, Figures, PAGE, Statistics};
