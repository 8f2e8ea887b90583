//! A link drives one transport for one session, whether we accepted it or dialled it.
//!
//! One task per connection: read, decode all of it, route, append once, acknowledge once; then yield. What is
//! delivered to its session is written by whoever ends the turn (sockets) or by this task (streams).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::io::AsyncWriteExt;
use tokio_util::io::poll_read_buf;

use super::Broker;
use super::buffers::{self, SCRATCH_BYTES};
use super::clock;
use super::delivery::{Delivery, DeliveryQoS, RetainRule};
use super::router::Origin;
use super::session_slot::{Acknowledgement, Attention, SessionSlot, Turn};
use crate::mqtt::codec::CodecError;
use crate::mqtt::connection::{Received, Receiver};
use crate::mqtt::packet::{Ack, ConnAck, Disconnect, Publish, RetainHandling, SubAck, Subscribe, Unsubscribe};
use crate::mqtt::{Millis, Packet, PacketId, Publication, QoS, ReasonCode, Remap, Side, TopicFilter, Version};
use crate::net::{SocketReader, SocketWriter, Stream, Transport};
use crate::store::{Batch, Record, Ticket};

/// Reads in a row before others get their turn.
const MAX_READS_PER_TURN: u32 = 2;

/// Why a link ended.
#[derive(Debug)]
pub enum End {
    /// The peer closed, with or without DISCONNECT; the reason it gave, if any.
    Peer(Option<ReasonCode>),
    /// The peer did what it may not.
    Protocol(CodecError),
    /// The transport failed.
    Transport(io::Error),
    /// Another connection took the session.
    TakenOver,
    /// We closed it.
    Closed(ReasonCode),
}

/// Where a dialled link's messages go: the `receive` routes of its bridge, the first that matches.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiveRoute {
    /// From the topics of the hop to ours.
    pub remap: Remap,
    /// QoS in our broker; `None` is that of the hop.
    pub qos: Option<QoS>,
    /// RETAIN in our broker; `None` is that of the hop.
    pub retain: Option<bool>,
    /// A retained or resent message that ends in `/set` is refused in the first second of a resumed session, and a
    /// message that is older than this (seconds; by its expiry, MQTT 5.0) never arrives.
    pub max_age: Option<u32>,
}

/// One connection of a session.
#[derive(Debug)]
pub struct Link {
    io: Io,
    receiver: Receiver,
    exchange: Exchange,
    /// The beginning of a packet whose rest has not come.
    partial: Vec<u8>,
    /// Bytes of that packet, once known.
    needed: Option<usize>,
}

enum Io {
    Socket(SocketReader),
    Stream { stream: Stream, output: Vec<u8>, written: usize },
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Socket(_) => "Io::Socket",
            Self::Stream { .. } => "Io::Stream",
        })
    }
}

/// What a link does with packets: everything but bytes.
#[derive(Debug)]
struct Exchange {
    broker: Arc<Broker>,
    slot: Arc<SessionSlot>,
    epoch: u64,
    side: Side,
    version: Version,
    receive: Arc<[ReceiveRoute]>,
    /// Replies that wait for the commit of what they promise, in order. It holds at most what the receive maximum
    /// lets the peer have in flight; beyond that reading stops.
    waiting: VecDeque<(Ticket, Vec<u8>, u16)>,
    /// QoS 1 and 2 messages whose acknowledgement is in `waiting` or in this batch.
    unacknowledged: u16,
    /// Retained messages that a new subscription still gets.
    retained: VecDeque<(Arc<Delivery>, std::vec::IntoIter<Arc<str>>)>,
    /// Set when the peer said DISCONNECT.
    disconnect: Option<ReasonCode>,
    refused_subscriptions: Vec<ReasonCode>,
}

/// What one read batch collects.
struct Reading {
    now: Millis,
    batch: Batch,
    replies: Vec<u8>,
    acknowledgements: Vec<Acknowledgement>,
    published: u64,
    acknowledged: u16,
    packets: bool,
}

thread_local! {
    /// The memory of a read batch, kept for the next one.
    static READING: std::cell::RefCell<Option<Box<Reading>>> = const { std::cell::RefCell::new(None) };
}

/// Accepts a connection: CONNECT, then whatever the client does until one side ends it.
pub async fn accept(broker: Arc<Broker>, transport: Transport) -> End {
    let (mut io, mut writer) = split(transport);
    let limits = broker.limits();
    let mut receiver = Receiver::new(Side::Server, Version::V5, limits.packet_bytes, limits.topic_aliases);
    let mut input = Vec::new();
    let handshake = read_packet(&mut io, &mut receiver, &mut input);
    let length = match tokio::time::timeout(limits.connect_timeout, handshake).await {
        Ok(Ok(length)) => length,
        Ok(Err(End::Protocol(error))) => {
            // A client of another protocol is not answered; one that tried to connect is told why [MQTT-3.1.4-2].
            if input.first().is_some_and(|first| first >> 4 == 1) {
                let version =
                    if error.reason == ReasonCode::UnsupportedProtocolVersion { Version::V3 } else { Version::V5 };
                refuse(&mut io, writer.as_mut(), version, error.reason).await;
            }
            return End::Protocol(error);
        }
        Ok(Err(end)) => return end,
        Err(_) => return End::Closed(ReasonCode::MaximumConnectTime),
    };
    // Decoded a second time, so that what it borrows lives here; the receiver knows only that it has come.
    let Ok(crate::mqtt::codec::Framing::Complete(frame, _)) =
        crate::mqtt::codec::split_frame(&input, limits.packet_bytes)
    else {
        return End::Peer(None);
    };
    let Ok(Packet::Connect(connect)) = Packet::decode(frame, Version::V5) else {
        return End::Peer(None);
    };
    let version = connect.version;
    let mut batch = Batch::default();
    let connected = match broker.connect(&connect, writer.take(), &mut batch) {
        Ok(connected) => connected,
        Err((reason, mut writer)) => {
            refuse(&mut io, writer.as_mut(), version, reason).await;
            return End::Closed(reason);
        }
    };
    broker.router.finish(&mut batch);
    tracing::debug!(client = %connected.slot.client_id(), ?version, "client connected");
    let partial = input.split_off(length);
    let mut link =
        Link::new(broker, io, receiver, connected.slot, connected.epoch, Side::Server, partial, Arc::new([]));
    let end = link.run().await;
    tracing::debug!(client = %link.exchange.slot.client_id(), ?end, "client gone");
    link.end(&end).await;
    end
}

/// Splits a transport into what the link reads and what the slot writes.
fn split(transport: Transport) -> (Io, Option<SocketWriter>) {
    match transport {
        Transport::Socket(reader, writer) => (Io::Socket(reader), Some(writer)),
        Transport::Stream(stream) => (Io::Stream { stream, output: Vec::new(), written: 0 }, None),
    }
}

/// Reads until the first packet is whole, and returns its length.
async fn read_packet(io: &mut Io, receiver: &mut Receiver, input: &mut Vec<u8>) -> Result<usize, End> {
    loop {
        match receiver.receive(input) {
            Ok(Received::Packet(_, length)) => return Ok(length),
            Ok(Received::Incomplete { .. }) => {}
            Err(error) => return Err(End::Protocol(error)),
        }
        input.reserve(512);
        let count = poll_fn(|cx| io.poll_read(cx, &mut input.limit(512))).await.map_err(End::Transport)?;
        if count == 0 {
            return Err(End::Peer(None));
        }
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
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), async {
                stream.write_all(&bytes).await?;
                stream.shutdown().await
            })
            .await;
        }
        (Io::Socket(_), None) => {}
    }
}

impl Link {
    #[expect(clippy::too_many_arguments, reason = "the parts of a link, put together in two places")]
    fn new(
        broker: Arc<Broker>,
        io: Io,
        receiver: Receiver,
        slot: Arc<SessionSlot>,
        epoch: u64,
        side: Side,
        partial: Vec<u8>,
        receive: Arc<[ReceiveRoute]>,
    ) -> Self {
        let version = receiver.version();
        Self {
            io,
            receiver,
            exchange: Exchange {
                broker,
                slot,
                epoch,
                side,
                version,
                receive,
                waiting: VecDeque::new(),
                unacknowledged: 0,
                retained: VecDeque::new(),
                disconnect: None,
                refused_subscriptions: Vec::new(),
            },
            partial,
            needed: None,
        }
    }

    /// Drives the connection until it ends.
    pub async fn run(&mut self) -> End {
        if !self.partial.is_empty() {
            // What came together with the handshake.
            let bytes = std::mem::take(&mut self.partial);
            if let Err(end) = self.take(&bytes) {
                return end;
            }
        }
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Ends the session's side of it: last words, will, expiry.
    pub async fn end(mut self, end: &End) {
        let exchange = &self.exchange;
        let (reason, publish_will) = match end {
            End::Protocol(error) => (Some(error.reason), true),
            End::Closed(reason) => (Some(*reason), true),
            End::Peer(Some(ReasonCode::Success)) => (None, false),
            End::Peer(_) | End::Transport(_) => (None, true),
            End::TakenOver => (None, false),
        };
        if let Some(reason) = reason
            && exchange.version == Version::V5
            && reason.is_error()
        {
            let mut bytes = Vec::new();
            Disconnect::new(reason).encode(Version::V5, &mut bytes);
            exchange.slot.send(exchange.epoch, &bytes);
            let last_words = poll_fn(|cx| self.poll_write(cx));
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), last_words).await;
        }
        let exchange = &self.exchange;
        exchange.broker.disconnected(&exchange.slot, exchange.epoch, publish_will);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut attention = self.exchange.slot.attend(self.exchange.epoch, cx);
        if let Io::Stream { .. } = self.io
            && let Poll::Ready(Err(error)) = self.poll_write(cx)
        {
            return Poll::Ready(End::Transport(error));
        }
        match attention {
            Attention::TakenOver => return Poll::Ready(End::TakenOver),
            Attention::Close(reason) => return Poll::Ready(End::Closed(reason)),
            Attention::Read | Attention::Wait => {}
        }
        self.exchange.release_committed(cx);
        if self.exchange.is_waiting_for_commits() {
            attention = Attention::Wait;
        }
        if attention == Attention::Read {
            for _ in 0..MAX_READS_PER_TURN {
                match self.poll_read(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(End::Peer(self.exchange.disconnect)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    Poll::Pending => {
                        self.exchange.feed_retained();
                        return Poll::Pending;
                    }
                }
                if let Some(reason) = self.exchange.disconnect {
                    return Poll::Ready(End::Peer(Some(reason)));
                }
            }
            self.exchange.feed_retained();
            // More may be there: after the others.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.exchange.feed_retained();
        Poll::Pending
    }

    /// Reads once and takes all packets that are whole.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, End>> {
        if let Some(needed) = self.needed.filter(|&needed| needed > SCRATCH_BYTES) {
            // A large packet is read where it will stand.
            let missing = needed - self.partial.len();
            let partial = &mut self.partial;
            let count = match self.io.poll_read(cx, &mut partial.limit(missing)) {
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(End::Transport(error))),
                Poll::Pending => return Poll::Pending,
            };
            if count == missing {
                self.needed = None;
                let bytes = std::mem::take(&mut self.partial);
                self.take(&bytes)?;
            }
            return Poll::Ready(Ok(count));
        }
        let mut scratch = buffers::take_scratch();
        scratch.extend_from_slice(&self.partial);
        let room = SCRATCH_BYTES - scratch.len();
        let result = match self.io.poll_read(cx, &mut (&mut scratch).limit(room)) {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.partial = Vec::new();
                self.needed = None;
                Poll::Ready(self.take(&scratch).map(|()| count))
            }
            Poll::Ready(Ok(count)) => Poll::Ready(Ok(count)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(End::Transport(error))),
            Poll::Pending => Poll::Pending,
        };
        buffers::give_scratch(scratch);
        result
    }

    /// Takes the whole packets in `input`, and keeps the beginning of one that is not whole.
    fn take(&mut self, input: &[u8]) -> Result<(), End> {
        let mut reading = READING.take().unwrap_or_default();
        reading.now = clock::now();
        let mut at = 0;
        let result = loop {
            match self.receiver.receive(&input[at..]) {
                Ok(Received::Packet(packet, length)) => {
                    at += length;
                    reading.packets = true;
                    if let Err(error) = self.exchange.handle(packet, &mut reading) {
                        break Err(End::Protocol(error));
                    }
                    if self.exchange.disconnect.is_some() {
                        break Ok(());
                    }
                }
                Ok(Received::Incomplete { needed }) => {
                    let rest = &input[at..];
                    if !rest.is_empty() {
                        let mut partial =
                            Vec::with_capacity(needed.filter(|&n| n > SCRATCH_BYTES).unwrap_or(rest.len()));
                        partial.extend_from_slice(rest);
                        self.partial = partial;
                        self.needed = needed;
                    }
                    break Ok(());
                }
                Err(error) => break Err(End::Protocol(error)),
            }
        };
        self.exchange.finish(&mut reading);
        READING.set(Some(reading));
        result
    }

    /// Writes what waits; ready when nothing does. A socket is written by its slot.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let exchange = &self.exchange;
        let Io::Stream { stream, output, written } = &mut self.io else {
            exchange.slot.flush();
            return Poll::Ready(Ok(()));
        };
        loop {
            if *written == output.len() {
                let mut batch = Batch::default();
                let mut turn = Turn { now: clock::now(), batch: &mut batch };
                let next = exchange.slot.take_output(exchange.epoch, &mut turn);
                exchange.broker.router.journal().append(&mut batch);
                buffers::give(std::mem::take(output));
                *written = 0;
                match next {
                    Some(bytes) => *output = bytes,
                    None => return stream.as_mut().poll_flush(cx),
                }
            }
            match stream.as_mut().poll_write(cx, &output[*written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => *written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Io {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut impl BufMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(reader) => poll_read_buf(Pin::new(reader), cx, buffer),
            Self::Stream { stream, .. } => poll_read_buf(stream.as_mut(), cx, buffer),
        }
    }
}

impl Default for Box<Reading> {
    fn default() -> Self {
        Self::new(Reading {
            now: Millis(0),
            batch: Batch::default(),
            replies: Vec::new(),
            acknowledgements: Vec::new(),
            published: 0,
            acknowledged: 0,
            packets: false,
        })
    }
}

impl Exchange {
    fn handle(&mut self, packet: Packet<'_>, reading: &mut Reading) -> Result<(), CodecError> {
        match packet {
            Packet::Publish(publish) => return self.handle_publish(&publish, reading),
            Packet::PubAck(ack) => reading.acknowledgements.push(Acknowledgement::PubAck(ack.packet_id)),
            Packet::PubRec(ack) => reading.acknowledgements.push(Acknowledgement::PubRec(ack.packet_id, ack.reason)),
            Packet::PubComp(ack) => reading.acknowledgements.push(Acknowledgement::PubComp(ack.packet_id)),
            Packet::PubRel(ack) => self.handle_pubrel(ack.packet_id, reading),
            Packet::Subscribe(subscribe) => self.handle_subscribe(&subscribe, reading),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(&unsubscribe, reading),
            Packet::PingReq => Packet::PingResp.encode(self.version, &mut reading.replies),
            Packet::PingResp | Packet::UnsubAck(_) => {}
            Packet::SubAck(suback) => {
                self.refused_subscriptions.extend(suback.reasons().filter(|reason| reason.is_error()));
                for reason in self.refused_subscriptions.drain(..) {
                    tracing::error!(client = %self.slot.client_id(), %reason, "the server refused a subscription");
                }
            }
            Packet::Disconnect(disconnect) => return self.handle_disconnect(&disconnect),
            Packet::Auth(_) => {
                return Err(CodecError::protocol("AUTH without an authentication method [MQTT-4.12.0-6]"));
            }
            // The receiver lets these through once, during the handshake.
            Packet::Connect(_) | Packet::ConnAck(_) => {
                return Err(CodecError::protocol("CONNECT or CONNACK after the handshake"));
            }
        }
        Ok(())
    }

    fn handle_publish(&mut self, publish: &Publish<'_>, reading: &mut Reading) -> Result<(), CodecError> {
        reading.published += 1;
        let publication = Publication::from_publish(publish, reading.now);
        let Some(packet_id) = publish.packet_id else {
            self.route(&publication, None, reading);
            return Ok(());
        };
        self.count_unacknowledged(reading)?;
        let reason = |routed: bool| if routed { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers };
        if publish.qos == QoS::AtLeastOnce {
            let reason = match self.refusal(publish.topic) {
                Some(refusal) => refusal,
                None => reason(self.route(&publication, None, reading)),
            };
            Packet::PubAck(Ack::new(packet_id, reason)).encode(self.version, &mut reading.replies);
            return Ok(());
        }
        // QoS 2: the message is delivered with its first PUBLISH, and its identifier kept until PUBREL.
        let reason = match self.refusal(publish.topic) {
            // 3.1.1 has no way to refuse; the exchange is gone through and nothing is delivered.
            Some(refusal) if self.version == Version::V5 => refusal,
            _ => {
                let new = self.slot.inbound().handle_publish(packet_id);
                if new { reason(self.route(&publication, Some(packet_id), reading)) } else { ReasonCode::Success }
            }
        };
        Packet::PubRec(Ack::new(packet_id, reason)).encode(self.version, &mut reading.replies);
        Ok(())
    }

    /// Why a client may not publish to `topic`.
    fn refusal(&self, topic: &str) -> Option<ReasonCode> {
        (self.side == Side::Server && topic.starts_with("$SYS/")).then_some(ReasonCode::NotAuthorized)
    }

    /// Gives a publication to the router, a bridge's through its first matching route. Whether anybody got it.
    fn route(&self, publication: &Publication<'_>, received: Option<PacketId>, reading: &mut Reading) -> bool {
        if self.refusal(publication.topic).is_some() {
            return false;
        }
        let received = received.map(|packet_id| (self.slot.queue_id(), packet_id));
        let origin = Origin { slot: Some(&self.slot), received };
        let mut turn = Turn { now: reading.now, batch: &mut reading.batch };
        if self.side == Side::Server {
            return self.broker.router.publish(publication, origin, &mut turn);
        }
        let mut topic = String::new();
        let Some(route) = self.receive.iter().find(|route| route.remap.apply(publication.topic, &mut topic)) else {
            tracing::debug!(client = %self.slot.client_id(), "a message that no receive route takes");
            return false;
        };
        let mut remapped = publication.with_topic(&topic);
        remapped.qos = route.qos.unwrap_or(publication.qos);
        remapped.retain = route.retain.unwrap_or(publication.retain);
        if let Some(seconds) = route.max_age {
            let limit = reading.now.plus_seconds(seconds);
            remapped.expires_at = Some(remapped.expires_at.map_or(limit, |at| at.min(limit)));
        }
        self.broker.router.publish(&remapped, origin, &mut turn)
    }

    /// Holds the peer to the receive maximum that we announced [MQTT-3.3.4-7]. 3.1.1 has none.
    fn count_unacknowledged(&mut self, reading: &mut Reading) -> Result<(), CodecError> {
        reading.acknowledged += 1;
        self.unacknowledged = self.unacknowledged.saturating_add(1);
        let limit = self.broker.limits().inflight;
        if self.version == Version::V5 && self.side == Side::Server && self.unacknowledged > limit {
            let open = self.slot.inbound().len() + usize::from(self.unacknowledged);
            if open > usize::from(limit) {
                return Err(CodecError::new(
                    ReasonCode::ReceiveMaximumExceeded,
                    "more messages in flight than the receive maximum [MQTT-3.3.4-7]",
                ));
            }
        }
        Ok(())
    }

    fn handle_pubrel(&self, packet_id: PacketId, reading: &mut Reading) {
        let known = self.slot.inbound().handle_pubrel(packet_id);
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        if known {
            reading.batch.records.push(Record::Release { queue: self.slot.queue_id(), packet_id });
        }
        Packet::PubComp(Ack::new(packet_id, reason)).encode(self.version, &mut reading.replies);
    }

    fn handle_subscribe(&mut self, subscribe: &Subscribe<'_>, reading: &mut Reading) {
        let mut codes = Vec::new();
        for (filter, options) in subscribe.filters.iter() {
            let Ok(filter) = TopicFilter::new(filter) else {
                codes.push(ReasonCode::TopicFilterInvalid as u8);
                continue;
            };
            if filter.as_str().starts_with("$share/") {
                codes.push(ReasonCode::SharedSubscriptionsNotSupported as u8);
                continue;
            }
            let delivery = Arc::new(Delivery {
                qos: DeliveryQoS::AtMost(options.qos),
                retain: if options.retain_as_published { RetainRule::AsPublished } else { RetainRule::OnlyStored },
                no_local: options.no_local,
                identifiers: subscribe.subscription_identifier.into_iter().collect(),
                route: None,
            });
            let new = self.broker.router.subscribe(&self.slot, &filter, Arc::clone(&delivery));
            codes.push(options.qos as u8);
            reading.batch.records.push(Record::Subscribe {
                queue: self.slot.queue_id(),
                filter: filter.clone(),
                options,
                identifier: subscribe.subscription_identifier,
            });
            let send_retained = match options.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => new,
                RetainHandling::DoNotSend => false,
            };
            if send_retained {
                let messages = self.broker.router.retained(filter.as_str(), reading.now);
                let topics: Vec<Arc<str>> = messages.iter().map(|message| message.topic().into()).collect();
                if !topics.is_empty() {
                    self.retained.push_back((delivery, topics.into_iter()));
                }
            }
        }
        Packet::SubAck(SubAck::new(subscribe.packet_id, &codes)).encode(self.version, &mut reading.replies);
    }

    fn handle_unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>, reading: &mut Reading) {
        let mut codes = Vec::new();
        for filter in unsubscribe.filters.iter() {
            let code = match TopicFilter::new(filter) {
                Ok(filter) if self.broker.router.unsubscribe(&self.slot, &filter) => {
                    reading.batch.records.push(Record::Unsubscribe { queue: self.slot.queue_id(), filter });
                    ReasonCode::Success
                }
                Ok(_) => ReasonCode::NoSubscriptionExisted,
                Err(_) => ReasonCode::TopicFilterInvalid,
            };
            codes.push(code as u8);
        }
        Packet::UnsubAck(SubAck::new(unsubscribe.packet_id, &codes)).encode(self.version, &mut reading.replies);
    }

    fn handle_disconnect(&mut self, disconnect: &Disconnect<'_>) -> Result<(), CodecError> {
        if let Some(seconds) = disconnect.session_expiry_interval {
            if !self.slot.is_durable() && seconds > 0 {
                return Err(CodecError::protocol("a session expiry interval raised from 0 [MQTT-3.1.2-23]"));
            }
            self.slot.set_expiry_interval(self.epoch, seconds);
        }
        self.disconnect = Some(disconnect.reason);
        Ok(())
    }

    /// Ends a read batch: one append, one settling, and the replies once what they promise is committed.
    fn finish(&mut self, reading: &mut Reading) {
        if reading.packets {
            reading.packets = false;
            self.slot.heard(reading.now);
        }
        if !reading.acknowledgements.is_empty() {
            let mut turn = Turn { now: reading.now, batch: &mut reading.batch };
            self.slot.settle(self.epoch, &reading.acknowledgements, &mut reading.replies, &mut turn);
            reading.acknowledgements.clear();
        }
        self.broker.metrics.received.add(std::mem::take(&mut reading.published));
        let ticket = self.broker.router.journal().append(&mut reading.batch);
        let acknowledged = std::mem::take(&mut reading.acknowledged);
        if !reading.replies.is_empty() {
            if self.waiting.is_empty() && self.broker.router.journal().is_committed(ticket) {
                self.slot.send(self.epoch, &reading.replies);
                self.unacknowledged -= acknowledged;
            } else {
                self.waiting.push_back((ticket, reading.replies.clone(), acknowledged));
            }
            reading.replies.clear();
        }
        self.broker.router.finish(&mut reading.batch);
    }

    /// Sends the replies whose promise has been committed meanwhile, in their order.
    fn release_committed(&mut self, cx: &mut Context<'_>) {
        while let Some((ticket, ..)) = self.waiting.front() {
            if self.broker.router.journal().poll_committed(*ticket, cx).is_pending() {
                return;
            }
            if let Some((_, replies, acknowledged)) = self.waiting.pop_front() {
                self.slot.send(self.epoch, &replies);
                self.unacknowledged -= acknowledged;
            }
        }
    }

    fn is_waiting_for_commits(&self) -> bool {
        self.waiting.len() > usize::from(self.broker.limits().inflight)
    }

    /// Goes on with the retained messages of new subscriptions, as far as there is room: each in its newest state.
    fn feed_retained(&mut self) {
        if self.retained.is_empty() {
            return;
        }
        let mut batch = Batch::default();
        let mut turn = Turn { now: clock::now(), batch: &mut batch };
        while let Some((delivery, topics)) = self.retained.front_mut() {
            if !self.slot.has_room(self.epoch) {
                break;
            }
            match topics.next() {
                Some(topic) => self.broker.router.deliver_retained(&self.slot, &topic, delivery, &mut turn),
                None => {
                    self.retained.pop_front();
                }
            }
        }
        self.broker.router.finish(&mut batch);
    }
}
