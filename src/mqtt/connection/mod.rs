//! A connection: its two halves live apart, because two owners use them.
//!
//! The [`Receiver`] belongs to the task that reads: framing, handshake, inbound topic aliases. The [`Sender`] stands
//! behind the session's lock, where whoever delivers a message encodes it: version, the peer's limits, outbound aliases.
//!
//! [`Connection`] composes both with a [`Session`], for one owner: the small client, and the tests of the protocol.

pub mod answers;
mod event;
mod keep_alive;
mod machine;
mod options;
mod receiver;
mod sender;

pub use event::{CommandError, Connected, Delivery, Event};
pub use keep_alive::PeerSilent;
pub use options::{AcceptOptions, ConnectOptions, LARGEST_PACKET_BYTES, WillOptions};
pub use receiver::{Received, Receiver};
pub use sender::{Part, Sender, TooLarge};

use self::machine::Machine;
use super::codec::CodecError;
use super::packet::SubscriptionOptions;
use super::session::Session;
use super::{Message, Millis, PacketId, ReasonCode, Side, TopicFilter, Version};

/// One side of a connection, without I/O.
///
/// Bytes go in by [`handle_input`](Self::handle_input) and come out by [`poll_output`](Self::poll_output); time is
/// told by [`handle_timeout`](Self::handle_timeout). A received message is acknowledged when it is taken by
/// [`poll_message`](Self::poll_message), so the acknowledgements keep the order of the messages [MQTT-4.6.0] and what
/// was not taken comes again.
///
/// ```text
///             CONNACK, accept               DISCONNECT, refusal, error
///   Handshake ---------------> Open ------------------------------------> Closed
/// ```
#[derive(Debug)]
pub struct Connection {
    receiver: Receiver,
    machine: Machine,
}

impl Connection {
    /// A client's connection; its CONNECT is the first output. `session` is that of the last connection, or a new one.
    pub fn client(options: &ConnectOptions, session: Session, now: Millis) -> Self {
        let bounds = options.bounds();
        let mut machine = Machine::new(Side::Client, options.version, bounds.clone(), session, now);
        machine.connect(options, now);
        Self { receiver: receiver(Side::Client, options.version, &bounds), machine }
    }

    /// A server's connection. Its session comes with [`accept`](Self::accept).
    pub fn server(bounds: AcceptOptions, now: Millis) -> Self {
        Self {
            receiver: receiver(Side::Server, Version::V5, &bounds),
            machine: Machine::new(Side::Server, Version::V5, bounds, Session::default(), now),
        }
    }

    /// Takes the whole packets at the start of `input` and says how many bytes they were.
    ///
    /// It stops early while too many events or messages wait to be polled; poll them, and call it again.
    ///
    /// # Errors
    /// What the peer violates. DISCONNECT with its reason is in the output (5.0), and the connection is over.
    pub fn handle_input(&mut self, input: &[u8], now: Millis) -> Result<usize, CodecError> {
        let mut consumed = 0;
        while !self.machine.is_closed() && !self.machine.is_full() {
            let taken = self.receiver.receive(&input[consumed..]).and_then(|received| match received {
                Received::Packet(packet, length) => self.machine.handle_packet(&packet, now).map(|()| Some(length)),
                Received::Incomplete { .. } => Ok(None),
            });
            match taken {
                Ok(Some(length)) => consumed += length,
                Ok(None) => break,
                Err(error) => {
                    self.machine.fail(error.reason);
                    return Err(error);
                }
            }
        }
        Ok(consumed)
    }

    /// Moves what is to be sent to the end of `into`.
    pub fn poll_output(&mut self, into: &mut Vec<u8>) {
        into.append(&mut self.machine.output);
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.machine.events.pop_front()
    }

    /// The next message that came, which is acknowledged by this.
    pub fn poll_message(&mut self, now: Millis) -> Option<Delivery> {
        self.machine.poll_message(now)
    }

    /// Whether [`handle_input`](Self::handle_input) takes nothing until events or messages are polled.
    pub fn is_full(&self) -> bool {
        self.machine.is_full()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn next_timeout(&self) -> Option<Millis> {
        self.machine.next_timeout()
    }

    /// Sends a PINGREQ where one is due.
    ///
    /// # Errors
    /// The peer has been silent for too long. The connection is over.
    pub fn handle_timeout(&mut self, now: Millis) -> Result<(), PeerSilent> {
        self.machine.handle_timeout(now)
    }

    /// Publishes a message at its QoS. With QoS 1 and 2 it returns the sequence that [`Event::Settled`] will name, and
    /// the message waits while the peer's window is full, or there is no connection.
    ///
    /// # Errors
    /// The message was not taken.
    pub fn publish(&mut self, message: Message, now: Millis) -> Result<Option<u64>, CommandError> {
        self.machine.publish(message, now)
    }

    /// Client: subscribes. One request is sent at a time, further ones wait.
    ///
    /// # Errors
    /// Not connected, or too many requests wait.
    pub fn subscribe(
        &mut self,
        filters: &[(TopicFilter, SubscriptionOptions)],
        now: Millis,
    ) -> Result<(), CommandError> {
        self.machine.subscribe(filters, now)
    }

    /// Client: ends subscriptions.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn unsubscribe(&mut self, filters: &[TopicFilter], now: Millis) -> Result<(), CommandError> {
        self.machine.unsubscribe(filters, now)
    }

    /// Client: sends a PINGREQ now.
    pub fn ping(&mut self, now: Millis) {
        self.machine.ping(now);
    }

    /// Says DISCONNECT, where the version has one for our side, and ends the connection.
    pub fn disconnect(&mut self, reason: ReasonCode) {
        self.machine.disconnect(reason);
    }

    /// Server: takes the connection that [`Event::ConnectRequested`] asked for.
    pub fn accept(&mut self, session: Session, session_present: bool, now: Millis) {
        self.machine.accept(session, session_present, now);
    }

    /// Server: refuses it.
    pub fn refuse(&mut self, reason: ReasonCode) {
        self.machine.refuse(reason);
    }

    /// Server: answers a SUBSCRIBE with one reason per filter.
    pub fn answer_subscribe(&mut self, packet_id: PacketId, reasons: &[ReasonCode], now: Millis) {
        self.machine.answer_subscribe(packet_id, reasons, now);
    }

    /// Server: answers an UNSUBSCRIBE with one reason per filter.
    pub fn answer_unsubscribe(&mut self, packet_id: PacketId, reasons: &[ReasonCode], now: Millis) {
        self.machine.answer_unsubscribe(packet_id, reasons, now);
    }

    /// The version that is spoken.
    pub fn version(&self) -> Version {
        self.machine.version()
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.machine.is_closed()
    }

    /// The session, as it stands.
    pub fn session(&self) -> &Session {
        &self.machine.session
    }

    /// Ends the connection and gives its session to the next. Messages that were not polled come again.
    pub fn into_session(self) -> Session {
        self.machine.session
    }
}

fn receiver(side: Side, version: Version, bounds: &AcceptOptions) -> Receiver {
    Receiver::new(side, version, bounds.max_packet_bytes as usize, bounds.topic_alias_maximum)
}
