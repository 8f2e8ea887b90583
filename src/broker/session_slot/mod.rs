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

mod aside;
mod flush;
mod hop;
mod identity;
mod lifetime;
mod notes;
mod outgoing;
mod paging;
mod passed;
mod restore;
mod shaped;
mod stall;
mod wire;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::delivery::Delivery;
use super::delivery_queue::{Entry, QueueLimits};
use super::lanes::{self, Queues};
use crate::metrics::BrokerMetrics;
use crate::mqtt::packet::Ack;
use crate::mqtt::session::{Inbound, Outbound, Released, Settled};
use crate::mqtt::via::GatewayId;
use crate::mqtt::{Millis, Packet, PacketId, Publication, QoS, ReasonCode, TopicFilter};
use crate::store::{Batch, Delivered, Journal, Notes, Pending, QueueId, Record, SessionKind};
pub use aside::{InFlight, SetAside};
pub use hop::{Hop, RefusesTopic};
pub(super) use lifetime::Remains;
pub use lifetime::{Attachment, Due, Will};
pub use outgoing::Counts;
use outgoing::{Attached, Outgoing};
pub(super) use paging::PagedEntry;
use passed::Passed;
pub(super) use restore::Past;
use wire::Header;

/// Bytes that wait in the buffer of a connection; beyond that messages wait in the queue.
const MAX_BUFFERED_BYTES: usize = 256 * 1024;

/// A session, connected or not.
#[derive(Debug)]
pub struct SessionSlot {
    client_id: Arc<str>,
    /// Its name as a publisher; see [`SessionSlot::publisher`].
    publisher: Arc<str>,
    kind: SessionKind,
    queue_id: QueueId,
    /// When the last whole packet came, in milliseconds of the broker's clock.
    last_heard: AtomicU64,
    inbound: Mutex<Inbound>,
    /// The batch that records the newest change of `inbound`; set before that is changed.
    newest_receipt: Mutex<Option<Arc<Pending>>>,
    /// Whether the connection waits for a commit: its task asks [`SessionSlot::poll_commits`].
    awaits_commit: AtomicBool,
    filters: Mutex<Vec<TopicFilter>>,
    awaiting_retained: Mutex<VecDeque<AwaitingRetained>>,
    outgoing: Mutex<Outgoing>,
    journal: Arc<Journal>,
    notes: Mutex<Notes>,
    /// What a bridge's messages are marked with.
    via: OnceLock<GatewayId>,
    /// Messages that a bridge's connections have sent and received.
    passed: Passed,
    /// A bridge's routes.
    routes: OnceLock<Vec<Arc<Delivery>>>,
    /// Whether the queue is full and refuses.
    refusing: AtomicBool,
    /// Acknowledgements that have come so far.
    acknowledged: AtomicU64,
    metrics: Arc<BrokerMetrics>,
}

/// A subscription that has not got all retained messages yet. It goes on in the next connection.
#[derive(Debug)]
pub(super) struct AwaitingRetained {
    pub(super) filter: TopicFilter,
    pub(super) delivery: Arc<Delivery>,
    /// The last topic that it got; the others follow in their order.
    pub(super) after: Option<Arc<str>>,
}

/// An acknowledgement that came in.
#[derive(Debug, Clone, Copy)]
pub enum Acknowledgement {
    /// PUBACK, with its reason: QoS 1 is over.
    Received(PacketId, ReasonCode),
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

/// What waits for the receiver of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Messages in its queue, in memory and on disk.
    pub queued: u64,
    /// Their bytes, with each message's bookkeeping.
    pub queued_bytes: u64,
    /// QoS 1 and 2 messages sent, and not yet acknowledged.
    pub in_flight: u64,
    /// Their bytes, with each message's bookkeeping.
    pub in_flight_bytes: u64,
    /// Since when the oldest message waits, of those in memory.
    pub oldest: Option<Millis>,
    /// Messages that were set aside, and their bytes.
    pub set_aside: (u64, u64),
    /// What was counted so far.
    pub counts: Counts,
    /// Messages that a bridge's connections have sent so far.
    pub sent: u64,
    /// Messages that they have received.
    pub received: u64,
    /// Since when its queue is full; until it has some room again.
    pub full_since: Option<Millis>,
    /// Packets written since its connection's socket last took some.
    pub buffered: u64,
    /// Bytes that wait for the socket.
    pub buffered_bytes: u64,
    /// Whether there is a connection.
    pub is_connected: bool,
}

/// How soon a message would be sent, from never to at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Readiness {
    /// There is no connection, and there will be none.
    Gone,
    /// When the client comes back.
    Away,
    /// After what waits already.
    Busy,
    /// At once.
    Ready,
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
    pub fn new(
        client_id: Arc<str>,
        kind: SessionKind,
        queue_id: QueueId,
        limits: QueueLimits,
        journal: Arc<Journal>,
        metrics: Arc<BrokerMetrics>,
    ) -> Arc<Self> {
        let publisher = match kind {
            SessionKind::Client => Arc::clone(&client_id),
            SessionKind::Bridge => format!("\0{client_id}").into(),
        };
        Arc::new(Self {
            client_id,
            publisher,
            kind,
            queue_id,
            last_heard: AtomicU64::new(0),
            inbound: Mutex::default(),
            newest_receipt: Mutex::default(),
            awaits_commit: AtomicBool::new(false),
            filters: Mutex::default(),
            awaiting_retained: Mutex::default(),
            outgoing: Mutex::new(Outgoing {
                session: Outbound::new(),
                queue: Queues::default(),
                limits,
                counts: Counts::default(),
                last_set_aside: None,
                full_since: None,
                charge: None,
                pager: None,
                is_paging: false,
                attached: Attached::None,
                epoch: 0,
                owner: None,
                durable: false,
                expiry_interval: 0,
                will: None,
                will_at: None,
                ends_at: None,
                timer_at: None,
                away_since: None,
                ended: false,
                released: None,
                displacing: None,
                watched: None,
            }),
            journal,
            notes: Mutex::default(),
            via: OnceLock::new(),
            passed: Passed::default(),
            routes: OnceLock::new(),
            refusing: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
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

    /// The batch that records the newest receipt or release of an inbound QoS 2 message. What is answered about one that
    /// came before must not leave before it, on whichever connection that was.
    pub(super) fn newest_receipt(&self) -> MutexGuard<'_, Option<Arc<Pending>>> {
        self.newest_receipt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The user whose session it is: nobody else may resume it. `None` is the anonymous, whose sessions anybody may.
    pub fn owner(&self) -> Option<Arc<str>> {
        self.lock().owner.clone()
    }

    /// Gives the session to `owner`.
    pub(super) fn set_owner(&self, owner: Option<&Arc<str>>) {
        self.lock().owner = owner.map(Arc::clone);
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

    /// What waits for its receiver.
    pub fn waiting(&self) -> Waiting {
        let outgoing = self.lock();
        let (buffered, packets) = match &outgoing.attached {
            Attached::Wire(wire) => (wire.buffered(), wire.sent.publishes + wire.sent.others),
            _ => (0, 0),
        };
        Waiting {
            queued: outgoing.queue.len() as u64,
            queued_bytes: outgoing.queue.bytes() as u64,
            in_flight: outgoing.session.len() as u64,
            in_flight_bytes: outgoing.session.iter().map(|(.., entry)| entry.message.size() as u64).sum(),
            oldest: outgoing.queue.oldest(),
            set_aside: outgoing.aside(),
            counts: outgoing.counts,
            sent: self.passed.sent.value(),
            received: self.passed.received.value(),
            full_since: outgoing.full_since,
            buffered: packets,
            buffered_bytes: buffered as u64,
            is_connected: !matches!(outgoing.attached, Attached::None),
        }
    }

    /// Where it is recorded.
    #[cfg(test)]
    pub(super) fn journal_for_tests(&self) -> &Journal {
        &self.journal
    }

    /// Bytes that wait for its connection to be written, and those that the buffer for them takes.
    #[cfg(test)]
    pub(super) fn buffered_bytes(&self) -> (usize, usize) {
        match &self.lock().attached {
            Attached::Wire(wire) => (wire.buffered(), wire.outbox.capacity()),
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

    /// Changes the bounds of its queue.
    pub fn set_limits(self: &Arc<Self>, limits: QueueLimits) {
        let mut outgoing = self.lock();
        outgoing.limits = limits;
        outgoing.note_size(self);
    }

    /// Takes what waits for it of the shared subscriptions `filters`, so that other members get it.
    pub(super) fn take_queued(self: &Arc<Self>, filters: &[TopicFilter], batch: &mut Batch) -> Vec<Entry> {
        let mut outgoing = self.lock();
        let is_shared = |entry: &Entry| entry.delivery.share.as_ref().is_some_and(|share| filters.contains(share));
        let taken = outgoing.take_queued(is_shared);
        outgoing.note_size(self);
        outgoing.record_settled(self.queue_id, taken.iter().filter_map(|entry| entry.sequence), batch);
        taken
    }

    /// How soon a message that is delivered now would be sent.
    pub(super) fn readiness(&self) -> Readiness {
        let outgoing = self.lock();
        match &outgoing.attached {
            Attached::None if outgoing.durable => Readiness::Away,
            Attached::None => Readiness::Gone,
            Attached::Wire(wire) if wire.closing.is_some() => Readiness::Gone,
            Attached::Wire(wire)
                if outgoing.queue.is_clear() && outgoing.session.has_room() && wire.buffered() < MAX_BUFFERED_BYTES =>
            {
                Readiness::Ready
            }
            Attached::Wire(_) => Readiness::Busy,
            Attached::Local(_) => Readiness::Ready,
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
        let is_held = outgoing.holds(self, qos);
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
                    outgoing.enqueue(self, publication, (qos, retain), delivery, turn);
                }
                return;
            }
        };
        if delivery.lane_of(publication.topic) != lanes::NORMAL || wire.is_throttled() {
            // Whether it is the next to go is for the lanes to say.
            outgoing.enqueue(self, publication, (qos, retain), delivery, turn);
            return outgoing.pump(self, turn.now, turn.batch);
        }
        let room = wire.buffered() < MAX_BUFFERED_BYTES;
        let hop_qos = wire.lower(qos);
        let header = Header { dup: false, qos: hop_qos, retain, packet_id: None, delivery, since: turn.now };
        match qos {
            // Behind what waits of its own kind: the order of a topic is kept [MQTT-4.6.0-6].
            QoS::AtMostOnce if room && outgoing.queue.at_most_once().0 == 0 => {
                let sent = wire.encode_publish(&header, publication, turn.now);
                match sent {
                    Ok(()) => wire.touch(self),
                    Err(_) => self.metrics.too_large.add(1),
                }
            }
            // A durable QoS 2 PUBLISH leaves only after its entry is committed: `pump` sends it after the append.
            QoS::AtLeastOnce | QoS::ExactlyOnce
                if room
                    && !is_held
                    && hop_qos != QoS::AtMostOnce
                    && outgoing.queue.is_clear()
                    && outgoing.session.has_room() =>
            {
                let sequence = outgoing.session.take_sequence();
                let entry = Entry {
                    lane: lanes::NORMAL,
                    sequence: Some(sequence),
                    since: turn.now,
                    message: publication.keep().clone(),
                    qos,
                    retain,
                    delivery: Arc::clone(delivery),
                    pending: None,
                    settles: None,
                };
                if outgoing.durable {
                    let delivered = Delivered { queue: self.queue_id, sequence };
                    turn.batch.deliver(delivered, &delivery.how(qos, retain, turn.now));
                }
                let packet_id = outgoing.session.admit(sequence, hop_qos, entry);
                let header = Header { packet_id: Some(packet_id), ..header };
                let sent = wire.encode_publish(&header, publication, turn.now);
                wire.touch(self);
                if let Err(refused) = sent {
                    outgoing.abandon(self, packet_id, &refused, turn.batch);
                }
            }
            _ => {
                let is_dialled = wire.is_dialled();
                outgoing.enqueue(self, publication, (qos, retain), delivery, turn);
                // What waits for its record is sent when that is committed; whoever flushes asks for the ticket.
                if (is_held || is_dialled)
                    && let Attached::Wire(wire) = &mut outgoing.attached
                {
                    wire.touch(self);
                }
            }
        }
    }

    /// Takes acknowledgements of the connection of `epoch`; PUBRELs that follow are appended to `replies`.
    /// Whether one came for a message that waits for another: PUBACK for one of QoS 2, PUBCOMP before PUBREC.
    pub fn settle(
        self: &Arc<Self>,
        epoch: u64,
        acknowledgements: &[Acknowledgement],
        replies: &mut Vec<u8>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let mut guard = self.lock();
        let outgoing = &mut *guard;
        let Attached::Wire(wire) = &mut outgoing.attached else {
            return false;
        };
        if outgoing.epoch != epoch {
            return false;
        }
        let (version, is_dialled) = (wire.sender.version(), wire.is_dialled());
        self.note_acknowledged(acknowledgements.len());
        let mut out_of_turn = false;
        for acknowledgement in acknowledgements {
            let session = &mut outgoing.session;
            let mut refused = None;
            let settled = match *acknowledgement {
                Acknowledgement::Received(packet_id, reason) => {
                    let mut settled = session.handle_puback(packet_id);
                    if settled.is_none() && is_dialled {
                        // Some servers know QoS 1 at most, and say so in this way.
                        settled = session.handle_downgrade(packet_id);
                    }
                    let is_lowered = |settled: &Settled<Entry>| settled.item.qos == QoS::ExactlyOnce;
                    outgoing.counts.qos2_downgraded += u64::from(settled.as_ref().is_some_and(is_lowered));
                    out_of_turn |= settled.is_none() && session.is_inflight(packet_id);
                    refused = reason.is_error().then_some(reason);
                    settled
                }
                Acknowledgement::Completed(packet_id) => {
                    let settled = session.handle_pubcomp(packet_id);
                    out_of_turn |= settled.is_none() && session.is_inflight(packet_id);
                    settled
                }
                Acknowledgement::Recorded(packet_id, reason) => match session.handle_pubrec(packet_id, reason) {
                    Released::Release { sequence } => {
                        if outgoing.durable {
                            let delivered = outgoing.delivered(self, sequence);
                            turn.batch.push(&Record::Received { delivered });
                            outgoing.released = self.journal.is_durable().then(|| turn.batch.pending());
                        }
                        Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)).encode(version, replies);
                        None
                    }
                    Released::Settled(settled) => {
                        refused = Some(reason);
                        Some(settled)
                    }
                    Released::Unknown => {
                        let is_inflight = session.is_inflight(packet_id);
                        out_of_turn |= is_inflight;
                        // Nothing to release; PUBREL alone makes the peer forget it.
                        if !reason.is_error() && !is_inflight {
                            Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)).encode(version, replies);
                        }
                        None
                    }
                },
            };
            if let Some(Settled { item, .. }) = settled {
                if refused.is_none() {
                    outgoing.note_acknowledged(&item);
                }
                if let Some(reason) = refused.filter(|_| is_dialled) {
                    outgoing.set_aside(self, &item, format!("the server refused it: {reason}"));
                }
                outgoing.record_over(self, &item, turn.batch);
            }
        }
        outgoing.pump(self, turn.now, turn.batch);
        out_of_turn
    }

    /// Appends packets of the connection of `epoch` to its buffer.
    pub fn send(self: &Arc<Self>, epoch: u64, packets: &[u8]) {
        let mut outgoing = self.lock();
        if outgoing.epoch == epoch
            && let Attached::Wire(wire) = &mut outgoing.attached
        {
            wire.append(packets);
            wire.touch(self);
        }
    }

    /// Whether messages wait because the peer has as many in flight as it takes.
    pub(super) fn is_window_full(&self) -> bool {
        let outgoing = self.lock();
        !outgoing.queue.is_empty() && !outgoing.session.has_room()
    }

    /// Sends what waits, as far as window and buffer allow.
    pub fn pump(self: &Arc<Self>, turn: &mut Turn<'_>) {
        self.lock().pump(self, turn.now, turn.batch);
    }

    /// Whether another message may be put into the buffer now; if not, the link's task is woken when it has been
    /// written.
    pub fn has_room(&self, epoch: u64) -> bool {
        let mut outgoing = self.lock();
        let idle = outgoing.queue.is_clear() && outgoing.session.has_room();
        let Some(wire) = outgoing.wire_of(epoch) else {
            return false;
        };
        let room = idle && wire.buffered() < MAX_BUFFERED_BYTES / 2;
        wire.wants_room |= !room;
        room
    }

    fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
