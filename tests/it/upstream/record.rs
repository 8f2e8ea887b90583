//! What the scripted upstream writes down, and questions to it.

use edgeway::mqtt::{QoS, ReasonCode, Version};
use std::fmt;

/// All that came, and what was acknowledged, in its order.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub entries: Vec<Entry>,
}

/// Something that came on a connection.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The number of the connection, from 1 on.
    pub connection: usize,
    pub event: Event,
}

#[derive(Debug, Clone)]
pub enum Event {
    /// CONNECT.
    Connect(Arrival),
    /// PUBLISH.
    Publish(Published),
    /// We have acknowledged: the packet's name, identifier and reason.
    Acknowledged(&'static str, u16, ReasonCode),
    /// The client has acknowledged what we published.
    Acknowledgement(&'static str, u16, ReasonCode),
    /// PUBREL.
    Release(u16),
    /// SUBSCRIBE: a filter, its QoS, and whether No Local is set.
    Subscribe { filter: String, qos: QoS, no_local: bool },
    /// UNSUBSCRIBE.
    Unsubscribe(String),
    /// PINGREQ.
    Ping,
    /// DISCONNECT.
    Disconnect(ReasonCode),
    /// The client did what CONNACK had forbidden, or broke the protocol.
    Violation(String),
    /// The connection is over.
    End,
}

/// A CONNECT.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub version: Version,
    pub client_id: String,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub session_expiry_interval: u32,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    /// Topic, payload, QoS and RETAIN.
    pub will: Option<(String, String, QoS, bool)>,
    pub user_properties: Vec<(String, String)>,
    /// Whether the session was there.
    pub session_present: bool,
}

/// A PUBLISH.
#[derive(Debug, Clone)]
pub struct Published {
    /// Its topic, also where an alias stood for it.
    pub topic: String,
    pub alias: Option<u16>,
    /// Whether the topic itself was sent.
    pub has_name: bool,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub dup: bool,
    pub retain: bool,
    pub packet_id: Option<u16>,
    pub expiry: Option<u32>,
    pub user_properties: Vec<(String, String)>,
    /// Bytes of the packet.
    pub bytes: usize,
    /// QoS 1 and 2 messages of this connection that had come and were not acknowledged, this one among them.
    pub in_flight: usize,
    /// Whether it is taken: recorded, to be acknowledged with success, and no repetition of a QoS 2 message.
    pub taken: bool,
}

impl Published {
    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

impl Record {
    /// Every CONNECT.
    pub fn arrivals(&self) -> Vec<&Arrival> {
        self.pick(|event| if let Event::Connect(arrival) = event { Some(arrival) } else { None })
    }

    /// The version of every CONNECT.
    pub fn versions(&self) -> Vec<Version> {
        self.arrivals().into_iter().map(|arrival| arrival.version).collect()
    }

    /// Every PUBLISH, repetitions and those that were not acknowledged too.
    pub fn publishes(&self) -> Vec<&Published> {
        self.pick(|event| if let Event::Publish(published) = event { Some(published) } else { None })
    }

    /// What was taken.
    pub fn taken(&self) -> Vec<&Published> {
        self.publishes().into_iter().filter(|published| published.taken).collect()
    }

    /// The payloads of what was taken of a topic, as text.
    pub fn payloads(&self, topic: &str) -> Vec<String> {
        self.taken().into_iter().filter(|published| published.topic == topic).map(Published::text).collect()
    }

    /// The payloads of everything of a topic, repetitions and those that were not acknowledged too.
    pub fn attempts(&self, topic: &str) -> Vec<String> {
        self.publishes().into_iter().filter(|published| published.topic == topic).map(Published::text).collect()
    }

    /// Everything that came on a connection, by its number from 1 on.
    pub fn of(&self, connection: usize) -> Record {
        let entries = self.entries.iter().filter(|entry| entry.connection == connection).cloned().collect();
        Record { entries }
    }

    /// Filters that were subscribed to, in their order.
    pub fn subscribed(&self) -> Vec<&str> {
        self.pick(|event| if let Event::Subscribe { filter, .. } = event { Some(filter.as_str()) } else { None })
    }

    /// Filters that were unsubscribed, in their order.
    pub fn unsubscribed(&self) -> Vec<&str> {
        self.pick(|event| if let Event::Unsubscribe(filter) = event { Some(filter.as_str()) } else { None })
    }

    /// What the client did that it may not.
    pub fn violations(&self) -> Vec<&str> {
        self.pick(|event| if let Event::Violation(what) = event { Some(what.as_str()) } else { None })
    }

    /// The reasons of every DISCONNECT.
    pub fn disconnects(&self) -> Vec<ReasonCode> {
        self.pick(|event| if let Event::Disconnect(reason) = event { Some(*reason) } else { None })
    }

    /// How many entries are such.
    pub fn count(&self, is_such: impl Fn(&Event) -> bool) -> usize {
        self.entries.iter().filter(|entry| is_such(&entry.event)).count()
    }

    fn pick<'a, T>(&'a self, pick: impl Fn(&'a Event) -> Option<T>) -> Vec<T> {
        self.entries.iter().filter_map(|entry| pick(&entry.event)).collect()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last of them say why a test waits.
        let skipped = self.entries.len().saturating_sub(200);
        if skipped > 0 {
            writeln!(f, "… {skipped} entries before")?;
        }
        for Entry { connection, event } in &self.entries[skipped..] {
            match event {
                Event::Publish(published) => {
                    let text: String = published.text().chars().take(60).collect();
                    let Published { topic, qos, dup, retain, packet_id, taken, .. } = published;
                    writeln!(
                        f,
                        "{connection}: PUBLISH {topic} {text:?} {qos} dup={dup} retain={retain} {packet_id:?} taken={taken}"
                    )?;
                }
                other => writeln!(f, "{connection}: {other:?}")?,
            }
        }
        Ok(())
    }
}
