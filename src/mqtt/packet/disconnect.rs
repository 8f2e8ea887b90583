//! DISCONNECT (section 3.14).

use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::UserProperties;
use crate::mqtt::reason::ReasonCode;

/// A DISCONNECT, borrowed from the read buffer. In 3.1.1 it has no body and comes from clients only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disconnect<'a> {
    /// Why; `Success` is a normal disconnection.
    pub reason: ReasonCode,
    /// Seconds, where the client changes what it said in CONNECT.
    pub session_expiry_interval: Option<u32>,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT with a reason and nothing else.
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry_interval: None,
            reason_string: None,
            server_reference: None,
            user_properties: UserProperties::default(),
        }
    }

    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Self, CodecError> {
        let _ = (body, version);
        unimplemented!()
    }

    /// Appends the packet, in the shortest form that says all.
    pub fn encode(&self, version: Version, into: &mut Vec<u8>) {
        let _ = (version, into);
        unimplemented!()
    }
}
