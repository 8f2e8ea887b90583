//! One connection of the scripted upstream: reads, records, then answers.

use super::script::Greeting;
use super::{Arrival, Behaviour, Do, Event, Published, Shared, When, lock};
use edgeway::mqtt::codec::{Framing, split_frame};
use edgeway::mqtt::packet::{Ack, ConnAck, Connect, Disconnect, Publish, SubAck};
use edgeway::mqtt::{Packet, PacketId, QoS, ReasonCode, Version};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// After this time without a packet, what was gathered is acknowledged.
const LULL: Duration = Duration::from_millis(30);

/// How a connection ends.
enum End {
    Close,
    /// It does not: nothing is read or written any more.
    BlackHole,
}

struct Connection {
    shared: Arc<Shared>,
    number: usize,
    behaviour: Behaviour,
    version: Version,
    client_id: String,
    reader: TcpStream,
    writer: Arc<Mutex<TcpStream>>,
    aliases: HashMap<u16, String>,
    /// PUBLISH of QoS 1 and 2 that came.
    count: usize,
    in_flight: HashSet<PacketId>,
    /// Acknowledgements that wait for a lull.
    gathered: Vec<(&'static str, PacketId, ReasonCode)>,
}

pub(super) fn start(shared: Arc<Shared>, stream: TcpStream) {
    std::thread::spawn(move || {
        let _ = stream.set_nodelay(true);
        let writer = Arc::new(Mutex::new(stream.try_clone().expect("a socket can be cloned")));
        let (number, behaviour) = {
            let mut state = shared.lock();
            state.connections += 1;
            let number = state.connections;
            state.standing.insert(number, (Arc::clone(&writer), None));
            let behaviours = &mut state.behaviours;
            let behaviour = if behaviours.len() > 1 { behaviours.pop_front() } else { behaviours.front().cloned() };
            (number, behaviour.unwrap_or_default())
        };
        let mut connection = Connection {
            shared: Arc::clone(&shared),
            number,
            behaviour,
            version: Version::V5,
            client_id: String::new(),
            reader: stream,
            writer,
            aliases: HashMap::new(),
            count: 0,
            in_flight: HashSet::new(),
            gathered: Vec::new(),
        };
        let end = connection.run();
        if let Ok(End::BlackHole) = end {
            // The sockets are kept in the table.
            return;
        }
        shared.lock().standing.remove(&number);
        let _ = connection.reader.shutdown(Shutdown::Both);
        shared.note(number, Event::End);
    });
}

impl Connection {
    fn run(&mut self) -> io::Result<End> {
        let mut input = Vec::new();
        if self.behaviour.gathers {
            self.reader.set_read_timeout(Some(LULL))?;
        }
        loop {
            while let Framing::Complete(frame, length) = split_frame(&input, usize::MAX).map_err(io::Error::other)? {
                let outcome = match Packet::decode(frame, self.version) {
                    Ok(packet) => self.handle(&packet, length)?,
                    Err(error) => {
                        self.note(Event::Violation(error.to_string()));
                        ControlFlow::Break(End::Close)
                    }
                };
                if let ControlFlow::Break(end) = outcome {
                    return Ok(end);
                }
                input.drain(..length);
            }
            let mut chunk = [0; 16 * 1024];
            match self.reader.read(&mut chunk) {
                Ok(0) => return Ok(End::Close),
                Ok(count) => input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || error.kind() == io::ErrorKind::TimedOut => {
                    for (name, packet_id, reason) in std::mem::take(&mut self.gathered) {
                        self.acknowledge(name, packet_id, reason)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn handle(&mut self, packet: &Packet<'_>, bytes: usize) -> io::Result<ControlFlow<End>> {
        match packet {
            Packet::Connect(connect) => return self.handle_connect(connect),
            Packet::Publish(publish) => return self.handle_publish(publish, bytes),
            Packet::PubRel(ack) => {
                self.note(Event::Release(ack.packet_id.get()));
                if let Some(ids) = self.shared.lock().sessions.get_mut(&self.client_id) {
                    ids.remove(&ack.packet_id);
                }
                return match self.rule(|when| matches!(when, When::Release)) {
                    Some(act) => self.act(&act),
                    None => {
                        self.acknowledge("PUBCOMP", ack.packet_id, ReasonCode::Success)?;
                        Ok(ControlFlow::Continue(()))
                    }
                };
            }
            Packet::Subscribe(subscribe) => {
                let mut codes = Vec::new();
                for (filter, options) in subscribe.filters.iter() {
                    let filter = filter.to_owned();
                    self.note(Event::Subscribe { filter, qos: options.qos, no_local: options.no_local });
                    codes.push(self.behaviour.suback.map_or(options.qos as u8, |reason| match self.version {
                        Version::V3 => 0x80,
                        Version::V5 => reason as u8,
                    }));
                }
                self.send(&Packet::SubAck(SubAck::new(subscribe.packet_id, &codes)))?;
            }
            Packet::Unsubscribe(unsubscribe) => {
                let mut codes = Vec::new();
                for filter in unsubscribe.filters.iter() {
                    self.note(Event::Unsubscribe(filter.to_owned()));
                    codes.push(0);
                }
                self.send(&Packet::UnsubAck(SubAck::new(unsubscribe.packet_id, &codes)))?;
            }
            Packet::PingReq => {
                self.note(Event::Ping);
                if let Some(act) = self.rule(|when| matches!(when, When::Ping)) {
                    return self.act(&act);
                }
                self.send(&Packet::PingResp)?;
            }
            Packet::PubAck(ack) => self.note(Event::Acknowledgement("PUBACK", ack.packet_id.get(), ack.reason)),
            Packet::PubRec(ack) => self.note(Event::Acknowledgement("PUBREC", ack.packet_id.get(), ack.reason)),
            Packet::PubComp(ack) => self.note(Event::Acknowledgement("PUBCOMP", ack.packet_id.get(), ack.reason)),
            Packet::Disconnect(disconnect) => {
                self.note(Event::Disconnect(disconnect.reason));
                return Ok(ControlFlow::Break(End::Close));
            }
            other => {
                self.note(Event::Violation(format!("{} is not for a server", other.name())));
                return Ok(ControlFlow::Break(End::Close));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn handle_connect(&mut self, connect: &Connect<'_>) -> io::Result<ControlFlow<End>> {
        self.version = connect.version;
        connect.client_id.clone_into(&mut self.client_id);
        let session_present = {
            let mut state = self.shared.lock();
            if self.behaviour.forgets || connect.clean_start {
                state.sessions.remove(connect.client_id);
            }
            state.sessions.contains_key(connect.client_id)
        };
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.note(Event::Connect(Arrival {
            version: connect.version,
            client_id: connect.client_id.to_owned(),
            clean_start: connect.clean_start,
            keep_alive: connect.keep_alive,
            session_expiry_interval: connect.session_expiry_interval,
            username: connect.username.map(str::to_owned),
            password: connect.password.map(<[u8]>::to_vec),
            will: connect.will.map(|will| {
                (will.topic.to_owned(), String::from_utf8_lossy(will.payload).into_owned(), will.qos, will.retain)
            }),
            user_properties: connect.user_properties.iter().map(owned).collect(),
            session_present,
        }));
        let is_meant = connect.version == Version::V5 || !self.behaviour.only_version_5;
        match self.behaviour.greeting.clone() {
            Greeting::Nothing if is_meant => return Ok(ControlFlow::Continue(())),
            Greeting::Close if is_meant => return Ok(ControlFlow::Break(End::Close)),
            Greeting::Refuse(reason, server) if is_meant => {
                let mut connack = ConnAck::new(reason, false);
                connack.server_reference = server.as_deref();
                if connect.version == Version::V5 && reason == ReasonCode::UnsupportedProtocolVersion {
                    // As a server that knows 3.1.1 alone.
                    lock(&self.writer).write_all(&[0x20, 2, 0, 1])?;
                } else {
                    self.send(&Packet::ConnAck(connack))?;
                }
                return Ok(ControlFlow::Break(End::Close));
            }
            _ => {}
        }
        // In 3.1.1 a session that is not clean is kept for ever.
        if connect.session_expiry_interval > 0 {
            self.shared.lock().sessions.entry(connect.client_id.to_owned()).or_default();
        }
        let terms = self.behaviour.terms.clone();
        let mut connack = ConnAck::new(ReasonCode::Success, session_present);
        connack.receive_maximum = terms.receive_maximum;
        connack.maximum_packet_size = terms.maximum_packet_size;
        connack.maximum_qos = terms.maximum_qos;
        connack.retain_available = terms.retain_available;
        connack.topic_alias_maximum = terms.topic_alias_maximum;
        connack.server_keep_alive = terms.server_keep_alive;
        self.send(&Packet::ConnAck(connack))?;
        if let Some((_, version)) = self.shared.lock().standing.get_mut(&self.number) {
            *version = Some(connect.version);
        }
        match self.rule(|when| matches!(when, When::Connected)) {
            Some(act) => self.act(&act),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    fn handle_publish(&mut self, publish: &Publish<'_>, bytes: usize) -> io::Result<ControlFlow<End>> {
        if publish.qos != QoS::AtMostOnce {
            self.count += 1;
        }
        let alias = publish.properties.topic_alias;
        let topic = match alias {
            Some(alias) if publish.topic.is_empty() => self.aliases.get(&alias).cloned().unwrap_or_default(),
            Some(alias) => {
                self.aliases.insert(alias, publish.topic.to_owned());
                publish.topic.to_owned()
            }
            None => publish.topic.to_owned(),
        };
        let act = self.rule(|when| match when {
            When::Topic(wanted) => topic == *wanted,
            When::Payload(text) => String::from_utf8_lossy(publish.payload).contains(text),
            When::Qos(qos) => publish.qos == *qos,
            When::Nth(number) => publish.qos != QoS::AtMostOnce && self.count == *number,
            When::Acknowledgeable => publish.qos != QoS::AtMostOnce,
            When::Connected | When::Release | When::Ping => false,
        });
        let is_new = match (publish.packet_id, publish.qos) {
            (Some(packet_id), QoS::ExactlyOnce) => {
                let mut state = self.shared.lock();
                let ids = state.sessions.get(&self.client_id);
                let is_new = ids.is_none_or(|ids| !ids.contains(&packet_id)) && !self.in_flight.contains(&packet_id);
                if matches!(act, None | Some(Do::Withhold))
                    && let Some(ids) = state.sessions.get_mut(&self.client_id)
                {
                    ids.insert(packet_id);
                }
                is_new
            }
            _ => true,
        };
        self.in_flight.extend(publish.packet_id);
        let violation = self.violation(publish, &topic, bytes);
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.note(Event::Publish(Published {
            topic,
            alias,
            has_name: !publish.topic.is_empty(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            dup: publish.dup,
            retain: publish.retain,
            packet_id: publish.packet_id.map(PacketId::get),
            expiry: publish.properties.message_expiry_interval,
            user_properties: publish.properties.forwardable.user_properties().map(owned).collect(),
            bytes,
            in_flight: self.in_flight.len(),
            taken: is_new && violation.is_none() && matches!(act, None | Some(Do::Puback)),
        }));
        if let Some((reason, what)) = violation {
            self.note(Event::Violation(what.to_owned()));
            return self.act(&Do::Disconnect(reason));
        }
        let Some(packet_id) = publish.packet_id else {
            return act.map_or(Ok(ControlFlow::Continue(())), |act| self.act(&act));
        };
        let (name, reason) = match (act, publish.qos) {
            (None, QoS::ExactlyOnce) => ("PUBREC", ReasonCode::Success),
            (None | Some(Do::Puback), _) => ("PUBACK", ReasonCode::Success),
            (Some(Do::Refuse(reason)), QoS::ExactlyOnce) => ("PUBREC", reason),
            (Some(Do::Refuse(reason)), _) => ("PUBACK", reason),
            (Some(act), _) => return self.act(&act),
        };
        if self.behaviour.gathers {
            self.gathered.push((name, packet_id, reason));
        } else {
            self.acknowledge(name, packet_id, reason)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Which of our terms a PUBLISH goes beyond.
    fn violation(&self, publish: &Publish<'_>, topic: &str, bytes: usize) -> Option<(ReasonCode, &'static str)> {
        if self.version == Version::V3 {
            return None;
        }
        let terms = &self.behaviour.terms;
        if self.in_flight.len() > usize::from(terms.receive_maximum) {
            return Some((ReasonCode::ReceiveMaximumExceeded, "more in flight than the receive maximum"));
        }
        if terms.maximum_packet_size.is_some_and(|maximum| bytes > maximum as usize) {
            return Some((ReasonCode::PacketTooLarge, "larger than the maximum packet size"));
        }
        if publish.qos > terms.maximum_qos {
            return Some((ReasonCode::QoSNotSupported, "a QoS above the maximum"));
        }
        if publish.retain && !terms.retain_available {
            return Some((ReasonCode::RetainNotSupported, "RETAIN where it is not available"));
        }
        let alias = publish.properties.topic_alias.unwrap_or(0);
        if alias > terms.topic_alias_maximum || topic.is_empty() {
            return Some((ReasonCode::TopicAliasInvalid, "a topic alias that is unknown or above the maximum"));
        }
        None
    }

    fn rule(&self, fits: impl Fn(&When) -> bool) -> Option<Do> {
        self.behaviour.rules.iter().find(|(when, _)| fits(when)).map(|(_, act)| act.clone())
    }

    fn act(&mut self, act: &Do) -> io::Result<ControlFlow<End>> {
        let (reason, server) = match act {
            Do::Close => return Ok(ControlFlow::Break(End::Close)),
            Do::BlackHole => return Ok(ControlFlow::Break(End::BlackHole)),
            Do::Withhold | Do::Puback | Do::Refuse(_) => return Ok(ControlFlow::Continue(())),
            Do::Disconnect(reason) => (*reason, None),
            Do::SendAway(reason, server) => (*reason, Some(server.as_str())),
        };
        if self.version == Version::V5 {
            let mut disconnect = Disconnect::new(reason);
            disconnect.server_reference = server;
            self.send(&Packet::Disconnect(disconnect))?;
        }
        Ok(ControlFlow::Break(End::Close))
    }

    fn acknowledge(&mut self, name: &'static str, packet_id: PacketId, reason: ReasonCode) -> io::Result<()> {
        let ack = Ack::new(packet_id, reason);
        let packet = match name {
            "PUBACK" => Packet::PubAck(ack),
            "PUBREC" => Packet::PubRec(ack),
            _ => Packet::PubComp(ack),
        };
        if name != "PUBREC" || reason.is_error() {
            self.in_flight.remove(&packet_id);
            if let Some(ids) = self.shared.lock().sessions.get_mut(&self.client_id) {
                ids.remove(&packet_id);
            }
        }
        self.note(Event::Acknowledged(name, packet_id.get(), reason));
        self.send(&packet)
    }

    fn send(&self, packet: &Packet<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        lock(&self.writer).write_all(&bytes)
    }

    fn note(&self, event: Event) {
        self.shared.note(self.number, event);
    }
}
