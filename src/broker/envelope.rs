//! What a bridge's server wants of topics and payloads beyond a remap: one that is no plain broker has forms of its own.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::mapping::hop_payload::Outgoing;

/// The forms of a server, for some of the routes to it or from it. Every method is called where nothing may wait:
/// outward ones under the session's lock.
pub trait Envelope: fmt::Debug + Send + Sync {
    /// What queue entries remember of a route, where its filter does not tell it from another of the same bridge.
    fn route_name(&self) -> Option<&str> {
        None
    }

    /// Whether a message of ours on `topic`, which the route's filter matches, takes the route.
    fn takes(&self, _topic: &str, _payload: &[u8]) -> bool {
        true
    }

    /// What is sent of a message whose route made `topic` and `payload` of it.
    fn seal(&self, _topic: &str, _payload: &[u8], _message: &Outgoing<'_>) -> Sealed {
        Sealed::AsItIs
    }

    /// What a message of the server's is for us. `after_connect_ms` is how long the connection has been there.
    fn open(&self, _topic: &str, _payload: &[u8], _after_connect_ms: u64) -> Opened {
        Opened::AsItIs
    }

    /// What the server is told of a message of its that was opened and that nobody took.
    fn unclaimed(&self, _topic: &str, _payload: &[u8]) -> Option<Reply> {
        None
    }
}

/// What is sent of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// What the route made of it.
    AsItIs,
    /// This; the payload stays where there is none.
    As {
        /// The topic of the PUBLISH.
        topic: String,
        /// Its payload.
        payload: Option<Vec<u8>>,
    },
    /// Nothing: the server has no form for it, and why.
    Nothing(&'static str),
}

/// What a message of the server's is for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// What the route makes of it.
    AsItIs,
    /// A message of ours, at the QoS of the hop and not retained.
    Message {
        /// Our topic.
        topic: String,
        /// Its payload; `None` is that of the hop.
        payload: Option<Vec<u8>>,
    },
    /// Nothing that goes further: the server is told so.
    Answered(Reply),
    /// Nothing, and why.
    Refused(String),
}

/// A PUBLISH to the server at QoS 0, not retained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// An envelope that routes share. It compares by identity.
#[derive(Debug, Clone)]
pub struct SharedEnvelope(Arc<dyn Envelope>);

impl SharedEnvelope {
    /// Shares it.
    pub fn new(envelope: impl Envelope + 'static) -> Self {
        Self(Arc::new(envelope))
    }
}

impl Deref for SharedEnvelope {
    type Target = dyn Envelope;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for SharedEnvelope {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
