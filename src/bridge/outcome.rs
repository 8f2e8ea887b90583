//! How attempts fail and links end, in words and by their [`Trouble`].

use std::time::Duration;

use super::memory::Hint;
use super::trouble::Trouble;
use crate::broker::link;
use crate::mqtt::ReasonCode;
use crate::net::dial::DialError;
use crate::net::proxy::ProxyError;
use crate::net::tls;

/// Why there is no connection.
pub(super) struct Failed {
    pub(super) error: String,
    pub(super) trouble: Trouble,
    pub(super) hint: Hint,
    /// Whether the server sends us away, and where to.
    pub(super) moved: Option<Option<String>>,
    /// Whether the server does not want us as we are, as far as we know.
    pub(super) is_refusal: bool,
}

impl Failed {
    pub(super) fn to_dial(error: &DialError) -> Self {
        let trouble = match error {
            DialError::Timeout { .. } => Trouble::Unanswered,
            DialError::Proxy { error: ProxyError::WantsPassword | ProxyError::WrongPassword, .. } => {
                Trouble::Credentials
            }
            // It may be no refusal of its own: a captive portal shows certificates and pages too.
            error if error.is_refusal() => Trouble::Protocol,
            _ => Trouble::Network,
        };
        let is_refusal = error.is_refusal();
        Self { error: error.to_string(), trouble, hint: Hint::None, moved: None, is_refusal }
    }

    pub(super) fn to_greet(error: link::DialError) -> Self {
        let text = error.to_string();
        let is_refusal = matches!(error, link::DialError::Refused { .. } | link::DialError::Closed);
        let (trouble, hint) = match error {
            link::DialError::Refused {
                reason: ReasonCode::UseAnotherServer | ReasonCode::ServerMoved, server, ..
            } => {
                return Self {
                    error: text,
                    trouble: Trouble::Busy,
                    hint: Hint::None,
                    moved: Some(server),
                    is_refusal: false,
                };
            }
            link::DialError::Refused { reason: ReasonCode::UnsupportedProtocolVersion, .. } => {
                (Trouble::Protocol, Hint::Wanted)
            }
            link::DialError::Refused { reason, .. } => (Trouble::of_refusal(reason), Hint::None),
            link::DialError::Closed => (Trouble::Network, Hint::Guessed),
            link::DialError::Timeout(_) => (Trouble::Unanswered, Hint::Unclear),
            link::DialError::Failed(_) => (Trouble::Protocol, Hint::Unclear),
        };
        Self { error: text, trouble, hint, moved: None, is_refusal }
    }
}

/// How a link ended.
pub(super) enum Ended {
    Link(link::End),
    /// Nothing was acknowledged for this time.
    Stalled(Duration),
    /// By us, to connect anew for this reason.
    Renewed(&'static str),
}

impl Ended {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Renewed(why) => (*why).into(),
            Self::Stalled(timeout) => format!("no acknowledgement for {} s", timeout.as_secs_f32()),
            Self::Link(link::End::Peer(None)) => "the server closed the connection".into(),
            Self::Link(link::End::Peer(Some(reason))) => format!("the server said {reason}"),
            Self::Link(link::End::Protocol(error)) => format!("the server broke the protocol: {error}"),
            Self::Link(link::End::Transport(error)) => tls::describe(error),
            Self::Link(link::End::TakenOver) => "another connection of this bridge".into(),
            Self::Link(link::End::Closed(ReasonCode::KeepAliveTimeout)) => "the server went silent".into(),
            Self::Link(link::End::Closed(ReasonCode::UnspecifiedError)) => "the server closed the connection".into(),
            Self::Link(link::End::Closed(reason)) => reason.to_string(),
        }
    }

    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Link(link::End::Peer(Some(reason))) => Trouble::of_disconnect(*reason),
            Self::Link(link::End::Protocol(_)) => Trouble::Protocol,
            _ => Trouble::Network,
        }
    }
}
