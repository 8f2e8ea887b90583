//! A session in the broker: its outgoing side under one small lock, whoever is attached to it.
//!
//! ```text
//! Router -> deliver -> Sender::encode_publish -> buffer --+-- flush (end of the turn) -> socket
//!              |                                          +-- the link's task         -> stream
//!              +-> DeliveryQueue -> pump ----------^
//! ```
//!
//! Every flush and settle carries the epoch of the connection that it belongs to; a stale one is ignored. So a
//! takeover in the middle of a flush never writes into the new connection.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc;

use super::buffers;
use super::delivery::Delivery;
use super::delivery_queue::{DeliveryQueue, Entry, QueueLimits};
use super::turn;
use crate::metrics::BrokerMetrics;
use crate::mqtt::connection::{Sender, TooLarge};
use crate::mqtt::packet::{Ack, Disconnect, PublishHeader};
use crate::mqtt::properties::Forwardable;
use crate::mqtt::session::{Inbound, Outbound, Released, Resend, Settled};
use crate::mqtt::{Message, Millis, Packet, PacketId, Publication, QoS, ReasonCode, TopicFilter, Version};
use crate::net::SocketWriter;
use crate::store::{Batch, Delivered, QueueId, Record};

/// Bytes that wait in the buffer of a connection; beyond that messages wait in the queue.
const MAX_BUFFERED_BYTES: usize = 256 * 1024;

/// A session, connected or not.
#[derive(Debug)]
pub struct SessionSlot {
    client_id: Arc<str>,
    queue_id: QueueId,
    /// When the last whole packet came, in milliseconds of the broker's clock.
    last_heard: AtomicU64,
    inbound: Mutex<Inbound>,
    filters: Mutex<Vec<TopicFilter>>,
    awaiting_retained: Mutex<VecDeque<AwaitingRetained>>,
    outgoing: Mutex<Outgoing>,
    metrics: Arc<BrokerMetrics>,
}

/// Guarded by the slot's lock: the outgoing side, and who is attached. Held without I/O and without waiting.
#[derive(Debug)]
struct Outgoing {
    session: Outbound<Entry>,
    queue: DeliveryQueue,
    limits: QueueLimits,
    attached: Attached,
    epoch: u64,
    /// Whether the session outlives its connection: then its deliveries are recorded.
    durable: bool,
    /// Seconds that it outlives its connection.
    expiry_interval: u32,
    will: Option<Box<Will>>,
    /// The session is over: nobody finds it any more.
    ended: bool,
    /// Settled outside a batch, for the next one to record. No more than were in the queue.
    unrecorded: Vec<Record>,
}

/// A subscription that has not got all retained messages yet. It goes on in the next connection.
#[derive(Debug)]
pub(super) struct AwaitingRetained {
    pub(super) filter: TopicFilter,
    pub(super) delivery: Arc<Delivery>,
    /// The last topic that it got; the others follow in their order.
    pub(super) after: Option<Arc<str>>,
}

/// What is published when a client goes without saying so.
#[derive(Debug, Clone)]
pub struct Will {
    /// The message; its expiry counts from when it is published.
    pub message: Message,
    /// Seconds between the end of the connection and the will.
    pub delay_interval: u32,
    /// Seconds for which the message is of use.
    pub expiry_interval: Option<u32>,
}

#[derive(Debug)]
enum Attached {
    None,
    Wire(Box<Wire>),
    /// A receiver in this process; what does not fit into its queue is dropped, and counted.
    Local(mpsc::Sender<Message>),
}

/// A connection's outgoing side.
#[derive(Debug)]
struct Wire {
    sender: Sender,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that have been written.
    written: usize,
    /// Bytes that a flush has taken out and is writing.
    taken: usize,
    output: Output,
    /// Whether the turn's list, or the link's task, will flush.
    dirty: bool,
    /// Whether the socket took no more; the link's task waits for it.
    blocked: bool,
    /// Whether the link's task is to be woken once the buffer has been written.
    wants_room: bool,
    closing: Option<ReasonCode>,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum Output {
    /// Whoever flushes writes.
    Socket(SocketWriter),
    /// A flush has taken the socket, and goes round again before it gives it back.
    Writing,
    /// The link's task writes.
    Stream,
}

/// A new connection of a session.
#[derive(Debug)]
pub struct Attachment {
    /// Its encoder.
    pub sender: Sender,
    /// The socket; `None` where the link's task writes a stream.
    pub writer: Option<SocketWriter>,
    /// QoS 1 and 2 messages that the peer takes in flight.
    pub window: u16,
    /// What is sent before anything of the session: CONNACK, or a bridge's birth and SUBSCRIBE.
    pub prelude: Vec<u8>,
    /// Whether the peer still has the session.
    pub session_present: bool,
    /// Seconds that the session outlives the connection.
    pub expiry_interval: u32,
    /// Published when the connection ends without DISCONNECT.
    pub will: Option<Box<Will>>,
}

/// An acknowledgement that came in.
#[derive(Debug, Clone, Copy)]
pub enum Acknowledgement {
    /// PUBACK: QoS 1 is over.
    Received(PacketId),
    /// PUBREC, with its reason: PUBREL is due.
    Recorded(PacketId, ReasonCode),
    /// PUBCOMP: QoS 2 is over.
    Completed(PacketId),
}

/// What the link's task has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Attention {
    /// Read on.
    Read,
    /// The buffer is full: read again when it has been written.
    Wait,
    /// Another connection has taken the session.
    TakenOver,
    /// Close, with this reason.
    Close(ReasonCode),
}

/// What is left when a connection has ended.
#[derive(Debug)]
pub struct Detached {
    /// Seconds that the session outlives the connection.
    pub expiry_interval: u32,
    /// The will, where it is due at once.
    pub will: Option<Box<Will>>,
    /// Seconds until the will is due, where it is later; [`SessionSlot::take_will`] has it then.
    pub will_delay: Option<u32>,
}

/// The context of deliveries: when, and what is recorded of them.
#[derive(Debug)]
pub struct Turn<'a> {
    /// Now.
    pub now: Millis,
    /// What will be appended to the journal.
    pub batch: &'a mut Batch,
}

impl SessionSlot {
    /// A session without connection.
    pub fn new(client_id: Arc<str>, queue_id: QueueId, limits: QueueLimits, metrics: Arc<BrokerMetrics>) -> Arc<Self> {
        Arc::new(Self {
            client_id,
            queue_id,
            last_heard: AtomicU64::new(0),
            inbound: Mutex::default(),
            filters: Mutex::default(),
            awaiting_retained: Mutex::default(),
            outgoing: Mutex::new(Outgoing {
                session: Outbound::new(),
                queue: DeliveryQueue::default(),
                limits,
                attached: Attached::None,
                epoch: 0,
                durable: false,
                expiry_interval: 0,
                will: None,
                ended: false,
                unrecorded: Vec::new(),
            }),
            metrics,
        })
    }

    /// The client identifier.
    pub fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// Its queue in the journal.
    pub fn queue_id(&self) -> QueueId {
        self.queue_id
    }

    /// QoS 2 identifiers received. Only the link's task and a takeover use it.
    pub fn inbound(&self) -> MutexGuard<'_, Inbound> {
        self.inbound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The filters that the session has subscribed to.
    pub fn filters(&self) -> MutexGuard<'_, Vec<TopicFilter>> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscriptions that have not got all retained messages yet, at most one per filter. Only the link's task and a
    /// takeover use it; it is locked before the routes.
    pub(super) fn awaiting_retained(&self) -> MutexGuard<'_, VecDeque<AwaitingRetained>> {
        self.awaiting_retained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a whole packet has come.
    pub fn heard(&self, now: Millis) {
        self.last_heard.store(now.0, Ordering::Relaxed);
    }

    /// When the last whole packet came.
    pub fn last_heard(&self) -> Millis {
        Millis(self.last_heard.load(Ordering::Relaxed))
    }

    /// Messages that wait, and those in flight.
    pub fn backlog(&self) -> (usize, usize) {
        let outgoing = self.lock();
        (outgoing.queue.len(), outgoing.session.len())
    }

    /// Bytes that wait for its connection to be written, and those that the buffer for them takes.
    #[cfg(test)]
    pub(super) fn buffered_bytes(&self) -> (usize, usize) {
        match &self.lock().attached {
            Attached::Wire(wire) => (wire.buffered(), wire.buffer.capacity()),
            _ => (0, 0),
        }
    }

    /// The epoch of the newest connection.
    pub fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Whether somebody is attached.
    pub fn is_connected(&self) -> bool {
        !matches!(self.lock().attached, Attached::None)
    }

    /// Whether the connection of `epoch` is attached.
    pub(super) fn is_connected_in(&self, epoch: u64) -> bool {
        self.lock().wire_of(epoch).is_some()
    }

    /// Whether the connection of `epoch` was the last, and has ended.
    pub(super) fn is_away_since(&self, epoch: u64) -> bool {
        let outgoing = self.lock();
        outgoing.epoch == epoch && matches!(outgoing.attached, Attached::None)
    }

    /// Attaches a receiver in this process.
    pub fn attach_local(&self, receiver: mpsc::Sender<Message>) {
        let mut outgoing = self.lock();
        outgoing.epoch += 1;
        outgoing.attached = Attached::Local(receiver);
    }

    /// Changes the bounds of its queue.
    pub fn set_limits(&self, limits: QueueLimits) {
        self.lock().limits = limits;
    }

    /// Says that the session lives without connection, as a bridge's does.
    pub fn keep_for_ever(&self) {
        let mut outgoing = self.lock();
        outgoing.durable = true;
        outgoing.expiry_interval = u32::MAX;
    }

    /// Attaches a connection; one that was there is taken over: it gets DISCONNECT 0x8E and ends. What was in flight
    /// is sent again. Returns the epoch of the new connection, and the will of the one that was taken over.
    pub fn attach(
        self: &Arc<Self>,
        attachment: Attachment,
        now: Millis,
        batch: &mut Batch,
    ) -> (u64, Option<Box<Will>>) {
        let mut outgoing = self.lock();
        let old = std::mem::replace(&mut outgoing.attached, Attached::None);
        outgoing.epoch += 1;
        outgoing.durable = attachment.expiry_interval > 0;
        outgoing.expiry_interval = attachment.expiry_interval;
        let will = std::mem::replace(&mut outgoing.will, attachment.will);
        if attachment.session_present {
            outgoing.session.resume(attachment.window);
        } else {
            let settled = outgoing.session.restart(attachment.window);
            self.metrics
                .qos2_resent
                .add(outgoing.session.iter().filter(|(.., e)| e.qos == QoS::ExactlyOnce).count() as u64);
            outgoing.record_settled(self.queue_id, settled.iter().filter_map(|s| s.item.sequence), batch);
        }
        let mut buffer = buffers::take();
        buffer.extend_from_slice(&attachment.prelude);
        outgoing.attached = Attached::Wire(Box::new(Wire {
            sender: attachment.sender,
            buffer,
            written: 0,
            taken: 0,
            output: attachment.writer.map_or(Output::Stream, Output::Socket),
            dirty: true,
            blocked: false,
            wants_room: false,
            closing: None,
            waker: None,
        }));
        outgoing.pump(self, now, batch);
        let epoch = outgoing.epoch;
        drop(outgoing);
        turn::touch(Arc::clone(self));
        let was_connected = matches!(old, Attached::Wire(_));
        if let Attached::Wire(old) = old {
            old.end(ReasonCode::SessionTakenOver);
        }
        (epoch, will.filter(|_| was_connected))
    }

    /// Ends the connection of `epoch`. `None` where another has taken over meanwhile.
    pub fn detach(&self, epoch: u64, publish_will: bool) -> Option<Detached> {
        let mut outgoing = self.lock();
        if outgoing.epoch != epoch || matches!(outgoing.attached, Attached::None) {
            return None;
        }
        let attached = std::mem::replace(&mut outgoing.attached, Attached::None);
        if !publish_will {
            outgoing.will = None;
        }
        // The will comes at the latest when the session ends [MQTT-3.1.3-9].
        let expiry_interval = outgoing.expiry_interval;
        let will_delay = outgoing.will.as_ref().map(|will| will.delay_interval.min(expiry_interval));
        // One that is due goes along, so that no new connection can come in between and cancel it.
        let will = if will_delay == Some(0) { outgoing.will.take() } else { None };
        // QoS 0 is not queued for those who are away.
        outgoing.queue.remove_if(|entry| entry.sequence.is_none());
        drop(outgoing);
        drop(attached);
        Some(Detached { expiry_interval, will, will_delay: will_delay.filter(|&delay| delay > 0) })
    }

    /// Takes the will of the connection of `epoch`, which has ended. `None` where the session has been resumed.
    pub fn take_will(&self, epoch: u64) -> Option<Box<Will>> {
        let mut outgoing = self.lock();
        if outgoing.epoch != epoch || !matches!(outgoing.attached, Attached::None) {
            return None;
        }
        outgoing.will.take()
    }

    /// Ends the session: closes a connection that it still has, and returns a will that has not been published.
    pub fn end(&self, reason: ReasonCode) -> Option<Box<Will>> {
        let mut outgoing = self.lock();
        let attached = std::mem::replace(&mut outgoing.attached, Attached::None);
        outgoing.epoch += 1;
        outgoing.ended = true;
        outgoing.queue = DeliveryQueue::default();
        let will = outgoing.will.take();
        drop(outgoing);
        self.awaiting_retained().clear();
        if let Attached::Wire(wire) = attached {
            wire.end(reason);
        }
        will
    }

    /// Whether the session is over.
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Whether the session outlives its connection.
    pub fn is_durable(&self) -> bool {
        self.lock().durable
    }

    /// Changes how long the session outlives its connection, as DISCONNECT may.
    pub fn set_expiry_interval(&self, epoch: u64, seconds: u32) {
        let mut outgoing = self.lock();
        if outgoing.epoch == epoch {
            outgoing.expiry_interval = seconds;
            outgoing.durable = seconds > 0;
        }
    }

    /// Asks the connection of `epoch` (or whichever there is) to close with `reason`.
    pub fn close(&self, epoch: Option<u64>, reason: ReasonCode) {
        let mut outgoing = self.lock();
        if epoch.is_some_and(|epoch| epoch != outgoing.epoch) {
            return;
        }
        if let Attached::Wire(wire) = &mut outgoing.attached {
            wire.closing = Some(reason);
            wire.wake();
        }
    }

    /// Delivers a publication as `delivery` says. `stored` for a retained message sent to a new subscription.
    pub fn deliver(
        self: &Arc<Self>,
        publication: &Publication<'_>,
        delivery: &Arc<Delivery>,
        stored: bool,
        turn: &mut Turn<'_>,
    ) {
        let qos = delivery.qos.of(publication.qos);
        let retain = delivery.retain.of(publication.retain, stored);
        let mut outgoing = self.lock();
        let outgoing = &mut *outgoing;
        let wire = match &mut outgoing.attached {
            Attached::Wire(wire) => wire,
            Attached::Local(receiver) => {
                let mut message = publication.keep().clone();
                message.retain = retain;
                if receiver.try_send(message).is_err() {
                    self.metrics.dropped.add(1);
                }
                return;
            }
            Attached::None => {
                if qos != QoS::AtMostOnce && !outgoing.ended {
                    outgoing.enqueue(self, publication, qos, retain, delivery, turn.batch);
                }
                return;
            }
        };
        let room = wire.buffered() < MAX_BUFFERED_BYTES;
        match qos {
            // Behind what waits of its own kind: the order of a topic is kept [MQTT-4.6.0-6].
            QoS::AtMostOnce if room && outgoing.queue.at_most_once() == 0 => {
                let header = Header { dup: false, qos, retain, packet_id: None, delivery };
                let sent = wire.encode_publish(
                    &header,
                    publication.topic,
                    publication.expires_at,
                    publication.properties,
                    publication.payload,
                    turn.now,
                );
                match sent {
                    Ok(()) => wire.touch(self),
                    Err(TooLarge) => self.metrics.too_large.add(1),
                }
            }
            // A durable QoS 2 PUBLISH leaves only after its entry is committed: `pump` sends it after the append.
            QoS::AtLeastOnce | QoS::ExactlyOnce
                if room
                    && outgoing.queue.is_empty()
                    && outgoing.session.has_room()
                    && !(outgoing.durable && qos == QoS::ExactlyOnce) =>
            {
                let sequence = outgoing.session.take_sequence();
                let entry = Entry {
                    sequence: Some(sequence),
                    message: publication.keep().clone(),
                    qos,
                    retain,
                    delivery: Arc::clone(delivery),
                };
                if outgoing.durable {
                    turn.batch.deliveries.push(Delivered { queue: self.queue_id, sequence });
                }
                let packet_id = outgoing.session.admit(sequence, qos, entry);
                let header = Header { dup: false, qos, retain, packet_id: Some(packet_id), delivery };
                let sent = wire.encode_publish(
                    &header,
                    publication.topic,
                    publication.expires_at,
                    publication.properties,
                    publication.payload,
                    turn.now,
                );
                wire.touch(self);
                if sent.is_err() {
                    outgoing.abandon(self, packet_id, turn.batch);
                }
            }
            _ => {
                outgoing.enqueue(self, publication, qos, retain, delivery, turn.batch);
                // What waits for its record is sent when the batch has been appended.
                if outgoing.durable
                    && let Attached::Wire(wire) = &mut outgoing.attached
                {
                    wire.touch(self);
                }
            }
        }
    }

    /// Takes acknowledgements of the connection of `epoch`; PUBRELs that follow are appended to `replies`.
    pub fn settle(
        self: &Arc<Self>,
        epoch: u64,
        acknowledgements: &[Acknowledgement],
        replies: &mut Vec<u8>,
        turn: &mut Turn<'_>,
    ) {
        let mut guard = self.lock();
        let outgoing = &mut *guard;
        let Attached::Wire(wire) = &mut outgoing.attached else {
            return;
        };
        if outgoing.epoch != epoch {
            return;
        }
        let version = wire.sender.version();
        for acknowledgement in acknowledgements {
            let settled = match *acknowledgement {
                Acknowledgement::Received(packet_id) => outgoing.session.handle_puback(packet_id),
                Acknowledgement::Completed(packet_id) => outgoing.session.handle_pubcomp(packet_id),
                Acknowledgement::Recorded(packet_id, reason) => match outgoing.session.handle_pubrec(packet_id, reason)
                {
                    Released::Release { sequence } => {
                        if outgoing.durable {
                            let delivered = Delivered { queue: self.queue_id, sequence };
                            turn.batch.records.push(Record::Received { delivered });
                        }
                        Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)).encode(version, replies);
                        None
                    }
                    Released::Settled(settled) => Some(settled),
                    // Nothing to release; in 3.1.1 PUBREL alone makes the peer forget it.
                    Released::Unknown if reason.is_error() => None,
                    Released::Unknown => {
                        let ack = Ack::new(packet_id, ReasonCode::PacketIdentifierNotFound);
                        Packet::PubRel(ack).encode(version, replies);
                        None
                    }
                },
            };
            if let Some(Settled { sequence, .. }) = settled {
                outgoing.record_settled(self.queue_id, [sequence], turn.batch);
            }
        }
        outgoing.pump(self, turn.now, turn.batch);
    }

    /// Appends packets of the connection of `epoch` to its buffer.
    pub fn send(self: &Arc<Self>, epoch: u64, packets: &[u8]) {
        let mut outgoing = self.lock();
        if outgoing.epoch == epoch
            && let Attached::Wire(wire) = &mut outgoing.attached
        {
            wire.reserve().extend_from_slice(packets);
            wire.touch(self);
        }
    }

    /// Sends what waits, as far as window and buffer allow.
    pub fn pump(self: &Arc<Self>, turn: &mut Turn<'_>) {
        self.lock().pump(self, turn.now, turn.batch);
    }

    /// Whether another message may be put into the buffer now; if not, the link's task is woken when it has been
    /// written.
    pub fn has_room(&self, epoch: u64) -> bool {
        let mut outgoing = self.lock();
        let idle = outgoing.queue.is_empty() && outgoing.session.has_room();
        let Some(wire) = outgoing.wire_of(epoch) else {
            return false;
        };
        let room = idle && wire.buffered() < MAX_BUFFERED_BYTES / 2;
        wire.wants_room |= !room;
        room
    }

    /// Wakes the task of its connection, which flushes.
    pub(super) fn wake(&self) {
        if let Attached::Wire(wire) = &mut self.lock().attached {
            wire.wake();
        }
    }

    /// Sees to it that what waits is written, from outside a batch.
    pub fn flush_now(self: &Arc<Self>) {
        self.wake();
        turn::finish_batch();
    }

    /// Writes what the socket takes; the rest is left to the connection's task.
    pub(super) fn flush(self: &Arc<Self>) {
        self.write(None);
    }

    /// What the link's task of `epoch` has to do, after it has written what a blocked socket takes now.
    /// Its waker is kept for everything that happens later.
    pub fn attend(self: &Arc<Self>, epoch: u64, cx: &mut Context<'_>) -> Attention {
        {
            let mut outgoing = self.lock();
            let Some(wire) = outgoing.wire_of(epoch) else {
                return Attention::TakenOver;
            };
            if let Some(reason) = wire.closing {
                return Attention::Close(reason);
            }
            match &mut wire.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => wire.waker = Some(cx.waker().clone()),
            }
            if !(wire.dirty || wire.blocked) || matches!(wire.output, Output::Writing | Output::Stream) {
                return wire.attention();
            }
            wire.blocked = false;
        }
        self.write(Some(cx));
        match self.lock().wire_of(epoch) {
            Some(wire) => wire.closing.map_or_else(|| wire.attention(), Attention::Close),
            None => Attention::TakenOver,
        }
    }

    /// Writes what the socket of `epoch` takes; ready when nothing waits any more, or never will go.
    pub(super) fn poll_flushed(self: &Arc<Self>, epoch: u64, cx: &mut Context<'_>) -> Poll<()> {
        match self.lock().wire_of(epoch) {
            Some(wire) => {
                wire.waker = Some(cx.waker().clone());
                wire.blocked = false;
            }
            None => return Poll::Ready(()),
        }
        self.write(Some(cx));
        match self.lock().wire_of(epoch) {
            Some(wire) if wire.buffered() > 0 || matches!(wire.output, Output::Writing) => {
                wire.wants_room = true;
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Takes what the link's task of `epoch` is to write to its stream, if there is anything.
    pub fn take_output(self: &Arc<Self>, epoch: u64, turn: &mut Turn<'_>) -> Option<Vec<u8>> {
        let mut outgoing = self.lock();
        let wire = outgoing.wire_of(epoch)?;
        wire.dirty = false;
        if wire.buffer.is_empty() {
            outgoing.pump(self, turn.now, turn.batch);
        }
        let wire = outgoing.wire_of(epoch)?;
        wire.wants_room = false;
        (!wire.buffer.is_empty()).then(|| std::mem::take(&mut wire.buffer))
    }

    /// Writes in rounds: take the buffer and the socket, write without the lock, give them back, go on where more came.
    fn write(self: &Arc<Self>, mut cx: Option<&mut Context<'_>>) {
        loop {
            let mut guard = self.lock();
            let epoch = guard.epoch;
            let Attached::Wire(wire) = &mut guard.attached else {
                return;
            };
            wire.dirty = false;
            match wire.output {
                Output::Stream => {
                    wire.dirty = true;
                    return wire.wake();
                }
                Output::Writing => return,
                Output::Socket(_) if wire.blocked => return,
                Output::Socket(_) => {}
            }
            if wire.buffer.is_empty() {
                guard.pump_alone(self);
                let Attached::Wire(wire) = &mut guard.attached else {
                    return;
                };
                if wire.buffer.is_empty() {
                    return;
                }
            }
            let Attached::Wire(wire) = &mut guard.attached else {
                return;
            };
            let Output::Socket(mut writer) = std::mem::replace(&mut wire.output, Output::Writing) else {
                return;
            };
            let buffer = std::mem::take(&mut wire.buffer);
            let written = std::mem::take(&mut wire.written);
            wire.taken = buffer.len() - written;
            let version = wire.sender.version();
            drop(guard);

            let bytes = &buffer[written..];
            let result = match &mut cx {
                Some(cx) => match writer.poll_write(cx, bytes) {
                    Poll::Ready(result) => result,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                },
                None => writer.try_write(bytes),
            };

            let mut guard = self.lock();
            if guard.epoch != epoch {
                // Taken over meanwhile: nobody else has this socket, and it is closed here.
                let complete = matches!(result, Ok(count) if count == bytes.len());
                drop(guard);
                if complete && version == Version::V5 {
                    let _ = writer.try_write(&[0xE0, 0x01, ReasonCode::SessionTakenOver as u8]);
                }
                return;
            }
            let Attached::Wire(wire) = &mut guard.attached else {
                return;
            };
            wire.output = Output::Socket(writer);
            wire.taken = 0;
            match result {
                Ok(count) if count == buffer.len() - written => {
                    buffers::give(buffer);
                    if wire.wants_room {
                        wire.wants_room = false;
                        wire.wake();
                    }
                }
                Ok(0) => return wire.fail(),
                Ok(count) => {
                    wire.give_back(buffer, written + count);
                    // Less than offered: the socket is full. With a context the next round waits for it.
                    if cx.is_none() {
                        wire.blocked = true;
                        return wire.wake();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wire.give_back(buffer, written);
                    wire.blocked = true;
                    if cx.is_none() {
                        wire.wake();
                    }
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => wire.give_back(buffer, written),
                Err(_) => return wire.fail(),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    fn wire_of(&mut self, epoch: u64) -> Option<&mut Wire> {
        match &mut self.attached {
            Attached::Wire(wire) if self.epoch == epoch => Some(wire),
            _ => None,
        }
    }

    fn enqueue(
        &mut self,
        slot: &SessionSlot,
        publication: &Publication<'_>,
        qos: QoS,
        retain: bool,
        delivery: &Arc<Delivery>,
        batch: &mut Batch,
    ) {
        let sequence = (qos != QoS::AtMostOnce).then(|| self.session.take_sequence());
        let durable = self.durable;
        let queue = slot.queue_id;
        if let Some(sequence) = sequence.filter(|_| durable) {
            batch.deliveries.push(Delivered { queue, sequence });
        }
        let entry =
            Entry { sequence, message: publication.keep().clone(), qos, retain, delivery: Arc::clone(delivery) };
        let mut dropped = 0;
        self.queue.push(entry, &self.limits, |entry| {
            dropped += 1;
            if let Some(sequence) = entry.sequence.filter(|_| durable) {
                batch.records.push(Record::Settle { delivered: Delivered { queue, sequence } });
            }
        });
        slot.metrics.dropped.add(dropped);
    }

    /// Pumps with a batch of its own, where no read batch is under way: settles are of no urgency.
    fn pump_alone(&mut self, slot: &Arc<SessionSlot>) {
        if self.queue.is_empty() && self.session.has_room() {
            return;
        }
        let mut batch = Batch::default();
        self.pump(slot, super::clock::now(), &mut batch);
        self.unrecorded.append(&mut batch.records);
    }

    /// Sends again what a new connection must repeat, then what waits, as far as window and buffer allow.
    fn pump(&mut self, slot: &Arc<SessionSlot>, now: Millis, batch: &mut Batch) {
        batch.records.append(&mut self.unrecorded);
        let Attached::Wire(wire) = &mut self.attached else {
            return;
        };
        let mut too_large = Vec::new();
        let mut wrote = false;
        while wire.buffered() < MAX_BUFFERED_BYTES {
            let Some(resend) = self.session.poll_resend() else {
                break;
            };
            wrote = true;
            match resend {
                Resend::Release { packet_id } => {
                    let version = wire.sender.version();
                    Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)).encode(version, wire.reserve());
                }
                Resend::Publish { packet_id, dup, item, .. } => {
                    if wire.encode_entry(item, Some(packet_id), dup, now).is_err() {
                        too_large.push(packet_id);
                    }
                }
            }
        }
        while wire.buffered() < MAX_BUFFERED_BYTES
            && let Some(front) = self.queue.front()
        {
            if front.sequence.is_some() && !self.session.has_room() {
                break;
            }
            let Some(entry) = self.queue.pop() else {
                break;
            };
            if entry.message.is_expired(now) {
                slot.metrics.expired.add(1);
                if let Some(sequence) = entry.sequence.filter(|_| self.durable) {
                    batch.records.push(Record::Settle { delivered: Delivered { queue: slot.queue_id, sequence } });
                }
                continue;
            }
            wrote = true;
            match entry.sequence {
                None => {
                    if wire.encode_entry(&entry, None, false, now).is_err() {
                        slot.metrics.too_large.add(1);
                    }
                }
                Some(sequence) => {
                    let packet_id = self.session.admit(sequence, entry.qos, entry.clone());
                    if wire.encode_entry(&entry, Some(packet_id), false, now).is_err() {
                        self.session.abandon(packet_id);
                        slot.metrics.too_large.add(1);
                        if self.durable {
                            let delivered = Delivered { queue: slot.queue_id, sequence };
                            batch.records.push(Record::Settle { delivered });
                        }
                    }
                }
            }
        }
        if wrote {
            wire.touch(slot);
        }
        if too_large.is_empty() {
            return;
        }
        for packet_id in too_large {
            self.abandon(slot, packet_id, batch);
        }
        // They have left room. Each round abandons some, so this ends.
        self.pump(slot, now, batch);
    }

    /// Gives up a message that this peer never takes.
    fn abandon(&mut self, slot: &SessionSlot, packet_id: PacketId, batch: &mut Batch) {
        slot.metrics.too_large.add(1);
        if let Some(settled) = self.session.abandon(packet_id) {
            self.record_settled(slot.queue_id, [settled.sequence], batch);
        }
    }

    fn record_settled(&self, queue: QueueId, sequences: impl IntoIterator<Item = u64>, batch: &mut Batch) {
        if self.durable {
            for sequence in sequences {
                batch.records.push(Record::Settle { delivered: Delivered { queue, sequence } });
            }
        }
    }
}

/// What a PUBLISH says beyond its message.
struct Header<'a> {
    dup: bool,
    qos: QoS,
    retain: bool,
    packet_id: Option<PacketId>,
    delivery: &'a Delivery,
}

impl Wire {
    /// Bytes that wait to be written.
    fn buffered(&self) -> usize {
        self.buffer.len() - self.written + self.taken
    }

    /// The buffer; an idle connection has none.
    fn reserve(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take();
        }
        &mut self.buffer
    }

    /// Puts the connection onto the turn's list, once.
    fn touch(&mut self, slot: &Arc<SessionSlot>) {
        if !self.dirty {
            self.dirty = true;
            turn::touch(Arc::clone(slot));
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn attention(&mut self) -> Attention {
        if self.buffered() >= MAX_BUFFERED_BYTES {
            self.wants_room = true;
            return Attention::Wait;
        }
        Attention::Read
    }

    /// The socket is gone.
    fn fail(&mut self) {
        self.closing = Some(ReasonCode::UnspecifiedError);
        self.wake();
    }

    /// Takes back what a flush could not write; what came meanwhile stays behind it.
    fn give_back(&mut self, mut buffer: Vec<u8>, mut written: usize) {
        // A peer that takes some, but never all, must not make the buffer grow at its beginning.
        if written >= MAX_BUFFERED_BYTES && written >= buffer.len() / 2 {
            buffer.drain(..written);
            written = 0;
        }
        if !self.buffer.is_empty() {
            buffer.extend_from_slice(&self.buffer);
            buffers::give(std::mem::take(&mut self.buffer));
        }
        self.buffer = buffer;
        self.written = written;
    }

    fn encode_entry(
        &mut self,
        entry: &Entry,
        packet_id: Option<PacketId>,
        dup: bool,
        now: Millis,
    ) -> Result<(), TooLarge> {
        let header = Header { dup, qos: entry.qos, retain: entry.retain, packet_id, delivery: &entry.delivery };
        let message = &entry.message;
        let (topic, properties, payload) = (message.topic(), message.properties(), message.payload());
        self.encode_publish(&header, topic, message.expires_at, properties, payload, now)
    }

    fn encode_publish(
        &mut self,
        header: &Header<'_>,
        topic: &str,
        expires_at: Option<Millis>,
        properties: Forwardable<'_>,
        payload: &[u8],
        now: Millis,
    ) -> Result<(), TooLarge> {
        self.reserve();
        let mut encode = |topic: &str| {
            let header = PublishHeader {
                dup: header.dup,
                qos: header.qos,
                retain: header.retain,
                packet_id: header.packet_id,
                topic,
                topic_alias: None,
                // What remains, and at least one second of it: 0 would be expired [MQTT-3.3.2-6].
                message_expiry_interval: expires_at.map(|at| at.since(now).div_ceil(1000).max(1) as u32),
                subscription_identifiers: &header.delivery.identifiers,
            };
            self.sender.encode_publish(header, properties, payload, &mut self.buffer)
        };
        match &header.delivery.route {
            None => encode(topic),
            Some(route) => {
                let mut remapped = String::with_capacity(topic.len() + 32);
                if route.remap.apply(topic, &mut remapped) { encode(&remapped) } else { Err(TooLarge) }
            }
        }
    }

    /// Ends a connection that another has taken the place of.
    fn end(mut self, reason: ReasonCode) {
        if self.sender.version() == Version::V5 {
            Disconnect::new(reason).encode(Version::V5, &mut self.buffer);
        }
        // The last words go out if the socket takes them at once; nobody waits for a peer that is being replaced.
        if let Output::Socket(writer) = &self.output {
            let _ = writer.try_write(&self.buffer[self.written..]);
        }
        self.wake();
    }
}
