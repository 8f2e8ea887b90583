//! The broker among clients that speak raw packets: over sockets and streams, with and without the hook of a runtime.

mod access;
mod durable;
mod first_values;
mod flow;
mod full;
mod handshake;
mod lanes;
mod limits;
mod loops;
mod paging;
mod qos;
mod redelivery;
mod replies;
mod restored;
mod retained;
mod session;
mod shared;
mod subscriptions;
mod sys_topics;
mod timed;
mod v5;
mod wills;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpSocket;

use super::{Broker, Limits, turn};
use crate::metrics::Tally;
use crate::mqtt::connection::{Received, Receiver};
use crate::mqtt::packet::{
    Ack, Connect, Disconnect, Publish, PublishProperties, Subscribe, SubscribeFilters, SubscriptionOptions,
    Unsubscribe, UnsubscribeFilters,
};
use crate::mqtt::properties::{ForwardableBuilder, UserProperties};
use crate::mqtt::{Packet, PacketId, QoS, ReasonCode, Side, Version};
use crate::net::Transport;
use crate::net::transport::ByteStream;
use crate::store::Journal;

const VERSIONS: [Version; 2] = [Version::V3, Version::V5];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
/// Only ever passes where a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Stream,
}

/// A broker, and how its clients reach it.
#[derive(Clone)]
struct World {
    broker: Arc<Broker>,
    kind: Kind,
    /// Bytes that a connection holds on its way.
    pipe: usize,
    patience: Duration,
}

/// Runs a scenario over both transports, on a runtime with the hook and on one without. Those without have a journal
/// that keeps records.
fn everywhere<F: Future<Output = ()>>(scenario: impl Fn(World) -> F) {
    everywhere_with(&Limits::default(), scenario);
}

fn everywhere_with<F: Future<Output = ()>>(limits: &Limits, scenario: impl Fn(World) -> F) {
    let eager = || {
        let journal = Journal::held();
        journal.set_eager(true);
        journal
    };
    everywhere_in(limits, |hook| if hook { Journal::in_memory() } else { eager() }, scenario);
}

/// With a journal that commits when it is told to.
fn everywhere_held<F: Future<Output = ()>>(scenario: impl Fn(World) -> F) {
    everywhere_in(&Limits::default(), |_| Journal::held(), scenario);
}

fn everywhere_in<F: Future<Output = ()>>(
    limits: &Limits,
    journal: impl Fn(bool) -> Journal,
    scenario: impl Fn(World) -> F,
) {
    for kind in [Kind::Tcp, Kind::Stream] {
        for hook in [true, false] {
            let runtime = if hook {
                turn::runtime(2)
            } else {
                tokio::runtime::Builder::new_current_thread().enable_all().build()
            };
            runtime.unwrap().block_on(async {
                let world = World::with(kind, limits.clone(), journal(hook));
                let done = tokio::time::timeout(2 * PATIENCE, scenario(world.clone())).await;
                assert!(done.is_ok(), "{kind:?}, hook {hook}: the scenario does not end");
                let stopped = tokio::time::timeout(PATIENCE, world.broker.stop()).await;
                assert!(stopped.is_ok(), "{kind:?}, hook {hook}: the broker does not stop");
            });
        }
    }
}

impl World {
    fn new(kind: Kind, limits: Limits) -> Self {
        Self::with(kind, limits, Journal::in_memory())
    }

    fn with(kind: Kind, limits: Limits, journal: Journal) -> Self {
        let broker = Broker::start(limits, Arc::new(journal));
        Self { broker, kind, pipe: 64 * 1024, patience: PATIENCE }
    }

    /// For paused time: a socket's bytes take real time.
    fn in_memory() -> Self {
        Self::in_memory_with(Limits::default())
    }

    fn in_memory_with(limits: Limits) -> Self {
        Self { patience: Duration::from_secs(1_000_000), ..Self::new(Kind::Stream, limits) }
    }

    /// A connection on which nothing has been said.
    async fn dial(&self) -> Peer {
        let stream: Pin<Box<dyn ByteStream>> = match self.kind {
            Kind::Tcp => {
                let socket = TcpSocket::new_v4().unwrap();
                socket.set_nodelay(true).unwrap();
                socket.set_send_buffer_size(self.pipe as u32).unwrap();
                socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
                let listener = socket.listen(1).unwrap();
                let socket = TcpSocket::new_v4().unwrap();
                socket.set_nodelay(true).unwrap();
                socket.set_recv_buffer_size(self.pipe as u32).unwrap();
                let dialled = socket.connect(listener.local_addr().unwrap());
                let (dialled, accepted) = tokio::join!(dialled, listener.accept());
                let (accepted, from) = accepted.unwrap();
                self.broker.accept_transport(Transport::tcp(accepted), Some(from.ip()), self.broker.entrance());
                Box::pin(dialled.unwrap())
            }
            Kind::Stream => {
                let (near, far) = duplex(self.pipe);
                self.broker.accept_transport(Transport::stream(far), None, self.broker.entrance());
                Box::pin(near)
            }
        };
        self.peer(stream)
    }

    /// A client at the other end of `stream`, who has said nothing.
    fn peer(&self, stream: Pin<Box<dyn ByteStream>>) -> Peer {
        Peer {
            stream,
            receiver: Receiver::new(Side::Client, Version::V5, usize::MAX, u16::MAX),
            input: Vec::new(),
            kept: VecDeque::new(),
            version: Version::V5,
            next_id: 0,
            session_present: false,
            said: Tally::default(),
            heard: Tally::default(),
            patience: self.patience,
        }
    }

    /// A connection that is let in.
    async fn connect_as(&self, connect: Connect<'_>) -> Peer {
        let mut peer = self.dial().await;
        let got = peer.say_connect(connect).await;
        let Got::ConnAck(connack) = got else { panic!("{got:?} instead of CONNACK") };
        assert_eq!(connack.reason, ReasonCode::Success);
        peer.session_present = connack.session_present;
        peer
    }

    /// With a session that ends with the connection.
    async fn connect(&self, version: Version, client_id: &str) -> Peer {
        self.connect_as(Connect::new(version, client_id)).await
    }

    /// With a session that stays.
    async fn resume(&self, version: Version, client_id: &str) -> Peer {
        self.connect_as(resuming(version, client_id)).await
    }
}

fn resuming(version: Version, client_id: &str) -> Connect<'_> {
    let mut connect = Connect::new(version, client_id);
    connect.clean_start = false;
    if version == Version::V5 {
        connect.session_expiry_interval = u32::MAX;
    }
    connect
}

/// What came, owned.
#[derive(Debug, Clone, PartialEq)]
enum Got {
    ConnAck(GotConnAck),
    Message(GotMessage),
    PubAck(u16, ReasonCode),
    PubRec(u16, ReasonCode),
    PubRel(u16, ReasonCode),
    PubComp(u16, ReasonCode),
    SubAck(Vec<ReasonCode>),
    UnsubAck(Vec<ReasonCode>),
    PingResp,
    Disconnect(ReasonCode),
    /// The end of the stream, after whole packets.
    Closed,
}

#[derive(Debug, Clone, PartialEq)]
struct GotConnAck {
    reason: ReasonCode,
    session_present: bool,
    assigned: Option<String>,
    session_expiry: Option<u32>,
    receive_maximum: u16,
    topic_alias_maximum: u16,
    maximum_packet_size: Option<u32>,
    server_keep_alive: Option<u16>,
}

#[derive(Debug, Clone, PartialEq)]
struct GotMessage {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    dup: bool,
    id: u16,
    identifiers: Vec<u32>,
    alias: Option<u16>,
    expiry: Option<u32>,
    /// Forwarded properties in wire form.
    properties: Vec<u8>,
}

impl GotMessage {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

fn own(packet: &Packet<'_>) -> Got {
    match packet {
        Packet::ConnAck(connack) => Got::ConnAck(GotConnAck {
            reason: connack.reason,
            session_present: connack.session_present,
            assigned: connack.assigned_client_identifier.map(str::to_owned),
            session_expiry: connack.session_expiry_interval,
            receive_maximum: connack.receive_maximum,
            topic_alias_maximum: connack.topic_alias_maximum,
            maximum_packet_size: connack.maximum_packet_size,
            server_keep_alive: connack.server_keep_alive,
        }),
        Packet::Publish(publish) => {
            let mut properties = Vec::new();
            publish.properties.forwardable.write(&mut properties);
            Got::Message(GotMessage {
                topic: publish.topic.to_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos,
                retain: publish.retain,
                dup: publish.dup,
                id: publish.packet_id.map_or(0, PacketId::get),
                identifiers: publish.properties.subscription_identifiers().collect(),
                alias: publish.properties.topic_alias,
                expiry: publish.properties.message_expiry_interval,
                properties,
            })
        }
        Packet::PubAck(ack) => Got::PubAck(ack.packet_id.get(), ack.reason),
        Packet::PubRec(ack) => Got::PubRec(ack.packet_id.get(), ack.reason),
        Packet::PubRel(ack) => Got::PubRel(ack.packet_id.get(), ack.reason),
        Packet::PubComp(ack) => Got::PubComp(ack.packet_id.get(), ack.reason),
        Packet::SubAck(suback) => Got::SubAck(suback.reasons().collect()),
        Packet::UnsubAck(unsuback) => Got::UnsubAck(unsuback.reasons().collect()),
        Packet::PingResp => Got::PingResp,
        Packet::Disconnect(disconnect) => Got::Disconnect(disconnect.reason),
        other => panic!("{} from a server", other.name()),
    }
}

/// A message to publish.
#[derive(Debug, Clone)]
struct Say<'a> {
    topic: &'a str,
    payload: &'a [u8],
    qos: QoS,
    retain: bool,
    expiry: Option<u32>,
    alias: Option<u16>,
    properties: ForwardableBuilder,
}

impl<'a> Say<'a> {
    fn new(topic: &'a str, payload: &'a str, qos: QoS) -> Self {
        Self::bytes(topic, payload.as_bytes(), qos)
    }

    fn bytes(topic: &'a str, payload: &'a [u8], qos: QoS) -> Self {
        Self {
            topic,
            payload,
            qos,
            retain: false,
            expiry: None,
            alias: None,
            properties: ForwardableBuilder::default(),
        }
    }

    fn retained(topic: &'a str, payload: &'a str) -> Self {
        Self { retain: true, ..Self::new(topic, payload, QoS::AtLeastOnce) }
    }

    fn packet(&self, id: u16, dup: bool) -> Packet<'_> {
        Packet::Publish(Publish {
            dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic,
            packet_id: PacketId::new(id).filter(|_| self.qos != QoS::AtMostOnce),
            properties: PublishProperties::new(self.expiry, self.alias, self.properties.as_forwardable()),
            payload: self.payload,
        })
    }
}

/// A client that says and hears packets. What it hears is checked: whole packets, in an allowed order.
struct Peer {
    stream: Pin<Box<dyn ByteStream>>,
    receiver: Receiver,
    input: Vec<u8>,
    kept: VecDeque<Got>,
    version: Version,
    next_id: u16,
    session_present: bool,
    /// Packets said and heard, other than raw bytes.
    said: Tally,
    heard: Tally,
    patience: Duration,
}

fn count(tally: &mut Tally, packet: &Packet<'_>, length: usize) {
    tally.bytes += length as u64;
    match packet {
        Packet::Publish(publish) => {
            tally.publishes += 1;
            tally.payload_bytes += publish.payload.len() as u64;
        }
        _ => tally.others += 1,
    }
}

impl Peer {
    async fn raw(&mut self, bytes: &[u8]) {
        // The broker may have gone already; then what it said is looked at.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    async fn say(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        count(&mut self.said, packet, bytes.len());
        self.raw(&bytes).await;
    }

    async fn say_connect(&mut self, connect: Connect<'_>) -> Got {
        self.version = connect.version;
        self.receiver = Receiver::new(Side::Client, connect.version, usize::MAX, connect.topic_alias_maximum);
        self.say(&Packet::Connect(connect)).await;
        self.hear().await
    }

    /// The next packet off the wire.
    async fn hear(&mut self) -> Got {
        loop {
            match self.receiver.receive(&self.input) {
                Ok(Received::Packet(packet, length)) => {
                    let got = own(&packet);
                    count(&mut self.heard, &packet, length);
                    self.input.drain(..length);
                    return got;
                }
                Ok(Received::Incomplete { .. }) => {}
                Err(error) => panic!("the broker breaks the protocol: {error}"),
            }
            let mut chunk = [0; 4096];
            let read = tokio::time::timeout(self.patience, self.stream.read(&mut chunk)).await.expect("nothing comes");
            match read {
                Ok(count) if count > 0 => self.input.extend_from_slice(&chunk[..count]),
                // A reset is an end, too.
                _ => {
                    assert!(self.input.is_empty(), "the stream ends within a packet: {:?}", self.input);
                    return Got::Closed;
                }
            }
        }
    }

    async fn next(&mut self) -> Got {
        match self.kept.pop_front() {
            Some(got) => got,
            None => self.hear().await,
        }
    }

    /// The first that `wanted` takes; the others are kept for [`Peer::next`].
    async fn await_one<T>(&mut self, what: &str, wanted: impl Fn(&Got) -> Option<T>) -> T {
        loop {
            let got = self.hear().await;
            if let Some(found) = wanted(&got) {
                return found;
            }
            assert!(!matches!(got, Got::Closed | Got::Disconnect(_)), "{got:?} while waiting for {what}");
            self.kept.push_back(got);
        }
    }

    fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id % u16::MAX + 1;
        self.next_id
    }

    /// Publishes without waiting for an answer.
    async fn begin(&mut self, message: &Say<'_>) -> u16 {
        let id = self.take_id();
        self.say(&message.packet(id, false)).await;
        id
    }

    /// Publishes and sees the exchange through.
    async fn publish(&mut self, message: &Say<'_>) -> ReasonCode {
        let id = self.begin(message).await;
        match message.qos {
            QoS::AtMostOnce => {
                self.ping().await;
                ReasonCode::Success
            }
            QoS::AtLeastOnce => {
                self.await_one("PUBACK", |got| match got {
                    Got::PubAck(acknowledged, reason) if *acknowledged == id => Some(*reason),
                    _ => None,
                })
                .await
            }
            QoS::ExactlyOnce => {
                let reason = self
                    .await_one("PUBREC", |got| match got {
                        Got::PubRec(acknowledged, reason) if *acknowledged == id => Some(*reason),
                        _ => None,
                    })
                    .await;
                if !reason.is_error() {
                    self.ack(Packet::PubRel, id).await;
                    let done = |got: &Got| (*got == Got::PubComp(id, ReasonCode::Success)).then_some(());
                    self.await_one("PUBCOMP", done).await;
                }
                reason
            }
        }
    }

    async fn ack(&mut self, packet: impl FnOnce(Ack<'static>) -> Packet<'static>, id: u16) {
        self.say(&packet(Ack::new(PacketId::new(id).unwrap(), ReasonCode::Success))).await;
    }

    async fn subscribe(&mut self, filter: &str, qos: QoS) {
        let reasons = self.subscribe_with(&[(filter, SubscriptionOptions { qos, ..Default::default() })], None).await;
        assert_eq!(reasons, [ReasonCode::from_wire(qos as u8).unwrap()]);
    }

    async fn subscribe_with(
        &mut self,
        filters: &[(&str, SubscriptionOptions)],
        subscription_identifier: Option<u32>,
    ) -> Vec<ReasonCode> {
        let packet_id = PacketId::new(self.take_id()).unwrap();
        let mut written = Vec::new();
        for (filter, options) in filters {
            SubscribeFilters::put(&mut written, filter, *options);
        }
        self.say(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_identifier,
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::new(&written),
        }))
        .await;
        self.await_one("SUBACK", |got| match got {
            Got::SubAck(reasons) => Some(reasons.clone()),
            _ => None,
        })
        .await
    }

    async fn unsubscribe(&mut self, filter: &str) -> Vec<ReasonCode> {
        let packet_id = PacketId::new(self.take_id()).unwrap();
        let mut written = Vec::new();
        UnsubscribeFilters::put(&mut written, filter);
        self.say(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            user_properties: UserProperties::default(),
            filters: UnsubscribeFilters::new(&written),
        }))
        .await;
        self.await_one("UNSUBACK", |got| match got {
            Got::UnsubAck(reasons) => Some(reasons.clone()),
            _ => None,
        })
        .await
    }

    /// The next message, whose exchange is seen through.
    async fn message(&mut self) -> GotMessage {
        loop {
            match self.next().await {
                Got::Message(message) => {
                    match message.qos {
                        QoS::AtMostOnce => {}
                        QoS::AtLeastOnce => self.ack(Packet::PubAck, message.id).await,
                        QoS::ExactlyOnce => self.ack(Packet::PubRec, message.id).await,
                    }
                    return message;
                }
                Got::PubRel(id, _) => self.ack(Packet::PubComp, id).await,
                other => panic!("{other:?} instead of a message"),
            }
        }
    }

    async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(self.message().await.text().to_owned());
        }
        texts
    }

    /// Waits until the broker has taken all that was said.
    async fn ping(&mut self) {
        self.say(&Packet::PingReq).await;
        self.await_one("PINGRESP", |got| (*got == Got::PingResp).then_some(())).await;
    }

    /// Nothing but the ends of exchanges has come; what others published was acknowledged to them before.
    async fn has_nothing(&mut self) {
        // Twice: what one read leads to may follow the answer to a PINGREQ in it.
        self.ping().await;
        self.ping().await;
        while let Some(index) = self.kept.iter().position(|got| matches!(got, Got::PubRel(..))) {
            let Some(Got::PubRel(id, _)) = self.kept.remove(index) else { unreachable!() };
            self.ack(Packet::PubComp, id).await;
            self.ping().await;
            self.ping().await;
        }
        assert_eq!(self.kept, [], "nothing was to come");
    }

    /// Says goodbye, and waits until the broker has heard it.
    async fn leave(mut self) {
        self.say(&Packet::Disconnect(Disconnect::new(ReasonCode::Success))).await;
        while !matches!(self.hear().await, Got::Closed) {}
    }

    /// Goes without a word, and waits until the broker has noticed.
    async fn vanish(self, world: &World, client_id: &str) {
        drop(self.stream);
        until("the broker notices", || world.broker.session(client_id).is_none_or(|slot| !slot.is_connected())).await;
    }

    /// The reason that the broker ended the connection with, if it said one.
    async fn end(&mut self) -> Option<ReasonCode> {
        let mut reason = None;
        loop {
            match self.next().await {
                Got::Disconnect(given) => reason = Some(given),
                Got::Closed => return reason,
                _ => {}
            }
        }
    }
}

/// Waits for something that only its state shows.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{what}: it does not come to that");
}
