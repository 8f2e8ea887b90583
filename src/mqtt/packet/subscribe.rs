//! SUBSCRIBE (section 3.8).

use super::area::Properties;
use super::{encode_with, kind};
use crate::mqtt::codec::{CodecError, Version, mistake};
use crate::mqtt::properties::{UserProperties, id};
use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{PacketId, QoS};

/// A SUBSCRIBE, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subscribe<'a> {
    /// Answered by the SUBACK.
    pub packet_id: PacketId,
    /// Identifier of these subscriptions, 1 to 268,435,455.
    pub subscription_identifier: Option<u32>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// At least one filter with its options.
    pub filters: SubscribeFilters<'a>,
}

/// Filters and options in wire form, validated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubscribeFilters<'a>(&'a [u8]);

/// The options of one subscription (section 3.8.3.1); in 3.1.1 the QoS alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubscriptionOptions {
    /// The highest QoS that messages are sent with.
    pub qos: QoS,
    /// Whether the subscriber's own messages are left out.
    pub no_local: bool,
    /// Whether forwarded messages keep the RETAIN that they were published with.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// When the retained messages of a subscription are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Send = 0,
    /// Only where the subscription did not exist.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

impl<'a> SubscribeFilters<'a> {
    /// Takes what [`SubscribeFilters::put`] has written.
    pub const fn new(written: &'a [u8]) -> Self {
        Self(written)
    }

    /// Appends one filter with its options in wire form, for [`SubscribeFilters::new`].
    /// `filter` has been validated; for 3.1.1 only the QoS may be set.
    pub fn put(into: &mut Vec<u8>, filter: &str, options: SubscriptionOptions) {
        wire::put_string(into, filter);
        into.push(options.to_wire());
    }

    /// Each filter with its options.
    ///
    /// A filter is a UTF-8 string without U+0000, but may still be no valid topic filter:
    /// the server answers that per filter with 0x8F in the SUBACK.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, SubscriptionOptions)> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (filter, after) = wire::split_binary(rest)?;
            let (&options, after) = after.split_first()?;
            rest = after;
            Some((std::str::from_utf8(filter).ok()?, SubscriptionOptions::from_wire(options).ok()?))
        })
    }
}

impl SubscriptionOptions {
    /// The options of 5.0:
    ///
    /// | bits | 7, 6 | 5, 4 | 3 | 2 | 1, 0 |
    /// |---|---|---|---|---|---|
    /// | | reserved | retain handling | retain as published | no local | maximum QoS |
    fn from_wire(options: u8) -> Result<Self, CodecError> {
        if options & 0xC0 != 0 {
            return Err(CodecError::malformed("reserved bits of the subscription options [MQTT-3.8.3-5]"));
        }
        Ok(Self {
            qos: QoS::from_wire(options & 0x03).ok_or(CodecError::protocol("a subscription with QoS 3"))?,
            no_local: options & 0x04 != 0,
            retain_as_published: options & 0x08 != 0,
            retain_handling: match options >> 4 {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(CodecError::protocol("retain handling 3")),
            },
        })
    }

    const fn to_wire(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut subscription_identifier = None;
        let mut user_properties = UserProperties::default();
        if version == Version::V5 {
            let mut properties = Properties::split_off(&mut reader)?;
            while let Some(property) = properties.next()? {
                match property {
                    id::SUBSCRIPTION_IDENTIFIER => {
                        subscription_identifier = Some(properties.subscription_identifier()?);
                    }
                    other => return properties.not_allowed(other),
                }
            }
            user_properties = properties.user_properties();
        }
        let filters = reader.rest();
        if filters.is_empty() {
            return Err(CodecError::protocol("a SUBSCRIBE without a filter [MQTT-3.8.3-2]"));
        }
        while !reader.is_empty() {
            let filter = reader.string()?;
            let options = reader.u8()?;
            if version == Version::V3 && options > 2 {
                return Err(CodecError::malformed("reserved bits or QoS 3 in a SUBSCRIBE (3.1.1) [MQTT-3-8.3-4]"));
            }
            if SubscriptionOptions::from_wire(options)?.no_local && filter.starts_with("$share/") {
                return Err(mistake::SHARE_NO_LOCAL);
            }
        }
        Ok(Self { packet_id, subscription_identifier, user_properties, filters: SubscribeFilters(filters) })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, into: &mut Vec<u8>) {
        // The flags are 0b0010 [MQTT-3.8.1-1].
        encode_with(kind::SUBSCRIBE << 4 | 2, into, |into| {
            into.extend_from_slice(&self.packet_id.get().to_be_bytes());
            if version == Version::V5 {
                wire::put_sized(into, |into| {
                    if let Some(identifier) = self.subscription_identifier {
                        into.push(id::SUBSCRIPTION_IDENTIFIER);
                        wire::put_variable(into, identifier as usize);
                    }
                    self.user_properties.write(into);
                });
            }
            into.extend_from_slice(self.filters.0);
        });
    }
}
