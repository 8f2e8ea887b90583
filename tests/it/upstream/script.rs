//! What the scripted upstream does: values that a test puts together.

use edgeway::mqtt::{QoS, ReasonCode};

/// How one connection behaves.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    pub(super) greeting: Greeting,
    /// Whether `greeting` is only for clients that speak 5.0; others are accepted.
    pub(super) only_version_5: bool,
    pub(super) terms: Terms,
    /// Whether sessions are forgotten before the CONNECT is answered.
    pub(super) forgets: bool,
    /// Acknowledges only when nothing has come for a moment, so that a window fills.
    pub(super) gathers: bool,
    /// What SUBSCRIBE is answered, instead of the QoS that was asked for.
    pub(super) suback: Option<ReasonCode>,
    pub(super) rules: Vec<(When, Do)>,
}

/// What CONNECT is answered.
#[derive(Debug, Clone, Default)]
pub(super) enum Greeting {
    #[default]
    Accept,
    Nothing,
    Close,
    Refuse(ReasonCode, Option<String>),
}

/// What CONNACK says (5.0).
#[derive(Debug, Clone)]
pub struct Terms {
    /// Messages of QoS 1 and 2 in flight.
    pub receive_maximum: u16,
    /// Bytes of a packet.
    pub maximum_packet_size: Option<u32>,
    /// The highest QoS.
    pub maximum_qos: QoS,
    /// Whether RETAIN may be set.
    pub retain_available: bool,
    /// Topic aliases that it takes.
    pub topic_alias_maximum: u16,
    /// Seconds of keep alive instead of the client's.
    pub server_keep_alive: Option<u16>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            topic_alias_maximum: 0,
            server_keep_alive: None,
        }
    }
}

/// What a rule waits for, on its connection.
#[derive(Debug, Clone)]
pub enum When {
    /// CONNACK has been said.
    Connected,
    /// A PUBLISH to this topic.
    Topic(&'static str),
    /// A PUBLISH whose payload holds this text.
    Payload(&'static str),
    /// A PUBLISH of this QoS.
    Qos(QoS),
    /// The n-th PUBLISH of QoS 1 or 2 on this connection, from 1 on.
    Nth(usize),
    /// Any PUBLISH of QoS 1 or 2.
    Acknowledgeable,
    /// A PUBREL.
    Release,
    /// A PINGREQ.
    Ping,
}

/// What is done then, instead of what a good server does.
#[derive(Debug, Clone)]
pub enum Do {
    /// Closes without a word.
    Close,
    /// Does not acknowledge it, ever; everything else goes on.
    Withhold,
    /// Reads and answers nothing any more; the socket stays open.
    BlackHole,
    /// Answers PUBACK, to a QoS 2 message too.
    Puback,
    /// Answers PUBACK or PUBREC with this reason (5.0; without it in 3.1.1).
    Refuse(ReasonCode),
    /// Says DISCONNECT with this reason and closes.
    Disconnect(ReasonCode),
    /// Says DISCONNECT with this reason and a server to use, and closes.
    SendAway(ReasonCode, String),
}

impl Behaviour {
    /// As a good server.
    pub fn good() -> Self {
        Self::default()
    }

    /// Never answers CONNECT.
    pub fn silent() -> Self {
        Self { greeting: Greeting::Nothing, ..Self::default() }
    }

    /// Closes at CONNECT.
    pub fn closes() -> Self {
        Self { greeting: Greeting::Close, ..Self::default() }
    }

    /// Refuses CONNECT; in 3.1.1 with the nearest return code.
    pub fn refuses(reason: ReasonCode) -> Self {
        Self { greeting: Greeting::Refuse(reason, None), ..Self::default() }
    }

    /// Refuses CONNECT and names another server (5.0).
    pub fn sends_away(reason: ReasonCode, server: &str) -> Self {
        Self { greeting: Greeting::Refuse(reason, Some(server.to_owned())), ..Self::default() }
    }

    /// Greets only clients of 5.0 so; those of 3.1.1 are accepted.
    pub fn on_version_5(self) -> Self {
        Self { only_version_5: true, ..self }
    }

    /// With these terms in CONNACK, which it insists on.
    pub fn with_terms(self, terms: Terms) -> Self {
        Self { terms, ..self }
    }

    /// Forgets all sessions first: session present 0.
    pub fn forgetful(self) -> Self {
        Self { forgets: true, ..self }
    }

    /// Acknowledges only when nothing has come for a moment: so a window fills.
    pub fn gathering(self) -> Self {
        Self { gathers: true, ..self }
    }

    /// Answers each SUBSCRIBE with this code.
    pub fn refusing_subscriptions(self, reason: ReasonCode) -> Self {
        Self { suback: Some(reason), ..self }
    }

    /// With one more rule; the first that fits applies.
    pub fn when(mut self, when: When, act: Do) -> Self {
        self.rules.push((when, act));
        self
    }
}
