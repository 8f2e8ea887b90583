//! Dialling: we send CONNECT, the server answers, and from then on the link is like any other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::exchange::{Dialled, Exchange, ReceiveRoute};
use super::told::Answers;
use super::{End, Io, Link, read_packet, split};
use crate::broker::Broker;
use crate::broker::session_slot::{Attachment, Hop, SessionSlot};
use crate::broker::sessions::Connected;
use crate::clock;
use crate::metrics::Tally;
use crate::mqtt::codec::{Framing, split_frame};
use crate::mqtt::connection::{Receiver, Sender};
use crate::mqtt::packet::{
    Connect, Publish, RetainHandling, Subscribe, SubscribeFilters, SubscriptionOptions, Unsubscribe, UnsubscribeFilters,
};
use crate::mqtt::properties::UserProperties;
use crate::mqtt::session::SUBSCRIBE_PACKET_ID;
use crate::mqtt::{Packet, QoS, ReasonCode, Side, TopicFilter, Version};
use crate::net::{Transport, tls};
use crate::store::{Batch, Journal, Record, Ticket};

/// Topic aliases that a server may use towards us.
const TOPIC_ALIASES: u16 = 64;

/// Messages in flight towards a server of 3.1.1, which cannot say how many it takes. mosquitto takes 20 at QoS 2, and
/// closes the connection at the next: a longer backlog would never get through.
const WINDOW_OF_VERSION_3: u16 = 20;

/// What a dialled link says first.
#[derive(Debug)]
pub struct Hello<'a> {
    /// CONNECT; its receive maximum and topic alias maximum are set here.
    pub connect: Connect<'a>,
    /// What is subscribed, with the QoS of each.
    pub subscriptions: &'a [(TopicFilter, SubscriptionOptions)],
    /// What the session was subscribed to when it was used last, if the server still has it: what is missing is
    /// subscribed then, what is no more in `subscriptions` is unsubscribed. `None` where nobody knows.
    pub subscribed: Option<BTreeMap<String, QoS>>,
    /// Takes what the server says apart from messages.
    pub answers: Arc<Answers>,
    /// Sent before anything of the queue, at QoS 0.
    pub birth: Option<Publish<'a>>,
    /// What becomes of messages that come.
    pub receive: Arc<[ReceiveRoute]>,
    /// Until CONNACK.
    pub timeout: Duration,
    /// What is known of what the server takes; CONNACK may say less.
    pub hop: Hop,
    /// The most messages in flight; `None` is as many as the server takes.
    pub window: Option<u16>,
}

/// What the server said.
#[derive(Debug)]
pub struct Welcome {
    /// The link, ready to run.
    pub link: Link,
    /// Whether the server still had the session.
    pub session_present: bool,
    /// Seconds of keep alive that the server wants instead of ours.
    pub server_keep_alive: Option<u16>,
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The server said no.
    #[error("the server refused: {reason}{}", text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// Why.
        reason: ReasonCode,
        /// What it said for people.
        text: Option<String>,
        /// Another server to use.
        server: Option<String>,
    },
    /// The server closed without an answer.
    #[error("the server closed the connection before CONNACK")]
    Closed,
    /// No answer came in time.
    #[error("no CONNACK within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The transport failed, or what came was no MQTT.
    #[error("{0}")]
    Failed(String),
}

/// Says `hello` over `transport` for the session `slot`.
///
/// # Errors
/// Why the server did not let us in; the session is as it was.
pub async fn dial(
    broker: &Arc<Broker>,
    slot: &Arc<SessionSlot>,
    transport: Transport,
    hello: Hello<'_>,
) -> Result<Welcome, DialError> {
    let (mut io, writer) = split(transport);
    let limits = broker.limits();
    let version = hello.connect.version;
    let mut connect = hello.connect;
    connect.receive_maximum = limits.inflight;
    connect.topic_alias_maximum = TOPIC_ALIASES;
    connect.maximum_packet_size = Some(limits.packet_bytes as u32);
    let mut bytes = Vec::new();
    connect.encode(&mut bytes);
    let mut receiver = Receiver::new(Side::Client, version, limits.packet_bytes, TOPIC_ALIASES);
    let mut input = Vec::new();
    let handshake = async {
        match (&mut io, &writer) {
            (Io::Stream(io), _) => io.stream.write_all(&bytes).await?,
            (Io::Socket(_), Some(writer)) => writer.write_all(&bytes).await?,
            (Io::Socket(_), None) => {}
        }
        if let Io::Stream(io) = &mut io {
            io.stream.flush().await?;
        }
        Ok::<_, std::io::Error>(read_packet(&mut io, &mut receiver, &mut input).await)
    };
    let length = match tokio::time::timeout(hello.timeout, handshake).await {
        Ok(Ok(Ok(length))) => length,
        Ok(Ok(Err(End::Peer(_)))) => return Err(DialError::Closed),
        Ok(Ok(Err(End::Protocol(error)))) => {
            return Err(DialError::Failed(format!("the server sent no CONNACK: {error}")));
        }
        Ok(Ok(Err(End::Transport(error))) | Err(error)) if is_closed(&error) => return Err(DialError::Closed),
        Ok(Ok(Err(End::Transport(error))) | Err(error)) => return Err(DialError::Failed(tls::describe(&error))),
        Ok(Ok(Err(end))) => return Err(DialError::Failed(format!("{end:?}"))),
        Err(_) => return Err(DialError::Timeout(hello.timeout)),
    };
    broker.metrics.sent.add(Tally::packet(bytes.len()));
    broker.metrics.received.add(Tally::packet(length));
    if let Some(reason) = refusal_in_version_3(&input) {
        return Err(DialError::Refused { reason, text: None, server: None });
    }
    // Decoded a second time, so that what it borrows lives here; the receiver knows only that it has come.
    let Ok(Framing::Complete(frame, _)) = split_frame(&input, limits.packet_bytes) else {
        return Err(DialError::Closed);
    };
    let connack = match Packet::decode(frame, version) {
        Ok(Packet::ConnAck(connack)) => connack,
        Ok(Packet::Disconnect(disconnect)) => {
            return Err(DialError::Refused {
                reason: disconnect.reason,
                text: disconnect.reason_string.map(Into::into),
                server: disconnect.server_reference.map(Into::into),
            });
        }
        Ok(other) => return Err(DialError::Failed(format!("the server sent {} instead of CONNACK", other.name()))),
        Err(error) => return Err(DialError::Failed(error.to_string())),
    };
    if connack.reason != ReasonCode::Success {
        return Err(DialError::Refused {
            reason: connack.reason,
            text: connack.reason_string.map(Into::into),
            server: connack.server_reference.map(Into::into),
        });
    }
    let packet_bytes = connack.maximum_packet_size.into_iter().chain(hello.hop.packet_bytes).min();
    let sender = Sender::new(version, packet_bytes, connack.topic_alias_maximum);
    let mut prelude = Vec::new();
    if let Some(mut birth) = hello.birth {
        birth.retain &= connack.retain_available;
        birth.encode(version, &mut prelude);
    }
    let known = if connack.session_present { hello.subscribed } else { Some(BTreeMap::new()) };
    encode_subscriptions(version, hello.subscriptions, known, &hello.answers, &mut prelude);
    let now = clock::now();
    let mut batch = Batch::default();
    slot.heard(now);
    let journal = broker.router.journal();
    // The server uses their identifiers anew as soon as it is subscribed to.
    let held = (!connack.session_present).then(|| forget_receipts(slot, journal)).flatten();
    let Hop { maximum_qos, retain_available, .. } = hello.hop;
    let hop = Hop {
        maximum_qos: maximum_qos.min(connack.maximum_qos),
        retain_available: retain_available && connack.retain_available,
        ..hello.hop
    };
    let window = limits.inflight.min(match version {
        Version::V3 => WINDOW_OF_VERSION_3,
        Version::V5 => connack.receive_maximum,
    });
    let attachment = Attachment {
        sender,
        writer,
        window: hello.window.map_or(window, |most| window.min(most)),
        hop: Some(hop),
        prelude,
        session_present: connack.session_present,
        // The queue of a bridge outlives every connection.
        expiry_interval: u32::MAX,
        // It is we who must be heard.
        keep_alive: 0,
        will: None,
        held,
    };
    let (epoch, _) = slot.attach(attachment, now, &mut batch);
    let (session_present, server_keep_alive) = (connack.session_present, connack.server_keep_alive);
    broker.router.finish(&mut batch);
    let partial = input.split_off(length);
    let connected = Connected { slot: Arc::clone(slot), epoch };
    let resumed_at = session_present.then_some(now);
    let dialled = Dialled { receive: hello.receive, resumed_at, connected_at: now, answers: hello.answers };
    let exchange = Exchange::dialled(Arc::clone(broker), connected, version, dialled);
    let link = Link::new(io, receiver, exchange, partial);
    Ok(Welcome { link, session_present, server_keep_alive })
}

/// Releases what was received from a server that has forgotten the session. What records that, where it waits.
fn forget_receipts(slot: &SessionSlot, journal: &Journal) -> Option<Ticket> {
    let mut batch = Batch::default();
    for number in slot.inbound().clear() {
        batch.push(&Record::Release { queue: slot.queue_id(), number });
    }
    let ticket = journal.append(&mut batch);
    if journal.is_committed(ticket) {
        return None;
    }
    journal.hurry(ticket);
    Some(ticket)
}

/// Why a server refuses that knows 3.1.1 alone: its CONNACK has no properties. One of 5.0 has three bytes or more.
fn refusal_in_version_3(input: &[u8]) -> Option<ReasonCode> {
    match *input {
        [0x20, 2, 0, code] if code > 0 => ReasonCode::from_connect_return_code(code),
        _ => None,
    }
}

/// A server that closes before it has read all that we said resets the connection.
fn is_closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
}

/// Makes the session's subscriptions those that are wanted; `known` are those that it has.
fn encode_subscriptions(
    version: Version,
    wanted: &[(TopicFilter, SubscriptionOptions)],
    known: Option<BTreeMap<String, QoS>>,
    answers: &Answers,
    into: &mut Vec<u8>,
) {
    let is_known = |filter: &TopicFilter, qos: QoS| {
        known.as_ref().is_some_and(|known| known.get(filter.as_str()).is_some_and(|known| *known == qos))
    };
    let missing: Vec<_> = wanted.iter().filter(|(filter, options)| !is_known(filter, options.qos)).collect();
    let is_wanted = |known: &str| wanted.iter().any(|(filter, _)| filter.as_str() == known);
    let superfluous: Vec<String> =
        known.iter().flatten().map(|(filter, _)| filter).filter(|filter| !is_wanted(filter)).cloned().collect();
    for filter in &superfluous {
        let mut filters = Vec::new();
        UnsubscribeFilters::put(&mut filters, filter);
        let unsubscribe = Unsubscribe {
            packet_id: SUBSCRIBE_PACKET_ID,
            user_properties: UserProperties::default(),
            filters: UnsubscribeFilters::new(&filters),
        };
        unsubscribe.encode(version, into);
    }
    encode_subscribe(version, &missing, into);
    let missing = missing.into_iter().map(|(filter, options)| (filter.clone(), options.qos));
    answers.begin(known.unwrap_or_default(), missing, superfluous);
}

/// One SUBSCRIBE for each filter: servers limit the filters of one, and refuse one by one.
fn encode_subscribe(version: Version, subscriptions: &[&(TopicFilter, SubscriptionOptions)], into: &mut Vec<u8>) {
    for (filter, options) in subscriptions {
        let options = match version {
            // 3.1.1 knows the QoS alone.
            Version::V3 => SubscriptionOptions { qos: options.qos, ..SubscriptionOptions::default() },
            Version::V5 => SubscriptionOptions { retain_handling: RetainHandling::SendIfNew, ..*options },
        };
        let mut filters = Vec::new();
        SubscribeFilters::put(&mut filters, filter.as_str(), options);
        let subscribe = Subscribe {
            packet_id: SUBSCRIBE_PACKET_ID,
            subscription_identifier: None,
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::new(&filters),
        };
        subscribe.encode(version, into);
    }
}
