//! How many a second, over the last minute: of counters that somebody looks at now and then.

use std::collections::VecDeque;

use crate::mqtt::Millis;

/// What a rate is over.
const WINDOW_MS: u64 = 60_000;
/// Between two samples that are kept.
const SPACING_MS: u64 = 5_000;

/// What two counters said in the last minute.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// The oldest is a minute old, or older where nobody has looked.
    samples: VecDeque<(Millis, [u64; 2])>,
}

impl Rates {
    /// How many a second each of the counters, which say `totals` now, has risen by.
    pub fn of(&mut self, totals: [u64; 2], now: Millis) -> [f64; 2] {
        while self.samples.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW_MS) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(at, _)| now.since(*at) >= SPACING_MS) {
            self.samples.push_back((now, totals));
        }
        let Some((began, before)) = self.samples.front() else {
            return [0.0; 2];
        };
        let seconds = now.since(*began).max(1000) as f64 / 1000.0;
        [0, 1].map(|index| {
            let risen = totals[index].saturating_sub(before[index]) as f64;
            // To a tenth: nobody reads more, and what stands still is told once.
            (risen / seconds * 10.0).round() / 10.0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let mut rates = Rates::default();
        assert_eq!(rates.of([100, 0], Millis(1_000)), [0.0, 0.0]);
        for second in 1..=60 {
            let expected = [10.0, 0.0];
            assert_eq!(rates.of([100 + 10 * second, 0], Millis(1_000 + second * 1000)), expected, "{second}");
        }
        // Then nothing more: it falls, and is 0 after a minute.
        assert_eq!(rates.of([700, 6], Millis(91_000)), [5.0, 0.1]);
        rates.of([700, 6], Millis(121_000));
        assert_eq!(rates.of([700, 6], Millis(151_000)), [0.0, 0.0]);
        assert!(rates.samples.len() < 20);
    }
}
