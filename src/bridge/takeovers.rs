//! Whether another client uses our client id: the two throw each other out in turn, for ever.

use crate::mqtt::Millis;

/// So many in [`WINDOW_MS`] are no accident.
const MANY: usize = 3;
/// Five minutes, in milliseconds.
const WINDOW_MS: u64 = 300_000;
/// A link that ends later than this after CONNACK was not taken over by who had just lost his.
const SOON_MS: u64 = 60_000;

/// How a link ended, as far as it speaks of another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// The server said so.
    TakenOver,
    /// The server closed without a reason, although it had acknowledged something: 3.1.1 cannot say more.
    Closed,
    /// It does not.
    None,
}

/// What is known of another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// Nothing.
    None,
    /// It looks like one.
    Perhaps,
    /// There is one.
    Certain,
}

/// The ends of the last links.
#[derive(Debug, Default)]
pub struct Takeovers {
    /// When the server said so, the newest last; at most [`MANY`].
    said: Vec<Millis>,
    /// When it closed so.
    closed: Vec<Millis>,
}

impl Takeovers {
    /// Takes how a link ended that began at `began`.
    pub fn link_ended(&mut self, sign: Sign, began: Millis, now: Millis) -> Rival {
        if now.since(began) >= WINDOW_MS {
            // Nobody has taken it in this time.
            *self = Self::default();
        }
        match sign {
            Sign::TakenOver => note(&mut self.said, now),
            Sign::Closed if now.since(began) < SOON_MS => note(&mut self.closed, now),
            Sign::Closed | Sign::None => return Rival::None,
        }
        let are_many = |times: &[Millis]| times.len() == MANY && now.since(times[0]) < WINDOW_MS;
        match sign {
            Sign::TakenOver if are_many(&self.said) => Rival::Certain,
            Sign::Closed if are_many(&self.closed) => Rival::Perhaps,
            _ => Rival::None,
        }
    }
}

fn note(times: &mut Vec<Millis>, now: Millis) {
    if times.len() == MANY {
        times.remove(0);
    }
    times.push(now);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends of links, each with its begin and end in seconds.
    fn judge(ends: &[(Sign, u64, u64)]) -> Vec<Rival> {
        let mut takeovers = Takeovers::default();
        ends.iter()
            .map(|&(sign, began, ended)| takeovers.link_ended(sign, Millis(began * 1000), Millis(ended * 1000)))
            .collect()
    }

    #[test]
    fn three_takeovers_in_five_minutes_are_another_client() {
        let rivals = judge(&[(Sign::TakenOver, 0, 1), (Sign::TakenOver, 2, 100), (Sign::TakenOver, 101, 299)]);
        assert_eq!(rivals, [Rival::None, Rival::None, Rival::Certain]);
        // Slowed down, it stays so; and a link that lasts ends it.
        let mut ends = vec![(Sign::TakenOver, 0, 1), (Sign::TakenOver, 2, 3), (Sign::TakenOver, 4, 5)];
        ends.extend([(Sign::TakenOver, 100, 101), (Sign::TakenOver, 220, 221), (Sign::TakenOver, 300, 700)]);
        let rivals = judge(&ends);
        assert_eq!(rivals[2..], [Rival::Certain, Rival::Certain, Rival::Certain, Rival::None]);
        let apart = judge(&[(Sign::TakenOver, 0, 1), (Sign::TakenOver, 2, 200), (Sign::TakenOver, 201, 400)]);
        assert_eq!(apart[2], Rival::None);
    }

    #[test]
    fn in_3_1_1_three_closes_soon_after_connack_are_perhaps_another_client() {
        let soon = |number: u64| (Sign::Closed, number * 60, number * 60 + 59);
        assert_eq!(judge(&[soon(0), soon(1), soon(2)]), [Rival::None, Rival::None, Rival::Perhaps]);
        let late = |number: u64| (Sign::Closed, number * 61, number * 61 + 60);
        assert_eq!(judge(&[late(0), late(1), late(2)]), [Rival::None; 3]);
        assert_eq!(judge(&[soon(0), (Sign::None, 60, 61), soon(2)]), [Rival::None; 3]);
    }
}
