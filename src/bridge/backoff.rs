//! How long to wait before dialling again: longer each time, and never the same for fifty gateways.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// The longest: a link that returns after a long outage is used again within this time.
const LONGEST: Duration = Duration::from_secs(15);
/// A connection that lived this long was a good one.
const GOOD: Duration = Duration::from_secs(30);

/// Pauses between attempts: doubled each time from 0.5 s to 15 s, each shortened by up to a half at random.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    random: RandomState,
    count: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST, random: RandomState::new(), count: 0 }
    }
}

impl Backoff {
    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        self.count += 1;
        let share = self.random.hash_one(self.count) as f64 / u64::MAX as f64;
        let pause = self.next.mul_f64(1.0 - share / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        pause
    }

    /// Notes that a connection lived for `time`; after a good one the pauses start anew.
    pub fn connected_for(&mut self, time: Duration) {
        if time >= GOOD {
            self.next = FIRST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_cap_and_start_anew_after_a_good_connection() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses[0] <= FIRST && pauses[0] >= FIRST / 2);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST));
        assert!(pauses[19] >= LONGEST / 2);
        backoff.connected_for(Duration::from_secs(1));
        assert!(backoff.pause() >= LONGEST / 2, "a connection that broke at once is no good one");
        backoff.connected_for(GOOD);
        assert!(backoff.pause() <= FIRST);
    }
}
