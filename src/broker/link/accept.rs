//! Accepting a connection: CONNECT comes first, in time.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::exchange::Exchange;
use super::{End, Io, Link, read_packet, split};
use crate::broker::Broker;
use crate::metrics::Tally;
use crate::mqtt::codec::{Framing, split_frame};
use crate::mqtt::connection::Receiver;
use crate::mqtt::packet::{ConnAck, Connect, kind};
use crate::mqtt::{Packet, ReasonCode, Side, Version, wire};
use crate::net::{SocketWriter, Transport};
use crate::store::Batch;

/// Accepts a connection: CONNECT, then whatever the client does until one side ends it.
pub async fn accept(broker: Arc<Broker>, transport: Transport) -> End {
    // Boxed, so that an open connection does not carry the room that its beginning and its end need.
    let mut link = match Box::pin(enter(broker, transport)).await {
        Ok(link) => link,
        Err(end) => return end,
    };
    let end = link.run().await;
    tracing::debug!(client = %link.slot().client_id(), ?end, "client gone");
    Box::pin(link.end(&end)).await;
    end
}

/// Takes CONNECT and lets the client in, or says why not.
async fn enter(broker: Arc<Broker>, transport: Transport) -> Result<Link, End> {
    let (mut io, mut writer) = split(transport);
    let limits = broker.limits();
    let mut receiver = Receiver::new(Side::Server, Version::V5, limits.packet_bytes, limits.topic_aliases);
    let mut input = Vec::new();
    let handshake = read_packet(&mut io, &mut receiver, &mut input);
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(limits.connect_timeout, handshake) => handshake,
        () = broker.cancellation().cancelled() => return Err(End::Closed(ReasonCode::ServerShuttingDown)),
    };
    let length = match handshake {
        Ok(Ok(length)) => length,
        Ok(Err(End::Protocol(error))) => {
            // A client of another protocol is not answered; one that tried to connect is told why, in 3.1.1
            // where there is a return code for it [MQTT-3.1.4-2].
            if let Some(version) = version_to_refuse(&input)
                && (version == Version::V5 || error.reason.connect_return_code() < 3)
            {
                refuse(&mut io, writer.as_mut(), version, error.reason).await;
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
    let (version, keep_alive) = (connect.version, connect.keep_alive);
    let mut batch = Batch::default();
    let connected = match broker.connect(&connect, writer.take(), &mut batch) {
        Ok(connected) => connected,
        Err((reason, mut writer)) => {
            refuse(&mut io, writer.as_mut(), version, reason).await;
            return Err(End::Closed(reason));
        }
    };
    broker.router.finish(&mut batch);
    tracing::debug!(client = %connected.slot.client_id(), ?version, "client connected");
    let partial = input.split_off(length);
    let exchange = Exchange::new(broker, connected.slot, connected.epoch, Side::Server, version);
    let mut link = Link::new(io, receiver, exchange, partial);
    link.watch_keep_alive(keep_alive);
    Ok(link)
}

/// The version that a CONNECT is refused in which cannot be taken: its own, or 3.1.1 where it is none of ours.
/// `None` where this is no CONNECT.
fn version_to_refuse(input: &[u8]) -> Option<Version> {
    let (first, rest) = input.split_first()?;
    if first >> 4 != kind::CONNECT {
        return None;
    }
    match wire::split_variable(rest) {
        wire::Variable::Value(_, used) => Some(Connect::version_of(&rest[used..]).unwrap_or(Version::V3)),
        wire::Variable::Incomplete | wire::Variable::Malformed => None,
    }
}

/// Answers a CONNECT that is not let in. Whether the client reads it is its own affair.
async fn refuse(io: &mut Io, writer: Option<&mut SocketWriter>, version: Version, reason: ReasonCode) {
    let mut bytes = Vec::new();
    ConnAck::new(reason, false).encode(version, &mut bytes);
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
