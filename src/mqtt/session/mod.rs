//! What outlives a connection: the QoS 1 and 2 exchanges of a session, in both directions (section 4.3 and 4.4).
//!
//! A session is symmetric: a server has one per client, a bridge has one per server that it dials. [`Outbound`] is the
//! sender's half, [`Inbound`] the receiver's. [`Session`] has both for a [`super::connection::Connection`].

mod inbound;
mod outbound;

use std::collections::VecDeque;

pub use inbound::Inbound;
pub use outbound::{Outbound, Released, Resend, Settled, Unsettled, in_lane, lane_of};

use super::{Message, PacketId};

/// The packet identifier of SUBSCRIBE and UNSUBSCRIBE; messages never use it.
pub const SUBSCRIBE_PACKET_ID: PacketId = PacketId::MAX;

/// Both halves of a session, and what waits for room in the window. It is handed from one connection to the next.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// The sender's half.
    pub outbound: Outbound<Message>,
    /// The receiver's half.
    pub inbound: Inbound,
    /// QoS 1 and 2 messages that have never been sent, with their sequences.
    pub waiting: VecDeque<(u64, Message)>,
}

impl Session {
    /// Messages that were published and whose exchange is not over.
    pub fn unsettled(&self) -> usize {
        self.outbound.len() + self.waiting.len()
    }
}
