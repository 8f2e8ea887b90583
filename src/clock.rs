//! Two clocks: the gateway's own, in milliseconds and never going back, and the one on the wall.
//!
//! Ages and timers run on the gateway's own clock. It goes on where the journal says that it stood when the process
//! before this one ended, so that a time in the journal means the same in every life of the gateway.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::mqtt::Millis;

static ORIGIN: OnceLock<Instant> = OnceLock::new();
/// What the clock said at its origin. 1 rather than 0, so that a time is never taken for "never".
static BEFORE: AtomicU64 = AtomicU64::new(1);

/// Now. Tests with virtual time see virtual time.
pub fn now() -> Millis {
    let origin = origin();
    let elapsed = Instant::now().saturating_duration_since(origin).as_millis() as u64;
    Millis(BEFORE.load(Ordering::Relaxed) + elapsed)
}

/// The instant that `at` stands for.
pub fn instant(at: Millis) -> Instant {
    let origin = origin();
    origin + Duration::from_millis(at.0.saturating_sub(BEFORE.load(Ordering::Relaxed)))
}

/// Puts the clock forward to `at`, where it stood, or would stand, had the process before this one not ended. To be
/// called before anything has asked for the time. It never goes back.
pub fn continue_from(at: Millis) {
    let behind = at.0.saturating_sub(now().0);
    BEFORE.fetch_add(behind, Ordering::Relaxed);
}

/// What the clock on the wall says, in milliseconds since the Unix epoch; negative before it. It may jump.
pub fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

/// Taken from the real clock: the virtual clock of a test may be far ahead of another's.
fn origin() -> Instant {
    *ORIGIN.get_or_init(|| Instant::from_std(std::time::Instant::now()))
}
