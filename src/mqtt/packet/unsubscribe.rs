//! UNSUBSCRIBE (section 3.10).

use super::area::Properties;
use super::{encode_with, kind};
use crate::mqtt::PacketId;
use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::UserProperties;
use crate::mqtt::wire::{self, Reader};

/// An UNSUBSCRIBE, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unsubscribe<'a> {
    /// Answered by the UNSUBACK.
    pub packet_id: PacketId,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// At least one filter.
    pub filters: UnsubscribeFilters<'a>,
}

/// Filters in wire form, validated as strings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnsubscribeFilters<'a>(&'a [u8]);

impl<'a> UnsubscribeFilters<'a> {
    /// Takes what [`UnsubscribeFilters::put`] has written.
    pub const fn new(written: &'a [u8]) -> Self {
        Self(written)
    }

    /// Appends one filter in wire form, for [`UnsubscribeFilters::new`].
    pub fn put(into: &mut Vec<u8>, filter: &str) {
        wire::put_string(into, filter);
    }

    /// Each filter.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (filter, after) = wire::split_binary(rest)?;
            rest = after;
            std::str::from_utf8(filter).ok()
        })
    }
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut user_properties = UserProperties::default();
        if version == Version::V5 {
            let mut properties = Properties::split_off(&mut reader)?;
            if let Some(property) = properties.next()? {
                return properties.not_allowed(property);
            }
            user_properties = properties.user_properties();
        }
        let filters = reader.rest();
        if filters.is_empty() {
            return Err(CodecError::protocol("an UNSUBSCRIBE without a filter [MQTT-3.10.3-2]"));
        }
        while !reader.is_empty() {
            reader.string()?;
        }
        Ok(Self { packet_id, user_properties, filters: UnsubscribeFilters(filters) })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, into: &mut Vec<u8>) {
        // The flags are 0b0010 [MQTT-3.10.1-1].
        encode_with(kind::UNSUBSCRIBE << 4 | 2, into, |into| {
            into.extend_from_slice(&self.packet_id.get().to_be_bytes());
            if version == Version::V5 {
                wire::put_sized(into, |into| self.user_properties.write(into));
            }
            into.extend_from_slice(self.filters.0);
        });
    }
}
