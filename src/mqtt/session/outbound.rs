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

/// Where lanes share the identifiers: those of the normal one, which come first.
const NORMAL_IDS: u64 = 32_767;
/// Those of the lanes 1 and 2 each, behind them.
const LANE_IDS: u64 = 12_288;

/// Above these bits of a sequence stands its lane.
const LANE_SHIFT: u32 = 56;

/// The sequence of the message `number` in `lane`, where a session has several queues that each count their own
/// messages. That of lane 0 is the number itself.
pub const fn in_lane(lane: u8, number: u64) -> u64 {
    (lane as u64) << LANE_SHIFT | number
}

/// The lane of a sequence, and the message's number there.
pub const fn lane_of(sequence: u64) -> (u8, u64) {
    ((sequence >> LANE_SHIFT) as u8, sequence & ((1 << LANE_SHIFT) - 1))
}

/// The messages of a session that are in flight, each with an item that says what was sent.
///
/// Items are in the order of their sequence. On one connection the first `sent` of them have been sent: after
/// [`Outbound::resume`] they are sent again in their order [MQTT-4.4.0-1, MQTT-4.6.0-1] before anything new.
///
/// A session with several lanes ([`in_lane`]) parts the identifiers among them, so that each lane's messages find their
/// own again after a crash: the lanes 0 to 2 have ranges in which a sequence stands for an identifier; all others share
/// what is left, and take whatever is free of it.
#[derive(Debug, Clone)]
pub struct Outbound<T> {
    next_sequence: u64,
    inflight: VecDeque<Inflight<T>>,
    sent: usize,
    window: usize,
    /// Entries whose identifier is not the one that their sequence stands for.
    displaced: usize,
    /// Whether lanes share the identifiers.
    has_lanes: bool,
    /// Entries of other lanes than 0.
    mixed: usize,
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
        Self {
            next_sequence: 0,
            inflight: VecDeque::new(),
            sent: 0,
            window: 0,
            displaced: 0,
            has_lanes: false,
            mixed: 0,
        }
    }

    /// Says that several lanes share the identifiers. To be called before anything is admitted or restored.
    pub fn set_lanes(&mut self) {
        self.has_lanes = true;
    }

    /// Goes on as an earlier process has left it: `unsettled` was in flight, in the order of the sequences, to a peer
    /// that took `window` messages.
    pub fn restore(&mut self, next_sequence: u64, window: u16, unsettled: impl IntoIterator<Item = Unsettled<T>>) {
        debug_assert!(self.is_empty(), "what is restored comes first");
        (self.next_sequence, self.window) = (next_sequence, usize::from(window));
        for Unsettled { sequence, packet_id, qos, is_released, item } in unsettled {
            let packet_id = packet_id.unwrap_or_else(|| self.next_id(sequence));
            self.count_in(sequence, packet_id);
            let stage = if is_released { Stage::Released } else { Stage::Published(qos) };
            self.inflight.push_back(Inflight { sequence, packet_id, stage, repeated: true, item });
        }
    }

    /// Gives out the next sequence of lane 0. Each QoS 1 or 2 message takes one when it is enqueued; other lanes count
    /// for themselves.
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
    /// Call it only while [`Outbound::has_room`]; the sequences of a lane must rise.
    pub fn admit(&mut self, sequence: u64, qos: QoS, item: T) -> PacketId {
        debug_assert!(self.has_room(), "the window is full");
        debug_assert!(qos != QoS::AtMostOnce, "QoS 0 is never in flight");
        let packet_id = self.next_id(sequence);
        self.count_in(sequence, packet_id);
        self.inflight.push_back(Inflight { sequence, packet_id, stage: Stage::Published(qos), repeated: false, item });
        self.sent = self.inflight.len();
        packet_id
    }

    /// The identifier that [`Outbound::admit`] would give `sequence`, as long as nothing else is admitted or settled.
    pub fn next_id(&self, sequence: u64) -> PacketId {
        match self.natural_id(sequence) {
            Some(natural) if self.may_collide(sequence) => self.next_free(natural),
            Some(natural) => natural,
            // Some of those that stand for no sequence.
            None => self.next_free(nth_id(NORMAL_IDS + 2 * LANE_IDS)),
        }
    }

    /// Whether the identifier of a message is the one that its sequence stands for.
    pub fn is_natural(&self, sequence: u64, packet_id: PacketId) -> bool {
        self.natural_id(sequence) == Some(packet_id)
    }

    /// How many of the messages in flight have been sent on this connection; they are the first ones.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Changes how many messages in flight the peer gets on this connection, at least 1.
    pub fn set_window(&mut self, window: u16) {
        self.window = usize::from(window.max(1));
    }

    /// How many of the first messages that are open may have been sent, on this connection or an earlier one: after a
    /// crash they are sent again as such.
    pub fn reach(&self) -> u16 {
        u16::try_from(self.window.max(self.inflight.len())).unwrap_or(u16::MAX)
    }

    /// Takes a PUBACK. `None` where no QoS 1 message with this identifier waits for one.
    pub fn handle_puback(&mut self, packet_id: PacketId) -> Option<Settled<T>> {
        let index = self.find(packet_id)?;
        match self.inflight[index].stage {
            Stage::Published(QoS::AtLeastOnce) => Some(self.settle(index)),
            _ => None,
        }
    }

    /// Takes a PUBACK for a message of QoS 2 that has had no PUBREC: some servers know QoS 1 at most and answer so.
    /// `None` where no such message waits.
    pub fn handle_downgrade(&mut self, packet_id: PacketId) -> Option<Settled<T>> {
        let index = self.find(packet_id)?;
        match self.inflight[index].stage {
            Stage::Published(QoS::ExactlyOnce) => Some(self.settle(index)),
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
                Stage::Released => settled.push(Settled { sequence: entry.sequence, item: entry.item }),
                Stage::Published(_) => {
                    entry.repeated = false;
                    kept.push_back(entry);
                }
            }
        }
        self.inflight = VecDeque::new();
        (self.displaced, self.mixed) = (0, 0);
        for entry in &kept {
            self.count_in(entry.sequence, entry.packet_id);
        }
        self.inflight = kept;
        settled
    }

    /// Sends what has had no PUBREC yet at `maximum`, at least 1, to a peer that takes no more.
    pub fn lower_to(&mut self, maximum: QoS) {
        let maximum = maximum.max(QoS::AtLeastOnce);
        for entry in &mut self.inflight {
            if let Stage::Published(qos) = &mut entry.stage {
                *qos = maximum.min(*qos);
            }
        }
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
        self.displaced -= usize::from(!self.is_natural(entry.sequence, entry.packet_id));
        self.mixed -= usize::from(lane_of(entry.sequence).0 > 0);
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
        let ids = self.ids_of_lane_0();
        let spans_all = || self.inflight.back().is_some_and(|last| last.sequence - first.sequence >= ids);
        if self.displaced > 0 || self.mixed > 0 || spans_all() {
            return self.inflight.iter().take(self.sent).position(|entry| entry.packet_id == packet_id);
        }
        let distance = (u64::from(packet_id.get()) + ids).checked_sub(u64::from(first.packet_id.get()))? % ids;
        let last = usize::try_from(distance).ok()?.min(self.sent.checked_sub(1)?);
        (0..=last).rev().find(|&index| self.inflight[index].packet_id == packet_id)
    }

    /// Identifiers that the sequences of lane 0 stand for.
    fn ids_of_lane_0(&self) -> u64 {
        if self.has_lanes { NORMAL_IDS } else { PACKET_IDS }
    }

    /// The identifier that a sequence stands for; those of some lanes stand for none.
    fn natural_id(&self, sequence: u64) -> Option<PacketId> {
        let (lane, number) = lane_of(sequence);
        match lane {
            0 => Some(nth_id(number % self.ids_of_lane_0())),
            1 | 2 => Some(nth_id(NORMAL_IDS + u64::from(lane - 1) * LANE_IDS + number % LANE_IDS)),
            _ => None,
        }
    }

    fn may_collide(&self, sequence: u64) -> bool {
        self.displaced > 0
            || self.mixed > 0
            || lane_of(sequence).0 > 0
            || self.inflight.front().is_some_and(|first| sequence - first.sequence >= self.ids_of_lane_0())
    }

    fn next_free(&self, natural: PacketId) -> PacketId {
        let mut candidate = natural;
        // The window is below the number of identifiers, so one is free.
        while self.inflight.iter().any(|entry| entry.packet_id == candidate) {
            candidate = nth_id(u64::from(candidate.get()) % PACKET_IDS);
        }
        candidate
    }

    /// Counts a message that is put in flight.
    fn count_in(&mut self, sequence: u64, packet_id: PacketId) {
        self.displaced += usize::from(!self.is_natural(sequence, packet_id));
        self.mixed += usize::from(lane_of(sequence).0 > 0);
    }
}

/// The identifier `index` + 1.
fn nth_id(index: u64) -> PacketId {
    PacketId::MIN.saturating_add(index as u16)
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
        let mut outbound = Outbound::new();
        outbound.restore(
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
    fn lanes_share_the_identifiers_and_each_finds_its_own_again() {
        let mut outbound: Outbound<u64> = Outbound::new();
        outbound.set_lanes();
        outbound.resume(100);
        let mut admit = |lane, number| {
            let sequence = in_lane(lane, number);
            let packet_id = outbound.admit(sequence, QoS::ExactlyOnce, sequence);
            (packet_id.get(), outbound.is_natural(sequence, packet_id))
        };
        assert_eq!(admit(0, 5), (6, true));
        assert_eq!(admit(1, 2), (32_770, true), "the high one has a range of its own");
        assert_eq!(admit(0, 6), (7, true));
        assert_eq!(admit(2, LANE_IDS), (45_056, true));
        assert_eq!(admit(4, 0), (57_344, false), "of others the sequence stands for no identifier");
        assert_eq!(admit(5, 0), (57_345, false));
        assert_eq!(admit(0, NORMAL_IDS + 5), (8, false), "6 is in flight, 7 as well");
        assert_eq!(
            outbound.handle_pubrec(id(57_345), ReasonCode::Success),
            Released::Release { sequence: in_lane(5, 0) }
        );
        for (packet_id, sequence) in [(7, in_lane(0, 6)), (32_770, in_lane(1, 2)), (6, 5), (57_344, in_lane(4, 0))] {
            assert_eq!(outbound.handle_pubrec(id(packet_id), ReasonCode::Success), Released::Release { sequence });
            assert_eq!(outbound.handle_pubcomp(id(packet_id)).unwrap().sequence, sequence);
        }
        assert_eq!(outbound.len(), 3);
        let settled = outbound.restart(10);
        assert_eq!(settled.len(), 1, "what is past its PUBREC is over");
        assert_eq!(outbound.handle_downgrade(id(45_056)), None, "it has not been sent again");
        assert!(outbound.poll_resend().is_some());
        assert_eq!(outbound.handle_downgrade(id(45_056)).unwrap().sequence, in_lane(2, LANE_IDS));
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
