//! Moving averages over 1, 5 and 15 minutes of how much a number rises in a minute.

use tokio::time::Instant;

use super::Totals;

/// What the averages are over.
const MINUTES: [u32; 3] = [1, 5, 15];

/// How fast one of the [`Totals`] rises.
pub(super) struct Load {
    name: &'static str,
    total: fn(&Totals) -> u64,
    last: u64,
    at: Instant,
    averages: [f64; 3],
}

impl Load {
    /// The load called `name`, none until `now`.
    pub(super) fn new(name: &'static str, now: Instant, total: fn(&Totals) -> u64) -> Self {
        Self { name, total, last: 0, at: now, averages: [0.0; 3] }
    }

    /// Its name, the level of a topic.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Takes what has come since the last time into the averages, and gives them with their minutes.
    pub(super) fn update(&mut self, totals: &Totals, now: Instant) -> [(u32, f64); 3] {
        let total = (self.total)(totals);
        let seconds = now.duration_since(self.at).as_secs_f64();
        // Without time there is no rate: what has come counts the next time.
        if seconds > 0.0 {
            let per_minute = total.saturating_sub(self.last) as f64 * 60.0 / seconds;
            for (average, minutes) in self.averages.iter_mut().zip(MINUTES) {
                *average = moved(*average, per_minute, seconds, minutes);
            }
            (self.last, self.at) = (total, now);
        }
        std::array::from_fn(|index| (MINUTES[index], self.averages[index]))
    }
}

/// What becomes of an average over `minutes` after `seconds` of `per_minute`: the old one fades exponentially.
fn moved(average: f64, per_minute: f64, seconds: f64, minutes: u32) -> f64 {
    let remains = (-seconds / (60.0 * f64::from(minutes))).exp();
    per_minute + remains * (average - per_minute)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Tally;

    fn totals(connects: u64) -> Totals {
        Totals { received: Tally::default(), sent: Tally::default(), dropped: 0, connections: 0, connects }
    }

    #[test]
    fn averages_are_those_of_mosquitto() {
        // Seen of mosquitto 2.0.11 with an interval of 2 s, of which one connection came in the first.
        let shown = MINUTES.map(|minutes| format!("{:.2}", moved(0.0, 30.0, 2.0, minutes)));
        assert_eq!(shown, ["0.98", "0.20", "0.07"]);
    }

    #[test]
    fn a_steady_rate_becomes_the_average_and_fades_afterwards() {
        let start = Instant::now();
        let mut load = Load::new("connections", start, |totals| totals.connects);
        let mut averages = [(0, 0.0); 3];
        for tick in 1..=1000_u32 {
            averages = load.update(&totals(u64::from(tick) * 20), start + Duration::from_secs(10) * tick);
        }
        for (minutes, average) in averages {
            assert!((average - 120.0).abs() < 0.01, "{minutes} min: {average}");
        }
        let [(_, one), (_, five), (_, fifteen)] = load.update(&totals(20_000), start + Duration::from_secs(10_060));
        assert!((one - 120.0 / std::f64::consts::E).abs() < 0.01, "{one}");
        assert!(one < five && five < fifteen && fifteen < 120.0);
    }

    #[test]
    fn two_updates_at_one_instant_lose_nothing() {
        let start = Instant::now();
        let mut load = Load::new("connections", start, |totals| totals.connects);
        assert_eq!(load.update(&totals(10), start), [(1, 0.0), (5, 0.0), (15, 0.0)]);
        let [(_, one), ..] = load.update(&totals(10), start + Duration::from_secs(60));
        assert!((one - 10.0 * (1.0 - 1.0 / std::f64::consts::E)).abs() < 0.001, "{one}");
    }
}
