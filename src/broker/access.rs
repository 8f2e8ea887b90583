//! Who may connect, and what a connection may read and write.

use std::net::IpAddr;
use std::sync::Arc;

use crate::mqtt::packet::Connect;
use crate::mqtt::{ReasonCode, TopicFilter};

/// Who is at the other end of a connection, before it says CONNECT.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Its address; `None` over a Unix socket or in memory.
    pub address: Option<IpAddr>,
    /// The user that its certificate names, where the listener asks for one.
    pub user: Option<Arc<str>>,
}

/// Who may connect to one listener.
#[derive(Debug, Default)]
pub struct Access {}

/// Who a connection is, and what it may do.
#[derive(Debug, Default)]
pub struct Rights {
    user: Option<Arc<str>>,
}

/// What a subscription may read.
#[derive(Debug, Clone)]
pub enum Reading {
    /// Every message that its filter matches.
    Everything,
    /// Those of them that these filters match too.
    Partly(Arc<[TopicFilter]>),
    /// None of them: it is refused.
    Nothing,
}

impl Access {
    /// Whether `caller` may connect as `connect` says, and what it may do then. `client_id` is the one of `connect`, or
    /// the one that the broker gives where it has none.
    ///
    /// # Errors
    /// The reason for CONNACK, which says no more than a stranger may know.
    pub async fn admit(
        &self,
        _caller: &Caller,
        _connect: &Connect<'_>,
        _client_id: &str,
    ) -> Result<Arc<Rights>, ReasonCode> {
        Ok(Rights::everything())
    }
}

impl Rights {
    /// Everything that is not the broker's own.
    pub fn everything() -> Arc<Self> {
        Arc::default()
    }

    /// The name under which it was let in; `None` for the anonymous.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
    }

    /// Whether it may do everything, so that nothing needs to be asked.
    pub fn is_everything(&self) -> bool {
        true
    }

    /// Whether it may publish to `topic`.
    pub fn may_publish(&self, _topic: &str) -> bool {
        true
    }

    /// What a subscription to `filter` may read; of a shared one, the filter behind its group.
    pub fn reading(&self, _filter: &str) -> Reading {
        Reading::Everything
    }
}
