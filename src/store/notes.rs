//! Small facts that a durable session keeps, by their names: what a bridge has learnt of its server, and which of its
//! routes have sent what was retained.

use std::collections::BTreeMap;

/// Bytes of a name and its value together.
pub const MAX_NOTE_BYTES: usize = 1024;
/// Notes of one queue.
pub const MAX_NOTES: usize = 1000;
/// Bytes of all notes of one queue, names and values.
pub const MAX_NOTES_BYTES: usize = 64 * 1024;

/// The notes of one queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    values: BTreeMap<Box<str>, Box<str>>,
    bytes: usize,
}

/// Why a note is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// One note is too long.
    #[error("a note has at most {MAX_NOTE_BYTES} bytes, its name included")]
    TooLong,
    /// There are too many.
    #[error("a session has at most {MAX_NOTES} notes of {MAX_NOTES_BYTES} bytes together")]
    TooMany,
}

impl Notes {
    /// Notes `value` under `key`; an empty value removes what was noted. Whether that changes anything.
    ///
    /// # Errors
    /// Where it is beyond the bounds: what was noted stays.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, NoteError> {
        let old = self.get(key);
        if old.unwrap_or_default() == value {
            return Ok(false);
        }
        let freed = old.map_or(0, |old| key.len() + old.len());
        if value.is_empty() {
            self.values.remove(key);
            self.bytes -= freed;
            return Ok(true);
        }
        let added = key.len() + value.len();
        if added > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong);
        }
        let is_one_more = old.is_none() && self.values.len() >= MAX_NOTES;
        if is_one_more || self.bytes - freed + added > MAX_NOTES_BYTES {
            return Err(NoteError::TooMany);
        }
        self.bytes = self.bytes - freed + added;
        self.values.insert(key.into(), value.into());
        Ok(true)
    }

    /// What is noted under `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| &**value)
    }

    /// Each note, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (&**key, &**value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_replaced_and_removed() {
        let mut notes = Notes::default();
        assert_eq!(notes.set("a", "1"), Ok(true));
        assert_eq!(notes.set("a", "1"), Ok(false));
        assert_eq!(notes.set("a", "22"), Ok(true));
        assert_eq!(notes.set("b", ""), Ok(false));
        assert_eq!(notes.set("b", "3"), Ok(true));
        assert_eq!(notes.iter().collect::<Vec<_>>(), [("a", "22"), ("b", "3")]);
        assert_eq!((notes.set("a", ""), notes.set("b", "")), (Ok(true), Ok(true)));
        assert_eq!(notes, Notes::default());
    }

    #[test]
    fn notes_are_bounded_each_in_number_and_together() {
        let mut notes = Notes::default();
        assert_eq!(notes.set("k", &"v".repeat(MAX_NOTE_BYTES)), Err(NoteError::TooLong));
        for number in 0..MAX_NOTES {
            assert_eq!(notes.set(&number.to_string(), "v"), Ok(true));
        }
        assert_eq!(notes.set("one more", "v"), Err(NoteError::TooMany));
        // What is there may still be changed, as far as there is room.
        let long = "v".repeat(1000);
        let changed = (0..MAX_NOTES).take_while(|number| notes.set(&number.to_string(), &long).is_ok()).count();
        assert!((55..65).contains(&changed), "{changed}");
        assert_eq!(notes.set("999", ""), Ok(true));
        assert_eq!(notes.get("998"), Some("v"));
    }
}
