//! What is told of a bridge, by one name each under `$SYS` and in its status message.

use std::fmt;

use super::bridge::{BridgeHealth, LinkState};
use crate::clock;

/// A value that is told of a bridge.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// In words.
    Text(String),
    /// How many, or how long in seconds.
    Number(u64),
    /// How many a second, in tenths.
    Rate(f64),
    /// Yes or no.
    Flag(bool),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Rate(rate) => write!(f, "{rate:.1}"),
            Self::Flag(flag) => u8::from(*flag).fmt(f),
        }
    }
}

impl BridgeHealth {
    /// All that is told of it now, by name. What there is none of is left out.
    pub fn facts(&self) -> Vec<(&'static str, Fact)> {
        let (link, backlog) = (self.link(), self.backlog());
        let [sent_rate, received_rate] = self.rates(&backlog);
        let now = clock::now();
        let is_waiting = matches!(link.state, LinkState::Waiting | LinkState::Refused);
        let retry = link.retry_at.filter(|_| is_waiting).map(|at| at.since(now).div_ceil(1000));
        let text = |text: Option<&str>| text.map(|text| Fact::Text(text.to_owned()));
        let number = |number| Some(Fact::Number(number));
        let facts = [
            ("state", Some(Fact::Text(link.state.to_string()))),
            ("next_attempt", retry.map(Fact::Number)),
            ("server", text(link.server.as_deref())),
            ("version", text(link.version)),
            ("last_error", text(link.last_error.as_deref())),
            ("connects", number(self.connects())),
            ("queued", number(backlog.queued)),
            ("queued_bytes", number(backlog.queued_bytes)),
            ("oldest_age", number(backlog.oldest_age())),
            ("in_flight", number(backlog.in_flight)),
            ("full", Some(Fact::Flag(backlog.is_full))),
            ("sent_rate", Some(Fact::Rate(sent_rate))),
            ("received_rate", Some(Fact::Rate(received_rate))),
            ("dropped", number(backlog.dropped)),
            ("expired", number(backlog.expired)),
            ("resent", number(backlog.resent)),
            ("qos2_resent", number(backlog.qos2_resent)),
            ("qos2_downgraded", number(backlog.qos2_downgraded)),
            ("set_aside", number(backlog.set_aside)),
            ("last_set_aside", text(backlog.last_set_aside.as_deref())),
        ];
        facts.into_iter().filter_map(|(name, fact)| Some((name, fact?))).collect()
    }
}
