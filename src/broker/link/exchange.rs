//! What a link does with packets: everything but bytes.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use super::promises::{Promise, Promises, Waiting};
use super::reading::Reading;
use super::told::Answers;
use crate::broker::Broker;
use crate::broker::access::{Rights, WriteDecisions};
use crate::broker::envelope::{Opened, Reply, SharedEnvelope};
use crate::broker::listener::Entrance;
use crate::broker::router::Origin;
use crate::broker::session_slot::{Acknowledgement, AwaitingRetained, SessionSlot, Turn};
use crate::broker::sessions::Connected;
use crate::broker::{sys_topics, turn};
use crate::clock;
use crate::metrics::Tally;
use crate::mqtt::codec::CodecError;
use crate::mqtt::packet::{Ack, Disconnect, Publish, PublishProperties};
use crate::mqtt::properties::Forwardable;
use crate::mqtt::via;
use crate::mqtt::{Message, Millis, Packet, PacketId, Publication, QoS, ReasonCode, Remap, Side, TopicFilter, Version};
use crate::store::{Batch, Receipt, Record, Ticket};

/// After a session was resumed, what comes in this time may have waited there: in milliseconds.
const RESUMED_MS: u64 = 1000;

/// Where a dialled link's messages go: the `receive` routes of its bridge, the first that matches.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiveRoute {
    /// From the topics of the hop to ours.
    pub remap: Remap,
    /// Topics of the hop that the route does not take.
    pub except: Vec<TopicFilter>,
    /// The highest QoS in our broker: the hop's may be that of another route, whose subscription holds this one's.
    pub max_qos: QoS,
    /// RETAIN in our broker; `None` is that of the hop.
    pub retain: Option<bool>,
    /// The greatest age in seconds. What has an expiry expires by then; what has none is refused on topics that end
    /// in `/set` where it may have waited upstream: in the first second of a resumed session.
    pub max_age: Option<u32>,
    /// The forms of the server; `None` where that is a plain broker.
    pub envelope: Option<SharedEnvelope>,
}

/// What a link does with packets: everything but bytes.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) broker: Arc<Broker>,
    pub(super) slot: Arc<SessionSlot>,
    pub(super) epoch: u64,
    pub(super) side: Side,
    pub(super) version: Version,
    /// The rules of the listener.
    pub(super) entrance: Arc<Entrance>,
    /// What the client may do.
    pub(super) rights: Arc<Rights>,
    /// Bytes of the largest packet that the client takes.
    pub(super) maximum_packet_size: usize,
    /// What was decided by them lately.
    write_decisions: WriteDecisions,
    /// What only a dialled link has; boxed, because most are accepted.
    dialled: Option<Box<Dialled>>,
    promises: Promises,
    /// Whether the journal had no room when this connection put something into it.
    wants_room: bool,
    /// QoS 1 and 2 messages that came on this connection and whose PUBACK, PUBCOMP or refusing PUBREC has not left.
    open: u32,
    /// Whether subscriptions may still await retained messages.
    pub(super) awaits_retained: bool,
    /// Whether the log has said that a message of this connection was beyond the limits.
    has_told_of_limits: bool,
    /// Set when the peer said DISCONNECT.
    pub(super) disconnect: Option<ReasonCode>,
    /// How many messages the peer may publish now, at most those of a second. Below 0 it has been read too fast.
    allowance: f64,
    allowance_at: Millis,
}

/// What only a dialled link has.
#[derive(Debug)]
pub(super) struct Dialled {
    /// Where its messages go.
    pub(super) receive: Arc<[ReceiveRoute]>,
    /// When it resumed a session that the server still had.
    pub(super) resumed_at: Option<Millis>,
    /// Since when it is there.
    pub(super) connected_at: Millis,
    /// What the server says apart from messages.
    pub(super) answers: Arc<Answers>,
}

impl Exchange {
    /// With a client that came in by `entrance`.
    pub(super) fn accepted(
        broker: Arc<Broker>,
        connected: Connected,
        version: Version,
        entrance: Arc<Entrance>,
        rights: Arc<Rights>,
    ) -> Self {
        let Connected { slot, epoch } = connected;
        Self {
            broker,
            slot,
            epoch,
            side: Side::Server,
            version,
            entrance,
            rights,
            maximum_packet_size: usize::MAX,
            write_decisions: WriteDecisions::default(),
            dialled: None,
            promises: Promises::default(),
            wants_room: false,
            open: 0,
            awaits_retained: true,
            has_told_of_limits: false,
            disconnect: None,
            allowance: 0.0,
            allowance_at: Millis(0),
        }
    }

    /// With a server that we have dialled.
    pub(super) fn dialled(broker: Arc<Broker>, connected: Connected, version: Version, dialled: Dialled) -> Self {
        let entrance = Arc::clone(broker.entrance());
        let accepted = Self::accepted(broker, connected, version, entrance, Rights::everything());
        Self { side: Side::Client, dialled: Some(Box::new(dialled)), ..accepted }
    }

    pub(super) fn handle(&mut self, packet: &Packet<'_>, reading: &mut Reading) -> Result<(), CodecError> {
        match packet {
            Packet::Publish(publish) => return self.handle_publish(publish, reading),
            Packet::PubAck(ack) => reading.acknowledgements.push(Acknowledgement::Received(ack.packet_id, ack.reason)),
            Packet::PubRec(ack) => reading.acknowledgements.push(Acknowledgement::Recorded(ack.packet_id, ack.reason)),
            Packet::PubComp(ack) => reading.acknowledgements.push(Acknowledgement::Completed(ack.packet_id)),
            Packet::PubRel(ack) => self.handle_pubrel(ack.packet_id, reading),
            Packet::Subscribe(subscribe) => {
                let begin = reading.replies.len();
                self.handle_subscribe(subscribe, reading);
                self.note_answer(begin, reading);
                return self.check_reply(begin, reading);
            }
            Packet::Unsubscribe(unsubscribe) => {
                let begin = reading.replies.len();
                self.handle_unsubscribe(unsubscribe, reading);
                self.note_answer(begin, reading);
                return self.check_reply(begin, reading);
            }
            Packet::PingReq => {
                let begin = reading.replies.len();
                Packet::PingResp.encode(self.version, &mut reading.replies);
                reading.unbound.push(begin..reading.replies.len());
            }
            Packet::PingResp => {}
            Packet::SubAck(suback) => {
                if let Some(dialled) = &self.dialled {
                    dialled.answers.handle_suback(suback);
                }
            }
            Packet::UnsubAck(_) => {
                if let Some(dialled) = &self.dialled {
                    dialled.answers.handle_unsuback();
                }
            }
            Packet::Disconnect(disconnect) => return self.handle_disconnect(disconnect),
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
        reading.received.publishes += 1;
        reading.received.payload_bytes += publish.payload.len() as u64;
        let frame = reading.frame.take();
        let publication = Publication::from_publish(publish, reading.now).within(frame.as_ref());
        let refusal = self.refusal(&publication);
        if let Some(reason) = refusal {
            self.note_refused(publish.topic, reason);
        }
        let Some(packet_id) = publish.packet_id else {
            if refusal.is_none() {
                self.route(&publication, None, reading);
            }
            return Ok(());
        };
        let reason = |routed: bool| if routed { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers };
        if publish.qos == QoS::AtLeastOnce {
            self.open_exchange()?;
            reading.over += 1;
            let reason = refusal.unwrap_or_else(|| reason(self.route(&publication, None, reading)));
            Packet::PubAck(Ack::new(packet_id, reason)).encode(self.version, &mut reading.replies);
            return Ok(());
        }
        // QoS 2: the message is delivered with its first PUBLISH, and its identifier kept until PUBREL.
        let is_known = self.slot.inbound().contains(packet_id);
        if is_known {
            reading.behind = self.slot.newest_receipt().clone();
        }
        let reason = match refusal {
            _ if is_known => ReasonCode::Success,
            Some(refusal) if self.version == Version::V5 => refusal,
            refusal => {
                // Before it is noted: what is not delivered must not count as received.
                self.open_exchange()?;
                if refusal.is_none() {
                    self.note_receipt(reading);
                }
                let number = self.slot.inbound().handle_publish(packet_id);
                // 3.1.1 has no way to refuse; the exchange is gone through and nothing is delivered.
                if refusal.is_none() {
                    // Whether anybody got it is said of QoS 1 alone: a repeated PUBREC could not say it again.
                    let queue = self.slot.queue_id();
                    let receipt = number.filter(|_| self.slot.is_durable());
                    let receipt = receipt.map(|number| Receipt { queue, packet_id, number });
                    self.route(&publication, receipt, reading);
                }
                ReasonCode::Success
            }
        };
        Packet::PubRec(Ack::new(packet_id, reason)).encode(self.version, &mut reading.replies);
        Ok(())
    }

    /// Whether a packet of 3.1.1 must wait: a bridge's queue is full and refuses it, and nothing can say so.
    pub(super) fn is_held(&mut self, packet: &Packet<'_>, now: Millis) -> bool {
        let Packet::Publish(publish) = packet else {
            return false;
        };
        let can_wait = self.version == Version::V3 && self.side == Side::Server;
        let Some(packet_id) = publish.packet_id.filter(|_| can_wait) else {
            return false;
        };
        // What was taken before, or is not taken at all, does not wait.
        let is_known = publish.qos == QoS::ExactlyOnce && self.slot.inbound().contains(packet_id);
        !is_known
            && self.write_decisions.may_publish(&self.rights, publish.topic)
            && self.is_refused(&Publication::from_publish(publish, now))
    }

    /// Whether the queue of a bridge is full and refuses the publication.
    fn is_refused(&self, publication: &Publication<'_>) -> bool {
        let origin = Origin { slot: Some(&self.slot), received: None };
        self.broker.budget().is_refusing() && self.broker.router.is_refused(publication, origin)
    }

    /// Counts a message that was refused. What is beyond a limit is said once for each connection: who publishes at
    /// QoS 0, or over 3.1.1, does not hear of it. (The client's rights are another's to complain of.)
    fn note_refused(&mut self, topic: &str, reason: ReasonCode) {
        self.broker.metrics.refused.add(1);
        let client = self.slot.client_id();
        if reason == ReasonCode::NotAuthorized || std::mem::replace(&mut self.has_told_of_limits, true) {
            tracing::debug!(%client, topic, %reason, "a message was refused");
        } else {
            tracing::warn!(%client, topic, %reason, "a message was refused: it is beyond the limits");
        }
    }

    /// Why a client may not publish this.
    fn refusal(&mut self, publication: &Publication<'_>) -> Option<ReasonCode> {
        if self.side == Side::Client {
            return None;
        }
        let topic = publication.topic;
        if sys_topics::is_system(topic) {
            return Some(ReasonCode::NotAuthorized);
        }
        if !self.write_decisions.may_publish(&self.rights, topic) {
            self.rights.note_unwritten(self.slot.client_id(), topic);
            return Some(ReasonCode::NotAuthorized);
        }
        let limits = &self.entrance.limits;
        if !limits.allow_topic(topic) {
            return Some(ReasonCode::TopicNameInvalid);
        }
        if publication.qos != QoS::AtMostOnce && self.version == Version::V5 && self.is_refused(publication) {
            return Some(ReasonCode::QuotaExceeded);
        }
        let may_retain = !publication.retain || self.broker.router.may_retain(publication, self.broker.limits());
        (!may_retain).then_some(ReasonCode::QuotaExceeded)
    }

    /// Gives a publication to the router, a bridge's through its first matching route. Whether anybody got it.
    fn route(&self, publication: &Publication<'_>, received: Option<Receipt>, reading: &mut Reading) -> bool {
        if self.broker.is_looped(publication, self.slot.client_id()) {
            return false;
        }
        let origin = Origin { slot: Some(&self.slot), received };
        let mut turn = Turn { now: reading.now, batch: &mut reading.batch };
        let Some(dialled) = &self.dialled else {
            return self.broker.router.publish(publication, origin, &mut turn);
        };
        let mut topic = String::new();
        let mut takes = |route: &&ReceiveRoute| {
            !route.except.iter().any(|except| except.matches(publication.topic))
                && route.remap.apply(publication.topic, &mut topic)
        };
        let Some(route) = dialled.receive.iter().find(|route| takes(route)) else {
            tracing::debug!(client = %self.slot.client_id(), "a message that no receive route takes");
            return false;
        };
        let mut payload = None;
        if let Some(envelope) = &route.envelope {
            let age = reading.now.since(dialled.connected_at);
            match envelope.open(publication.topic, publication.payload, age) {
                Opened::AsItIs => {}
                Opened::Message { topic: ours, payload: inner } => (topic, payload) = (ours, inner),
                Opened::Answered(reply) => {
                    self.reply(&reply, &mut reading.replies);
                    return false;
                }
                Opened::Refused(reason) => {
                    tracing::warn!(client = %self.slot.client_id(), reason, "a message of the server was refused");
                    return false;
                }
            }
        }
        if sys_topics::is_system(&topic) {
            tracing::warn!(client = %self.slot.client_id(), topic, "nobody speaks for the broker; the message was refused");
            return false;
        }
        let mut remapped = match &payload {
            None => publication.with_topic(&topic),
            Some(payload) => {
                Publication::new(&topic, payload, publication.properties, publication.qos, publication.retain)
            }
        };
        remapped.qos = publication.qos.min(route.max_qos);
        // A stored command stays one whatever the route says, so that nobody takes it for a fresh one.
        let is_stored_command = publication.retain && topic.ends_with("/set");
        remapped.retain = is_stored_command || route.retain.unwrap_or(publication.retain);
        if let Some(seconds) = route.max_age {
            let resumed = dialled.resumed_at.is_some_and(|at| reading.now.since(at) < RESUMED_MS);
            if resumed && publication.expires_at.is_none() && topic.ends_with("/set") {
                tracing::warn!(client = %self.slot.client_id(), topic, "a command that may be old was refused");
                return false;
            }
            let limit = reading.now.plus_seconds(seconds);
            remapped.expires_at = Some(remapped.expires_at.map_or(limit, |at| at.min(limit)));
        }
        // It may have come by a way on which nobody marked it: one gateway may be another's server.
        let mut marked = Vec::new();
        if let Some(here) = self.slot.mark() {
            via::mark(publication.properties, here, &mut marked);
            remapped.properties = Forwardable::plain(&marked);
        }
        let anybody = self.broker.router.publish(&remapped, origin, &mut turn);
        let envelope = route.envelope.as_ref().filter(|_| !anybody);
        if let Some(reply) = envelope.and_then(|envelope| envelope.unclaimed(publication.topic, publication.payload)) {
            self.reply(&reply, &mut reading.replies);
        }
        anybody
    }

    /// Tells the server at once what became of its message.
    fn reply(&self, Reply { topic, payload }: &Reply, replies: &mut Vec<u8>) {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: None,
            properties: PublishProperties::default(),
            payload,
        };
        publish.encode(self.version, replies);
    }

    /// Holds the peer to the receive maximum that we announced [MQTT-3.3.4-7]. 3.1.1 has none.
    fn open_exchange(&mut self) -> Result<(), CodecError> {
        self.open = self.open.saturating_add(1);
        let limit = u32::from(self.entrance.limits.inflight);
        if self.open > limit && self.version == Version::V5 && self.side == Side::Server {
            return Err(CodecError::new(
                ReasonCode::ReceiveMaximumExceeded,
                "more messages in flight than the receive maximum [MQTT-3.3.4-7]",
            ));
        }
        Ok(())
    }

    /// Notes that the batch at hand records something of the messages that the session has received at QoS 2. It is
    /// noted before it is done: on another connection nobody sees the one without the other.
    fn note_receipt(&self, reading: &mut Reading) {
        if self.slot.is_durable() && self.broker.router.journal().is_durable() {
            *self.slot.newest_receipt() = Some(reading.batch.pending());
        }
    }

    fn handle_pubrel(&self, packet_id: PacketId, reading: &mut Reading) {
        if self.slot.inbound().contains(packet_id) {
            self.note_receipt(reading);
        } else {
            reading.behind = self.slot.newest_receipt().clone();
        }
        let known = self.slot.inbound().handle_pubrel(packet_id);
        if let Some(number) = known {
            if self.slot.is_durable() {
                reading.batch.push(&Record::Release { queue: self.slot.queue_id(), number });
            }
            reading.over += 1;
        }
        // An identifier that is not known any more is no error: this may be a repetition.
        Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)).encode(self.version, &mut reading.replies);
    }

    fn handle_disconnect(&mut self, disconnect: &Disconnect<'_>) -> Result<(), CodecError> {
        if let Some(dialled) = &self.dialled {
            dialled.answers.handle_disconnect(disconnect);
        }
        if let Some(seconds) = disconnect.session_expiry_interval {
            if !self.slot.is_durable() && seconds > 0 {
                return Err(CodecError::protocol("a session expiry interval raised from 0 [MQTT-3.1.2-23]"));
            }
            self.broker.change_expiry(&self.slot, self.epoch, seconds);
        }
        self.disconnect = Some(disconnect.reason);
        Ok(())
    }

    /// Ends a read batch: one append, one settling, and the replies once what they promise is committed.
    ///
    /// # Errors
    /// What an acknowledgement violated.
    pub(super) fn finish(&mut self, reading: &mut Reading) -> Result<(), CodecError> {
        let packets = std::mem::take(&mut reading.packets);
        let received = std::mem::take(&mut reading.received);
        if packets > 0 {
            self.slot.heard(reading.now);
            let bytes = std::mem::take(&mut reading.bytes) as u64;
            self.slot.note_received(Tally { bytes, others: packets - received.publishes, ..received });
        }
        let mut result = Ok(());
        let mut is_held_up = std::mem::take(&mut reading.is_asked);
        let mut has_releases = false;
        if !reading.acknowledgements.is_empty() {
            has_releases = reading.acknowledgements.iter().any(|ack| matches!(ack, Acknowledgement::Recorded(..)));
            let mut turn = Turn { now: reading.now, batch: &mut reading.batch };
            let out_of_turn = self.slot.settle(self.epoch, &reading.acknowledgements, &mut reading.replies, &mut turn);
            // A server that we have dialled answers as it likes: breaking with it would not mend it.
            if out_of_turn && self.side == Side::Server {
                result = Err(CodecError::protocol("an acknowledgement that is not the one awaited (section 4.3)"));
            }
            reading.acknowledgements.clear();
        }
        if let Some(rate) = self.entrance.limits.rate {
            let elapsed = reading.now.since(self.allowance_at) as f64 / 1000.0;
            self.allowance = (self.allowance + elapsed * rate).min(rate.max(1.0)) - received.publishes as f64;
            self.allowance_at = reading.now;
        }
        let journal = self.broker.router.journal();
        let ticket = journal.append(&mut reading.batch);
        if ticket > Ticket::NONE && (received.publishes > 0 || is_held_up) && !journal.has_room() {
            self.wants_room = true;
        }
        let (over, behind) = (std::mem::take(&mut reading.over), reading.behind.take());
        if !reading.replies.is_empty() {
            let mut promise = Promise { ticket, behind, replies: Vec::new(), over };
            if self.promises.is_empty() && promise.is_committed(journal) {
                self.slot.send(self.epoch, &reading.replies);
                self.open = self.open.saturating_sub(over);
            } else {
                let unbound;
                (unbound, promise.replies) = reading.split_replies();
                if !unbound.is_empty() {
                    self.slot.send(self.epoch, &unbound);
                }
                // The receiver of messages waits for PUBREL alone, which matters where nothing else may be sent.
                is_held_up |= has_releases && self.slot.is_window_full();
                let inflight = self.entrance.limits.inflight;
                let maximum = if self.version == Version::V5 { u32::from(inflight) } else { u32::MAX };
                let peer = Waiting { open: self.open, maximum, is_held_up, now: reading.now };
                self.promises.push(promise, peer, inflight, journal);
            }
            reading.replies.clear();
        }
        reading.unbound.clear();
        turn::finish_batch();
        result
    }

    /// Sends the replies whose promise has been committed meanwhile, in their order.
    pub(super) fn release_committed(&mut self, cx: &mut Context<'_>) {
        let (open, journal) = (self.open, self.broker.router.journal());
        let mut released = false;
        while let Some((replies, over)) = self.promises.poll_next(journal, cx) {
            self.slot.send(self.epoch, &replies);
            self.open = self.open.saturating_sub(over);
            released = true;
        }
        if released {
            self.promises.handle_sent(open, clock::now());
            turn::finish_batch();
        }
    }

    /// Whether we have dialled.
    pub(super) fn is_dialled(&self) -> bool {
        self.dialled.is_some()
    }

    /// Sends what may go at `now`.
    pub(super) fn pump(&self, now: Millis) {
        let mut batch = Batch::default();
        self.slot.pump(&mut Turn { now, batch: &mut batch });
        self.broker.router.finish(&mut batch);
    }

    /// Goes on with what waits for the commit of what the session has delivered.
    pub(super) fn poll_commits(&self, cx: &mut Context<'_>) {
        if !self.slot.awaits_commit() {
            return;
        }
        let mut batch = Batch::default();
        let mut turn = Turn { now: clock::now(), batch: &mut batch };
        self.slot.poll_commits(self.epoch, cx, &mut turn);
        self.broker.router.finish(&mut batch);
    }

    /// Whether the peer is not to be read: too much waits for commits already, or the journal has no room, and the peer
    /// would put more into it. The task of `cx` is woken when that changes.
    ///
    /// Who only acknowledges is read on, because that is what makes room.
    pub(super) fn poll_deaf(&mut self, cx: &mut Context<'_>) -> bool {
        if self.wants_room && self.broker.router.journal().poll_room(cx).is_ready() {
            self.wants_room = false;
        }
        self.wants_room || self.promises.are_too_many(self.entrance.limits.inflight)
    }

    /// How long the peer is not read, because it has published faster than it may.
    pub(super) fn pause(&self) -> Option<Duration> {
        let rate = self.entrance.limits.rate.filter(|_| self.side == Side::Server && self.allowance < 0.0)?;
        let elapsed = clock::now().since(self.allowance_at) as f64 / 1000.0;
        Duration::try_from_secs_f64(-self.allowance / rate - elapsed).ok().filter(|pause| !pause.is_zero())
    }

    /// Goes on with the retained messages of new subscriptions, as far as there is room: each in its newest state.
    pub(super) fn feed_retained(&mut self) {
        if !self.awaits_retained {
            return;
        }
        let mut batch = Batch::default();
        let mut turn = Turn { now: clock::now(), batch: &mut batch };
        let mut awaiting = self.slot.awaiting_retained();
        while let Some(AwaitingRetained { filter, delivery, after }) = awaiting.front_mut() {
            let has_room = |_: &Message| self.slot.has_room(self.epoch);
            if !self.broker.router.deliver_retained(&self.slot, filter.as_str(), after, delivery, &mut turn, has_room) {
                break;
            }
            awaiting.pop_front();
        }
        self.awaits_retained = !awaiting.is_empty();
        drop(awaiting);
        self.broker.router.finish(&mut batch);
    }
}
