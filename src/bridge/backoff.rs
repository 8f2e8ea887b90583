//! How long an attempt may take, and how long to wait before the next: longer each time, by what is wrong, and never
//! the same for fifty gateways.
//!
//! | what is wrong | pauses |
//! |---|---|
//! | network, in the first minute of an outage | 0.5 s to 1.5 s; 0.25 s after an attempt that nobody answered |
//! | network, later | to 10 s |
//! | server busy | 5 s to 60 s |
//! | credentials | 30 s to 5 min |
//! | protocol | 1 s to 30 s |
//! | another client with our id | 90 s to 2 min |
//!
//! Each is shortened at random: by up to a half where the network is away, else by up to a quarter. With the time that
//! an attempt may take this bounds how soon a link that is back is used: 2 s after an outage of up to a minute, 15 s
//! after a longer one. A SYN that is lost is sent again after 1, 3 and 7 s; that is why attempts end between those.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::trouble::Trouble;

/// An outage that is shorter is a short one.
pub const SHORT_OUTAGE: Duration = Duration::from_secs(60);
/// How long an attempt may take: TCP, TLS and CONNACK together.
const ATTEMPT: Duration = Duration::from_secs(10);
/// In a short outage.
const QUICK_ATTEMPT: Duration = Duration::from_millis(2500);
/// The first pause where the network is away.
const FIRST: Duration = Duration::from_millis(500);
/// The longest, in a short outage.
const LONGEST_IN_SHORT_OUTAGE: Duration = Duration::from_millis(1500);
/// The pause after an attempt that nobody answered, in a short outage.
const AFTER_SILENCE: Duration = Duration::from_millis(250);
/// The longest after that.
const LONGEST: Duration = Duration::from_secs(10);

/// Pauses between the attempts to reach one server.
#[derive(Debug)]
pub struct Backoff {
    /// What was wrong last, and the pause that follows if it is so again.
    next: Option<(Trouble, Duration)>,
    /// How long the last handshake took that succeeded.
    handshake: Option<Duration>,
    random: RandomState,
    count: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: None, handshake: None, random: RandomState::new(), count: 0 }
    }
}

impl Backoff {
    /// How long an attempt may take, `outage` after the link was lost; `None` where there has been none.
    pub fn attempt_timeout(&self, outage: Option<Duration>) -> Duration {
        match (self.handshake, outage) {
            // A link that is slow itself gets its time.
            (Some(handshake), Some(outage)) if outage < SHORT_OUTAGE => (handshake * 3).clamp(QUICK_ATTEMPT, ATTEMPT),
            _ => ATTEMPT,
        }
    }

    /// Notes that the server let us in after `handshake`.
    pub fn connected(&mut self, handshake: Duration) {
        self.handshake = Some(handshake);
    }

    /// Notes that the link was a good one: pauses start anew.
    pub fn reset(&mut self) {
        self.next = None;
    }

    /// The pause before the next attempt, `outage` after a good link was lost.
    pub fn pause(&mut self, trouble: Trouble, outage: Duration) -> Duration {
        let is_short = outage < SHORT_OUTAGE;
        let (first, longest, random_share) = match trouble {
            Trouble::Unanswered if is_short => (AFTER_SILENCE, AFTER_SILENCE, 0.5),
            Trouble::Network | Trouble::Unanswered => {
                (FIRST, if is_short { LONGEST_IN_SHORT_OUTAGE } else { LONGEST }, 0.5)
            }
            Trouble::Busy => (Duration::from_secs(5), Duration::from_secs(60), 0.25),
            Trouble::Credentials => (Duration::from_secs(30), Duration::from_secs(300), 0.25),
            Trouble::Protocol => (Duration::from_secs(1), Duration::from_secs(30), 0.25),
            Trouble::Rival => (Duration::from_secs(90), Duration::from_secs(120), 0.25),
        };
        let pause = match self.next {
            Some((last, next)) if last == trouble => next.clamp(first, longest),
            _ => first,
        };
        let growth = if matches!(trouble, Trouble::Network | Trouble::Unanswered) { 1.5 } else { 2.0 };
        self.next = Some((trouble, pause.mul_f64(growth).min(longest)));
        self.count += 1;
        let share = self.random.hash_one(self.count) as f64 / u64::MAX as f64;
        pause.mul_f64(1.0 - share * random_share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn pauses(trouble: Trouble, outage: Duration) -> Vec<Duration> {
        let mut backoff = Backoff::default();
        (0..20).map(|_| backoff.pause(trouble, outage)).collect()
    }

    #[test]
    fn each_trouble_has_its_own_pauses_that_grow_to_a_cap() {
        for (trouble, outage, first, longest) in [
            (Trouble::Network, Duration::ZERO, 0.5, 1.5),
            (Trouble::Network, MINUTE, 0.5, 10.0),
            (Trouble::Unanswered, Duration::ZERO, 0.25, 0.25),
            (Trouble::Unanswered, MINUTE, 0.5, 10.0),
            (Trouble::Busy, Duration::ZERO, 5.0, 60.0),
            (Trouble::Credentials, Duration::ZERO, 30.0, 300.0),
            (Trouble::Protocol, Duration::ZERO, 1.0, 30.0),
            (Trouble::Rival, Duration::ZERO, 90.0, 120.0),
        ] {
            let pauses: Vec<f64> = pauses(trouble, outage).iter().map(Duration::as_secs_f64).collect();
            assert!(pauses[0] <= first && pauses[0] >= first / 2.0, "{trouble:?}: {pauses:?}");
            assert!(pauses.iter().all(|pause| *pause <= longest), "{trouble:?}: {pauses:?}");
            assert!(pauses[19] >= longest / 2.0, "{trouble:?}: {pauses:?}");
        }
    }

    #[test]
    fn another_trouble_and_a_good_link_start_anew() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.pause(Trouble::Busy, MINUTE);
        }
        assert!(backoff.pause(Trouble::Network, MINUTE) <= FIRST);
        for _ in 0..10 {
            backoff.pause(Trouble::Network, MINUTE);
        }
        assert!(backoff.pause(Trouble::Network, MINUTE) >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.pause(Trouble::Network, Duration::ZERO) <= FIRST);
    }

    #[test]
    fn fifty_gateways_that_lose_their_link_together_come_back_apart() {
        let mut backoffs: Vec<Backoff> = (0..50).map(|_| Backoff::default()).collect();
        for round in 0..20 {
            let outage = Duration::from_secs(10 * round);
            let pauses: std::collections::BTreeSet<u128> = backoffs
                .iter_mut()
                // In slots of a fiftieth of what the pauses may differ by.
                .map(|backoff| backoff.pause(Trouble::Network, outage).as_micros())
                .collect();
            assert!(pauses.len() > 40, "round {round}: {}", pauses.len());
        }
    }

    #[test]
    fn an_attempt_is_short_after_a_good_link_unless_that_was_slow() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.attempt_timeout(Some(Duration::ZERO)), ATTEMPT, "nobody knows how long it takes");
        backoff.connected(Duration::from_millis(80));
        assert_eq!(backoff.attempt_timeout(Some(Duration::ZERO)), QUICK_ATTEMPT);
        assert_eq!(backoff.attempt_timeout(Some(MINUTE)), ATTEMPT);
        backoff.connected(Duration::from_secs(2));
        assert_eq!(backoff.attempt_timeout(Some(Duration::ZERO)), Duration::from_secs(6));
        backoff.connected(Duration::from_secs(9));
        assert_eq!(backoff.attempt_timeout(Some(Duration::ZERO)), ATTEMPT);
    }

    /// When an attempt that began at `at` succeeds, if the link is back at `back` and what is sent before that is lost.
    fn succeeds(at: f64, back: f64, is_refused: bool) -> Option<f64> {
        let repeats: &[f64] = if is_refused { &[0.0] } else { &[0.0, 1.0, 3.0, 7.0, 15.0] };
        repeats.iter().map(|repeat| at + repeat).find(|at| *at >= back)
    }

    proptest! {
        /// Virtual time: an outage in which attempts are refused at once or never answered, one way or in turn.
        #[test]
        fn a_link_that_is_back_is_used_within_2_seconds_after_a_short_outage_and_15_after_a_long_one(
            back in prop_oneof![0.0..59.0f64, 0.0..4000.0f64],
            refusals in proptest::collection::vec(any::<bool>(), 1..5),
        ) {
            let mut backoff = Backoff::default();
            backoff.connected(Duration::from_millis(100));
            let outage = |now: f64| Duration::from_secs_f64(now);
            let mut now = backoff.pause(Trouble::Network, Duration::ZERO).as_secs_f64();
            let mut refusals = refusals.iter().cycle();
            let connected = loop {
                let is_refused = *refusals.next().unwrap();
                let deadline = now + backoff.attempt_timeout(Some(outage(now))).as_secs_f64();
                if let Some(at) = succeeds(now, back, is_refused).filter(|at| *at < deadline) {
                    break at;
                }
                let trouble = if is_refused { Trouble::Network } else { now = deadline; Trouble::Unanswered };
                now += backoff.pause(trouble, outage(now)).as_secs_f64();
            };
            let bound = if back < 55.0 { 2.0 } else { 15.0 };
            prop_assert!(connected - back <= bound, "back at {back}, connected at {connected}");
        }
    }
}
