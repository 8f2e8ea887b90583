//! UNSUBSCRIBE (section 3.10).

use crate::mqtt::PacketId;
use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::UserProperties;

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
        let _ = (into, filter);
        unimplemented!()
    }

    /// Each filter.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        std::iter::empty()
    }
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let _ = (body, version);
        unimplemented!()
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, into: &mut Vec<u8>) {
        let _ = (version, into);
        unimplemented!()
    }
}
