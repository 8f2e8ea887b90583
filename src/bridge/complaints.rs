//! What is said of an error that repeats: at first, then at most once in ten minutes with a count.

use crate::mqtt::Millis;

/// What repeats is said again after this time, in milliseconds.
const AGAIN_MS: u64 = 600_000;
/// Different errors that are known at a time; the one that was said longest ago gives way.
const MAX_KNOWN: usize = 16;

/// Errors that were said.
#[derive(Debug, Default)]
pub struct Complaints {
    known: Vec<Complaint>,
}

#[derive(Debug)]
struct Complaint {
    text: String,
    said_at: Millis,
    unsaid: u64,
}

impl Complaints {
    /// Whether `text` is to be said now; then how often it was not since it was said last.
    pub fn note(&mut self, text: &str, now: Millis) -> Option<u64> {
        if let Some(known) = self.known.iter_mut().find(|known| known.text == text) {
            if now.since(known.said_at) < AGAIN_MS {
                known.unsaid += 1;
                return None;
            }
            known.said_at = now;
            return Some(std::mem::take(&mut known.unsaid));
        }
        if self.known.len() >= MAX_KNOWN
            && let Some(oldest) = (0..self.known.len()).min_by_key(|&index| self.known[index].said_at)
        {
            self.known.swap_remove(oldest);
        }
        self.known.push(Complaint { text: text.to_owned(), said_at: now, unsaid: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_said_at_first_and_then_with_a_count() {
        let mut complaints = Complaints::default();
        let mut note = |text: &str, seconds: u64| complaints.note(text, Millis(seconds * 1000));
        assert_eq!(note("refused", 0), Some(0));
        assert_eq!(note("refused", 30), None);
        assert_eq!(note("timeout", 40), Some(0));
        assert_eq!(note("refused", 599), None);
        assert_eq!(note("refused", 600), Some(2));
        assert_eq!(note("refused", 700), None);
        assert_eq!(note("refused", 1200), Some(1));
    }

    #[test]
    fn only_so_many_are_known() {
        let mut complaints = Complaints::default();
        for number in 0..100 {
            complaints.note(&number.to_string(), Millis(number));
        }
        assert_eq!(complaints.known.len(), MAX_KNOWN);
        assert_eq!(complaints.note("99", Millis(100)), None);
    }
}
