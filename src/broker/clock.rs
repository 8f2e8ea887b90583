//! The broker's clock: milliseconds since the process first asked, never going back.

use std::sync::OnceLock;

use tokio::time::Instant;

use crate::mqtt::Millis;

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// Now. Tests with virtual time see virtual time.
pub fn now() -> Millis {
    let origin = origin();
    // 1 rather than 0, so that a time is never taken for "never".
    Millis(Instant::now().saturating_duration_since(origin).as_millis() as u64 + 1)
}

/// The instant that `at` stands for.
pub fn instant(at: Millis) -> Instant {
    let origin = origin();
    origin + std::time::Duration::from_millis(at.0.saturating_sub(1))
}

/// Taken from the real clock: the virtual clock of a test may be far ahead of another's.
fn origin() -> Instant {
    *ORIGIN.get_or_init(|| Instant::from_std(std::time::Instant::now()))
}
