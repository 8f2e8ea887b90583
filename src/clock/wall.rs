//! The clock on the wall, and whether it can be believed.
//!
//! A box without a clock battery starts in 1970, or where it was switched off, until a time server has answered. The
//! kernel knows whether one has, whoever asked it: `adjtimex`, whose answer a container sees as its host does. Where
//! none has, a battery clock that says the same speaks for the wall: without battery, it starts in 1970 itself.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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
/// What the battery clock says, in seconds since the Unix epoch.
const BATTERY_CLOCK_FILE: &str = "/sys/class/rtc/rtc0/since_epoch";
/// So far may the battery clock, which counts seconds, be from the wall that was set from it.
const SAME_TIME_MS: u64 = 60_000;
/// `STA_UNSYNC` of `<sys/timex.h>`.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const UNSYNCHRONISED: i32 = 0x40;

/// So often is it looked whether the wall can be believed by now.
const LOOK_EVERY_MS: u64 = 100;

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
            if !was_synchronised
                && is_time_to_look()
                && (kernel_says_so() || Path::new(TIMESYNCD_FILE).exists() || battery_clock_agrees())
            {
                WAS_SYNCHRONISED.store(true, Ordering::Relaxed);
                return true;
            }
            was_synchronised
        }
    }
}

/// Whether nobody has looked just now: times are asked for by whoever sends a reading.
fn is_time_to_look() -> bool {
    static LOOKED_AT_MS: AtomicU64 = AtomicU64::new(0);
    static SINCE: OnceLock<Instant> = OnceLock::new();
    let now_ms = SINCE.get_or_init(Instant::now).elapsed().as_millis() as u64 + LOOK_EVERY_MS;
    let looked_at_ms = LOOKED_AT_MS.load(Ordering::Relaxed);
    let is_time = now_ms >= looked_at_ms + LOOK_EVERY_MS;
    if is_time {
        LOOKED_AT_MS.store(now_ms, Ordering::Relaxed);
    }
    is_time
}

fn battery_clock_agrees() -> bool {
    std::fs::read_to_string(BATTERY_CLOCK_FILE).is_ok_and(|text| says_the_same(&text, system_ms()))
}

fn says_the_same(battery_clock: &str, wall_ms: i64) -> bool {
    let seconds = battery_clock.trim().parse::<i64>().ok();
    seconds
        .and_then(|seconds| seconds.checked_mul(1000))
        .is_some_and(|ms| ms >= EARLIEST_MS && ms.abs_diff(wall_ms) <= SAME_TIME_MS)
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn kernel_says_so() -> bool {
    kernel_status().is_ok_and(|status| status & UNSYNCHRONISED == 0)
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn kernel_status() -> std::io::Result<i32> {
    use rtime_clock::adjtime::{Timex, adjtimex};

    // All zero asks, and changes nothing.
    let mut answer = Timex::new();
    adjtimex(&mut answer).map(|_| answer.0.status)
}

/// There is no safe call of `adjtimex` for 32 bits: there timesyncd's file, or a battery clock, must tell.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    #[test]
    fn the_kernel_says_whether_it_is_synchronised() {
        kernel_status().unwrap();
    }

    #[test]
    fn a_battery_clock_speaks_for_the_wall_only_where_both_say_the_same_time_of_our_days() {
        let wall_ms = EARLIEST_MS + 86_400_000;
        let battery_clock = |off_seconds: i64| format!("{}\n", wall_ms / 1000 + off_seconds);
        assert!(says_the_same(&battery_clock(0), wall_ms));
        assert!(says_the_same(&battery_clock(-60), wall_ms));
        assert!(!says_the_same(&battery_clock(61), wall_ms));
        assert!(!says_the_same("30\n", 30_000), "both started in 1970");
        assert!(!says_the_same("30\n", wall_ms));
        assert!(!says_the_same("", wall_ms));
        assert!(!says_the_same("9223372036854775807", wall_ms));
    }

    #[test]
    fn the_wall_of_a_test_goes_on_with_the_gateways_clock() {
        let fake = testing::set_wall(-5, true);
        let (begin, (wall_ms, is_synchronised)) = (clock::now(), read());
        assert!(is_synchronised && wall_ms >= -5 && wall_ms <= -5 + clock::now().since(begin) as i64 + 1_000);
        drop(fake);
        assert!(read().0 > wall_ms, "the system's again");
    }
}
