//! The data types of the wire: integers, variable byte integers, strings, binary data (MQTT 5.0, section 1.5).

use super::codec::CodecError;
use super::properties::{Property, id};
use super::reason::ReasonCode;

/// The largest variable byte integer (section 1.5.5).
pub const MAX_VARIABLE_BYTE_INTEGER: u32 = 268_435_455;

/// Reads fields from the body of a packet, never past its end.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(CodecError::malformed("a field runs past the end of the packet")),
        }
    }

    /// Reads one byte.
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    /// Reads a two byte integer.
    pub fn u16(&mut self) -> Result<u16, CodecError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Reads a four byte integer.
    pub fn u32(&mut self) -> Result<u32, CodecError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Reads a variable byte integer.
    pub fn variable(&mut self) -> Result<u32, CodecError> {
        match split_variable(self.rest) {
            Variable::Value(value, used) => {
                self.rest = &self.rest[used..];
                Ok(value)
            }
            Variable::Incomplete => {
                Err(CodecError::malformed("a variable byte integer runs past the end of the packet"))
            }
            Variable::Malformed => Err(CodecError::malformed("a variable byte integer has more bytes than it may")),
        }
    }

    /// Reads binary data: two bytes of length, then that many bytes.
    pub fn binary(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// Reads a UTF-8 string without U+0000 [MQTT-1.5.4-1, MQTT-1.5.4-2].
    pub fn string(&mut self) -> Result<&'a str, CodecError> {
        let text = self.utf8()?;
        if text.as_bytes().contains(&0) {
            return Err(CodecError::malformed("a string has the character U+0000"));
        }
        Ok(text)
    }

    /// Reads a UTF-8 string that the caller checks for U+0000.
    pub fn utf8(&mut self) -> Result<&'a str, CodecError> {
        std::str::from_utf8(self.binary()?).map_err(|_| CodecError::malformed("a string is not UTF-8"))
    }

    /// Reads a packet identifier, which is never 0 [MQTT-2.2.1-3].
    pub fn packet_id(&mut self) -> Result<super::PacketId, CodecError> {
        super::PacketId::new(self.u16()?)
            .ok_or(CodecError::new(ReasonCode::ProtocolError, "packet identifier 0 [MQTT-2.2.1-3]"))
    }

    /// Reads a property area: its length, then that many bytes.
    pub fn property_area(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.variable()?;
        self.take(length as usize)
            .map_err(|_| CodecError::malformed("the property length runs past the end of the packet"))
    }

    /// Everything that has not been read.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Ends the packet: nothing may be left.
    pub fn finish(&self) -> Result<(), CodecError> {
        if self.is_empty() { Ok(()) } else { Err(CodecError::malformed("bytes after the end of the packet")) }
    }
}

/// What stands at the start of some bytes that should begin with a variable byte integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The value and the bytes it took.
    Value(u32, usize),
    /// More bytes are needed.
    Incomplete,
    /// It has more than four bytes, or more than its value needs [MQTT-1.5.5-1].
    Malformed,
}

/// Reads a variable byte integer from the start of `bytes`.
pub fn split_variable(bytes: &[u8]) -> Variable {
    let mut value = 0u32;
    for index in 0..4 {
        let Some(&byte) = bytes.get(index) else {
            return Variable::Incomplete;
        };
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Variable::Malformed;
            }
            return Variable::Value(value, index + 1);
        }
    }
    Variable::Malformed
}

/// Bytes that `value` takes as a variable byte integer.
pub const fn variable_length(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer; `value` is at most [`MAX_VARIABLE_BYTE_INTEGER`].
pub fn put_variable(into: &mut Vec<u8>, value: usize) {
    let mut rest = value;
    while rest >= 0x80 {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}

/// Appends what `write` appends, with its length before it as a variable byte integer.
///
/// One byte is kept free for the length; only what is longer than 127 bytes is moved.
pub fn put_sized(into: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.push(0);
    write(into);
    let end = into.len();
    let length = end - start - 1;
    let more = variable_length(length) - 1;
    if more > 0 {
        into.resize(end + more, 0);
        into.copy_within(start + 1..end, start + 1 + more);
    }
    let mut rest = length;
    for byte in &mut into[start..start + more] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    into[start + more] = rest as u8;
}

/// Appends a string with its length; what is beyond 65,535 bytes is cut off at the end of a character.
pub fn put_string(into: &mut Vec<u8>, text: &str) {
    put_binary(into, &text.as_bytes()[..text.floor_char_boundary(usize::from(u16::MAX))]);
}

/// Appends binary data with its length; what is beyond 65,535 bytes is cut off.
pub fn put_binary(into: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    into.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    into.extend_from_slice(bytes);
}

/// Splits binary data with its length off the start of `bytes`.
pub fn split_binary(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The properties of an area, each cut at its end; stops at the first that is unknown or cut short.
pub fn properties(area: &[u8]) -> impl Iterator<Item = Property<'_>> + use<'_> {
    let mut rest = area;
    std::iter::from_fn(move || {
        let (&id, value) = rest.split_first()?;
        let length = property_value_length(id, value)?;
        let (raw, after) = rest.split_at_checked(1 + length)?;
        rest = after;
        Some(Property { id, raw })
    })
}

/// Bytes of the value of property `id` at the start of `value`; `None` where it is unknown or cut short.
pub fn property_value_length(id: u8, value: &[u8]) -> Option<usize> {
    let binary = |bytes: &[u8]| split_binary(bytes).map(|(data, _)| 2 + data.len());
    Some(match id {
        id::PAYLOAD_FORMAT_INDICATOR
        | id::REQUEST_PROBLEM_INFORMATION
        | id::REQUEST_RESPONSE_INFORMATION
        | id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_SUBSCRIPTION_AVAILABLE
        | id::SUBSCRIPTION_IDENTIFIER_AVAILABLE
        | id::SHARED_SUBSCRIPTION_AVAILABLE => 1,
        id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS => 2,
        id::MESSAGE_EXPIRY_INTERVAL
        | id::SESSION_EXPIRY_INTERVAL
        | id::WILL_DELAY_INTERVAL
        | id::MAXIMUM_PACKET_SIZE => 4,
        id::SUBSCRIPTION_IDENTIFIER => match split_variable(value) {
            Variable::Value(_, used) => used,
            Variable::Incomplete | Variable::Malformed => return None,
        },
        id::CONTENT_TYPE
        | id::RESPONSE_TOPIC
        | id::CORRELATION_DATA
        | id::ASSIGNED_CLIENT_IDENTIFIER
        | id::AUTHENTICATION_METHOD
        | id::AUTHENTICATION_DATA
        | id::RESPONSE_INFORMATION
        | id::SERVER_REFERENCE
        | id::REASON_STRING => binary(value)?,
        id::USER_PROPERTY => {
            let name = binary(value)?;
            name + binary(&value[name..])?
        }
        _ => return None,
    })
}
