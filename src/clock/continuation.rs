//! From where the gateway's clock goes on after a restart, and what is known then of times before it. Pure.

use crate::mqtt::Millis;

/// What the clocks said, all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The gateway's own.
    pub now: Millis,
    /// Since when that one has counted every millisecond. It stood still while the gateway was off and nobody could
    /// say for how long.
    pub unbroken_since: Millis,
    /// The one on the wall, in milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// Whether that one can be believed.
    pub is_synchronised: bool,
}

/// How the gateway's clock goes on from the last moment that the process before this one left in the journal.
///
/// ```text
///         life before                     this life
///  ------------------------- last | off | now ------------------------->
///  wall          believed     | counted | believed, and not before `last`: `now` is after the time spent off
///  wall          any other    |    0    | any other: `now` is `last`
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation {
    /// What the clock goes on from.
    pub now: Millis,
    /// As [`Moment::unbroken_since`].
    pub unbroken_since: Millis,
    /// The last moment of the life before, where the wall could be believed then and the time since is not in `now`.
    earlier: Option<Moment>,
}

impl Continuation {
    /// The continuation of `last` at a moment when the wall says `wall_ms`.
    ///
    /// The time between counts where the wall can be believed now, could be then, and does not stand before then.
    pub fn new(last: Moment, wall_ms: i64, is_synchronised: bool) -> Self {
        let unbroken_since = last.unbroken_since.min(last.now);
        let off = wall_ms.checked_sub(last.wall_ms).and_then(|off| u64::try_from(off).ok());
        match off.filter(|_| last.is_synchronised && is_synchronised) {
            Some(off) => Self { now: Millis(last.now.0.saturating_add(off)), unbroken_since, earlier: None },
            None => Self {
                now: last.now,
                unbroken_since: last.now,
                earlier: Some(Moment { unbroken_since, ..last }).filter(|last| last.is_synchronised),
            },
        }
    }

    /// What a right clock on the wall said when the gateway's clock said `at`, as far as `current` or the last moment
    /// of the life before tells it.
    pub fn wall_at(&self, at: Millis, current: Moment) -> Option<i64> {
        let knows = |moment: &Moment| moment.is_synchronised && (moment.unbroken_since..=moment.now).contains(&at);
        let moment = Some(current).filter(knows).or_else(|| self.earlier.filter(knows))?;
        moment.wall_ms.checked_sub(i64::try_from(moment.now.since(at)).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const YEAR: i64 = 365 * 86_400_000;

    fn moment(now: u64, wall_ms: i64, is_synchronised: bool) -> Moment {
        Moment { now: Millis(now), unbroken_since: Millis(1), wall_ms, is_synchronised }
    }

    fn any_moment() -> impl Strategy<Value = Moment> {
        (1..1u64 << 50, 0..1u64 << 50, any::<i64>(), any::<bool>()).prop_map(
            |(since, ran, wall_ms, is_synchronised)| Moment {
                now: Millis(since + ran),
                unbroken_since: Millis(since),
                wall_ms,
                is_synchronised,
            },
        )
    }

    #[test]
    fn time_spent_off_counts_between_two_synchronised_moments_even_when_it_is_years() {
        let last = moment(5_000, 100, true);
        for off in [0, 1, 60_000, 50 * YEAR] {
            let continuation = Continuation::new(last, 100 + off, true);
            assert_eq!((continuation.now, continuation.unbroken_since), (Millis(5_000 + off as u64), Millis(1)));
        }
    }

    #[test]
    fn time_spent_off_counts_nothing_when_either_moment_is_unsynchronised_or_the_wall_went_back() {
        for (before, now, wall_ms) in [(false, true, 50 * YEAR), (true, false, 50 * YEAR), (true, true, 99)] {
            let continuation = Continuation::new(moment(5_000, 100, before), wall_ms, now);
            assert_eq!((continuation.now, continuation.unbroken_since), (Millis(5_000), Millis(5_000)));
        }
    }

    #[test]
    fn a_time_of_an_unbroken_stretch_is_known_once_its_wall_is() {
        let continuation = Continuation::new(moment(5_000, 10 * YEAR, true), 0, false);
        let current = Moment { unbroken_since: Millis(5_000), ..moment(35_000, 11 * YEAR, true) };
        assert_eq!(continuation.wall_at(Millis(34_000), current), Some(11 * YEAR - 1_000));
        assert_eq!(continuation.wall_at(Millis(4_000), current), Some(10 * YEAR - 1_000), "by the life before");
        assert_eq!(continuation.wall_at(Millis(35_001), current), None, "not yet");
        let current = Moment { is_synchronised: false, ..current };
        assert_eq!(continuation.wall_at(Millis(34_000), current), None);
        let broken = Continuation::new(moment(5_000, 10 * YEAR, false), 0, false);
        let current = Moment { is_synchronised: true, ..current };
        assert_eq!(broken.wall_at(Millis(4_000), current), None, "nobody knows how long it was off since");
    }

    proptest! {
        #[test]
        fn the_clock_never_goes_back_and_gains_nothing_that_is_not_known(
            last in any_moment(),
            wall_ms in any::<i64>(),
            is_synchronised in any::<bool>(),
        ) {
            let continuation = Continuation::new(last, wall_ms, is_synchronised);
            prop_assert!(continuation.now >= last.now);
            prop_assert!(continuation.unbroken_since <= continuation.now);
            let counts = continuation.now > last.now;
            prop_assert!(!counts || last.is_synchronised && is_synchronised && wall_ms > last.wall_ms);
            // An unbroken clock has gained just what the wall has.
            if continuation.unbroken_since < last.now {
                prop_assert_eq!(i128::from(continuation.now.0 - last.now.0), i128::from(wall_ms) - i128::from(last.wall_ms));
            }
        }

        #[test]
        fn a_time_of_the_life_before_is_the_same_whether_the_time_spent_off_counts_or_not(
            last in any_moment(),
            off in 0..1u64 << 50,
            ran in 0..1u64 << 40,
            at in any::<u64>(),
        ) {
            let last = Moment { wall_ms: last.wall_ms >> 4, is_synchronised: true, ..last };
            let at = Millis(last.unbroken_since.0 + at % (last.now.since(last.unbroken_since) + 1));
            let expected = Some(last.wall_ms - last.now.since(at) as i64);
            let wall_ms = last.wall_ms + off as i64;
            for (known_at_start, continuation) in
                [(true, Continuation::new(last, wall_ms, true)), (false, Continuation::new(last, 0, false))]
            {
                let current = Moment {
                    now: Millis(continuation.now.0 + ran),
                    unbroken_since: continuation.unbroken_since,
                    wall_ms: wall_ms + ran as i64,
                    is_synchronised: true,
                };
                // The last moment of all is the first of this life, too, where the time between does not count.
                if known_at_start || at < last.now {
                    prop_assert_eq!(continuation.wall_at(at, current), expected);
                }
            }
        }
    }
}
