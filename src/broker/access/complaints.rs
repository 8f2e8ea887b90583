//! What is refused, in the log: at first, then once in ten minutes with a count, however often it comes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines about the same.
const INTERVAL: Duration = Duration::from_secs(600);
/// Kinds and addresses that are told apart. Beyond that an address that is new is taken for the others together.
const MAX_KNOWN: usize = 1024;
/// Characters of a client's own words in a line.
const MAX_SHOWN: usize = 64;

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Complaint {
    UnknownUser,
    WrongPassword,
    Busy,
    UnknownCertificate,
    NoAnonymous,
    MayNotWrite,
    MayNotRead,
    WideningName,
}

impl Complaint {
    fn text(self) -> &'static str {
        match self {
            Self::UnknownUser => "refused a client: no user has this name",
            Self::WrongPassword => "refused a client: wrong password",
            Self::Busy => "refused a client: too many passwords wait to be checked",
            Self::UnknownCertificate => "refused a client: its certificate names nobody of `users`",
            Self::NoAnonymous => "refused a client: without a user name nobody may connect from there",
            Self::MayNotWrite => "refused a message: the client may not write to this topic",
            Self::MayNotRead => "refused a subscription: the client may not read any of this",
            Self::WideningName => {
                "a filter of this client matches nothing: a name put into it may not have `/`, `+`, `#` or begin with `$`"
            }
        }
    }
}

/// Whom it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose<'a> {
    pub(super) address: Option<IpAddr>,
    /// The user that it is, or says that it is.
    pub(super) user: Option<&'a str>,
    pub(super) client: &'a str,
}

/// What has been said already, and how often it came since.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<HashMap<Key, Said>>);

/// The same complaint of one address, and of one user where that is not a name that a stranger made up. `None` are
/// those beyond [`MAX_KNOWN`].
type Key = (Complaint, Option<(Option<IpAddr>, Option<Box<str>>)>);

#[derive(Debug)]
struct Said {
    at: Instant,
    since: u64,
}

impl Complaints {
    /// Notes that `subject` (a topic, a filter) was refused to somebody, or somebody as such.
    pub(super) fn note(&self, complaint: Complaint, whose: Whose<'_>, subject: Option<&str>) {
        let said_before = self.count(complaint, whose, Instant::now());
        let address = whose.address.map(tracing::field::display);
        let (user, client, subject) = (whose.user.map(shown), shown(whose.client), subject.map(shown));
        match said_before {
            None => tracing::debug!(address, user, client, subject, "{}", complaint.text()),
            Some(0) => tracing::warn!(address, user, client, subject, "{}", complaint.text()),
            Some(more) => tracing::warn!(address, user, client, subject, more, "{}", complaint.text()),
        }
    }

    /// How many there were since the last line; `None` where it is too early for the next.
    fn count(&self, complaint: Complaint, whose: Whose<'_>, now: Instant) -> Option<u64> {
        let is_made_up = matches!(complaint, Complaint::UnknownUser | Complaint::UnknownCertificate | Complaint::Busy);
        let user = whose.user.filter(|_| !is_made_up);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (complaint, Some((whose.address, user.map(Box::from))));
        if known.len() >= MAX_KNOWN && !known.contains_key(&key) {
            known.retain(|_, said| now.duration_since(said.at) < INTERVAL);
            if known.len() >= MAX_KNOWN {
                key = (complaint, None);
            }
        }
        match known.get_mut(&key) {
            Some(said) if now.duration_since(said.at) < INTERVAL => {
                said.since += 1;
                None
            }
            Some(said) => {
                said.at = now;
                Some(std::mem::take(&mut said.since))
            }
            None => {
                known.insert(key, Said { at: now, since: 0 });
                Some(0)
            }
        }
    }
}

/// At most the first characters of a text that a stranger chose.
fn shown(text: &str) -> &str {
    text.char_indices().nth(MAX_SHOWN).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_at_first_and_then_with_a_count() {
        let complaints = Complaints::default();
        let begin = Instant::now();
        let count = |complaint, last: u8, user, seconds| {
            let address = Some(IpAddr::from([192, 0, 2, last]));
            complaints.count(complaint, Whose { address, user, client: "c" }, begin + Duration::from_secs(seconds))
        };
        assert_eq!(count(Complaint::WrongPassword, 1, Some("ann"), 0), Some(0));
        for second in 1..600 {
            assert_eq!(count(Complaint::WrongPassword, 1, Some("ann"), second), None);
        }
        assert_eq!(count(Complaint::WrongPassword, 2, Some("ann"), 1), Some(0));
        assert_eq!(count(Complaint::WrongPassword, 1, Some("bob"), 1), Some(0));
        assert_eq!(count(Complaint::UnknownUser, 1, Some("eve"), 1), Some(0));
        assert_eq!(count(Complaint::UnknownUser, 1, Some("mallory"), 1), None);
        assert_eq!(count(Complaint::WrongPassword, 1, Some("ann"), 600), Some(599));
        assert_eq!(count(Complaint::WrongPassword, 1, Some("ann"), 601), None);
    }

    #[test]
    fn many_addresses_are_told_apart_up_to_a_bound() {
        let complaints = Complaints::default();
        let now = Instant::now();
        let said = (0..5000_u32)
            .filter(|number| {
                let address = Some(IpAddr::from(number.to_be_bytes()));
                let whose = Whose { address, user: Some("ann"), client: "c" };
                complaints.count(Complaint::WrongPassword, whose, now).is_some()
            })
            .count();
        assert_eq!(said, MAX_KNOWN + 1);
        assert_eq!(complaints.0.lock().unwrap().len(), MAX_KNOWN + 1);
    }
}
