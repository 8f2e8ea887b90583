//! Looks at a journal that no gateway has open: what opening it would give, without changing anything.

use super::filesystem::Filesystem;
use super::recovery::{self, Recovered};
use super::restored::{Report, RestoredSession};
use super::segment::SegmentError;

/// What opening a journal would give.
#[derive(Debug)]
pub struct Inspection {
    /// Durable sessions, by their queues.
    pub sessions: Vec<RestoredSession>,
    /// Retained messages.
    pub retained: usize,
    /// What was found on the way.
    pub report: Report,
}

/// Reads the journal in a folder, and changes nothing. Whoever calls it holds the folder's lock.
///
/// # Errors
/// Where a file cannot be read, or was written by a newer version.
pub fn inspect(filesystem: &dyn Filesystem) -> Result<Inspection, SegmentError> {
    let Recovered { opened, retained, report, .. } = recovery::recover(filesystem)?;
    Ok(Inspection { sessions: opened.fold.sessions(), retained: retained.len(), report })
}
