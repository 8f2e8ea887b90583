//! What must survive: one journal of records. What is in memory is a fold over it.
//!
//! Whoever changes durable state collects records in a [`Batch`], appends it once, and holds every acknowledgement
//! back until the [`Ticket`] that it got is committed.

mod batch;
mod checksum;
mod disk;
mod extents;
mod filesystem;
mod fold;
#[cfg(test)]
mod held;
mod inspection;
mod journal;
mod log;
mod notes;
mod reader;
mod readings;
mod record;
mod recovery;
mod restored;
mod scan;
mod segment;
pub mod settings;
#[cfg(test)]
pub(crate) mod simulated;
mod statistics;
#[cfg(test)]
mod tests;

pub use batch::{Batch, Pending};
pub use checksum::{Salt, Seed, seal_records, verify, whole_records};
pub use filesystem::{File, Filesystem, Folder, Lock, LockError};
pub use inspection::{Inspection, inspect};
pub use journal::{Journal, JournalOptions, OpenError, Ticket};
pub use notes::{MAX_NOTE_BYTES, NoteError, Notes};
pub use record::{
    Delivered, Deliveries, How, Identifiers, MessageView, QueueId, Receipt, Record, RecordError, Sequences,
    SessionKind, SessionState, StoredWill,
};
pub use restored::{Damage, Page, PagedMessage, Queued, Report, Restored, RestoredRetained, RestoredSession};
pub use scan::{END, Scan, Scanned};
pub use segment::{
    Contents, FIRST_RECORD, FORMAT, Opened, Segment, SegmentError, Segments, State, file_name, number_of,
};
pub use statistics::{Day, Failure, Figures, PAGE, Statistics};
