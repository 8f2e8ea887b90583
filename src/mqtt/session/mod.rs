//! What outlives a connection: the QoS 1 and 2 exchanges of a session, in both directions (section 4.3 and 4.4).
//!
//! A session is symmetric: a server has one per client, a bridge has one per server that it dials. [`Outbound`] is the
//! sender's half, [`Inbound`] the receiver's.

mod inbound;
mod outbound;

pub use inbound::Inbound;
pub use outbound::{Outbound, Released, Resend, Settled};

use super::PacketId;

/// The packet identifier of SUBSCRIBE and UNSUBSCRIBE; messages never use it.
pub const SUBSCRIBE_PACKET_ID: PacketId = PacketId::MAX;
