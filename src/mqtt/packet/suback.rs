//! SUBACK and UNSUBACK (sections 3.9 and 3.11).

use crate::mqtt::PacketId;
use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::UserProperties;
use crate::mqtt::reason::ReasonCode;

/// The shape that SUBACK and UNSUBACK share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubAck<'a> {
    /// Identifier of the SUBSCRIBE or UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// For people; none in 3.1.1.
    pub reason_string: Option<&'a str>,
    /// None in 3.1.1.
    pub user_properties: UserProperties<'a>,
    /// One code per filter, in their order. A SUBACK of 3.1.1 knows 0, 1, 2 and 0x80, its UNSUBACK none at all.
    codes: &'a [u8],
}

impl<'a> SubAck<'a> {
    /// An answer with the codes and nothing else; the codes are [`ReasonCode`]s in wire form.
    pub fn new(packet_id: PacketId, codes: &'a [u8]) -> Self {
        Self { packet_id, reason_string: None, user_properties: UserProperties::default(), codes }
    }

    /// One reason per filter, in their order.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        self.codes.iter().map(|&code| ReasonCode::from_wire(code).unwrap_or(ReasonCode::UnspecifiedError))
    }

    pub(super) fn decode(kind: u8, body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let _ = (kind, body, version);
        unimplemented!()
    }

    /// Appends the packet of type `kind`; for 3.1.1 each error of a SUBACK becomes 0x80.
    pub(super) fn encode(&self, kind: u8, version: Version, into: &mut Vec<u8>) {
        let _ = (kind, version, into);
        unimplemented!()
    }
}
