//! Property areas of MQTT 5.0: read one property after the other, and written one after the other (section 2.2.2).

use crate::mqtt::codec::{CodecError, mistake};
use crate::mqtt::properties::{Forwardable, UserProperties, id, is_forwardable};
use crate::mqtt::topic;
use crate::mqtt::wire::{self, Reader};

/// Reads the properties of one area.
pub(super) struct Properties<'a> {
    area: &'a [u8],
    /// Stands at the value of the property that `next` or `next_any` named.
    reader: Reader<'a>,
    seen: Seen,
}

impl<'a> Properties<'a> {
    /// Takes the area at the start of `packet`.
    pub(super) fn split_off(packet: &mut Reader<'a>) -> Result<Self, CodecError> {
        let area = packet.property_area()?;
        Ok(Self { area, reader: Reader::new(area), seen: Seen::default() })
    }

    /// Identifier of the next property, whose value the caller reads next. User properties are validated and
    /// passed over; [`Properties::user_properties`] has them.
    pub(super) fn next(&mut self) -> Result<Option<u8>, CodecError> {
        while !self.reader.is_empty() {
            let property = self.reader.u8()?;
            if property == id::USER_PROPERTY {
                self.read_user_property()?;
                continue;
            }
            self.seen.once(property)?;
            return Ok(Some(property));
        }
        Ok(None)
    }

    /// Reads the whole area of a message, a PUBLISH or a will: `others` reads the value of each property that is
    /// not forwarded.
    pub(super) fn read_message(
        mut self,
        mut others: impl FnMut(u8, &mut Self) -> Result<(), CodecError>,
    ) -> Result<Forwardable<'a>, CodecError> {
        let mut forwardable_length = 0;
        while !self.reader.is_empty() {
            let before = self.reader.rest().len();
            let property = self.reader.u8()?;
            if !matches!(property, id::USER_PROPERTY | id::SUBSCRIPTION_IDENTIFIER) {
                self.seen.once(property)?;
            }
            match property {
                id::PAYLOAD_FORMAT_INDICATOR => {
                    self.flag()?;
                }
                id::CONTENT_TYPE => {
                    self.string()?;
                }
                id::RESPONSE_TOPIC => self.read_response_topic()?,
                id::CORRELATION_DATA => {
                    self.binary()?;
                }
                id::USER_PROPERTY => self.read_user_property()?,
                _ => others(property, &mut self)?,
            }
            if is_forwardable(property) {
                forwardable_length += before - self.reader.rest().len();
            }
        }
        Ok(Forwardable::among_others(self.area, forwardable_length))
    }

    /// The whole area, in wire form.
    pub(super) const fn area(&self) -> &'a [u8] {
        self.area
    }

    /// The user properties of the area; valid once everything has been read.
    pub(super) const fn user_properties(&self) -> UserProperties<'a> {
        UserProperties::new(self.area)
    }

    /// The answer to a property that the packet does not have (section 2.2.2.2): one that cannot even be read may be none
    /// at all.
    pub(super) fn not_allowed<T>(&self, property: u8) -> Result<T, CodecError> {
        let value = self.reader.rest();
        let is_whole = wire::property_value_length(property, value).is_some_and(|length| length <= value.len());
        Err(if is_whole { mistake::MISPLACED_PROPERTY } else { CodecError::malformed("a property that no packet has") })
    }

    /// Reads a byte that is 0 or 1.
    pub(super) fn flag(&mut self) -> Result<bool, CodecError> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::protocol("a property that is 0 or 1 has another value")),
        }
    }

    /// Reads a two byte integer.
    pub(super) fn u16(&mut self) -> Result<u16, CodecError> {
        self.reader.u16()
    }

    /// Reads a receive maximum, which is not 0.
    pub(super) fn receive_maximum(&mut self) -> Result<u16, CodecError> {
        match self.reader.u16()? {
            0 => Err(CodecError::protocol("receive maximum 0")),
            value => Ok(value),
        }
    }

    /// Reads a four byte integer.
    pub(super) fn u32(&mut self) -> Result<u32, CodecError> {
        self.reader.u32()
    }

    /// Reads a maximum packet size, which is not 0.
    pub(super) fn maximum_packet_size(&mut self) -> Result<u32, CodecError> {
        match self.reader.u32()? {
            0 => Err(CodecError::protocol("maximum packet size 0")),
            value => Ok(value),
        }
    }

    /// Reads a subscription identifier, which is not 0.
    pub(super) fn subscription_identifier(&mut self) -> Result<u32, CodecError> {
        match self.reader.variable()? {
            0 => Err(CodecError::protocol("subscription identifier 0")),
            value => Ok(value),
        }
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Result<&'a str, CodecError> {
        self.reader.string()
    }

    /// Reads binary data.
    pub(super) fn binary(&mut self) -> Result<&'a [u8], CodecError> {
        self.reader.binary()
    }

    fn read_user_property(&mut self) -> Result<(), CodecError> {
        self.reader.string()?;
        self.reader.string()?;
        Ok(())
    }

    fn read_response_topic(&mut self) -> Result<(), CodecError> {
        topic::validate_name(self.string()?).map_err(|_| mistake::RESPONSE_TOPIC)
    }
}

/// Checks that authentication data does not come without a method (section 3.1.2.11.10).
pub(super) const fn check_authentication(method: Option<&str>, data: Option<&[u8]>) -> Result<(), CodecError> {
    match (method, data) {
        (None, Some(_)) => Err(CodecError::protocol("authentication data without an authentication method")),
        _ => Ok(()),
    }
}

/// Appends a property of one byte, where there is one.
pub(super) fn put_u8(into: &mut Vec<u8>, property: u8, value: Option<u8>) {
    if let Some(value) = value {
        into.extend_from_slice(&[property, value]);
    }
}

/// Appends a property of two bytes, where there is one.
pub(super) fn put_u16(into: &mut Vec<u8>, property: u8, value: Option<u16>) {
    if let Some(value) = value {
        into.push(property);
        into.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a property of four bytes, where there is one.
pub(super) fn put_u32(into: &mut Vec<u8>, property: u8, value: Option<u32>) {
    if let Some(value) = value {
        into.push(property);
        into.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a string property, where there is one.
pub(super) fn put_string(into: &mut Vec<u8>, property: u8, value: Option<&str>) {
    if let Some(value) = value {
        into.push(property);
        wire::put_string(into, value);
    }
}

/// Appends a binary data property, where there is one.
pub(super) fn put_binary(into: &mut Vec<u8>, property: u8, value: Option<&[u8]>) {
    if let Some(value) = value {
        into.push(property);
        wire::put_binary(into, value);
    }
}

/// Notices a property that stands twice where it may stand once.
#[derive(Debug, Default)]
struct Seen(u64);

impl Seen {
    /// Notes property `id`; an identifier from 64 up is none of the standard's and is left to the caller.
    ///
    /// # Errors
    /// 0x82 where it was noted before (section 2.2.2.2).
    fn once(&mut self, id: u8) -> Result<(), CodecError> {
        let bit = 1u64.checked_shl(u32::from(id)).unwrap_or(0);
        if self.0 & bit != 0 {
            return Err(mistake::REPEATED_PROPERTY);
        }
        self.0 |= bit;
        Ok(())
    }
}
