//! Small facts that a session keeps for its bridge, over restarts where the journal is on disk.

use std::sync::{MutexGuard, PoisonError};

use super::{SessionSlot, SetAside};
use crate::store::{Batch, NoteError, Notes, Record};

/// What the notes about messages that were set aside begin with.
const SET_ASIDE: &str = "set aside ";
/// How many of them are kept.
const KEPT_SET_ASIDE: u64 = 16;
/// Bytes of a topic, and of a reason, that are noted.
const MOST_SHOWN: usize = 400;

impl SessionSlot {
    /// Notes `value` under `key`; an empty value removes what was noted. It is recorded behind all that has been
    /// appended to the journal until now.
    ///
    /// # Errors
    /// Where it is beyond the bounds of [`Notes`]: what was noted stays.
    pub fn note(&self, key: &str, value: &str) -> Result<(), NoteError> {
        let mut notes = self.lock_notes();
        // Recorded under the lock: the journal has them in the order in which they were made.
        if notes.set(key, value)? && self.journal.is_durable() {
            let mut batch = Batch::default();
            batch.push(&Record::Note { queue: self.queue_id, key, value });
            self.journal.append(&mut batch);
        }
        Ok(())
    }

    /// What has been noted.
    pub fn notes(&self) -> Notes {
        self.lock_notes().clone()
    }

    /// Notes why a message was set aside that has `sequence` in that lane. The newest few are kept.
    pub(super) fn note_set_aside(&self, sequence: u64, SetAside { topic, reason }: &SetAside) {
        let shown = |text: &str| text[..text.floor_char_boundary(MOST_SHOWN)].to_owned();
        let value = format!("{sequence}\t{}\t{}", shown(topic), shown(reason));
        // It is within the bounds, unless the bridge has noted more than it should.
        let _ = self.note(&format!("{SET_ASIDE}{}", sequence % KEPT_SET_ASIDE), &value);
    }

    /// The newest that was noted so.
    pub(super) fn noted_set_aside(&self) -> Option<SetAside> {
        let notes = self.lock_notes();
        let newest = notes.iter().filter(|(key, _)| key.starts_with(SET_ASIDE)).filter_map(|(_, value)| {
            let mut parts = value.splitn(3, '\t');
            Some((parts.next()?.parse::<u64>().ok()?, parts.next()?, parts.next()?))
        });
        let (_, topic, reason) = newest.max_by_key(|(sequence, ..)| *sequence)?;
        Some(SetAside { topic: topic.into(), reason: reason.into() })
    }

    /// Goes on with the notes of the process before.
    pub(in crate::broker) fn restore_notes(&self, notes: Notes) {
        *self.lock_notes() = notes;
    }

    fn lock_notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
