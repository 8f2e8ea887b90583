//! A message: what is kept of a PUBLISH once somebody must keep it, and the borrowed form that routing works on.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

use super::frame::Frame;
use super::packet::Publish;
use super::properties::{Forwardable, ForwardableBuilder};
use super::{Millis, QoS, Reading, TopicName};

/// A message, shared: cloning it copies no bytes.
#[derive(Debug, Clone)]
pub struct Message {
    storage: Storage,
    /// QoS that it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN.
    pub retain: bool,
    /// When it is no longer of use; `None` is never.
    pub expires_at: Option<Millis>,
    /// What the adapter that read it knows about it.
    pub reading: Option<Arc<Reading>>,
}

/// Where the bytes of a message stand.
#[derive(Debug, Clone)]
enum Storage {
    /// Topic, forwardable properties and payload in one allocation, in this order.
    Packed { bytes: Arc<[u8]>, properties_length: u32, topic_length: u16 },
    /// In the packet that it came in: a large payload is never copied.
    Framed(Arc<Framed>),
}

#[derive(Debug)]
struct Framed {
    frame: Arc<Frame>,
    topic: Range<usize>,
    properties: Range<usize>,
    payload: Range<usize>,
}

impl Message {
    /// A message with neither properties nor expiry, QoS 0, not retained.
    pub fn new(topic: &TopicName, payload: &[u8]) -> Self {
        MessageBuilder::new(topic, payload).build()
    }

    /// The topic name.
    pub fn topic(&self) -> &str {
        let bytes = match &self.storage {
            Storage::Packed { bytes, topic_length, .. } => &bytes[..usize::from(*topic_length)],
            Storage::Framed(framed) => &framed.frame[framed.topic.clone()],
        };
        // The constructors put a whole `&str` here, so this never fails.
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        match &self.storage {
            Storage::Packed { bytes, properties_length, topic_length } => {
                &bytes[usize::from(*topic_length) + *properties_length as usize..]
            }
            Storage::Framed(framed) => &framed.frame[framed.payload.clone()],
        }
    }

    /// The properties that go on to every receiver, in wire form.
    pub fn properties(&self) -> Forwardable<'_> {
        Forwardable::plain(match &self.storage {
            Storage::Packed { bytes, properties_length, topic_length } => {
                let start = usize::from(*topic_length);
                &bytes[start..start + *properties_length as usize]
            }
            Storage::Framed(framed) => &framed.frame[framed.properties.clone()],
        })
    }

    /// Bytes held, for the bounds of queues: topic, properties, payload and the message's own bookkeeping.
    pub fn size(&self) -> usize {
        let bytes = match &self.storage {
            Storage::Packed { bytes, .. } => bytes.len(),
            Storage::Framed(framed) => framed.frame.len(),
        };
        bytes + size_of::<Self>()
    }

    /// Whether it is of no more use at `now`.
    pub fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// Messages are the same where everything that a receiver can see is.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.topic() == other.topic()
            && self.properties() == other.properties()
            && self.payload() == other.payload()
            && (self.qos, self.retain, self.expires_at) == (other.qos, other.retain, other.expires_at)
            && self.reading == other.reading
    }
}

impl Storage {
    fn pack(topic: &str, properties: Forwardable<'_>, payload: &[u8]) -> Self {
        thread_local! {
            static SCRATCH: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        let assemble = |into: &mut Vec<u8>| {
            into.clear();
            into.extend_from_slice(topic.as_bytes());
            properties.write(into);
            into.extend_from_slice(payload);
        };
        let size = topic.len() + properties.len() + payload.len();
        let bytes = if size <= 8192 {
            // Assembled in place and copied once into its one allocation.
            SCRATCH.with_borrow_mut(|scratch| {
                assemble(scratch);
                Arc::from(scratch.as_slice())
            })
        } else {
            let mut whole = Vec::with_capacity(size);
            assemble(&mut whole);
            Arc::from(whole)
        };
        // A valid topic has at most 65,535 bytes, and a packet at most 268,435,455.
        Self::Packed { bytes, properties_length: properties.len() as u32, topic_length: topic.len() as u16 }
    }

    /// The storage in `frame`, if all parts stand there.
    fn in_frame(frame: &Arc<Frame>, topic: &str, properties: Forwardable<'_>, payload: &[u8]) -> Option<Self> {
        Some(Self::Framed(Arc::new(Framed {
            topic: range_within(frame, topic.as_bytes())?,
            properties: range_within(frame, properties.contiguous()?)?,
            payload: range_within(frame, payload)?,
            frame: Arc::clone(frame),
        })))
    }
}

/// Where `part` stands in `whole`.
fn range_within(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    if part.is_empty() {
        return Some(0..0);
    }
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

/// Makes a [`Message`] step by step.
#[derive(Debug, Clone)]
pub struct MessageBuilder<'a> {
    topic: &'a str,
    payload: &'a [u8],
    properties: ForwardableBuilder,
    qos: QoS,
    retain: bool,
    expires_at: Option<Millis>,
    reading: Option<Arc<Reading>>,
}

impl<'a> MessageBuilder<'a> {
    /// Starts with QoS 0, not retained, no properties.
    pub fn new(topic: &'a TopicName, payload: &'a [u8]) -> Self {
        Self {
            topic: topic.as_str(),
            payload,
            properties: ForwardableBuilder::default(),
            qos: QoS::AtMostOnce,
            retain: false,
            expires_at: None,
            reading: None,
        }
    }

    /// Sets the QoS.
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Sets RETAIN.
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// Sets when the message is of no more use.
    pub fn expires_at(mut self, at: Option<Millis>) -> Self {
        self.expires_at = at;
        self
    }

    /// Sets the properties that go on to every receiver.
    pub fn properties(mut self, properties: ForwardableBuilder) -> Self {
        self.properties = properties;
        self
    }

    /// Says what is known about the value.
    pub fn reading(mut self, reading: Arc<Reading>) -> Self {
        self.reading = Some(reading);
        self
    }

    /// The message.
    pub fn build(self) -> Message {
        Message {
            storage: Storage::pack(self.topic, self.properties.as_forwardable(), self.payload),
            qos: self.qos,
            retain: self.retain,
            expires_at: self.expires_at,
            reading: self.reading,
        }
    }
}

/// A message on its way through the router: borrowed from the read buffer or from a kept [`Message`].
///
/// A [`Message`] is made of it only when somebody must keep it, and then once for all who do.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The topic name.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// The properties that go on to every receiver.
    pub properties: Forwardable<'a>,
    /// QoS that it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN.
    pub retain: bool,
    /// When it is no longer of use.
    pub expires_at: Option<Millis>,
    reading: Option<&'a Arc<Reading>>,
    /// The packet that it stands in, where keeping it may keep that.
    frame: Option<&'a Arc<Frame>>,
    kept: OnceCell<Message>,
}

impl<'a> Publication<'a> {
    /// A publication of parts that have been validated, which never expires.
    pub fn new(topic: &'a str, payload: &'a [u8], properties: Forwardable<'a>, qos: QoS, retain: bool) -> Self {
        Self {
            topic,
            payload,
            properties,
            qos,
            retain,
            expires_at: None,
            reading: None,
            frame: None,
            kept: OnceCell::new(),
        }
    }

    /// The publication of a PUBLISH that arrived at `now`. Its topic alias has been resolved.
    pub fn from_publish(publish: &Publish<'a>, now: Millis) -> Self {
        Self {
            topic: publish.topic,
            payload: publish.payload,
            properties: publish.properties.forwardable,
            qos: publish.qos,
            retain: publish.retain,
            expires_at: publish.properties.message_expiry_interval.map(|seconds| now.plus_seconds(seconds)),
            reading: None,
            frame: None,
            kept: OnceCell::new(),
        }
    }

    /// Says that all of it stands in `frame`, so that keeping it copies nothing.
    pub fn within(mut self, frame: Option<&'a Arc<Frame>>) -> Self {
        self.frame = frame;
        self
    }

    /// Says what is known about the value.
    pub fn with_reading(mut self, reading: Option<&'a Arc<Reading>>) -> Self {
        self.reading = reading;
        self
    }

    /// What is known about the value.
    pub fn reading(&self) -> Option<&'a Arc<Reading>> {
        self.reading
    }

    /// The publication of a message that is kept already.
    pub fn from_message(message: &'a Message) -> Self {
        Self {
            topic: message.topic(),
            payload: message.payload(),
            properties: message.properties(),
            qos: message.qos,
            retain: message.retain,
            expires_at: message.expires_at,
            reading: message.reading.as_ref(),
            frame: None,
            kept: OnceCell::from(message.clone()),
        }
    }

    /// The same publication under another topic, as a route remaps it.
    pub fn with_topic(&self, topic: &'a str) -> Self {
        Self {
            topic,
            payload: self.payload,
            properties: self.properties,
            qos: self.qos,
            retain: self.retain,
            expires_at: self.expires_at,
            reading: self.reading,
            frame: None,
            kept: OnceCell::new(),
        }
    }

    /// The message that is kept of it.
    pub fn keep(&self) -> &Message {
        self.kept.get_or_init(|| {
            let framed =
                self.frame.and_then(|frame| Storage::in_frame(frame, self.topic, self.properties, self.payload));
            Message {
                storage: framed.unwrap_or_else(|| Storage::pack(self.topic, self.properties, self.payload)),
                qos: self.qos,
                retain: self.retain,
                expires_at: self.expires_at,
                reading: self.reading.cloned(),
            }
        })
    }
}
