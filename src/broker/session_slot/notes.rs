//! Small facts that a session keeps for its bridge, over restarts where the journal is on disk.

use std::sync::{MutexGuard, PoisonError};

use super::SessionSlot;
use crate::store::{Batch, NoteError, Notes, Record};

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

    /// Goes on with the notes of the process before.
    pub(in crate::broker) fn restore_notes(&self, notes: Notes) {
        *self.lock_notes() = notes;
    }

    fn lock_notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
