//! A connection's outgoing side: its encoder, what waits to be written, and who writes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

pub(super) use super::hop::Refused;
use super::hop::{Hop, Hopping};
use super::shaped::Made;
use super::{Attention, MAX_BUFFERED_BYTES, SessionSlot};
use crate::broker::delivery::Delivery;
use crate::broker::delivery_queue::Entry;
use crate::broker::lanes::Rank;
use crate::broker::outbox::{Outbox, SHARED_PAYLOAD_BYTES};
use crate::broker::turn;
use crate::metrics::Tally;
use crate::mqtt::codec::{Framing, split_frame};
use crate::mqtt::connection::{Part, Sender};
use crate::mqtt::packet::{Disconnect, PublishHeader};
use crate::mqtt::properties::Forwardable;
use crate::mqtt::via::{self, GatewayId};
use crate::mqtt::{Millis, PacketId, Publication, QoS, ReasonCode, Version};
use crate::net::SocketWriter;
use crate::store::{Pending, Ticket};

/// A connection's outgoing side.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) sender: Sender,
    pub(super) outbox: Outbox,
    /// What was put into the outbox since it was last taken to be written.
    pub(super) sent: Tally,
    /// Bytes that a flush has taken out and is writing.
    pub(super) taken: usize,
    pub(super) output: Output,
    /// Whether the turn's list, or the link's task, will flush.
    pub(super) dirty: bool,
    /// Whether the socket took no more; the link's task waits for it.
    pub(super) blocked: bool,
    /// Whether the link's task is to be woken once the buffer has been written.
    pub(super) wants_room: bool,
    /// Seconds within which, and half as many again, the peer must be heard; 0 is for ever.
    pub(super) keep_alive: u16,
    pub(super) closing: Option<ReasonCode>,
    /// Nothing is written before this is committed, CONNACK included.
    pub(super) held: Option<Ticket>,
    /// The batch whose commit what is next to be sent waits for.
    pub(super) awaited: Option<Arc<Pending>>,
    /// The ticket that the connection's task is woken for.
    pub(super) woken_for: Ticket,
    pub(super) waker: Option<Waker>,
    /// Of a dialled connection: what its server takes.
    hopping: Option<Box<Hopping>>,
}

#[derive(Debug)]
pub(super) enum Output {
    /// Whoever flushes writes.
    Socket(SocketWriter),
    /// A flush has taken the socket, and goes round again before it gives it back.
    Writing,
    /// The link's task writes.
    Stream,
}

/// What a PUBLISH says beyond its message.
pub(super) struct Header<'a> {
    pub(super) dup: bool,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) packet_id: Option<PacketId>,
    pub(super) delivery: &'a Delivery,
    /// When the message came.
    pub(super) since: Millis,
}

impl Wire {
    /// The outgoing side of a new connection, whose buffer is to be flushed.
    pub(super) fn new(sender: Sender, output: Output, keep_alive: u16, held: Option<Ticket>) -> Self {
        Self {
            sender,
            outbox: Outbox::default(),
            sent: Tally::default(),
            taken: 0,
            output,
            dirty: true,
            blocked: false,
            wants_room: false,
            keep_alive,
            closing: None,
            held,
            awaited: None,
            woken_for: Ticket::NONE,
            waker: None,
            hopping: None,
        }
    }

    /// Says what its server takes, and what the messages to it are marked with.
    pub(super) fn set_hop(&mut self, hop: Option<Hop>, mark: Option<GatewayId>, now: Millis) {
        // 3.1.1 has no place for it.
        let mark = mark.filter(|_| self.sender.version() == Version::V5);
        self.hopping = hop.map(|hop| Box::new(Hopping::new(hop, mark, now)));
    }

    /// Whether we have dialled.
    pub(super) fn is_dialled(&self) -> bool {
        self.hopping.is_some()
    }

    /// Whether messages may have to wait for their time.
    pub(super) fn is_throttled(&self) -> bool {
        self.hopping.as_ref().is_some_and(|hopping| hopping.throttle.is_some())
    }

    /// The QoS that an entry goes with.
    pub(super) fn qos_of(&self, entry: &Entry) -> QoS {
        self.lower(entry.qos)
    }

    /// The lower of `qos` and what the peer takes.
    pub(super) fn lower(&self, qos: QoS) -> QoS {
        self.hopping.as_ref().map_or(qos, |hopping| qos.min(hopping.hop.maximum_qos))
    }

    /// Whether a message of `rank` may go now; else the connection's task is woken when it may.
    pub(super) fn may_send(&mut self, rank: Rank, now: Millis) -> bool {
        self.hopping.as_mut().is_none_or(|hopping| hopping.may_send(rank, now))
    }

    /// Has the connection's task pump when something is `due`.
    pub(super) fn set_due(&mut self, due: Option<Millis>, now: Millis) {
        if let Some(hopping) = &mut self.hopping
            && hopping.set_due(due, now)
        {
            self.wake();
        }
    }

    /// When the connection's task is to pump.
    pub(super) fn due(&self) -> Option<Millis> {
        self.hopping.as_ref()?.due
    }

    /// Bytes that wait to be written.
    pub(super) fn buffered(&self) -> usize {
        self.outbox.len() + self.taken
    }

    /// Puts the connection onto the turn's list, once.
    pub(super) fn touch(&mut self, slot: &Arc<SessionSlot>) {
        if !self.dirty {
            self.dirty = true;
            turn::touch(Arc::clone(slot));
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Has the connection's task wait for the commit of `pending`, and pump then.
    pub(super) fn await_commit(&mut self, slot: &SessionSlot, pending: &Arc<Pending>) {
        if self.awaited.as_ref().is_some_and(|awaited| Arc::ptr_eq(awaited, pending)) {
            return;
        }
        self.awaited = Some(Arc::clone(pending));
        slot.awaits_commit.store(true, Ordering::Release);
        // It looks at the commit when it is woken: one that comes before that is not missed.
        self.wake();
    }

    pub(super) fn attention(&mut self) -> Attention {
        if self.buffered() >= MAX_BUFFERED_BYTES {
            self.wants_room = true;
            return Attention::Wait;
        }
        Attention::Read
    }

    /// When the peer will have been silent for too long [MQTT-3.1.2-22]; `None` where that is for ever, or known.
    pub(super) fn silent_at(&self, last_heard: Millis) -> Option<Millis> {
        (self.keep_alive > 0 && self.closing.is_none())
            .then(|| Millis(last_heard.0 + u64::from(self.keep_alive) * 1500))
    }

    /// The socket is gone.
    pub(super) fn fail(&mut self) {
        self.closing = Some(ReasonCode::UnspecifiedError);
        self.wake();
    }

    /// Takes back what a flush could not write; what came meanwhile stays behind it.
    pub(super) fn give_back(&mut self, mut older: Outbox) {
        older.append(std::mem::take(&mut self.outbox));
        self.outbox = older;
    }

    /// Appends packets that are no PUBLISH.
    pub(super) fn append(&mut self, packets: &[u8]) {
        self.outbox.tail().extend_from_slice(packets);
        let mut rest = packets;
        while let Ok(Framing::Complete(_, length)) = split_frame(rest, usize::MAX) {
            self.sent.others += 1;
            rest = &rest[length..];
        }
    }

    /// Takes what waits, with what has been counted of it.
    pub(super) fn take_output(&mut self) -> (Outbox, Tally) {
        (std::mem::take(&mut self.outbox), std::mem::take(&mut self.sent))
    }

    pub(super) fn encode_entry(
        &mut self,
        entry: &Entry,
        (qos, packet_id): (QoS, Option<PacketId>),
        dup: bool,
        now: Millis,
    ) -> Result<(), Refused> {
        let Entry { retain, delivery, since, .. } = entry;
        let header = Header { dup, qos, retain: *retain, packet_id, delivery, since: *since };
        self.encode_publish(&header, &Publication::from_message(&entry.message), now)
    }

    /// Appends a PUBLISH; a large payload is shared with whoever else gets it.
    pub(super) fn encode_publish(
        &mut self,
        header: &Header<'_>,
        publication: &Publication<'_>,
        now: Millis,
    ) -> Result<(), Refused> {
        let mut retain = header.retain;
        let mut properties = publication.properties;
        let (mut throttle, mut refuses) = (None, None);
        let route = header.delivery.route.as_ref();
        let mut remapped = String::new();
        if let Some(route) = route
            && !route.remap.apply(publication.topic, &mut remapped)
        {
            return Err(Refused::NoTopic);
        }
        let made = match route {
            Some(route) => Made::by(route, publication, self.sender.version(), header.since, &mut remapped)?,
            None => Made::default(),
        };
        let (payload, shared) = match made.payload() {
            Some(made) => (made, false),
            None => (publication.payload, publication.payload.len() >= SHARED_PAYLOAD_BYTES),
        };
        let mut room = Default::default();
        let user_properties = made.user_properties(&mut room);
        if let Some(hopping) = &mut self.hopping {
            let Hopping { hop, throttle: bucket, mark, marked, .. } = &mut **hopping;
            throttle = bucket.as_mut();
            retain &= hop.retain_available;
            refuses = hop.refuses.as_deref();
            if let Some(here) = *mark {
                marked.clear();
                via::mark(properties, here, marked);
                properties = Forwardable::plain(marked);
            }
        }
        let part = if shared { Part::Head } else { Part::Whole };
        let buffer = self.outbox.tail();
        let begin = buffer.len();
        let sender = &mut self.sender;
        let mut encode = |topic: &str| {
            if let Some(reason) = refuses.and_then(|refuses| refuses(topic)) {
                return Err(Refused::Topic(reason));
            }
            let header = PublishHeader {
                dup: header.dup,
                qos: header.qos,
                retain,
                packet_id: header.packet_id,
                topic,
                topic_alias: None,
                // What remains [MQTT-3.3.2-6]. What is sent again counts no more [MQTT-4.3.3-7], and 0 would be expired.
                message_expiry_interval: publication
                    .expires_at
                    .map(|at| at.since(now).div_ceil(1000).max(u64::from(header.dup)) as u32),
                subscription_identifiers: &header.delivery.identifiers,
                user_properties,
            };
            let sent = sender.encode_publish(header, properties, payload, part, buffer);
            sent.map_err(|_| Refused::TooLarge(sender.maximum_packet()))
        };
        match route {
            None => encode(publication.topic)?,
            Some(_) => encode(&remapped)?,
        }
        if let Some(throttle) = throttle {
            throttle.take(buffer.len() - begin + if shared { payload.len() } else { 0 });
        }
        self.sent.publishes += 1;
        self.sent.payload_bytes += payload.len() as u64;
        if shared {
            self.outbox.push_payload(publication.keep().clone());
        }
        Ok(())
    }

    /// Ends a connection that another has taken the place of.
    pub(super) fn end(mut self, reason: ReasonCode) {
        if self.sender.version() == Version::V5 {
            Disconnect::new(reason).encode(Version::V5, self.outbox.tail());
        }
        // The last words go out if the socket takes them at once; nobody waits for a peer that is being replaced.
        if let Output::Socket(writer) = &self.output
            && self.held.is_none()
        {
            while let Ok(count) = self.outbox.try_write(writer)
                && count > 0
            {
                self.outbox.advance(count);
            }
        }
        self.wake();
    }
}
