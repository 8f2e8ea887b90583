//! Why a link did not come about or ended, as far as the pause before the next attempt depends on it.

use crate::mqtt::ReasonCode;

/// What is wrong, sorted by what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no way to the server, or the link broke: it may be back in a moment.
    Network,
    /// Nothing came in time: the waiting itself was a pause.
    Unanswered,
    /// The server has too much to do, or we have used up what it gives us.
    Busy,
    /// The server does not want us: somebody must change something.
    Credentials,
    /// The server and we do not understand each other.
    Protocol,
    /// Another client has our client id.
    Rival,
}

impl Trouble {
    /// That of a CONNACK with `reason`.
    pub const fn of_refusal(reason: ReasonCode) -> Self {
        match reason {
            ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::QuotaExceeded
            | ReasonCode::ConnectionRateExceeded
            // The next server is tried first, where there is one.
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved => Self::Busy,
            ReasonCode::ClientIdentifierNotValid
            | ReasonCode::BadUserNameOrPassword
            | ReasonCode::NotAuthorized
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod => Self::Credentials,
            _ => Self::Protocol,
        }
    }

    /// That of a DISCONNECT with `reason`, once we had been let in.
    pub const fn of_disconnect(reason: ReasonCode) -> Self {
        match reason {
            // It goes on elsewhere or in a moment. What takes our client id again and again is counted.
            ReasonCode::Success
            | ReasonCode::DisconnectWithWill
            | ReasonCode::ServerShuttingDown
            | ReasonCode::KeepAliveTimeout
            | ReasonCode::MaximumConnectTime
            | ReasonCode::UnspecifiedError
            | ReasonCode::SessionTakenOver => Self::Network,
            ReasonCode::MessageRateTooHigh | ReasonCode::AdministrativeAction => Self::Busy,
            // Of one message, not of all of us: it is looked for, and set aside.
            ReasonCode::NotAuthorized
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::RetainNotSupported
            | ReasonCode::QoSNotSupported => Self::Network,
            other => Self::of_refusal(other),
        }
    }
}
