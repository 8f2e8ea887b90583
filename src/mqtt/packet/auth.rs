//! AUTH, 5.0 only (section 3.15).

use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::UserProperties;
use crate::mqtt::reason::ReasonCode;

/// An AUTH, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Auth<'a> {
    /// `Success`, `ContinueAuthentication` or `ReAuthenticate`.
    pub reason: ReasonCode,
    /// Name of the authentication method.
    pub authentication_method: Option<&'a str>,
    /// Data for it.
    pub authentication_data: Option<&'a [u8]>,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let _ = (body, version);
        unimplemented!()
    }

    /// Appends the packet.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let _ = into;
        unimplemented!()
    }
}
