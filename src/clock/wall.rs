//! The clock on the wall, and whether it can be believed.
//!
//! A box without a clock battery starts in 1970, or where it was switched off, until a time server has answered. The
//! kernel knows whether one has, whoever asked it: `adjtimex`, whose answer a container sees as its host does.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

/// Whether the clock on the wall is believed (`gateway.clock`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Once the system says that it is synchronised.
    #[default]
    Auto,
    /// Always: it has a battery, and was set once.
    Trusted,
    /// Never.
    Untrusted,
}

/// 2026-01-01, before this program was. A wall that says less is wrong, whatever anybody says of it.
const EARLIEST_MS: i64 = 1_767_225_600_000;
/// systemd-timesyncd makes it once a server has answered since the machine was switched on.
const TIMESYNCD_FILE: &str = "/run/systemd/timesync/synchronized";

static TRUST: AtomicU8 = AtomicU8::new(Trust::Auto as u8);
/// Once synchronised it is believed as long as the process lives. Where the servers cannot be reached any more, the
/// kernel takes it back after some hours, and the uplink may be down for days; but then the clock is seconds off.
static WAS_SYNCHRONISED: AtomicBool = AtomicBool::new(false);

/// Says whether the wall is believed.
pub fn set_trust(trust: Trust) {
    TRUST.store(trust as u8, Ordering::Relaxed);
}

/// What the wall says, in milliseconds since the Unix epoch, and whether it can be believed.
pub(super) fn read() -> (i64, bool) {
    #[cfg(test)]
    if let Some(fake) = testing::read() {
        return fake;
    }
    // In this order: the wall is set first, and said to be synchronised then.
    let is_synchronised = is_synchronised();
    let wall_ms = system_ms();
    (wall_ms, is_synchronised && wall_ms >= EARLIEST_MS)
}

fn system_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

fn is_synchronised() -> bool {
    match TRUST.load(Ordering::Relaxed) {
        trust if trust == Trust::Trusted as u8 => true,
        trust if trust == Trust::Untrusted as u8 => false,
        _ => {
            let was_synchronised = WAS_SYNCHRONISED.load(Ordering::Relaxed);
            if !was_synchronised && (kernel_says_so() || std::path::Path::new(TIMESYNCD_FILE).exists()) {
                WAS_SYNCHRONISED.store(true, Ordering::Relaxed);
                return true;
            }
            was_synchronised
        }
    }
}

fn kernel_says_so() -> bool {
    false
}

/// A wall that a test sets.
#[cfg(test)]
pub mod testing {
    use std::cell::Cell;

    use crate::clock;
    use crate::mqtt::Millis;

    thread_local! {
        static FAKE: Cell<Option<(i64, Millis, bool)>> = const { Cell::new(None) };
    }

    /// Takes the wall back to the system's when it is dropped.
    #[must_use]
    pub struct Fake(());

    /// Sets the wall of this thread. It goes on from there with the gateway's clock.
    pub fn set_wall(wall_ms: i64, is_synchronised: bool) -> Fake {
        FAKE.set(Some((wall_ms, clock::now(), is_synchronised)));
        Fake(())
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            FAKE.set(None);
        }
    }

    pub(super) fn read() -> Option<(i64, bool)> {
        let (wall_ms, at, is_synchronised) = FAKE.get()?;
        Some((wall_ms + clock::now().since(at) as i64, is_synchronised))
    }
}
