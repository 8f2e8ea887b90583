//! Finding the one message that a server closes the connection on, so that all others flow.
//!
//! ```text
//!          links end in a row, nothing acknowledged           one message ends the link twice
//!   Free -------------------------------------------> Alone ----------------------------------> set aside
//!    ^    or the same message stalls two               |  ^                (QoS 2 in 3.1.1: first tried at QoS 1)
//!    |                                   acknowledged  |  |  a link ends
//!    +----- window full again ------ Widening <--------+  |
//!                                       +-----------------+
//! ```
//!
//! Alone, nothing of the queue is sent before the server has answered a ping: what ends a link before that is no
//! message. Only what the server itself does counts, not a network that breaks.

use crate::mqtt::{Millis, QoS};

/// Links that end in a row with nothing acknowledged, until messages go one by one.
const BARREN_LINKS: u8 = 3;
/// Stalls in a row by the same message.
const STALLS: u8 = 2;
/// Links that a message ends alone until it is given up.
const STRIKES: u8 = 2;
/// A window this wide is taken for the full one.
const WIDE: u16 = 128;
/// Different messages of a topic that are given up, until all of it is for a while.
const MESSAGES_OF_TOPIC: u8 = 2;
/// How long, in milliseconds.
const CONDEMNED_MS: u64 = 600_000;
/// Topics that are remembered; the one that was noted longest ago gives way.
const MAX_TOPICS: usize = 100;

/// What is known of messages that end links, over the links of one bridge.
#[derive(Debug, Default)]
pub struct Isolation {
    /// The window of the next link; `None` is the full one.
    window: Option<u16>,
    /// Acknowledgements since the window was widened last.
    acknowledged: u64,
    barren: u8,
    stalled: Option<(u64, u8)>,
    suspect: Option<(u64, u8)>,
    /// Whether QoS 2 is tried at QoS 1.
    is_lowered: bool,
    topics: Vec<Topic>,
}

#[derive(Debug)]
struct Topic {
    name: String,
    messages: u8,
    noted_at: Millis,
    condemned_until: Option<Millis>,
}

/// A message that was in flight when a link ended.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// Its place in the session.
    pub key: u64,
    /// Its topic.
    pub topic: &'a str,
    /// Its QoS.
    pub qos: QoS,
}

/// How a link ended.
#[derive(Debug, Clone, Copy)]
pub struct LinkEnd<'a> {
    /// The first message that had been sent and not acknowledged.
    pub sent: Option<Sent<'a>>,
    /// Whether anything was acknowledged on it.
    pub has_acknowledged: bool,
    /// Whether the server did it, by closing or saying so, or by not acknowledging.
    pub by_server: bool,
    /// Whether it was for want of an acknowledgement.
    pub is_stalled: bool,
    /// Whether the server may close on QoS 2 without saying that it does not take it.
    pub may_lower: bool,
}

/// What follows from acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The window from now on; 0 where it stays.
    pub window: u16,
    /// Whether the server has shown that it takes QoS 1 and closes on QoS 2.
    pub takes_qos_1_at_most: bool,
}

impl Isolation {
    /// The window of the next link; `None` is the full one.
    pub fn window(&self) -> Option<u16> {
        self.window
    }

    /// Whether messages go one by one, after the server has answered a ping.
    pub fn is_alone(&self) -> bool {
        self.window == Some(1)
    }

    /// Whether QoS 2 is tried at QoS 1 on the next link.
    pub fn is_lowered(&self) -> bool {
        self.is_lowered
    }

    /// Takes that so many acknowledgements have come.
    pub fn acknowledged(&mut self, count: u64) -> Progress {
        let mut progress = Progress::default();
        if count == 0 {
            return progress;
        }
        (self.barren, self.suspect) = (0, None);
        progress.takes_qos_1_at_most = std::mem::take(&mut self.is_lowered);
        if let Some(window) = self.window {
            self.acknowledged += count;
            if self.acknowledged >= u64::from(window) {
                self.acknowledged = 0;
                progress.window = if window >= WIDE { u16::MAX } else { window * 2 };
                self.window = (window < WIDE).then_some(window * 2);
            }
        }
        progress
    }

    /// Takes how a link ended; the message that is to be set aside, if there is one.
    pub fn link_ended(&mut self, end: &LinkEnd<'_>, now: Millis) -> Option<u64> {
        self.acknowledged = 0;
        let sent = end.sent.filter(|_| end.by_server)?;
        match self.window {
            None => {
                if !end.has_acknowledged {
                    self.barren += 1;
                }
                if end.is_stalled {
                    let count = self.stalled.filter(|(key, _)| *key == sent.key).map_or(0, |(_, count)| count);
                    self.stalled = Some((sent.key, count + 1));
                }
                if self.barren >= BARREN_LINKS || self.stalled.is_some_and(|(_, count)| count >= STALLS) {
                    (self.window, self.barren, self.stalled) = (Some(1), 0, None);
                }
                None
            }
            Some(1) => self.strike(sent, end.may_lower, now),
            Some(_) => {
                // One of several: it is found alone.
                self.window = Some(1);
                None
            }
        }
    }

    fn strike(&mut self, sent: Sent<'_>, may_lower: bool, now: Millis) -> Option<u64> {
        let strikes = 1 + self.suspect.filter(|(key, _)| *key == sent.key).map_or(0, |(_, strikes)| strikes);
        self.suspect = Some((sent.key, strikes));
        if strikes < STRIKES {
            return None;
        }
        if sent.qos == QoS::ExactlyOnce && may_lower && !self.is_lowered {
            self.is_lowered = true;
            return None;
        }
        (self.suspect, self.is_lowered) = (None, false);
        self.note_topic(sent.topic, now);
        Some(sent.key)
    }

    fn note_topic(&mut self, name: &str, now: Millis) {
        let known = self.topics.iter().position(|topic| topic.name == name);
        let mut topic = match known {
            Some(index) => self.topics.swap_remove(index),
            None => Topic { name: name.to_owned(), messages: 0, noted_at: now, condemned_until: None },
        };
        (topic.messages, topic.noted_at) = (topic.messages + 1, now);
        if topic.messages >= MESSAGES_OF_TOPIC {
            // Afterwards, one more message is enough.
            topic.messages = MESSAGES_OF_TOPIC - 1;
            topic.condemned_until = Some(Millis(now.0 + CONDEMNED_MS));
        }
        if self.topics.len() >= MAX_TOPICS
            && let Some(oldest) = (0..self.topics.len()).min_by_key(|&index| self.topics[index].noted_at)
        {
            self.topics.swap_remove(oldest);
        }
        self.topics.push(topic);
    }

    /// Takes that a message of the topic was acknowledged.
    pub fn topic_acknowledged(&mut self, name: &str) {
        self.topics.retain(|topic| topic.name != name);
    }

    /// The topics of which messages were given up and none was acknowledged since.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| topic.name.as_str())
    }

    /// The topics whose messages are given up at once, at `now`.
    pub fn condemned(&self, now: Millis) -> Vec<String> {
        let condemned = self.topics.iter().filter(|topic| topic.condemned_until.is_some_and(|until| now < until));
        condemned.map(|topic| topic.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Good,
        /// The server closes at it.
        Poison,
        /// The server never acknowledges it.
        Withheld,
        /// The server closes at it because of its QoS 2.
        Qos2,
    }

    /// A queue in front of a server, without time.
    struct World {
        isolation: Isolation,
        queue: Vec<(u64, Kind)>,
        taken: Vec<u64>,
        aside: Vec<u64>,
        maximum_qos: QoS,
        links: usize,
    }

    impl World {
        fn new(kinds: &[Kind]) -> Self {
            let queue = kinds.iter().enumerate().map(|(key, kind)| (key as u64, *kind)).collect();
            let (taken, aside) = (Vec::new(), Vec::new());
            Self { isolation: Isolation::default(), queue, taken, aside, maximum_qos: QoS::ExactlyOnce, links: 0 }
        }

        /// One link: it sends, until the server closes, stalls or has all. `breaks_after` is a network that fails.
        fn link(&mut self, breaks_after: Option<usize>) {
            self.links += 1;
            let mut window = self.isolation.window().unwrap_or(100);
            let is_lowered = self.isolation.is_lowered() || self.maximum_qos == QoS::AtLeastOnce;
            let mut acknowledged = 0;
            let (mut withheld, mut by_server, mut is_stalled) = (0, false, false);
            while withheld < self.queue.len() {
                if breaks_after.is_some_and(|count| count <= acknowledged) {
                    break;
                }
                if withheld >= usize::from(window) {
                    (by_server, is_stalled) = (true, true);
                    break;
                }
                match self.queue[withheld].1 {
                    Kind::Qos2 if is_lowered => {}
                    Kind::Good => {}
                    Kind::Withheld => {
                        withheld += 1;
                        continue;
                    }
                    Kind::Poison | Kind::Qos2 => {
                        by_server = true;
                        break;
                    }
                }
                self.taken.push(self.queue.remove(withheld).0);
                acknowledged += 1;
                let progress = self.isolation.acknowledged(1);
                if progress.takes_qos_1_at_most {
                    self.maximum_qos = QoS::AtLeastOnce;
                }
                if progress.window > 0 {
                    window = progress.window.min(100);
                }
            }
            if !by_server && breaks_after.is_none() && withheld > 0 {
                (by_server, is_stalled) = (true, true);
            }
            let first = self.queue.first().copied();
            let topics: Vec<String> = first.iter().map(|(key, _)| format!("t/{key}")).collect();
            let qos =
                if first.is_some_and(|(_, kind)| kind == Kind::Qos2) { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            let end = LinkEnd {
                sent: first.map(|(key, _)| Sent { key, topic: &topics[0], qos }),
                has_acknowledged: acknowledged > 0,
                by_server,
                is_stalled,
                may_lower: true,
            };
            if let Some(key) = self.isolation.link_ended(&end, Millis(self.links as u64 * 1000)) {
                self.aside.push(key);
                self.queue.retain(|(other, _)| *other != key);
            }
        }
    }

    #[test]
    fn one_poisoned_message_is_found_after_five_links_and_the_rest_flows() {
        let mut world = World::new(&[Kind::Poison, Kind::Good, Kind::Good]);
        while !world.queue.is_empty() {
            world.link(None);
        }
        assert_eq!((world.links, world.aside, world.taken), (6, vec![0], vec![1, 2]));
    }

    #[test]
    fn a_server_that_closes_on_qos_2_is_learnt_to_take_qos_1() {
        let mut world = World::new(&[Kind::Qos2, Kind::Qos2, Kind::Good, Kind::Qos2]);
        while !world.queue.is_empty() {
            world.link(None);
        }
        assert_eq!((world.aside, world.taken, world.maximum_qos), (vec![], vec![0, 1, 2, 3], QoS::AtLeastOnce));
        assert_eq!(world.links, 6);
    }

    #[test]
    fn a_message_that_stalls_again_and_again_is_found_although_others_are_acknowledged() {
        let mut world = World::new(&[Kind::Withheld, Kind::Good, Kind::Good]);
        while !world.queue.is_empty() && world.links < 20 {
            world.link(None);
        }
        assert_eq!((world.aside.as_slice(), world.taken.as_slice()), (&[0][..], &[1, 2][..]));
    }

    #[test]
    fn a_network_that_breaks_sets_nothing_aside() {
        let mut world = World::new(&[Kind::Good; 50]);
        for _ in 0..200 {
            world.link(Some(0));
        }
        assert_eq!((world.isolation.window(), world.aside.len(), world.queue.len()), (None, 0, 50));
    }

    #[test]
    fn what_ends_a_link_before_anything_is_sent_is_no_message() {
        let mut isolation = Isolation { window: Some(1), ..Isolation::default() };
        let end = LinkEnd { sent: None, has_acknowledged: false, by_server: true, is_stalled: false, may_lower: true };
        for second in 0..100 {
            assert_eq!(isolation.link_ended(&end, Millis(second * 1000)), None);
        }
    }

    #[test]
    fn after_two_messages_of_a_topic_the_others_follow_for_ten_minutes() {
        let mut isolation = Isolation { window: Some(1), ..Isolation::default() };
        let give_up = |isolation: &mut Isolation, key: u64, topic: &str, seconds: u64| {
            let sent = Some(Sent { key, topic, qos: QoS::AtLeastOnce });
            let end = LinkEnd { sent, has_acknowledged: false, by_server: true, is_stalled: false, may_lower: false };
            assert_eq!(isolation.link_ended(&end, Millis(seconds * 1000)), None);
            assert_eq!(isolation.link_ended(&end, Millis(seconds * 1000)), Some(key));
        };
        give_up(&mut isolation, 1, "a", 0);
        assert!(isolation.condemned(Millis(0)).is_empty());
        isolation.topic_acknowledged("a");
        give_up(&mut isolation, 2, "a", 1);
        assert!(isolation.condemned(Millis(1000)).is_empty(), "one was taken in between");
        give_up(&mut isolation, 3, "a", 2);
        assert_eq!(isolation.condemned(Millis(601_999)), ["a"]);
        assert!(isolation.condemned(Millis(602_000)).is_empty());
        give_up(&mut isolation, 4, "a", 700);
        assert_eq!(isolation.condemned(Millis(700_000)), ["a"], "one more is enough");
        for number in 0..500 {
            give_up(&mut isolation, number, &format!("b/{number}"), 800 + number);
        }
        assert_eq!(isolation.topics().count(), MAX_TOPICS);
    }

    proptest! {
        #[test]
        fn exactly_what_is_poisoned_is_set_aside_and_all_else_arrives_in_order(
            kinds in proptest::collection::vec(
                prop_oneof![8 => Just(Kind::Good), 1 => Just(Kind::Poison), 1 => Just(Kind::Withheld)], 0..300),
            breaks in proptest::collection::vec(proptest::option::weighted(0.3, 0usize..20), 1..40),
        ) {
            let mut world = World::new(&kinds);
            let bad: Vec<u64> = world.queue.iter()
                .filter(|(_, kind)| *kind != Kind::Good).map(|(key, _)| *key).collect();
            let mut breaks = breaks.into_iter().chain(std::iter::repeat(None));
            while !world.queue.is_empty() {
                world.link(breaks.next().flatten());
                prop_assert!(world.links < 60 + 8 * (bad.len() + 1), "{:?} {:?}", world.isolation, world.queue);
            }
            let mut aside = world.aside.clone();
            aside.sort_unstable();
            prop_assert_eq!(aside, bad);
            prop_assert!(world.taken.is_sorted());
        }
    }
}
