//! How a bridge is: its link in words, what waits for it, what was counted, and what somebody should look at.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::lock;
use super::rates::Rates;
use crate::clock;
use crate::mqtt::{Millis, Version};

/// What waits for a bridge, and what was counted so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages in its queue.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Since when the oldest of them waits.
    pub oldest: Option<Millis>,
    /// Messages sent and not yet acknowledged.
    pub in_flight: u64,
    /// Whether the queue is full: the next message is dropped, or its publisher refused.
    pub is_full: bool,
    /// Messages that its full queue has dropped so far.
    pub dropped: u64,
    /// Messages that expired while they waited.
    pub expired: u64,
    /// Messages that were sent again.
    pub resent: u64,
    /// QoS 2 messages that were sent anew because the server had lost our session.
    pub qos2_resent: u64,
    /// QoS 2 messages that the server took at QoS 1.
    pub qos2_downgraded: u64,
    /// Messages that stand aside because the server does not take them.
    pub set_aside: u64,
    /// The newest of them, and why.
    pub last_set_aside: Option<String>,
    /// Messages that went to the server, and that came from there.
    pub sent: u64,
    /// See `sent`.
    pub received: u64,
}

/// How a link is, in a word.
///
/// ```text
/// Connecting -> Connected -> Waiting --+
///   ^    +----> Waiting, Refused       |        Stopped at the end
///   +--------------------+-------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    /// A server is dialled, or will be at once.
    #[default]
    Connecting,
    /// The link stands.
    Connected,
    /// There is none, and a pause until the next attempt.
    Waiting,
    /// The same, and the server has said no.
    Refused,
    /// There will be none.
    Stopped,
}

/// How a link is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// In a word.
    pub state: LinkState,
    /// The server, or the one that was tried last.
    pub server: Option<Arc<str>>,
    /// The version that is spoken there: `5.0`, `3.1.1`.
    pub version: Option<&'static str>,
    /// When the next attempt is due.
    pub retry_at: Option<Millis>,
    /// Why the last link ended or did not come about. It stays when the next one stands.
    pub last_error: Option<Arc<str>>,
}

/// What somebody should look at although messages may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeWarning {
    /// Another client has our id.
    OtherClient,
    /// The server has refused a subscription.
    RefusedSubscription,
}

/// How a bridge is.
pub struct BridgeHealth {
    name: Arc<str>,
    link: Mutex<LinkStatus>,
    warnings: Mutex<Vec<(BridgeWarning, String)>>,
    connects: AtomicU64,
    backlog: Box<dyn Fn() -> Backlog + Send + Sync>,
    rates: Mutex<Rates>,
    /// Of all parts.
    changed: Arc<Notify>,
    /// Of this one.
    moved: Notify,
}

impl BridgeHealth {
    pub(super) fn new(
        name: &str,
        changed: &Arc<Notify>,
        backlog: impl Fn() -> Backlog + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            link: Mutex::default(),
            warnings: Mutex::default(),
            connects: AtomicU64::new(0),
            backlog: Box::new(backlog),
            rates: Mutex::default(),
            changed: Arc::clone(changed),
            moved: Notify::new(),
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Notes that `server` is dialled, to speak `version`.
    pub fn connecting(&self, server: &str, version: Version) {
        self.change(|link| {
            (link.state, link.retry_at) = (LinkState::Connecting, None);
            link.server = Some(server.into());
            link.version = Some(match version {
                Version::V3 => "3.1.1",
                Version::V5 => "5.0",
            });
        });
    }

    /// Notes that its link stands.
    pub fn connected(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.change(|link| (link.state, link.retry_at) = (LinkState::Connected, None));
    }

    /// Notes that it has no link, and why.
    pub fn disconnected(&self, error: &str) {
        self.change(|link| (link.state, link.last_error) = (LinkState::Waiting, Some(error.into())));
    }

    /// Notes that the server has said no, and why.
    pub fn refused(&self, error: &str) {
        self.change(|link| (link.state, link.last_error) = (LinkState::Refused, Some(error.into())));
    }

    /// Notes that nothing is tried before `until`.
    pub fn waiting(&self, until: Millis) {
        self.change(|link| {
            if link.state != LinkState::Refused {
                link.state = LinkState::Waiting;
            }
            link.retry_at = Some(until);
        });
    }

    /// Notes that there will be no link any more.
    pub fn stopped(&self) {
        self.change(|link| (link.state, link.retry_at) = (LinkState::Stopped, None));
    }

    /// Notes what is wrong although its link may stand.
    pub fn note_error(&self, error: &str) {
        self.change(|link| link.last_error = Some(error.into()));
    }

    /// Notes what somebody should look at, or with `None` that it is over.
    pub fn set_warning(&self, warning: BridgeWarning, text: Option<&str>) {
        let mut warnings = lock(&self.warnings);
        let known = warnings.iter().find(|(known, _)| *known == warning).map(|(_, text)| text.as_str());
        if known == text {
            return;
        }
        warnings.retain(|(known, _)| *known != warning);
        warnings.extend(text.map(|text| (warning, text.to_owned())));
        drop(warnings);
        self.changed.notify_one();
    }

    /// What somebody should look at, in words.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = lock(&self.warnings).iter().map(|(_, text)| text.clone()).collect();
        let Backlog { dropped, set_aside, last_set_aside, .. } = self.backlog();
        let count = |count: u64| if count == 1 { "1 message".to_owned() } else { format!("{count} messages") };
        if dropped > 0 {
            warnings.push(format!("the full queue of the bridge {} has dropped {}", self.name, count(dropped)));
        }
        if set_aside > 0 {
            let last = last_set_aside.map(|last| format!("; the last: {last}")).unwrap_or_default();
            let said =
                format!("{} of the bridge {} stand aside: the server does not take them", count(set_aside), self.name);
            warnings.push(said + &last);
        }
        warnings
    }

    /// How its link is.
    pub fn link(&self) -> LinkStatus {
        lock(&self.link).clone()
    }

    /// Whether its link stands.
    pub fn is_connected(&self) -> bool {
        lock(&self.link).state == LinkState::Connected
    }

    /// Times that its link came to stand.
    pub fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// Why the last link ended or did not come about. It stays when the next one stands.
    pub fn last_error(&self) -> Option<Arc<str>> {
        lock(&self.link).last_error.clone()
    }

    /// What waits for it.
    pub fn backlog(&self) -> Backlog {
        (self.backlog)()
    }

    /// Messages sent and received a second over the last minute, of which `backlog` tells.
    pub fn rates(&self, backlog: &Backlog) -> [f64; 2] {
        lock(&self.rates).of([backlog.sent, backlog.received], clock::now())
    }

    /// Completes when its link has changed since this was awaited last. One task awaits it. Cancel-safe.
    pub async fn moved(&self) {
        self.moved.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut LinkStatus)) {
        let mut link = lock(&self.link);
        let before = link.clone();
        change(&mut link);
        let (is_changed, is_other_state) = (*link != before, link.state != before.state);
        drop(link);
        if is_changed {
            self.moved.notify_one();
        }
        if is_other_state {
            self.changed.notify_one();
        }
    }
}

impl Backlog {
    /// How long the oldest message waits, in seconds; 0 where none does.
    pub fn oldest_age(&self) -> u64 {
        self.oldest.map_or(0, |since| clock::now().since(since) / 1000)
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        })
    }
}

impl fmt::Debug for BridgeHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgeHealth").field("name", &self.name).field("link", &self.link).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::HealthTable;
    use super::*;

    #[test]
    fn a_link_is_told_in_words() {
        let table = HealthTable::default();
        let bridge = table.bridge("cloud", Backlog::default);
        let state = || bridge.link().state.to_string();
        assert_eq!(state(), "connecting");
        bridge.connecting("mqtt://a:1883", Version::V5);
        bridge.refused("the server refused: not authorized (0x87)");
        bridge.waiting(Millis(5000));
        assert_eq!((state(), bridge.link().retry_at), ("refused".into(), Some(Millis(5000))));
        bridge.connecting("mqtt://a:1883", Version::V3);
        bridge.disconnected("connection refused");
        bridge.waiting(Millis(9000));
        assert_eq!((state(), bridge.is_connected()), ("waiting".into(), false));
        bridge.connecting("mqtt://b:1883", Version::V3);
        bridge.connected();
        let LinkStatus { server, version, retry_at, last_error, .. } = bridge.link();
        assert_eq!((server.as_deref(), version, retry_at), (Some("mqtt://b:1883"), Some("3.1.1"), None));
        assert_eq!((state(), last_error.as_deref()), ("connected".into(), Some("connection refused")));
        assert_eq!((bridge.is_connected(), bridge.connects()), (true, 1));
        bridge.stopped();
        assert_eq!(state(), "stopped");
    }

    #[test]
    fn what_somebody_should_look_at_is_a_warning_until_it_is_over() {
        let table = HealthTable::default();
        let backlog = || Backlog { set_aside: 2, last_set_aside: Some("a: too long".into()), ..Backlog::default() };
        let bridge = table.bridge("cloud", backlog);
        bridge.set_warning(BridgeWarning::OtherClient, Some("another client uses the id edge"));
        bridge.set_warning(BridgeWarning::RefusedSubscription, Some("refused a"));
        bridge.set_warning(BridgeWarning::RefusedSubscription, Some("refused b"));
        bridge.set_warning(BridgeWarning::OtherClient, None);
        let aside = "2 messages of the bridge cloud stand aside: the server does not take them; the last: a: too long";
        assert_eq!(table.verdict().warnings, ["refused b", aside]);
        assert!(table.verdict().failures.is_empty());
    }
}
