//! Accepting a connection: CONNECT comes first, in time.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::exchange::Exchange;
use super::{End, Io, Link, read_packet, split};
use crate::broker::Broker;
use crate::broker::access::Caller;
use crate::broker::listener::{Arrival, Entrance};
use crate::broker::sessions::Entering;
use crate::metrics::Tally;
use crate::mqtt::codec::{Framing, split_frame};
use crate::mqtt::connection::{Receiver, answers};
use crate::mqtt::packet::{ConnAck, Connect, kind};
use crate::mqtt::{Packet, ReasonCode, Side, Version, wire};
use crate::net::SocketWriter;
use crate::store::Batch;

/// How long a connection that is turned away gets for its CONNECT.
const TURNED_AWAY_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a connection is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes, once it has said CONNECT.
    Welcome,
    /// No: its CONNECT is answered with this reason.
    TurnedAway(ReasonCode),
}

/// Drives a connection that [`enter`] lets in until one side ends it.
///
/// The entering comes boxed, so that an open connection does not carry the room that its beginning needs.
pub async fn drive(entering: Pin<Box<impl Future<Output = Result<Link, End>>>>) -> End {
    let mut link = match entering.await {
        Ok(link) => link,
        Err(end) => return end,
    };
    let end = link.run().await;
    tracing::debug!(client = %link.slot().client_id(), ?end, "client gone");
    Box::pin(link.end(&end)).await;
    end
}

/// Takes the handshake and CONNECT, and lets the client in, or says why not.
pub async fn enter(
    broker: Arc<Broker>,
    entrance: Arc<Entrance>,
    address: Option<IpAddr>,
    standing: Standing,
    handshake: impl Future<Output = io::Result<Arrival>>,
) -> Result<Link, End> {
    let limits = &entrance.limits;
    let patience = match standing {
        Standing::Welcome => limits.connect_timeout,
        Standing::TurnedAway(_) => limits.connect_timeout.min(TURNED_AWAY_TIMEOUT),
    };
    let deadline = Instant::now() + patience;
    let stopping = broker.cancellation();
    let arrival = tokio::select! {
        arrival = timeout_at(deadline, handshake) => arrival,
        () = stopping.cancelled() => return Err(End::Closed(ReasonCode::ServerShuttingDown)),
    };
    let Arrival { transport, user, is_foreign } = match arrival {
        Ok(arrival) => arrival.map_err(End::Transport)?,
        Err(_) => return Err(End::Closed(ReasonCode::MaximumConnectTime)),
    };
    let (mut io, mut writer) = split(transport);
    let mut receiver = Receiver::new(Side::Server, Version::V5, limits.packet_bytes, limits.topic_aliases);
    let mut input = Vec::new();
    let first = read_packet(&mut io, &mut receiver, &mut input);
    let first = tokio::select! {
        first = timeout_at(deadline, first) => first,
        () = stopping.cancelled() => return Err(End::Closed(ReasonCode::ServerShuttingDown)),
    };
    let length = match first {
        Ok(Ok(length)) => length,
        Ok(Err(End::Protocol(error))) => {
            // A client of another protocol is not answered; one that tried to connect is told why, in 3.1.1
            // where there is a return code for it [MQTT-3.1.4-2].
            if answers::is_answered(&error)
                && let Some(version) = version_to_refuse(&input)
                && (version == Version::V5 || error.reason.connect_return_code() < 3)
            {
                refuse(&mut io, writer.as_mut(), version, error.reason, usize::MAX).await;
            }
            return Err(End::Protocol(error));
        }
        Ok(Err(end)) => return Err(end),
        Err(_) => return Err(End::Closed(ReasonCode::MaximumConnectTime)),
    };
    // Decoded a second time, so that what it borrows lives here; the receiver knows only that it has come.
    let Ok(Framing::Complete(frame, _)) = split_frame(&input, limits.packet_bytes) else {
        return Err(End::Peer(None));
    };
    let Ok(Packet::Connect(connect)) = Packet::decode(frame, Version::V5) else {
        return Err(End::Peer(None));
    };
    broker.metrics.received.add(Tally::packet(length));
    broker.metrics.connects.add(1);
    let version = connect.version;
    let maximum_packet_size = connect.maximum_packet_size.map_or(usize::MAX, |maximum| maximum as usize);
    let assigned = connect.client_id.is_empty().then(|| broker.assign_client_id());
    let client_id = assigned.as_deref().unwrap_or(connect.client_id);
    let admitted = match standing {
        Standing::Welcome => {
            // No address of a network, and not of this machine.
            let address = if is_foreign { Some(Ipv4Addr::UNSPECIFIED.into()) } else { address };
            entrance.access.admit(&Caller { address, user }, &connect, client_id).await
        }
        Standing::TurnedAway(reason) => Err(reason),
    };
    let rights = match admitted {
        Ok(rights) => rights,
        Err(reason) => {
            refuse(&mut io, writer.as_mut(), version, reason, maximum_packet_size).await;
            return Err(End::Closed(reason));
        }
    };
    let mut batch = Batch::default();
    let entering = Entering {
        connect: &connect,
        assigned_client_id: assigned.as_deref(),
        limits: &entrance.limits,
        rights: &rights,
    };
    let connected = match broker.connect(&entering, writer.take(), &mut batch) {
        Ok(connected) => connected,
        Err((reason, mut writer)) => {
            refuse(&mut io, writer.as_mut(), version, reason, maximum_packet_size).await;
            return Err(End::Closed(reason));
        }
    };
    broker.router.finish(&mut batch);
    tracing::debug!(client = %connected.slot.client_id(), ?version, "client connected");
    let partial = input.split_off(length);
    let mut exchange = Exchange::accepted(broker, connected, version, entrance, rights);
    exchange.maximum_packet_size = maximum_packet_size;
    Ok(Link::new(io, receiver, exchange, partial))
}

/// The version that a CONNECT is refused in which cannot be taken: its own, or 5.0 where it is none of ours.
/// `None` where this is no CONNECT.
fn version_to_refuse(input: &[u8]) -> Option<Version> {
    let (first, rest) = input.split_first()?;
    if first >> 4 != kind::CONNECT {
        return None;
    }
    match wire::split_variable(rest) {
        wire::Variable::Value(_, used) => Connect::version_to_answer(&rest[used..]),
        wire::Variable::Incomplete | wire::Variable::Malformed => None,
    }
}

/// Answers a CONNECT that is not let in, if the client takes packets of that size. Whether it reads the answer is its
/// own affair.
async fn refuse(
    io: &mut Io,
    writer: Option<&mut SocketWriter>,
    version: Version,
    reason: ReasonCode,
    maximum_packet_size: usize,
) {
    let mut bytes = Vec::new();
    ConnAck::new(reason, false).encode(version, &mut bytes);
    if bytes.len() > maximum_packet_size {
        return;
    }
    match (io, writer) {
        (Io::Socket(_), Some(writer)) => {
            let _ = writer.try_write(&bytes);
        }
        (Io::Stream(io), _) => {
            let _ = tokio::time::timeout(Duration::from_secs(1), async {
                io.stream.write_all(&bytes).await?;
                io.stream.shutdown().await
            })
            .await;
        }
        (Io::Socket(_), None) => {}
    }
}
