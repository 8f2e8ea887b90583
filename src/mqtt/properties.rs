//! Properties of MQTT 5.0: their identifiers, and those that stay in wire form (section 2.2.2).

use super::wire;

/// Identifiers of the properties (MQTT 5.0, table 2-4).
pub mod id {
    pub const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// Properties of a PUBLISH or a will that a server forwards unaltered: payload format indicator, content type,
/// response topic, correlation data and user properties, in their order [MQTT-3.3.2-18].
///
/// They were validated when they were decoded and stay in wire form.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forwardable<'a> {
    /// The property area as it arrived; properties that are not forwarded may stand between.
    raw: &'a [u8],
    /// Bytes of the forwardable properties in `raw`.
    length: usize,
}

impl<'a> Forwardable<'a> {
    /// Takes an area that has forwardable properties only.
    pub const fn plain(raw: &'a [u8]) -> Self {
        Self { raw, length: raw.len() }
    }

    /// Takes a validated area with `length` bytes of forwardable properties among others.
    pub(super) const fn among_others(raw: &'a [u8], length: usize) -> Self {
        Self { raw, length }
    }

    /// The bytes in wire form, where they stand together.
    pub fn contiguous(&self) -> Option<&'a [u8]> {
        (self.length == self.raw.len()).then_some(self.raw)
    }

    /// Bytes in wire form.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends them in wire form.
    pub fn write(&self, into: &mut Vec<u8>) {
        if self.length == self.raw.len() {
            into.extend_from_slice(self.raw);
            return;
        }
        for property in self.iter() {
            into.extend_from_slice(property.raw);
        }
    }

    /// Each forwardable property.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        wire::properties(self.raw).filter(|property| is_forwardable(property.id))
    }

    /// The response topic (section 3.3.2.3.5).
    pub fn response_topic(&self) -> Option<&'a str> {
        self.iter().find(|p| p.id == id::RESPONSE_TOPIC).and_then(|p| p.string())
    }

    /// The correlation data (section 3.3.2.3.6).
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        self.iter().find(|p| p.id == id::CORRELATION_DATA).and_then(|p| p.binary())
    }

    /// The content type (section 3.3.2.3.9).
    pub fn content_type(&self) -> Option<&'a str> {
        self.iter().find(|p| p.id == id::CONTENT_TYPE).and_then(|p| p.string())
    }

    /// Names and values of the user properties (section 3.3.2.3.7).
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter(|p| p.id == id::USER_PROPERTY).filter_map(|p| p.pair())
    }
}

/// Equal where they have the same properties in the same order; what stands between does not matter.
impl PartialEq for Forwardable<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Forwardable<'_> {}

/// Whether the property goes on to the receivers of a message.
pub const fn is_forwardable(property: u8) -> bool {
    matches!(
        property,
        id::PAYLOAD_FORMAT_INDICATOR | id::CONTENT_TYPE | id::RESPONSE_TOPIC | id::CORRELATION_DATA | id::USER_PROPERTY
    )
}

/// One property in wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Property<'a> {
    /// Its identifier, see [`id`].
    pub id: u8,
    /// Identifier and value, in wire form.
    pub raw: &'a [u8],
}

impl<'a> Property<'a> {
    /// The value in wire form.
    pub fn value(&self) -> &'a [u8] {
        &self.raw[1..]
    }

    /// The value of a UTF-8 string property.
    pub fn string(&self) -> Option<&'a str> {
        std::str::from_utf8(self.binary()?).ok()
    }

    /// The value of a binary data property.
    pub fn binary(&self) -> Option<&'a [u8]> {
        self.value().get(2..)
    }

    /// The value of a string pair property.
    pub fn pair(&self) -> Option<(&'a str, &'a str)> {
        let (name, rest) = wire::split_binary(self.value())?;
        let (value, _) = wire::split_binary(rest)?;
        Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
    }
}

/// User properties of a packet that is not forwarded (section 2.2.2.2), borrowed from its property area.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserProperties<'a>(&'a [u8]);

impl<'a> UserProperties<'a> {
    /// Takes a validated property area; whatever else stands in it is passed over.
    pub const fn new(raw: &'a [u8]) -> Self {
        Self(raw)
    }

    /// Each one in wire form.
    pub fn raw(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        wire::properties(self.0).filter(|p| p.id == id::USER_PROPERTY).map(|p| p.raw)
    }

    /// Appends them in wire form.
    pub fn write(&self, into: &mut Vec<u8>) {
        for property in self.raw() {
            into.extend_from_slice(property);
        }
    }

    /// Bytes in wire form.
    pub fn len(&self) -> usize {
        self.raw().map(<[u8]>::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.raw().next().is_none()
    }

    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        Forwardable::plain(self.0).user_properties()
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.raw().eq(other.raw())
    }
}

/// Writes forwardable properties in wire form. Strings longer than 65,535 bytes are cut at that length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForwardableBuilder(Vec<u8>);

impl ForwardableBuilder {
    /// Says that the payload is UTF-8 text (section 3.3.2.3.2).
    pub fn utf8(mut self) -> Self {
        self.0.extend_from_slice(&[id::PAYLOAD_FORMAT_INDICATOR, 1]);
        self
    }

    /// Sets the content type.
    pub fn content_type(self, value: &str) -> Self {
        self.string(id::CONTENT_TYPE, value)
    }

    /// Sets the response topic.
    pub fn response_topic(self, topic: &str) -> Self {
        self.string(id::RESPONSE_TOPIC, topic)
    }

    /// Sets the correlation data.
    pub fn correlation_data(self, data: &[u8]) -> Self {
        self.binary(id::CORRELATION_DATA, data)
    }

    /// Adds a user property.
    pub fn user_property(mut self, name: &str, value: &str) -> Self {
        self.0.push(id::USER_PROPERTY);
        wire::put_string(&mut self.0, name);
        wire::put_string(&mut self.0, value);
        self
    }

    /// What has been written.
    pub fn as_forwardable(&self) -> Forwardable<'_> {
        Forwardable::plain(&self.0)
    }

    fn string(mut self, id: u8, value: &str) -> Self {
        self.0.push(id);
        wire::put_string(&mut self.0, value);
        self
    }

    fn binary(mut self, id: u8, value: &[u8]) -> Self {
        self.0.push(id);
        wire::put_binary(&mut self.0, value);
        self
    }
}
