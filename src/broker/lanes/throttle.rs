//! How fast messages go: two buckets that fill with time, one for messages and one for bytes.

use super::Throttling;
use crate::mqtt::Millis;

/// What goes at once after a quiet time, in seconds of the rate: no second sees much more than that.
const BURST: f64 = 0.1;

/// What may be sent now. A message goes when both buckets have something, and may take them below nothing: the next
/// one waits the longer.
#[derive(Debug)]
pub(in crate::broker) struct Throttle {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// Fills at `rate` a second, up to what comes in a tenth of one, and at least 1.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    level: f64,
    at: Millis,
}

impl Throttle {
    /// With full buckets at `now`; `None` where nothing is throttled.
    pub(in crate::broker) fn new(throttling: Throttling, now: Millis) -> Option<Self> {
        let bucket = |rate: Option<f64>| rate.map(|rate| Bucket { rate, level: (rate * BURST).max(1.0), at: now });
        let (messages, bytes) = (bucket(throttling.rate), bucket(throttling.bandwidth));
        (messages.is_some() || bytes.is_some()).then_some(Self { messages, bytes })
    }

    /// When the next message may go: at `now`, or later.
    pub(in crate::broker) fn next_at(&mut self, now: Millis) -> Millis {
        let messages = self.messages.as_mut().map_or(now, |bucket| bucket.holds_at(1.0, now));
        let bytes = self.bytes.as_mut().map_or(now, |bucket| bucket.holds_at(f64::MIN_POSITIVE, now));
        messages.max(bytes)
    }

    /// Notes that a message went, of so many bytes.
    pub(in crate::broker) fn take(&mut self, bytes: usize) {
        if let Some(bucket) = &mut self.messages {
            bucket.level -= 1.0;
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.level -= bytes as f64;
        }
    }
}

impl Bucket {
    /// When it holds `wanted`.
    fn holds_at(&mut self, wanted: f64, now: Millis) -> Millis {
        let elapsed = now.since(self.at) as f64 / 1000.0;
        self.level = (self.level + elapsed * self.rate).min((self.rate * BURST).max(1.0));
        self.at = now;
        if self.level >= wanted {
            return now;
        }
        let seconds = (wanted - self.level) / self.rate;
        Millis(now.0 + ((seconds * 1000.0).ceil() as u64).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends messages of `bytes` as soon as they may go, and says when the `count`th went.
    fn nth(throttling: Throttling, bytes: usize, count: usize) -> u64 {
        let mut now = Millis(1000);
        let mut throttle = Throttle::new(throttling, now).unwrap();
        for _ in 0..count {
            now = throttle.next_at(now);
            throttle.take(bytes);
        }
        now.0 - 1000
    }

    #[test]
    fn after_what_a_tenth_of_a_second_brings_the_rate_holds() {
        let rate = Throttling { rate: Some(50.0), bandwidth: None };
        assert_eq!(nth(rate, 10, 5), 0);
        assert_eq!(nth(rate, 10, 505), 10_000);
        let slow = Throttling { rate: Some(0.1), bandwidth: None };
        assert_eq!((nth(slow, 10, 1), nth(slow, 10, 3)), (0, 20_000));
    }

    #[test]
    fn a_message_larger_than_the_bucket_goes_and_is_paid_for() {
        let bandwidth = Throttling { rate: None, bandwidth: Some(1000.0) };
        let third = nth(bandwidth, 5000, 3);
        assert!((9_900..9_910).contains(&third), "{third}");
        assert!(Throttle::new(Throttling::default(), Millis(1)).is_none());
    }
}
