//! Accepting a connection: CONNECT comes first, in time.

use std::io;
use std::net::IpAddr;
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

/// Accepts a connection: handshake, CONNECT, then whatever the client does until one side ends it.
pub async fn accept(
    broker: Arc<Broker>,
    entrance: Arc<Entrance>,
    address: Option<IpAddr>,
    standing: Standing,
    handshake: impl Future<Output = io::Result<Arrival>>,
) -> End {
    // Boxed, so that an open connection does not carry the room that its beginning and its end need.
    let mut link = match Box::pin(enter(broker, entrance, address, standing, handshake)).await {
        Ok(link) => link,
        Err(end) => return end,
    };
    let end = link.run().await;
    tracing::debug!(client = %link.slot().client_id(), ?end, "client gone");
    Box::pin(link.end(&end)).await;
    end
}

/// Takes CONNECT and lets the client in, or says why not.
async fn enter(
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
    let Arrival { transport, user } = match arrival {
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
                refuse(&mut io, writer.as_mut(), version, None, error.reason).await;
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
    let (version, maximum, keep_alive) = (connect.version, connect.maximum_packet_size, connect.keep_alive);
    let assigned = connect.client_id.is_empty().then(|| broker.assign_client_id());
    let client_id = assigned.as_deref().unwrap_or(connect.client_id);
    let admitted = match standing {
        Standing::Welcome => entrance.access.admit(&Caller { address, user }, &connect, client_id).await,
        Standing::TurnedAway(reason) => Err(reason),
    };
    let rights = match admitted {
        Ok(rights) => rights,
        Err(reason) => {
            refuse(&mut io, writer.as_mut(), version, maximum, reason).await;
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
            refuse(&mut io, writer.as_mut(), version, maximum, reason).await;
            return Err(End::Closed(reason));
        }
    };
    broker.router.finish(&mut batch);
    tracing::debug!(client = %connected.slot.client_id(), ?version, "client connected");
    let partial = input.split_off(length);
    let mut exchange = Exchange::new(broker, connected.slot, connected.epoch, Side::Server, version);
    exchange.entrance = entrance;
    exchange.rights = rights;
    let mut link = Link::new(io, receiver, exchange, partial);
    link.watch_keep_alive(keep_alive);
    Ok(link)
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

/// Answers a CONNECT that is not let in, if a client that takes packets of at most `maximum` bytes can be answered.
/// Whether it reads that is its own affair.
async fn refuse(
    io: &mut Io,
    writer: Option<&mut SocketWriter>,
    version: Version,
    maximum: Option<u32>,
    reason: ReasonCode,
) {
    let mut bytes = Vec::new();
    ConnAck::new(reason, false).encode(version, &mut bytes);
    if maximum.is_some_and(|maximum| bytes.len() > maximum as usize) {
        return;
    }
    match (io, writer) {
        (Io::Socket(_), Some(writer)) => {
            let _ = writer.try_write(&bytes);
        }
        (Io::Stream { stream, .. }, _) => {
            let _ = tokio::time::timeout(Duration::from_secs(1), async {
                stream.write_all(&bytes).await?;
                stream.shutdown().await
            })
            .await;
        }
        (Io::Socket(_), None) => {}
    }
}
