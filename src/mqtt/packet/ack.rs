//! PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7).

use crate::mqtt::PacketId;
use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::UserProperties;
use crate::mqtt::reason::ReasonCode;

/// The shape that PUBACK, PUBREC, PUBREL and PUBCOMP share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ack<'a> {
    /// Identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// `Success` in 3.1.1.
    pub reason: ReasonCode,
    /// For people; none in 3.1.1.
    pub reason_string: Option<&'a str>,
    /// None in 3.1.1.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement with a reason and nothing else.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, reason_string: None, user_properties: UserProperties::default() }
    }

    pub(super) fn decode(kind: u8, body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let _ = (kind, body, version);
        unimplemented!()
    }

    /// Appends the packet of type `kind`, in the shortest form that says all.
    pub(super) fn encode(&self, kind: u8, version: Version, into: &mut Vec<u8>) {
        let _ = (kind, version, into);
        unimplemented!()
    }
}
