//! What a bridge has learnt of its servers, kept over connections; over restarts its session's notes keep it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mqtt::{Millis, QoS, Version};

/// After this time 5.0 is tried again where 3.1.1 worked, and QoS 2 where 1 did: servers are renewed. In milliseconds.
const TRY_AGAIN_MS: u64 = 86_400_000;
/// Handshakes that fail in a row until the version that worked is forgotten.
const FAILURES: u8 = 2;

/// What is known, by the URL of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Each server that was connected to.
    pub servers: BTreeMap<String, Known>,
}

/// What is known of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The version that it speaks, and when that was learnt.
    pub version: Option<(Version, Millis)>,
    /// The highest QoS that it takes without closing the connection, and does not say itself; and when that was learnt.
    pub maximum_qos: Option<(QoS, Millis)>,
    /// The filters that our session there is subscribed to, each with its QoS; `None` where nobody knows.
    pub subscribed: Option<BTreeMap<String, QoS>>,
    /// Handshakes in that version that have failed in a row; nothing worth keeping.
    pub failures: u8,
}

/// What a handshake that failed says of the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// The server said that it does not speak it.
    Wanted,
    /// It closed without a word. Some do on a version that they do not know, others because they are not well.
    Guessed,
    /// Perhaps something: no answer, or one that was not understood.
    Unclear,
    /// Nothing: it understood us, or was not reached.
    None,
}

impl Known {
    /// The version for the next attempt, by a bridge that would rather speak `preferred`.
    pub fn version(&self, preferred: Version, now: Millis) -> Version {
        match self.version {
            Some((Version::V3, at)) if now.since(at) < TRY_AGAIN_MS => Version::V3,
            _ => preferred,
        }
    }

    /// The highest QoS that it has shown to take, as far as that is known.
    pub fn maximum_qos(&self, now: Millis) -> QoS {
        let learnt = self.maximum_qos.filter(|(_, at)| now.since(*at) < TRY_AGAIN_MS);
        learnt.map_or(QoS::ExactlyOnce, |(maximum, _)| maximum)
    }

    /// Notes that a handshake in `version` succeeded.
    pub fn worked(&mut self, version: Version, now: Millis) {
        self.failures = 0;
        if self.version.is_none_or(|(known, at)| known != version || now.since(at) >= TRY_AGAIN_MS) {
            self.version = Some((version, now));
        }
    }

    /// Notes that a handshake in `version` failed; the version to try at once, if another may help.
    pub fn failed(&mut self, version: Version, hint: Hint) -> Option<Version> {
        let is_known = self.version.is_some_and(|(known, _)| known == version);
        let other = match (version, hint) {
            (Version::V5, Hint::Wanted) => Some(Version::V3),
            (Version::V5, Hint::Guessed) if !is_known => Some(Version::V3),
            _ => None,
        };
        if is_known && hint != Hint::None {
            self.failures += 1;
            if self.failures >= FAILURES || hint == Hint::Wanted {
                (self.version, self.failures) = (None, 0);
            }
        }
        other
    }
}

/// A memory that a bridge and whoever keeps it share.
#[derive(Debug, Clone, Default)]
pub struct SharedMemory {
    shared: Arc<Mutex<(Memory, u64)>>,
}

impl SharedMemory {
    /// All of it.
    pub fn get(&self) -> Memory {
        self.lock().0.clone()
    }

    /// Puts in what was kept. To be called before the bridge runs.
    pub fn set(&self, memory: Memory) {
        self.lock().0 = memory;
    }

    /// Rises when something has changed that is worth keeping.
    pub fn revision(&self) -> u64 {
        self.lock().1
    }

    /// What is known of `server`.
    pub fn known(&self, server: &str) -> Known {
        self.lock().0.servers.get(server).cloned().unwrap_or_default()
    }

    /// Changes what is known of `server`.
    pub fn change<T>(&self, server: &str, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut guard = self.lock();
        let (memory, revision) = &mut *guard;
        let known = memory.servers.entry(server.to_owned()).or_default();
        let before = known.clone();
        let result = change(known);
        if *known != before {
            *revision += 1;
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, (Memory, u64)> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_server_that_refuses_5_0_or_closes_on_it_is_spoken_to_in_3_1_1_for_a_day() {
        for hint in [Hint::Wanted, Hint::Guessed] {
            let mut known = Known::default();
            assert_eq!(known.version(Version::V5, Millis(0)), Version::V5);
            assert_eq!(known.failed(Version::V5, hint), Some(Version::V3));
            known.worked(Version::V3, Millis(HOUR));
            known.worked(Version::V3, Millis(20 * HOUR));
            assert_eq!(known.version(Version::V5, Millis(24 * HOUR)), Version::V3);
            assert_eq!(known.version(Version::V5, Millis(25 * HOUR)), Version::V5);
            // It still does not: for another day.
            assert_eq!(known.failed(Version::V5, hint), Some(Version::V3));
            known.worked(Version::V3, Millis(25 * HOUR));
            assert_eq!(known.version(Version::V5, Millis(48 * HOUR)), Version::V3);
        }
    }

    #[test]
    fn a_version_that_worked_is_forgotten_when_it_fails_twice() {
        let mut known = Known::default();
        known.worked(Version::V3, Millis(0));
        for hint in [Hint::None, Hint::Guessed, Hint::None] {
            assert_eq!(known.failed(Version::V3, hint), None);
            assert_eq!(known.version(Version::V5, Millis(1)), Version::V3);
        }
        assert_eq!(known.failed(Version::V3, Hint::Unclear), None);
        assert_eq!(known.version(Version::V5, Millis(1)), Version::V5);
    }

    #[test]
    fn who_has_spoken_5_0_and_closes_is_not_taken_for_an_old_server_at_once() {
        let mut known = Known::default();
        known.worked(Version::V5, Millis(0));
        assert_eq!(known.failed(Version::V5, Hint::Guessed), None);
        assert_eq!(known.failed(Version::V5, Hint::Guessed), None);
        assert_eq!(known.failed(Version::V5, Hint::Guessed), Some(Version::V3), "it may have been replaced");
        known.worked(Version::V5, Millis(0));
        assert_eq!(known.failed(Version::V5, Hint::Wanted), Some(Version::V3));
    }

    #[test]
    fn a_memory_says_when_it_has_changed() {
        let memory = SharedMemory::default();
        memory.change("mqtt://a:1883", |known| known.worked(Version::V3, Millis(1)));
        assert_eq!(memory.revision(), 1);
        memory.change("mqtt://a:1883", |known| known.worked(Version::V3, Millis(2)));
        assert_eq!(memory.revision(), 1);
        let other = SharedMemory::default();
        other.set(memory.get());
        assert_eq!(other.known("mqtt://a:1883"), memory.known("mqtt://a:1883"));
        assert_eq!(other.known("mqtt://b:1883"), Known::default());
    }
}
