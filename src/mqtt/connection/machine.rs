//! What a connection does with each packet and each command: handshake, exchanges, requests.

use std::collections::VecDeque;

use super::keep_alive::{KeepAlive, PeerSilent};
use super::{AcceptOptions, CommandError, ConnectOptions, Connected, Delivery, Event, Part, Sender, TooLarge};
use crate::mqtt::codec::CodecError;
use crate::mqtt::packet::{
    Ack, ConnAck, Connect, Disconnect, Publish, PublishHeader, SubAck, Subscribe, SubscribeFilters,
    SubscriptionOptions, Unsubscribe, UnsubscribeFilters,
};
use crate::mqtt::properties::UserProperties;
use crate::mqtt::session::{Released, Resend, SUBSCRIBE_PACKET_ID, Session, Settled};
use crate::mqtt::{Message, Millis, Packet, PacketId, Publication, QoS, ReasonCode, Side, TopicFilter, Version};

/// Events, and received messages, that may wait to be polled; beyond it no input is taken.
const MAX_POLLABLE: usize = 1000;

/// QoS 1 and 2 messages that may wait for room in the peer's window; beyond it they are refused.
const MAX_WAITING: usize = 10_000;

/// SUBSCRIBE and UNSUBSCRIBE that may wait for the answer to the one before; beyond it they are refused.
const MAX_REQUESTS: usize = 100;

#[derive(Debug)]
pub(super) struct Machine {
    side: Side,
    stage: Stage,
    bounds: AcceptOptions,
    sender: Sender,
    pub(super) session: Session,
    pub(super) output: Vec<u8>,
    pub(super) events: VecDeque<Event>,
    incoming: VecDeque<Delivery>,
    /// QoS 1 and 2 messages received on this connection whose exchange is not over.
    unacknowledged: usize,
    keep_alive: KeepAlive,
    /// Seconds; what CONNECT said.
    keep_alive_seconds: u16,
    /// The peer's receive maximum, from its CONNECT, until `accept`.
    peer: Peer,
    requests: VecDeque<Request>,
    /// The request that was sent and not answered.
    asked: Option<Request>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake,
    Open,
    Closed,
}

/// What the peer takes.
#[derive(Debug, Clone, Copy)]
struct Peer {
    receive_maximum: u16,
    maximum_packet_size: Option<u32>,
    topic_alias_maximum: u16,
    maximum_qos: QoS,
    retain_available: bool,
}

/// Filters in wire form.
#[derive(Debug)]
enum Request {
    Subscribe { filters: Vec<u8>, count: usize },
    Unsubscribe { filters: Vec<u8>, count: usize },
}

impl Machine {
    pub(super) fn new(side: Side, version: Version, bounds: AcceptOptions, session: Session, now: Millis) -> Self {
        Self {
            side,
            stage: Stage::Handshake,
            bounds,
            sender: Sender::new(version, None, 0),
            session,
            output: Vec::new(),
            events: VecDeque::new(),
            incoming: VecDeque::new(),
            unacknowledged: 0,
            keep_alive: KeepAlive::new(side, 0, now),
            keep_alive_seconds: 0,
            peer: Peer {
                receive_maximum: u16::MAX,
                maximum_packet_size: None,
                topic_alias_maximum: 0,
                maximum_qos: QoS::ExactlyOnce,
                retain_available: true,
            },
            requests: VecDeque::new(),
            asked: None,
        }
    }

    pub(super) fn version(&self) -> Version {
        self.sender.version()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= MAX_POLLABLE || self.incoming.len() >= MAX_POLLABLE
    }

    pub(super) fn connect(&mut self, options: &ConnectOptions, now: Millis) {
        self.keep_alive_seconds = options.keep_alive;
        self.send(&Packet::Connect(options.to_connect()), now);
    }

    pub(super) fn accept(&mut self, session: Session, session_present: bool, now: Millis) {
        if self.side == Side::Client || self.stage != Stage::Handshake {
            return;
        }
        self.session = session;
        let mut connack = ConnAck::new(ReasonCode::Success, session_present);
        connack.receive_maximum = self.bounds.receive_maximum.max(1);
        connack.maximum_packet_size = self.bounds.told_packet_bytes();
        connack.topic_alias_maximum = self.bounds.topic_alias_maximum;
        self.send(&Packet::ConnAck(connack), now);
        self.open(session_present, now);
    }

    pub(super) fn refuse(&mut self, reason: ReasonCode) {
        if self.stage == Stage::Handshake {
            self.sender.encode(&Packet::ConnAck(ConnAck::new(reason, false)), &mut self.output);
            self.stage = Stage::Closed;
        }
    }

    pub(super) fn disconnect(&mut self, reason: ReasonCode) {
        let speaks = self.side == Side::Client || self.version() == Version::V5;
        if self.stage == Stage::Open && speaks {
            self.sender.encode(&Packet::Disconnect(Disconnect::new(reason)), &mut self.output);
        }
        self.stage = Stage::Closed;
    }

    /// Ends the connection for what the peer did wrong.
    pub(super) fn fail(&mut self, reason: ReasonCode) {
        match self.version() {
            Version::V3 => self.stage = Stage::Closed,
            Version::V5 => self.disconnect(reason),
        }
    }

    pub(super) fn handle_packet(&mut self, packet: &Packet<'_>, now: Millis) -> Result<(), CodecError> {
        self.keep_alive.received(now);
        match packet {
            Packet::Publish(publish) => return self.handle_publish(publish, now),
            Packet::PubAck(ack) => {
                if let Some(settled) = self.session.outbound.handle_puback(ack.packet_id) {
                    self.settle(&settled, ack.reason);
                }
            }
            Packet::PubRec(ack) => self.handle_pubrec(ack, now),
            Packet::PubRel(ack) => self.handle_pubrel(ack, now),
            Packet::PubComp(ack) => {
                if let Some(settled) = self.session.outbound.handle_pubcomp(ack.packet_id) {
                    self.settle(&settled, ReasonCode::Success);
                }
            }
            Packet::Connect(connect) => self.handle_connect(connect),
            Packet::ConnAck(connack) => self.handle_connack(connack, now),
            Packet::Subscribe(subscribe) => self.events.push_back(Event::SubscribeRequested {
                packet_id: subscribe.packet_id,
                filters: subscribe.filters.iter().map(|(filter, options)| (filter.to_owned(), options)).collect(),
            }),
            Packet::Unsubscribe(unsubscribe) => self.events.push_back(Event::UnsubscribeRequested {
                packet_id: unsubscribe.packet_id,
                filters: unsubscribe.filters.iter().map(str::to_owned).collect(),
            }),
            Packet::SubAck(suback) => return self.handle_suback(suback, now),
            Packet::UnsubAck(unsuback) => return self.handle_unsuback(unsuback, now),
            Packet::PingReq => self.send(&Packet::PingResp, now),
            Packet::PingResp => {}
            Packet::Disconnect(disconnect) => {
                self.stage = Stage::Closed;
                self.events.push_back(Event::Disconnected {
                    reason: disconnect.reason,
                    reason_string: disconnect.reason_string.map(str::to_owned),
                });
            }
            Packet::Auth(_) => {
                return Err(CodecError::protocol("AUTH without an authentication method in CONNECT [MQTT-4.12.0-6]"));
            }
        }
        // An acknowledgement may have made room.
        self.pump(now);
        Ok(())
    }

    pub(super) fn poll_message(&mut self, now: Millis) -> Option<Delivery> {
        while let Some(delivery) = self.incoming.pop_front() {
            let Some(packet_id) = delivery.packet_id else {
                return Some(delivery);
            };
            match delivery.message.qos {
                QoS::AtMostOnce => {}
                QoS::AtLeastOnce => {
                    self.unacknowledged = self.unacknowledged.saturating_sub(1);
                    self.acknowledge(Packet::PubAck, packet_id, ReasonCode::Success, now);
                }
                QoS::ExactlyOnce => {
                    let is_new = self.session.inbound.handle_publish(packet_id).is_some();
                    self.acknowledge(Packet::PubRec, packet_id, ReasonCode::Success, now);
                    if !is_new {
                        continue;
                    }
                }
            }
            return Some(delivery);
        }
        None
    }

    pub(super) fn next_timeout(&self) -> Option<Millis> {
        if self.stage == Stage::Open { self.keep_alive.next_timeout() } else { None }
    }

    pub(super) fn handle_timeout(&mut self, now: Millis) -> Result<(), PeerSilent> {
        if self.stage != Stage::Open {
            return Ok(());
        }
        match self.keep_alive.handle_timeout(now) {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.ping(now);
                Ok(())
            }
            Err(silent) => {
                self.fail(ReasonCode::KeepAliveTimeout);
                Err(silent)
            }
        }
    }

    pub(super) fn ping(&mut self, now: Millis) {
        if self.side == Side::Client && self.stage == Stage::Open {
            self.send(&Packet::PingReq, now);
        }
    }

    pub(super) fn publish(&mut self, message: Message, now: Millis) -> Result<Option<u64>, CommandError> {
        if self.stage == Stage::Open {
            self.peer.takes(&message)?;
        }
        if message.qos == QoS::AtMostOnce {
            if self.stage != Stage::Open {
                return Err(CommandError::NotConnected);
            }
            let sent = encode_publish(&mut self.sender, &message, QoS::AtMostOnce, None, false, now, &mut self.output);
            self.keep_alive.sent(now);
            return sent.map(|()| None).map_err(|TooLarge| CommandError::TooLarge);
        }
        if self.session.waiting.len() >= MAX_WAITING {
            return Err(CommandError::QueueFull);
        }
        let sequence = self.session.outbound.take_sequence();
        self.session.waiting.push_back((sequence, message));
        self.pump(now);
        Ok(Some(sequence))
    }

    pub(super) fn subscribe(
        &mut self,
        filters: &[(TopicFilter, SubscriptionOptions)],
        now: Millis,
    ) -> Result<(), CommandError> {
        let mut written = Vec::new();
        for (filter, options) in filters {
            let options = match self.version() {
                Version::V3 => SubscriptionOptions { qos: options.qos, ..SubscriptionOptions::default() },
                Version::V5 => *options,
            };
            SubscribeFilters::put(&mut written, filter.as_str(), options);
        }
        self.request(Request::Subscribe { filters: written, count: filters.len() }, now)
    }

    pub(super) fn unsubscribe(&mut self, filters: &[TopicFilter], now: Millis) -> Result<(), CommandError> {
        let mut written = Vec::new();
        for filter in filters {
            UnsubscribeFilters::put(&mut written, filter.as_str());
        }
        self.request(Request::Unsubscribe { filters: written, count: filters.len() }, now)
    }

    pub(super) fn answer_subscribe(&mut self, packet_id: PacketId, reasons: &[ReasonCode], now: Millis) {
        let codes: Vec<u8> = reasons.iter().map(|&reason| reason as u8).collect();
        self.send(&Packet::SubAck(SubAck::new(packet_id, &codes)), now);
    }

    pub(super) fn answer_unsubscribe(&mut self, packet_id: PacketId, reasons: &[ReasonCode], now: Millis) {
        let codes: Vec<u8> = reasons.iter().map(|&reason| reason as u8).collect();
        self.send(&Packet::UnsubAck(SubAck::new(packet_id, &codes)), now);
    }

    fn handle_connect(&mut self, connect: &Connect<'_>) {
        self.keep_alive_seconds = connect.keep_alive;
        self.sender = Sender::new(connect.version, None, 0);
        self.peer.receive_maximum = connect.receive_maximum;
        self.peer.maximum_packet_size = connect.maximum_packet_size;
        self.peer.topic_alias_maximum = connect.topic_alias_maximum;
        self.events.push_back(Event::ConnectRequested {
            version: connect.version,
            client_id: connect.client_id.to_owned(),
            clean_start: connect.clean_start,
        });
    }

    fn handle_connack(&mut self, connack: &ConnAck<'_>, now: Millis) {
        if connack.reason != ReasonCode::Success {
            self.stage = Stage::Closed;
            self.events.push_back(Event::Refused {
                reason: connack.reason,
                reason_string: connack.reason_string.map(str::to_owned),
            });
            return;
        }
        let connected = Connected::new(connack, self.keep_alive_seconds);
        self.keep_alive_seconds = connected.keep_alive;
        self.peer = Peer {
            receive_maximum: connack.receive_maximum,
            maximum_packet_size: connack.maximum_packet_size,
            topic_alias_maximum: connack.topic_alias_maximum,
            maximum_qos: connack.maximum_qos,
            retain_available: connack.retain_available,
        };
        self.events.push_back(Event::Connected(connected));
        self.open(connack.session_present, now);
    }

    /// The handshake is over: what is in flight goes again, and then what waits.
    fn open(&mut self, session_present: bool, now: Millis) {
        self.stage = Stage::Open;
        self.sender = Sender::new(self.version(), self.peer.maximum_packet_size, self.peer.topic_alias_maximum);
        self.keep_alive.set_interval(self.keep_alive_seconds);
        let window = self.bounds.window(self.version(), self.peer.receive_maximum);
        if session_present || self.side == Side::Server {
            self.session.outbound.resume(window);
        } else {
            // The server has forgotten which identifiers it sent, so they may come again as new.
            self.session.inbound.clear();
            for settled in self.session.outbound.restart(window) {
                self.settle(&settled, ReasonCode::Success);
            }
        }
        self.pump(now);
    }

    fn handle_publish(&mut self, publish: &Publish<'_>, now: Millis) -> Result<(), CodecError> {
        if publish.packet_id.is_some() {
            self.unacknowledged += 1;
            // Servers in wide use (mosquitto 2.0.11) go beyond a client's maximum, and 3.1.1 has none: there the bound of
            // what may be polled holds input back.
            let strict = self.side == Side::Server && self.version() == Version::V5;
            if strict && self.unacknowledged > usize::from(self.bounds.receive_maximum) {
                return Err(CodecError::new(
                    ReasonCode::ReceiveMaximumExceeded,
                    "more messages in flight than the receive maximum [MQTT-3.3.4-7, MQTT-3.3.4-9]",
                ));
            }
        }
        let message = Publication::from_publish(publish, now).keep().clone();
        self.incoming.push_back(Delivery { message, dup: publish.dup, packet_id: publish.packet_id });
        Ok(())
    }

    fn handle_pubrec(&mut self, ack: &Ack<'_>, now: Millis) {
        match self.session.outbound.handle_pubrec(ack.packet_id, ack.reason) {
            Released::Release { .. } => {
                self.acknowledge(Packet::PubRel, ack.packet_id, ReasonCode::Success, now);
            }
            Released::Settled(settled) => self.settle(&settled, ack.reason),
            // A PUBREC that refuses ends the exchange on the peer's side too.
            Released::Unknown if ack.reason.is_error() => {}
            Released::Unknown => {
                self.acknowledge(Packet::PubRel, ack.packet_id, ReasonCode::PacketIdentifierNotFound, now);
            }
        }
    }

    fn handle_pubrel(&mut self, ack: &Ack<'_>, now: Millis) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        let reason = if self.session.inbound.handle_pubrel(ack.packet_id).is_some() {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        self.acknowledge(Packet::PubComp, ack.packet_id, reason, now);
    }

    fn handle_suback(&mut self, suback: &SubAck<'_>, now: Millis) -> Result<(), CodecError> {
        match self.asked.take() {
            Some(Request::Subscribe { count, .. })
                if suback.packet_id == SUBSCRIBE_PACKET_ID && suback.reasons().count() == count =>
            {
                self.events.push_back(Event::Subscribed(suback.reasons().collect()));
                self.send_request(now);
                Ok(())
            }
            _ => Err(CodecError::protocol("a SUBACK that answers no SUBSCRIBE [MQTT-3.8.4-2]")),
        }
    }

    fn handle_unsuback(&mut self, unsuback: &SubAck<'_>, now: Millis) -> Result<(), CodecError> {
        match self.asked.take() {
            Some(Request::Unsubscribe { count, .. })
                if unsuback.packet_id == SUBSCRIBE_PACKET_ID
                    && (self.version() == Version::V3 || unsuback.reasons().count() == count) =>
            {
                self.events.push_back(Event::Unsubscribed(unsuback.reasons().collect()));
                self.send_request(now);
                Ok(())
            }
            _ => Err(CodecError::protocol("an UNSUBACK that answers no UNSUBSCRIBE [MQTT-3.10.4-5]")),
        }
    }

    fn request(&mut self, request: Request, now: Millis) -> Result<(), CommandError> {
        if self.stage != Stage::Open {
            return Err(CommandError::NotConnected);
        }
        if self.requests.len() >= MAX_REQUESTS {
            return Err(CommandError::QueueFull);
        }
        self.requests.push_back(request);
        self.send_request(now);
        Ok(())
    }

    /// Sends the next request once the last one is answered: all of them have the same packet identifier.
    fn send_request(&mut self, now: Millis) {
        if self.asked.is_some() {
            return;
        }
        let Some(request) = self.requests.pop_front() else {
            return;
        };
        let user_properties = UserProperties::default();
        let packet = match &request {
            Request::Subscribe { filters, .. } => Packet::Subscribe(Subscribe {
                packet_id: SUBSCRIBE_PACKET_ID,
                subscription_identifier: None,
                user_properties,
                filters: SubscribeFilters::new(filters),
            }),
            Request::Unsubscribe { filters, .. } => Packet::Unsubscribe(Unsubscribe {
                packet_id: SUBSCRIBE_PACKET_ID,
                user_properties,
                filters: UnsubscribeFilters::new(filters),
            }),
        };
        self.send(&packet, now);
        self.asked = Some(request);
    }

    /// Sends again what is due again, and then what waits, as far as the window allows.
    fn pump(&mut self, now: Millis) {
        if self.stage != Stage::Open {
            return;
        }
        let Self { session, sender, output, .. } = self;
        let before = output.len();
        let mut refused: Vec<(PacketId, ReasonCode)> = Vec::new();
        while let Some(resend) = session.outbound.poll_resend() {
            match resend {
                Resend::Publish { packet_id, qos, dup, item } => {
                    if encode_publish(sender, item, qos, Some(packet_id), dup, now, output).is_err() {
                        refused.push((packet_id, ReasonCode::PacketTooLarge));
                    }
                }
                Resend::Release { packet_id } => {
                    sender.encode(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)), output);
                }
            }
        }
        while session.outbound.has_room()
            && let Some((sequence, message)) = session.waiting.pop_front()
        {
            let packet_id = session.outbound.admit(sequence, message.qos, message.clone());
            if let Err(error) = self.peer.takes(&message) {
                refused.push((packet_id, error.reason()));
            } else if encode_publish(sender, &message, message.qos, Some(packet_id), false, now, output).is_err() {
                refused.push((packet_id, ReasonCode::PacketTooLarge));
            }
        }
        if output.len() > before {
            self.keep_alive.sent(now);
        }
        if refused.is_empty() {
            return;
        }
        for (packet_id, reason) in refused {
            if let Some(settled) = self.session.outbound.abandon(packet_id) {
                self.settle(&settled, reason);
            }
        }
        // What was refused has left room.
        self.pump(now);
    }

    fn settle(&mut self, settled: &Settled<Message>, reason: ReasonCode) {
        self.events.push_back(Event::Settled { sequence: settled.sequence, reason });
    }

    fn acknowledge(
        &mut self,
        packet: impl FnOnce(Ack<'static>) -> Packet<'static>,
        packet_id: PacketId,
        reason: ReasonCode,
        now: Millis,
    ) {
        self.send(&packet(Ack::new(packet_id, reason)), now);
    }

    fn send(&mut self, packet: &Packet<'_>, now: Millis) {
        if self.stage == Stage::Closed {
            return;
        }
        self.sender.encode(packet, &mut self.output);
        self.keep_alive.sent(now);
    }
}

impl Peer {
    fn takes(&self, message: &Message) -> Result<(), CommandError> {
        if message.qos > self.maximum_qos {
            return Err(CommandError::QoSNotSupported(self.maximum_qos));
        }
        if message.retain && !self.retain_available {
            return Err(CommandError::RetainNotSupported);
        }
        Ok(())
    }
}

impl CommandError {
    /// The reason that a message is settled with which had to wait before it was found out.
    fn reason(self) -> ReasonCode {
        match self {
            Self::TooLarge => ReasonCode::PacketTooLarge,
            Self::QoSNotSupported(_) => ReasonCode::QoSNotSupported,
            Self::RetainNotSupported => ReasonCode::RetainNotSupported,
            Self::NotConnected | Self::QueueFull => ReasonCode::UnspecifiedError,
        }
    }
}

fn encode_publish(
    sender: &mut Sender,
    message: &Message,
    qos: QoS,
    packet_id: Option<PacketId>,
    dup: bool,
    now: Millis,
    output: &mut Vec<u8>,
) -> Result<(), TooLarge> {
    let header = PublishHeader {
        dup,
        qos,
        retain: message.retain,
        packet_id,
        topic: message.topic(),
        topic_alias: None,
        // What was begun is finished, even when it is of no more use.
        message_expiry_interval: message
            .expires_at
            .map(|at| u32::try_from(at.since(now).div_ceil(1000)).unwrap_or(u32::MAX).max(1)),
        subscription_identifiers: &[],
        user_properties: &[],
    };
    sender.encode_publish(header, message.properties(), message.payload(), Part::Whole, output)
}
