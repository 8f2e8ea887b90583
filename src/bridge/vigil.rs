//! Watching over a link that stands: when to ping, and when it has died without a word.
//!
//! Two faults leave a socket open. In a black hole nothing comes any more: after half a keep alive of silence we ask,
//! after one and a half it is over. And a server may answer pings and acknowledge nothing: once it has answered one
//! that was sent after the messages in flight, it has them, and the time for their acknowledgement runs.

use std::time::Duration;

use crate::mqtt::Millis;

/// Looks are this far apart at most, and at least a tenth of it.
const LOOK: Duration = Duration::from_secs(1);

/// A watch over one link.
#[derive(Debug)]
pub struct Vigil {
    keep_alive_ms: u64,
    ack_timeout_ms: u64,
    pinged_at: Option<Millis>,
    began: Millis,
    /// Since when something is in flight and none of it was acknowledged; and acknowledgements until then.
    stuck: Option<(Millis, u64)>,
}

/// What is seen of a link.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// When the last packet came; before the time of a ping that it came before.
    pub heard: Millis,
    /// Messages in flight.
    pub in_flight: u64,
    /// Acknowledgements that have come, ever.
    pub acknowledged: u64,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Well,
    /// Send PINGREQ.
    Ping,
    /// Close: nothing has come for one and a half keep alives.
    Silent,
    /// Close: nothing is acknowledged.
    Stalled,
}

impl Vigil {
    /// Over a link that stands since `now`. `keep_alive` is in seconds, and not 0.
    pub fn new(keep_alive: u16, ack_timeout: Duration, now: Millis) -> Self {
        Self {
            keep_alive_ms: u64::from(keep_alive.max(1)) * 1000,
            ack_timeout_ms: ack_timeout.as_millis() as u64,
            pinged_at: None,
            began: now,
            stuck: None,
        }
    }

    /// How far looks are to be apart.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.keep_alive_ms.min(self.ack_timeout_ms) / 8).clamp(LOOK / 10, LOOK)
    }

    /// What is to be done at `now`. After [`Verdict::Ping`] a ping counts as sent.
    pub fn look(&mut self, seen: Seen, now: Millis) -> Verdict {
        let heard = seen.heard.max(self.began);
        if now.since(heard) * 2 > self.keep_alive_ms * 3 {
            return Verdict::Silent;
        }
        let is_stuck_since = self.follow(seen, now);
        if let Some(since) = is_stuck_since
            && now.since(since) >= self.ack_timeout_ms
            && self.pinged_at.is_some_and(|pinged| pinged >= since && heard >= pinged)
        {
            return Verdict::Stalled;
        }
        let silent = now.since(heard);
        // A server wants to hear something in each keep alive, however much it says itself.
        let is_due = now.since(self.pinged_at.unwrap_or(self.began)) * 4 >= self.keep_alive_ms * 3;
        let is_asked = self.pinged_at.is_some_and(|pinged| pinged > heard);
        let wants_answer = silent * 2 >= self.keep_alive_ms && !is_asked;
        // Has the server got what is in flight?
        let wants_proof = is_stuck_since.is_some_and(|since| {
            now.since(since) * 2 >= self.ack_timeout_ms && self.pinged_at.is_none_or(|pinged| pinged < since)
        });
        if is_due || wants_answer || wants_proof {
            self.pinged_at = Some(now);
            return Verdict::Ping;
        }
        Verdict::Well
    }

    /// Since when nothing that is in flight was acknowledged.
    fn follow(&mut self, seen: Seen, now: Millis) -> Option<Millis> {
        match self.stuck {
            _ if seen.in_flight == 0 => self.stuck = None,
            Some((_, acknowledged)) if acknowledged == seen.acknowledged => {}
            _ => self.stuck = Some((now, seen.acknowledged)),
        }
        self.stuck.map(|(since, _)| since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A server as the vigil sees it, in virtual time; looks are a quarter of a second apart.
    struct Link {
        vigil: Vigil,
        now: u64,
        seen: Seen,
        answers_pings: bool,
        pings: Vec<u64>,
    }

    impl Link {
        fn new(keep_alive: u16, ack_timeout: u64) -> Self {
            let seen = Seen { heard: Millis(0), in_flight: 0, acknowledged: 0 };
            let vigil = Vigil::new(keep_alive, Duration::from_secs(ack_timeout), Millis(0));
            Self { vigil, now: 0, seen, answers_pings: true, pings: Vec::new() }
        }

        /// Looks until `seconds` have passed, or it is over: then when, and why.
        fn until(&mut self, seconds: u64) -> Option<(u64, Verdict)> {
            while self.now < seconds * 1000 {
                self.now += 250;
                match self.vigil.look(self.seen, Millis(self.now)) {
                    Verdict::Well => {}
                    Verdict::Ping => {
                        self.pings.push(self.now);
                        if self.answers_pings {
                            self.seen.heard = Millis(self.now + 1);
                        }
                    }
                    over => return Some((self.now, over)),
                }
            }
            None
        }
    }

    #[test]
    fn a_link_without_traffic_is_pinged_and_lives() {
        let mut link = Link::new(30, 30);
        assert_eq!(link.until(600), None);
        assert!((20..=40).contains(&link.pings.len()), "{:?}", link.pings);
    }

    #[test]
    fn a_server_that_talks_all_the_time_still_hears_us_in_each_keep_alive() {
        let mut link = Link::new(4, 30);
        for second in 1..=60 {
            link.seen.heard = Millis(second * 1000);
            assert_eq!(link.until(second), None);
        }
        assert!(link.pings.windows(2).all(|pair| pair[1] - pair[0] < 4000), "{:?}", link.pings);
        assert!(link.pings.len() >= 15);
    }

    #[test]
    fn in_a_black_hole_we_ask_and_it_is_over_after_one_and_a_half_keep_alives() {
        let mut link = Link::new(30, 30);
        link.answers_pings = false;
        let (at, why) = link.until(100).unwrap();
        assert_eq!((why, at), (Verdict::Silent, 45_250));
        assert_eq!(link.pings[0], 15_000);
    }

    #[test]
    fn a_server_that_answers_pings_and_acknowledges_nothing_is_stalled() {
        let mut link = Link::new(600, 30);
        link.seen.in_flight = 5;
        let (at, why) = link.until(100).unwrap();
        assert_eq!((why, at), (Verdict::Stalled, 30_250), "the keep alive is far longer");
    }

    #[test]
    fn who_acknowledges_now_and_then_is_not_stalled() {
        let mut link = Link::new(60, 30);
        link.seen.in_flight = 5;
        for round in 1..20 {
            assert_eq!(link.until(round * 29), None);
            link.seen.acknowledged += 1;
        }
        link.seen.in_flight = 0;
        assert_eq!(link.until(1000), None);
        link.seen.in_flight = 1;
        assert_eq!(link.until(1031).unwrap().1, Verdict::Stalled);
    }

    #[test]
    fn what_is_still_under_way_to_a_slow_server_is_not_stalled() {
        let mut link = Link::new(120, 10);
        (link.answers_pings, link.seen.in_flight) = (false, 1);
        // What came before the ping that was sent behind the message proves nothing.
        link.seen.heard = Millis(1000);
        assert_eq!(link.until(60), None);
        link.seen.heard = Millis(60_001);
        assert_eq!(link.until(61).unwrap().1, Verdict::Stalled);
    }

    proptest! {
        #[test]
        fn a_dead_link_is_found_within_one_and_a_half_keep_alives(keep_alive in 1u16..120, dies_at in 0u64..300) {
            let mut link = Link::new(keep_alive, 30);
            prop_assert_eq!(link.until(dies_at), None);
            link.answers_pings = false;
            let heard = link.seen.heard.0;
            let (at, why) = link.until(100_000).unwrap();
            prop_assert_eq!(why, Verdict::Silent);
            prop_assert!(at - heard <= u64::from(keep_alive) * 1500 + 250);
        }
    }
}
