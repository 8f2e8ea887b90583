//! A client and a server in memory, on a link that breaks, under virtual time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use crate::mqtt::codec::{Framing, split_frame};
use crate::mqtt::connection::{AcceptOptions, ConnectOptions, Connection, Event};
use crate::mqtt::packet::{SubscriptionOptions, kind};
use crate::mqtt::session::Session;
use crate::mqtt::{
    Message, MessageBuilder, Millis, Packet, PacketId, QoS, ReasonCode, Side, TopicFilter, TopicName, Version,
};

const KEEP_ALIVE: u16 = 30;

/// Both ends of a connection, and the link between them.
///
/// The link is TCP: it may deliver any prefix of what was sent, in pieces, and a cut loses all the rest.
struct Pair {
    version: Version,
    windows: [u16; 2],
    now: Millis,
    ends: [End; 2],
}

/// One end. It is the first of a pair for the client, the second for the server.
struct End {
    connection: Option<Connection>,
    /// The session while there is no connection.
    session: Option<Session>,
    /// Bytes on their way to the peer.
    wire: Vec<u8>,
    /// Bytes that have arrived and were not taken yet.
    arrived: Vec<u8>,
    /// Messages published, by QoS: what the payload says is its place here.
    published: [Vec<u32>; 3],
    /// Messages received, by QoS.
    received: [Vec<u32>; 3],
    settled: BTreeSet<u64>,
    observed: Observed,
}

/// What somebody on the wire sees of the messages that one end sends.
#[derive(Default)]
struct Observed {
    unread: Vec<u8>,
    /// Payloads of the identifiers in flight, over all connections.
    in_flight: BTreeMap<PacketId, u32>,
    by_sequence: BTreeMap<u64, u32>,
    on_this_connection: BTreeSet<u32>,
    window: usize,
}

#[derive(Debug, Clone)]
enum Step {
    Publish(Side, QoS),
    /// Sequences that no message is sent under, as those that expired in a queue.
    Skip(Side, u16),
    /// Brings a part of what is on the wire to the other end.
    Carry(Side, Index),
    /// The other end's application takes a few messages.
    Take(Side, u8),
    /// Two neighbouring acknowledgements on the wire change places.
    Swap(Side),
    Wait(u16),
    Ping,
    Cut,
    Reconnect {
        client_window: u16,
        server_window: u16,
    },
}

impl Pair {
    fn new(version: Version, windows: [u16; 2], first_sequences: [u16; 2]) -> Self {
        Self { version, windows, now: Millis(1000), ends: first_sequences.map(End::new) }
    }

    fn client(&mut self) -> &mut Connection {
        self.ends[0].connection.as_mut().unwrap()
    }

    /// Begins a connection; the handshake is carried like everything else.
    fn connect(&mut self) {
        self.cut();
        let [client, server] = &mut self.ends;
        let options = ConnectOptions {
            version: self.version,
            clean_start: false,
            keep_alive: KEEP_ALIVE,
            receive_maximum: self.windows[0],
            in_flight_maximum: self.windows[0],
            ..ConnectOptions::new("pair")
        };
        let bounds = AcceptOptions {
            receive_maximum: self.windows[1],
            in_flight_maximum: self.windows[1],
            ..AcceptOptions::default()
        };
        client.connection = Some(Connection::client(&options, client.session.take().unwrap(), self.now));
        server.connection = Some(Connection::server(bounds, self.now));
        // With 3.1.1 each side bounds itself, with 5.0 the peer does so as well.
        let window = usize::from(match self.version {
            Version::V3 => u16::MAX,
            Version::V5 => self.windows[0].min(self.windows[1]),
        });
        for (index, end) in self.ends.iter_mut().enumerate() {
            end.observed.on_this_connection.clear();
            end.observed.unread.clear();
            end.observed.window = window.min(usize::from(self.windows[index]));
        }
        self.flush();
    }

    /// The link breaks: what is under way is lost, and what had arrived is still handled.
    fn cut(&mut self) {
        for end in &mut self.ends {
            end.wire.clear();
        }
        for index in 0..2 {
            self.handle(index);
            let end = &mut self.ends[index];
            end.wire.clear();
            end.arrived.clear();
            if let Some(connection) = end.connection.take()
                && end.session.is_none()
            {
                end.session = Some(connection.into_session());
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.ends.iter().all(|end| end.connection.as_ref().is_some_and(|connection| !connection.is_closed()))
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Publish(side, qos) => self.publish(*side, *qos),
            Step::Skip(side, count) => {
                let end = self.end(*side);
                if let Some(session) = &mut end.session {
                    (0..*count).for_each(|_| _ = session.outbound.take_sequence());
                }
            }
            Step::Carry(side, part) => {
                let end = self.end(*side);
                let count = part.index(end.wire.len() + 1);
                self.carry(*side, count);
            }
            Step::Take(side, count) => {
                for _ in 0..*count {
                    self.take(*side);
                }
            }
            Step::Swap(side) => self.end(*side).swap_acknowledgements(),
            Step::Wait(millis) => {
                self.now.0 += u64::from(*millis);
                for end in &mut self.ends {
                    if let Some(connection) = &mut end.connection {
                        // A peer that is silent for too long is cut off, as a driver would do.
                        let _ = connection.handle_timeout(self.now);
                    }
                }
                if self.ends.iter().any(|end| end.connection.as_ref().is_some_and(Connection::is_closed)) {
                    self.cut();
                }
            }
            Step::Ping => {
                if let Some(client) = &mut self.ends[0].connection {
                    client.ping(self.now);
                }
            }
            Step::Cut => self.cut(),
            Step::Reconnect { client_window, server_window } => {
                self.cut();
                self.windows = [*client_window, *server_window];
                self.connect();
            }
        }
        self.flush();
    }

    fn publish(&mut self, side: Side, qos: QoS) {
        let now = self.now;
        let end = self.end(side);
        // A server has no session at hand while its client is in the handshake.
        let (Some(connection), None) = (&mut end.connection, &end.session) else {
            return;
        };
        let number = end.published[qos as usize].len() as u32;
        match connection.publish(message(qos, number), now) {
            Ok(Some(sequence)) => {
                end.observed.by_sequence.insert(sequence, number << 2 | qos as u32);
                end.published[qos as usize].push(number);
            }
            Ok(None) => end.published[0].push(number),
            Err(_) => assert_eq!(qos, QoS::AtMostOnce, "only QoS 0 needs a connection"),
        }
    }

    fn carry(&mut self, from: Side, count: usize) {
        let bytes: Vec<u8> = self.end(from).wire.drain(..count).collect();
        let to = 1 - index(from);
        self.ends[to].arrived.extend(bytes);
        self.handle(to);
    }

    /// One end takes what has arrived, and its driver does what the events say.
    fn handle(&mut self, index: usize) {
        let now = self.now;
        let end = &mut self.ends[index];
        let Some(connection) = &mut end.connection else {
            return;
        };
        let consumed = connection.handle_input(&end.arrived, now).expect("both ends keep the protocol");
        end.arrived.drain(..consumed);
        while let Some(event) = connection.poll_event() {
            match event {
                Event::ConnectRequested { clean_start, .. } => {
                    assert!(!clean_start);
                    connection.accept(end.session.take().expect("one connection at a time"), true, now);
                }
                Event::Settled { sequence, reason } => {
                    assert_eq!(reason, ReasonCode::Success);
                    assert!(end.settled.insert(sequence), "settled twice");
                    end.observed.settle(sequence);
                }
                Event::Connected(_) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    fn take(&mut self, side: Side) -> bool {
        let now = self.now;
        let end = self.end(side);
        let Some(delivery) = end.connection.as_mut().and_then(|connection| connection.poll_message(now)) else {
            return false;
        };
        end.received[delivery.message.qos as usize].push(number(delivery.message.payload()));
        true
    }

    /// Brings what each end has to say onto its wire.
    fn flush(&mut self) {
        for end in &mut self.ends {
            if let Some(connection) = &mut end.connection {
                let before = end.wire.len();
                connection.poll_output(&mut end.wire);
                end.observed.see(&end.wire[before..], self.version);
            }
        }
    }

    /// Goes on without faults until nothing is left to do.
    fn settle_down(&mut self) {
        if !self.is_connected() {
            self.connect();
        }
        loop {
            self.flush();
            let mut busy = false;
            for side in [Side::Client, Side::Server] {
                let count = self.end(side).wire.len();
                busy |= count > 0;
                self.carry(side, count);
                while self.take(side) {
                    busy = true;
                }
            }
            if !busy {
                return;
            }
        }
    }

    fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[index(side)]
    }

    /// What each QoS promises, in both directions.
    fn check(&self) {
        for (sender, receiver) in [(0, 1), (1, 0)] {
            let [published, received] = [&self.ends[sender].published, &self.ends[receiver].received];
            assert_eq!(first_deliveries(&received[0]), received[0], "QoS 0: no message comes twice");
            assert!(received[0].is_sorted(), "QoS 0: in order");
            assert_eq!(first_deliveries(&received[1]), published[1], "QoS 1: each at least once, in order");
            assert_eq!(received[2], published[2], "QoS 2: each exactly once, in order");
            let end = &self.ends[sender];
            assert_eq!(end.settled.len(), published[1].len() + published[2].len(), "each exchange came to its end");
            let connection = end.connection.as_ref().unwrap();
            assert_eq!(connection.session().unsettled(), 0);
            assert!(connection.session().inbound.is_empty());
        }
    }
}

impl End {
    fn new(first_sequence: u16) -> Self {
        let mut session = Session::default();
        (0..first_sequence).for_each(|_| _ = session.outbound.take_sequence());
        Self {
            connection: None,
            session: Some(session),
            wire: Vec::new(),
            arrived: Vec::new(),
            published: Default::default(),
            received: Default::default(),
            settled: BTreeSet::new(),
            observed: Observed::default(),
        }
    }

    /// Swaps the first two neighbours among PUBACK, PUBREC and PUBCOMP that stand whole on the wire, from its end on:
    /// its start may be the rest of a packet.
    fn swap_acknowledgements(&mut self) {
        // Both versions send these as four bytes while all is well.
        let is_acknowledgement = |bytes: &[u8]| {
            matches!(bytes[0] >> 4, kind::PUBACK | kind::PUBREC | kind::PUBCOMP)
                && bytes[0] & 0x0F == 0
                && bytes[1] == 2
        };
        let Some(start) = self.wire.len().checked_sub(8) else {
            return;
        };
        let tail = &mut self.wire[start..];
        if is_acknowledgement(&tail[..4]) && is_acknowledgement(&tail[4..]) {
            tail.rotate_left(4);
        }
    }
}

impl Observed {
    fn see(&mut self, bytes: &[u8], version: Version) {
        self.unread.extend_from_slice(bytes);
        let mut read = 0;
        while let Framing::Complete(frame, length) = split_frame(&self.unread[read..], usize::MAX).unwrap() {
            read += length;
            let Ok(Packet::Publish(publish)) = Packet::decode(frame, version) else {
                continue;
            };
            let Some(packet_id) = publish.packet_id else {
                continue;
            };
            let sent = number(publish.payload) << 2 | publish.qos as u32;
            match self.in_flight.insert(packet_id, sent) {
                Some(before) => {
                    assert_eq!(before, sent, "identifier {packet_id} is in flight and was used for another message");
                    assert!(publish.dup);
                }
                None => assert!(!publish.dup),
            }
            assert!(self.on_this_connection.insert(sent), "nothing is sent twice on one connection");
            assert!(self.on_this_connection.len() <= self.window, "the receive maximum");
        }
        self.unread.drain(..read);
    }

    fn settle(&mut self, sequence: u64) {
        let sent = self.by_sequence[&sequence];
        self.in_flight.retain(|_, &mut other| other != sent);
        self.on_this_connection.remove(&sent);
    }
}

fn index(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Server => 1,
    }
}

fn message(qos: QoS, number: u32) -> Message {
    // A few topics repeat, so that topic aliases come into play.
    let topic = TopicName::new(["a/long/topic", "another/topic", "t"][number as usize % 3]).unwrap();
    MessageBuilder::new(&topic, &number.to_be_bytes()).qos(qos).build()
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().unwrap())
}

fn first_deliveries(received: &[u32]) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    received.iter().copied().filter(|&number| seen.insert(number)).collect()
}

fn any_side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Server)]
}

fn any_qos() -> impl Strategy<Value = QoS> {
    prop_oneof![1 => Just(QoS::AtMostOnce), 3 => Just(QoS::AtLeastOnce), 3 => Just(QoS::ExactlyOnce)]
}

fn any_window() -> impl Strategy<Value = u16> {
    prop_oneof![Just(1), 1..6u16, 10..20u16]
}

/// Sequences begin anywhere, often just before the identifiers wrap around.
fn any_first_sequence() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), any::<u16>(), 65_520..65_535u16]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any_side(), any_qos()).prop_map(|(side, qos)| Step::Publish(side, qos)),
        1 => (any_side(), prop_oneof![1..9u16, 65_525..65_535u16]).prop_map(|(side, count)| Step::Skip(side, count)),
        12 => (any_side(), any::<Index>()).prop_map(|(side, part)| Step::Carry(side, part)),
        6 => (any_side(), 1..4u8).prop_map(|(side, count)| Step::Take(side, count)),
        2 => any_side().prop_map(Step::Swap),
        1 => any::<u16>().prop_map(Step::Wait),
        1 => Just(Step::Ping),
        1 => Just(Step::Cut),
        2 => (any_window(), any_window())
            .prop_map(|(client_window, server_window)| Step::Reconnect { client_window, server_window }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_qos_keeps_its_promise_over_a_link_that_breaks(
        version in prop_oneof![Just(Version::V3), Just(Version::V5)],
        windows in (any_window(), any_window()),
        first_sequences in (any_first_sequence(), any_first_sequence()),
        steps in prop::collection::vec(any_step(), 1..150),
    ) {
        let mut pair = Pair::new(version, windows.into(), first_sequences.into());
        pair.connect();
        for step in &steps {
            pair.run(step);
        }
        pair.settle_down();
        pair.check();
    }
}

/// A pair whose handshake is over.
fn connected(version: Version) -> Pair {
    let mut pair = Pair::new(version, [10, 10], [0, 0]);
    pair.connect();
    pair.settle_down();
    pair
}

#[test]
fn a_message_that_nobody_took_comes_again() {
    let mut pair = connected(Version::V5);
    pair.publish(Side::Client, QoS::ExactlyOnce);
    pair.flush();
    let count = pair.end(Side::Client).wire.len();
    pair.carry(Side::Client, count);
    pair.run(&Step::Cut);
    assert!(pair.end(Side::Server).received[2].is_empty());
    pair.settle_down();
    pair.check();
}

#[test]
fn a_server_that_forgot_the_session_gets_unfinished_messages_again() {
    let mut pair = connected(Version::V5);
    pair.publish(Side::Client, QoS::AtLeastOnce);
    pair.publish(Side::Client, QoS::ExactlyOnce);
    pair.run(&Step::Cut);
    let session = pair.end(Side::Client).session.take().unwrap();
    let mut client = Connection::client(&ConnectOptions::new("pair"), session, Millis(0));
    let mut server = Connection::server(AcceptOptions::default(), Millis(0));
    let mut received = Vec::new();
    for _ in 0..10 {
        let mut bytes = Vec::new();
        client.poll_output(&mut bytes);
        assert_eq!(server.handle_input(&bytes, Millis(0)), Ok(bytes.len()));
        if let Some(Event::ConnectRequested { .. }) = server.poll_event() {
            server.accept(Session::default(), false, Millis(0));
        }
        while let Some(delivery) = server.poll_message(Millis(0)) {
            assert!(!delivery.dup, "to this server it is new");
            received.push(delivery.message.qos);
        }
        let mut bytes = Vec::new();
        server.poll_output(&mut bytes);
        assert_eq!(client.handle_input(&bytes, Millis(0)), Ok(bytes.len()));
    }
    assert_eq!(received, [QoS::AtLeastOnce, QoS::ExactlyOnce]);
    assert_eq!(client.session().unsettled(), 0);
}

#[test]
fn requests_are_sent_one_after_the_other() {
    let mut pair = connected(Version::V5);
    let now = pair.now;
    let filter = |text| (TopicFilter::new(text).unwrap(), SubscriptionOptions::default());
    pair.client().subscribe(&[filter("a/#"), filter("b")], now).unwrap();
    pair.client().unsubscribe(&[TopicFilter::new("c").unwrap()], now).unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let mut bytes = Vec::new();
        pair.client().poll_output(&mut bytes);
        let server = pair.ends[1].connection.as_mut().unwrap();
        server.handle_input(&bytes, now).unwrap();
        match server.poll_event() {
            Some(Event::SubscribeRequested { packet_id, filters }) => {
                assert_eq!(filters.len(), 2);
                server.answer_subscribe(packet_id, &[ReasonCode::Success, ReasonCode::NotAuthorized], now);
            }
            Some(Event::UnsubscribeRequested { packet_id, filters }) => {
                assert_eq!(filters, ["c"]);
                server.answer_unsubscribe(packet_id, &[ReasonCode::NoSubscriptionExisted], now);
            }
            None => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(server.poll_event(), None, "one request at a time");
        let mut bytes = Vec::new();
        server.poll_output(&mut bytes);
        pair.client().handle_input(&bytes, now).unwrap();
        seen.extend(pair.client().poll_event());
    }
    assert_eq!(
        seen,
        [
            Event::Subscribed(vec![ReasonCode::Success, ReasonCode::NotAuthorized]),
            Event::Unsubscribed(vec![ReasonCode::NoSubscriptionExisted]),
        ]
    );
}

#[test]
fn a_silent_server_is_given_up_after_two_keep_alives() {
    let mut pair = connected(Version::V3);
    pair.now = pair.now.plus_seconds(u32::from(KEEP_ALIVE));
    let now = pair.now;
    assert_eq!(pair.client().next_timeout(), Some(now));
    pair.client().handle_timeout(now).unwrap();
    let mut bytes = Vec::new();
    pair.client().poll_output(&mut bytes);
    assert_eq!(bytes, [0xC0, 0]);
    assert!(pair.client().handle_timeout(now.plus_seconds(u32::from(KEEP_ALIVE))).is_err());
    assert!(pair.client().is_closed());
}

#[test]
fn an_old_server_that_refuses_5_0_in_its_own_words_is_understood() {
    let mut client = Connection::client(&ConnectOptions::new("c"), Session::default(), Millis(0));
    client.handle_input(&[0x20, 2, 0, 1], Millis(0)).unwrap();
    assert!(matches!(client.poll_event(), Some(Event::Refused { reason: ReasonCode::UnsupportedProtocolVersion, .. })));
    assert!(client.is_closed());
}

#[test]
fn a_server_beyond_our_receive_maximum_is_told_so() {
    let mut pair = connected(Version::V5);
    let now = pair.now;
    let mut bytes = Vec::new();
    for packet_id in 1..=11 {
        bytes.extend([0x32, 6, 0, 1, b't', 0, packet_id, 0]);
    }
    let error = pair.client().handle_input(&bytes, now).unwrap_err();
    assert_eq!(error.reason, ReasonCode::ReceiveMaximumExceeded);
    let mut output = Vec::new();
    pair.client().poll_output(&mut output);
    assert_eq!(output, [0xE0, 1, 0x93]);
}

#[test]
fn a_message_too_large_for_the_server_is_settled_with_that_reason() {
    let mut client = Connection::client(&ConnectOptions::new("c"), Session::default(), Millis(0));
    let topic = TopicName::new("t").unwrap();
    let large = MessageBuilder::new(&topic, &[0; 100]).qos(QoS::AtLeastOnce).build();
    let small = MessageBuilder::new(&topic, b"small").qos(QoS::AtLeastOnce).build();
    let sequence = client.publish(large, Millis(0)).unwrap().unwrap();
    client.publish(small, Millis(0)).unwrap();
    let mut bytes = Vec::new();
    client.poll_output(&mut bytes);
    bytes.clear();
    let mut server = Connection::server(AcceptOptions { max_packet_bytes: 50, ..AcceptOptions::default() }, Millis(0));
    let mut connect = Vec::new();
    Packet::Connect(crate::mqtt::packet::Connect::new(Version::V5, "c")).encode(Version::V5, &mut connect);
    server.handle_input(&connect, Millis(0)).unwrap();
    server.accept(Session::default(), false, Millis(0));
    server.poll_output(&mut bytes);
    client.handle_input(&bytes, Millis(0)).unwrap();
    assert!(matches!(client.poll_event(), Some(Event::Connected(_))));
    assert_eq!(client.poll_event(), Some(Event::Settled { sequence, reason: ReasonCode::PacketTooLarge }));
    assert_eq!(client.session().unsettled(), 1);
}
