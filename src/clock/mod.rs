//! Two clocks: the gateway's own, in milliseconds and never going back, and the one on the wall, which may jump.
//!
//! Ages and timers run on the gateway's own clock. It goes on where the journal says that it stood when the process
//! before this one ended, so that a time in the journal means the same in every life of the gateway. How long it was
//! off only the wall can tell, where it can be believed.

mod continuation;
mod wall;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use self::continuation::{Continuation, Moment};
#[cfg(test)]
pub use self::wall::testing;
pub use self::wall::{Trust, set_trust};
use crate::mqtt::{Millis, Sampled};

static ORIGIN: OnceLock<Instant> = OnceLock::new();
/// What the clock said at its origin. 1 rather than 0, so that a time is never taken for "never".
static BEFORE: AtomicU64 = AtomicU64::new(1);
/// How this life goes on from the one before.
static CONTINUATION: Mutex<Option<Continuation>> = Mutex::new(None);

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

/// What the clocks say: what goes into the journal at a start, at the end, and with a commit now and then.
pub fn moment() -> Moment {
    let unbroken_since = continuation().map_or(Millis(1), |continuation| continuation.unbroken_since);
    let (wall_ms, is_synchronised) = wall::read();
    Moment { now: now(), unbroken_since, wall_ms, is_synchronised }
}

/// Goes on from `last`, the newest moment in the journal, with the time spent off where it is known. To be called before
/// anything has asked for the time. The clock never goes back.
pub fn resume(last: Moment) {
    let (wall_ms, is_synchronised) = wall::read();
    let continuation = Continuation::new(last, wall_ms, is_synchronised);
    let behind = continuation.now.0.saturating_sub(now().0);
    BEFORE.fetch_add(behind, Ordering::Relaxed);
    *continuation_lock() = Some(continuation);
}

/// What the clock on the wall says, in milliseconds since the Unix epoch; negative before it. It may jump.
pub fn wall_ms() -> i64 {
    wall::read().0
}

/// A sample of this very moment.
pub fn sample() -> Sampled {
    let (time_ms, is_certain) = wall::read();
    Sampled { time_ms, uncertain_at: (!is_certain).then(now) }
}

/// `sampled` with its right time where that is known by now: also of a sample from before the gateway was restarted,
/// where the wall could be believed before it ended, or the time spent off is known.
pub fn correct(sampled: Sampled) -> Sampled {
    if sampled.is_certain() {
        return sampled;
    }
    sampled.corrected(|at| right_wall_at(at, moment()))
}

/// A moment of the gateway's clock as the wall has it: also one of a life before, as [`correct`] does.
pub fn wall_of(at: Millis) -> Sampled {
    let current = moment();
    match right_wall_at(at, current) {
        Some(time_ms) => Sampled::at(time_ms),
        None => {
            let ago = i64::try_from(current.now.since(at)).unwrap_or(i64::MAX);
            Sampled { time_ms: current.wall_ms.saturating_sub(ago), uncertain_at: Some(at) }
        }
    }
}

/// What a right clock on the wall said when the gateway's clock said `at`, as far as that is known at the `current`
/// moment.
fn right_wall_at(at: Millis, current: Moment) -> Option<i64> {
    let only_this_life = || Continuation::new(current, current.wall_ms, current.is_synchronised);
    continuation().unwrap_or_else(only_this_life).wall_at(at, current)
}

fn continuation() -> Option<Continuation> {
    *continuation_lock()
}

fn continuation_lock() -> MutexGuard<'static, Option<Continuation>> {
    CONTINUATION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Taken from the real clock: the virtual clock of a test may be far ahead of another's.
fn origin() -> Instant {
    *ORIGIN.get_or_init(|| Instant::from_std(std::time::Instant::now()))
}
