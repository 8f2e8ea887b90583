//! The sender's half of a session: sequence, packet identifiers, what is in flight (section 4.3).
//!
//! ```text
//!            admit                PUBACK
//!   QoS 1  ---------> Published ---------> settled
//!                        ^ resume: PUBLISH with DUP
//!
//!            admit                PUBREC              PUBCOMP
//!   QoS 2  ---------> Published ---------> Released ---------> settled
//!                        ^ resume: PUBLISH   ^ resume, or a repeated PUBREC: PUBREL
//! ```

use std::collections::VecDeque;

use crate::mqtt::{PacketId, QoS, ReasonCode};

/// Identifiers that messages use: 1 to 65,534. 65,535 is that of SUBSCRIBE and UNSUBSCRIBE.
const PACKET_IDS: u64 = 65_534;

/// The messages of a session that are in flight, each with an item that says what was sent.
///
/// Items are in the order of their sequence. On one connection the first `sent` of them have been sent: after
/// [`Outbound::resume`] they are sent again in their order [MQTT-4.4.0-1, MQTT-4.6.0-1] before anything new.
#[derive(Debug, Clone)]
pub struct Outbound<T> {
    next_sequence: u64,
    inflight: VecDeque<Inflight<T>>,
    sent: usize,
    window: usize,
    /// Entries whose identifier is not the one that their sequence stands for.
    displaced: usize,
}

#[derive(Debug, Clone)]
struct Inflight<T> {
    sequence: u64,
    packet_id: PacketId,
    stage: Stage,
    /// Whether it has been sent on an earlier connection of this session.
    repeated: bool,
    item: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for PUBACK (QoS 1) or PUBREC (QoS 2).
    Published(QoS),
    /// Waits for PUBCOMP.
    Released,
}

/// A message whose exchange is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled<T> {
    /// Its sequence in the session.
    pub sequence: u64,
    /// What was sent.
    pub item: T,
}

/// A message that an earlier process has left in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled<T> {
    /// Its sequence in the session.
    pub sequence: u64,
    /// Its identifier, where that is not the one that its sequence stands for.
    pub packet_id: Option<PacketId>,
    /// QoS 1 or 2.
    pub qos: QoS,
    /// Whether it is past its PUBREC.
    pub is_released: bool,
    /// What was sent.
    pub item: T,
}

/// What follows from a PUBREC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released<T> {
    /// PUBREL is due; `sequence` is past its PUBREC.
    Release {
        /// Sequence of the message.
        sequence: u64,
    },
    /// The receiver refused it: the exchange is over.
    Settled(Settled<T>),
    /// No such identifier of a QoS 2 message is in flight: there is nothing to release.
    Unknown,
}

/// What is sent again on a new connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Resend<'a, T> {
    /// PUBLISH.
    Publish {
        /// The identifier that it was first sent with.
        packet_id: PacketId,
        /// QoS 1 or 2.
        qos: QoS,
        /// Whether DUP is set: it was sent before in this session [MQTT-3.3.1-1].
        dup: bool,
        /// What to send.
        item: &'a T,
    },
    /// PUBREL.
    Release {
        /// Identifier of the message.
        packet_id: PacketId,
    },
}

impl<T> Default for Outbound<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Outbound<T> {
    /// A session in which nothing has been sent. Until [`Outbound::resume`] gives it a window, nothing is admitted.
    pub const fn new() -> Self {
        Self { next_sequence: 0, inflight: VecDeque::new(), sent: 0, window: 0, displaced: 0 }
    }

    /// A session as an earlier process has left it: `unsettled` was in flight, in the order of the sequences, to a peer
    /// that took `window` messages.
    pub fn restore(next_sequence: u64, window: u16, unsettled: impl IntoIterator<Item = Unsettled<T>>) -> Self {
        let mut session = Self { next_sequence, window: usize::from(window), ..Self::new() };
        for Unsettled { sequence, packet_id, qos, is_released, item } in unsettled {
            let packet_id = packet_id.unwrap_or_else(|| session.next_id(sequence));
            session.displaced += usize::from(packet_id != natural_id(sequence));
            let stage = if is_released { Stage::Released } else { Stage::Published(qos) };
            session.inflight.push_back(Inflight { sequence, packet_id, stage, repeated: true, item });
        }
        session
    }

    /// Gives out the next sequence. Each QoS 1 or 2 message takes one when it is enqueued.
    pub fn take_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    /// Messages in flight.
    pub fn len(&self) -> usize {
        self.inflight.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.inflight.is_empty()
    }

    /// Whether [`Outbound::admit`] would take another message: all that is in flight has been sent on this
    /// connection, and the peer's receive maximum leaves room [MQTT-3.3.4-9].
    pub fn has_room(&self) -> bool {
        self.sent == self.inflight.len() && self.sent < self.window
    }

    /// Puts a message in flight that is being sent for the first time, and gives it its packet identifier:
    /// 1 + sequence mod 65,534, or the next one that is free.
    ///
    /// Call it only while [`Outbound::has_room`]; sequences must rise.
    pub fn admit(&mut self, sequence: u64, qos: QoS, item: T) -> PacketId {
        debug_assert!(self.has_room(), "the window is full");
        debug_assert!(qos != QoS::AtMostOnce, "QoS 0 is never in flight");
        let packet_id = self.next_id(sequence);
        if packet_id != natural_id(sequence) {
            self.displaced += 1;
        }
        self.inflight.push_back(Inflight { sequence, packet_id, stage: Stage::Published(qos), repeated: false, item });
        self.sent = self.inflight.len();
        packet_id
    }

    /// The identifier that [`Outbound::admit`] would give `sequence`, as long as nothing else is admitted or settled.
    pub fn next_id(&self, sequence: u64) -> PacketId {
        let natural = natural_id(sequence);
        if self.may_collide(sequence) { self.next_free(natural) } else { natural }
    }

    /// Whether the identifier of a message is the one that its sequence stands for.
    pub fn is_natural(sequence: u64, packet_id: PacketId) -> bool {
        packet_id == natural_id(sequence)
    }

    /// How many messages in flight the peer takes.
    pub fn window(&self) -> u16 {
        u16::try_from(self.window).unwrap_or(u16::MAX)
    }

    /// Takes a PUBACK. `None` where no QoS 1 message with this identifier waits for one.
    pub fn handle_puback(&mut self, packet_id: PacketId) -> Option<Settled<T>> {
        let index = self.find(packet_id)?;
        match self.inflight[index].stage {
            Stage::Published(QoS::AtLeastOnce) => Some(self.settle(index)),
            _ => None,
        }
    }

    /// Takes a PUBREC with its reason.
    pub fn handle_pubrec(&mut self, packet_id: PacketId, reason: ReasonCode) -> Released<T> {
        let Some(index) = self.find(packet_id) else {
            return Released::Unknown;
        };
        match self.inflight[index].stage {
            Stage::Published(QoS::ExactlyOnce) if reason.is_error() => Released::Settled(self.settle(index)),
            // Past a PUBREC the message is never sent again, whatever repeats [MQTT-4.3.3-4].
            Stage::Published(QoS::ExactlyOnce) | Stage::Released => {
                self.inflight[index].stage = Stage::Released;
                Released::Release { sequence: self.inflight[index].sequence }
            }
            Stage::Published(_) => Released::Unknown,
        }
    }

    /// Takes a PUBCOMP. `None` where no message with this identifier waits for one.
    pub fn handle_pubcomp(&mut self, packet_id: PacketId) -> Option<Settled<T>> {
        let index = self.find(packet_id)?;
        match self.inflight[index].stage {
            Stage::Released => Some(self.settle(index)),
            Stage::Published(_) => None,
        }
    }

    /// Begins a new connection on which the peer takes `window` messages in flight: all that is in flight
    /// is due again, by [`Outbound::poll_resend`].
    pub fn resume(&mut self, window: u16) {
        self.sent = 0;
        self.window = usize::from(window.max(1));
        for entry in &mut self.inflight {
            entry.repeated = true;
        }
    }

    /// Begins a new connection after the peer has forgotten the session: what waits for PUBACK or PUBREC is due
    /// again as new, under its sequence; what is past its PUBREC was delivered and is settled.
    pub fn restart(&mut self, window: u16) -> Vec<Settled<T>> {
        self.resume(window);
        let mut settled = Vec::new();
        let mut kept = VecDeque::with_capacity(self.inflight.len());
        for mut entry in self.inflight.drain(..) {
            match entry.stage {
                Stage::Released => {
                    if entry.packet_id != natural_id(entry.sequence) {
                        self.displaced -= 1;
                    }
                    settled.push(Settled { sequence: entry.sequence, item: entry.item });
                }
                Stage::Published(_) => {
                    entry.repeated = false;
                    kept.push_back(entry);
                }
            }
        }
        self.inflight = kept;
        settled
    }

    /// The next thing to send again, in the original order; `None` when all has been sent, or the window is full.
    pub fn poll_resend(&mut self) -> Option<Resend<'_, T>> {
        if self.sent >= self.window {
            return None;
        }
        let entry = self.inflight.get(self.sent)?;
        self.sent += 1;
        let packet_id = entry.packet_id;
        Some(match entry.stage {
            Stage::Published(qos) => Resend::Publish { packet_id, qos, dup: entry.repeated, item: &entry.item },
            Stage::Released => Resend::Release { packet_id },
        })
    }

    /// Whether what [`Outbound::poll_resend`] would give is a PUBREL.
    pub fn is_release_next(&self) -> bool {
        self.sent < self.window && self.inflight.get(self.sent).is_some_and(|entry| entry.stage == Stage::Released)
    }

    /// Takes a message out that cannot be sent to this peer (too large for it): its exchange is over.
    pub fn abandon(&mut self, packet_id: PacketId) -> Option<Settled<T>> {
        let index = self.find(packet_id)?;
        Some(self.settle(index))
    }

    /// What is in flight, in its order: sequence, identifier and item.
    pub fn iter(&self) -> impl Iterator<Item = (u64, PacketId, &T)> {
        self.inflight.iter().map(|entry| (entry.sequence, entry.packet_id, &entry.item))
    }

    /// Whether `packet_id` is that of a message in flight which has been sent on this connection.
    pub fn is_inflight(&self, packet_id: PacketId) -> bool {
        self.find(packet_id).is_some()
    }

    /// What was sent at `qos` and waits for its PUBACK or PUBREC, in its order.
    pub fn unacknowledged(&self, qos: QoS) -> impl Iterator<Item = &T> {
        self.inflight.iter().filter(move |entry| entry.stage == Stage::Published(qos)).map(|entry| &entry.item)
    }

    fn settle(&mut self, index: usize) -> Settled<T> {
        let entry = self.inflight.remove(index).expect("the index was found in the queue");
        if index < self.sent {
            self.sent -= 1;
        }
        if entry.packet_id != natural_id(entry.sequence) {
            self.displaced -= 1;
        }
        if self.inflight.is_empty() && self.inflight.capacity() > 64 {
            // An idle session holds no buffers.
            self.inflight = VecDeque::new();
        }
        Settled { sequence: entry.sequence, item: entry.item }
    }

    /// Where `packet_id` is among what has been sent. Acknowledgements mostly come in order, so the search begins
    /// where the identifier would stand if nothing had been settled out of order.
    fn find(&self, packet_id: PacketId) -> Option<usize> {
        let first = self.inflight.front()?;
        if first.packet_id == packet_id {
            return (self.sent > 0).then_some(0);
        }
        // Once the sequences in flight span all identifiers, a later one may bear a lower identifier.
        let spans_all = self.inflight.back().is_some_and(|last| last.sequence - first.sequence >= PACKET_IDS);
        if self.displaced > 0 || spans_all {
            return self.inflight.iter().take(self.sent).position(|entry| entry.packet_id == packet_id);
        }
        let distance = (u64::from(packet_id.get()) + PACKET_IDS - u64::from(first.packet_id.get())) % PACKET_IDS;
        let last = usize::try_from(distance).ok()?.min(self.sent.checked_sub(1)?);
        (0..=last).rev().find(|&index| self.inflight[index].packet_id == packet_id)
    }

    fn may_collide(&self, sequence: u64) -> bool {
        self.displaced > 0 || self.inflight.front().is_some_and(|first| sequence - first.sequence >= PACKET_IDS)
    }

    fn next_free(&self, natural: PacketId) -> PacketId {
        let mut candidate = natural;
        // The window is below the number of identifiers, so one is free.
        while self.inflight.iter().any(|entry| entry.packet_id == candidate) {
            candidate = natural_id(u64::from(candidate.get()));
        }
        candidate
    }
}

/// 1 + sequence mod 65,534.
fn natural_id(sequence: u64) -> PacketId {
    PacketId::MIN.saturating_add((sequence % PACKET_IDS) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    fn admit(outbound: &mut Outbound<u64>, qos: QoS) -> PacketId {
        let sequence = outbound.take_sequence();
        outbound.admit(sequence, qos, sequence)
    }

    fn session(window: u16) -> Outbound<u64> {
        let mut outbound = Outbound::new();
        outbound.resume(window);
        outbound
    }

    #[test]
    fn a_full_window_admits_no_more_until_one_is_settled() {
        let mut outbound = session(2);
        admit(&mut outbound, QoS::AtLeastOnce);
        admit(&mut outbound, QoS::AtLeastOnce);
        assert!(!outbound.has_room());
        assert_eq!(outbound.handle_puback(id(2)), Some(Settled { sequence: 1, item: 1 }));
        assert!(outbound.has_room());
        assert_eq!(outbound.handle_puback(id(2)), None);
        assert_eq!(outbound.handle_puback(id(1)).unwrap().sequence, 0);
    }

    #[test]
    fn an_identifier_in_flight_is_never_given_again() {
        let mut outbound = session(100);
        let first = admit(&mut outbound, QoS::AtLeastOnce);
        for _ in 0..65_533 {
            let packet_id = admit(&mut outbound, QoS::AtLeastOnce);
            assert!(outbound.handle_puback(packet_id).is_some());
        }
        let wrapped = admit(&mut outbound, QoS::AtLeastOnce);
        assert_eq!((first, wrapped), (id(1), id(2)), "1 is in flight, so the next free one is taken");
        let next = admit(&mut outbound, QoS::AtLeastOnce);
        assert_eq!(next, id(3));
        assert_eq!(outbound.handle_puback(wrapped).unwrap().sequence, 65_534);
        assert_eq!(outbound.handle_puback(first).unwrap().sequence, 0);
        assert_eq!(outbound.handle_puback(next).unwrap().sequence, 65_535);
    }

    #[test]
    fn an_identifier_beyond_a_message_that_is_stuck_is_found() {
        let mut outbound = session(100);
        for sequence in [0, 10, 20, PACKET_IDS + 1] {
            outbound.admit(sequence, QoS::AtLeastOnce, sequence);
        }
        assert_eq!(outbound.handle_puback(id(2)).map(|settled| settled.sequence), Some(PACKET_IDS + 1));
    }

    #[test]
    fn after_its_pubrec_a_message_is_never_published_again() {
        let mut outbound = session(10);
        let packet_id = admit(&mut outbound, QoS::ExactlyOnce);
        assert_eq!(outbound.handle_pubrec(packet_id, ReasonCode::Success), Released::Release { sequence: 0 });
        assert_eq!(outbound.handle_pubrec(packet_id, ReasonCode::Success), Released::Release { sequence: 0 });
        outbound.resume(10);
        assert_eq!(outbound.poll_resend(), Some(Resend::Release { packet_id }));
        assert_eq!(outbound.poll_resend(), None);
        assert!(outbound.handle_pubcomp(packet_id).is_some());
    }

    #[test]
    fn what_a_process_left_in_flight_goes_on_under_its_identifiers() {
        let unsettled = |sequence, packet_id, is_released| Unsettled {
            sequence,
            packet_id,
            qos: QoS::ExactlyOnce,
            is_released,
            item: sequence,
        };
        let next = PACKET_IDS + 9;
        let mut outbound = Outbound::restore(
            next,
            9,
            [unsettled(0, None, true), unsettled(4, None, false), unsettled(PACKET_IDS, Some(id(2)), false)],
        );
        assert!(!outbound.has_room(), "what was in flight comes first");
        outbound.resume(3);
        assert!(outbound.is_release_next());
        assert_eq!(outbound.poll_resend(), Some(Resend::Release { packet_id: id(1) }));
        assert!(!outbound.is_release_next());
        for (packet_id, item) in [(id(5), 4), (id(2), PACKET_IDS)] {
            let publish = Resend::Publish { packet_id, qos: QoS::ExactlyOnce, dup: true, item: &item };
            assert_eq!(outbound.poll_resend(), Some(publish));
        }
        assert_eq!(outbound.handle_pubcomp(id(1)).unwrap().sequence, 0);
        assert_eq!(outbound.handle_pubrec(id(2), ReasonCode::Success), Released::Release { sequence: PACKET_IDS });
        assert_eq!(outbound.take_sequence(), next);
        // 1 + 65,534 stands for the identifier 2, which is in flight.
        assert_eq!(outbound.next_id(PACKET_IDS + 1), id(3));
        assert_eq!(outbound.admit(PACKET_IDS + 1, QoS::ExactlyOnce, 0), id(3));
    }

    #[test]
    fn a_smaller_window_resends_step_by_step_and_before_anything_new() {
        let mut outbound = session(3);
        for _ in 0..3 {
            admit(&mut outbound, QoS::AtLeastOnce);
        }
        outbound.resume(1);
        assert!(matches!(outbound.poll_resend(), Some(Resend::Publish { dup: true, item: 0, .. })));
        assert_eq!(outbound.poll_resend(), None);
        assert!(!outbound.has_room());
        outbound.handle_puback(id(1));
        assert!(matches!(outbound.poll_resend(), Some(Resend::Publish { dup: true, item: 1, .. })));
    }

    #[test]
    fn a_peer_that_forgot_the_session_gets_unfinished_messages_as_new() {
        let mut outbound = session(10);
        let released = admit(&mut outbound, QoS::ExactlyOnce);
        admit(&mut outbound, QoS::ExactlyOnce);
        outbound.handle_pubrec(released, ReasonCode::Success);
        assert_eq!(outbound.restart(10), [Settled { sequence: 0, item: 0 }]);
        assert!(matches!(outbound.poll_resend(), Some(Resend::Publish { dup: false, item: 1, .. })));
        assert_eq!(outbound.poll_resend(), None);
    }
}
