//! Whether a publisher can do nothing until a commit: then the commit is hurried; else it waits for its time, because
//! every commit wears the card.
//!
//! A publisher is held up when it has as many messages open as it ever lets be open at once, its **window**. The receive
//! maximum that we announce is only the highest that this can be; 3.1.1 has none, and clients have bounds of their own
//! that nobody tells us. So the window is found out:
//!
//! * It begins with 1: who publishes one by one waits for each acknowledgement, and is served at once.
//! * Who has more open than the window was thought to be has just shown that it was not held up. The window is that many
//!   now, and what has come waits for its time, once.
//! * Who stays silent for at least half of a wait while fewer are open has no more to say, or may not: the window is that
//!   many now. A publisher that goes on at its own pace is never silent for so long with two or more open.
//!
//! So a client with a window of 20 waits for one commit in its time and is served at once from then on; one that then
//! publishes one by one, too; and one that paces waits for the commits that come anyway. What is thought wrongly costs
//! one wait or one commit.

use crate::mqtt::Millis;

/// What is known of a publisher's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// As many messages as it lets be open at once.
    window: u32,
    /// Since when it waits for a commit.
    since: Option<Millis>,
    /// When it was heard last.
    heard: Millis,
}

impl Default for Pace {
    fn default() -> Self {
        Self { window: 1, since: None, heard: Millis(0) }
    }
}

impl Pace {
    /// Takes that replies must wait for a commit while `open` messages are open, of which the peer may have no more than
    /// `maximum`. Whether it is held up.
    pub(super) fn handle_wait(&mut self, open: u32, maximum: u32, now: Millis) -> bool {
        self.since.get_or_insert(now);
        self.heard = now;
        let was = self.window;
        self.window = was.max(open);
        open == was || open >= maximum
    }

    /// Takes that nothing waits any more; until now `open` messages were open.
    pub(super) fn handle_commit(&mut self, open: u32, now: Millis) {
        let Some(since) = self.since.take() else {
            return;
        };
        if open > 0 && 2 * now.since(self.heard) >= now.since(since) {
            self.window = open;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publishes `count` messages, one each `every` milliseconds, to a journal that commits `commit` milliseconds after
    /// the first that waits, or `hurried` after it is held up. At most `window` are open. Returns how many commits there
    /// were, and when the last message was committed.
    fn publish(pace: &mut Pace, begin: u64, count: u32, every: u64, window: u32) -> (u32, u64) {
        let (commit, hurried) = (100, 5);
        let (mut now, mut open, mut left, mut next) = (begin, 0, count, begin);
        let (mut due, mut commits) = (None::<u64>, 0);
        while left > 0 || open > 0 {
            if due == Some(now) {
                pace.handle_commit(open, Millis(now));
                (open, due, commits) = (0, None, commits + 1);
            }
            while left > 0 && open < window && next <= now {
                (open, left, next) = (open + 1, left - 1, next.max(now) + every);
                let is_held_up = pace.handle_wait(open, u32::MAX, Millis(now));
                let wanted = now + if is_held_up { hurried } else { commit };
                due = Some(due.map_or(wanted, |due| due.min(wanted)));
                if every > 0 {
                    break;
                }
            }
            now += 1;
        }
        (commits, now - begin)
    }

    #[test]
    fn who_publishes_one_by_one_is_served_at_once() {
        let (commits, took) = publish(&mut Pace::default(), 1000, 40, 0, 1);
        assert_eq!(commits, 40);
        assert!(took < 300, "{took} ms");
    }

    #[test]
    fn who_fills_a_window_waits_once_for_its_time() {
        let (_, took) = publish(&mut Pace::default(), 1000, 1000, 0, 20);
        assert!(took < 100 + 51 * 6, "{took} ms for 50 windows");
    }

    #[test]
    fn who_paces_waits_for_the_commits_that_come_anyway() {
        let (commits, took) = publish(&mut Pace::default(), 1000, 5000, 2, 1000);
        // Ten seconds hold a hundred commits in their time; until its pace is known there are a few more.
        assert!((100..=130).contains(&commits), "{commits} commits");
        assert!(took >= 10_000);
    }

    #[test]
    fn who_pipelined_and_then_publishes_one_by_one_waits_once_more() {
        let pace = &mut Pace::default();
        publish(pace, 1000, 200, 0, 20);
        let (_, took) = publish(pace, 10_000, 40, 0, 1);
        assert!(took < 100 + 40 * 6 + 1, "{took} ms");
    }

    #[test]
    fn the_receive_maximum_is_the_highest_window() {
        let mut pace = Pace::default();
        assert!(!pace.handle_wait(4, 5, Millis(1)));
        assert!(pace.handle_wait(5, 5, Millis(1)));
    }
}
