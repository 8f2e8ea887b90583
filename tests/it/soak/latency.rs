//! How long messages took.

use std::fmt;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Latencies {
    all: Vec<Duration>,
}

impl Latencies {
    pub fn add(&mut self, latency: Duration) {
        self.all.push(latency);
    }

    /// Puts them in order, for the percentiles.
    pub fn sorted(mut self) -> Self {
        self.all.sort_unstable();
        self
    }

    pub fn append(&mut self, mut other: Self) {
        self.all.append(&mut other.all);
    }

    /// That which so many in a hundred do not exceed.
    pub fn percentile(&self, percent: f64) -> Duration {
        let index = (self.all.len() as f64 * percent / 100.0) as usize;
        self.all.get(index.min(self.all.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |percent| self.percentile(percent);
        write!(f, "{} messages, p50 {:.2?}, p99 {:.2?}, longest {:.2?}", self.all.len(), at(50.0), at(99.0), at(100.0))
    }
}
