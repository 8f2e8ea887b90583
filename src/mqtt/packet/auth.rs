//! AUTH, 5.0 only (section 3.15).

use super::area::{self, Properties};
use super::{encode_with, kind, reason_among};
use crate::mqtt::codec::{CodecError, Version};
use crate::mqtt::properties::{UserProperties, id};
use crate::mqtt::reason::ReasonCode;
use crate::mqtt::wire::{self, Reader};

/// An AUTH, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Auth<'a> {
    /// `Success`, `ContinueAuthentication` or `ReAuthenticate`.
    pub reason: ReasonCode,
    /// Name of the authentication method; none only in a `Success` without anything else.
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
        if version == Version::V3 {
            return Err(CodecError::malformed("packet type 15 is reserved in 3.1.1"));
        }
        let mut decoded = Self {
            reason: ReasonCode::Success,
            authentication_method: None,
            authentication_data: None,
            reason_string: None,
            user_properties: UserProperties::default(),
        };
        // The short form of success without properties (section 3.15.2.1).
        if body.is_empty() {
            return Ok(decoded);
        }
        let mut reader = Reader::new(body);
        decoded.reason = reason_among(reader.u8()?, |reason| {
            matches!(reason, ReasonCode::Success | ReasonCode::ContinueAuthentication | ReasonCode::ReAuthenticate)
        })?;
        let mut properties = Properties::split_off(&mut reader)?;
        while let Some(property) = properties.next()? {
            match property {
                id::AUTHENTICATION_METHOD => decoded.authentication_method = Some(properties.string()?),
                id::AUTHENTICATION_DATA => decoded.authentication_data = Some(properties.binary()?),
                id::REASON_STRING => decoded.reason_string = Some(properties.string()?),
                other => return properties.not_allowed(other),
            }
        }
        decoded.user_properties = properties.user_properties();
        reader.finish()?;
        if decoded.authentication_method.is_none() {
            return Err(CodecError::protocol("AUTH without an authentication method (section 3.15.2.2.2)"));
        }
        Ok(decoded)
    }

    /// Appends the packet, in the shortest form that says all.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let bare = self.authentication_method.is_none()
            && self.authentication_data.is_none()
            && self.reason_string.is_none()
            && self.user_properties.is_empty();
        encode_with(kind::AUTH << 4, into, |into| {
            if bare && self.reason == ReasonCode::Success {
                return;
            }
            into.push(self.reason as u8);
            wire::put_sized(into, |into| {
                area::put_string(into, id::AUTHENTICATION_METHOD, self.authentication_method);
                area::put_binary(into, id::AUTHENTICATION_DATA, self.authentication_data);
                area::put_string(into, id::REASON_STRING, self.reason_string);
                self.user_properties.write(into);
            });
        });
    }
}
