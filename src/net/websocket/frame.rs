//! Frames [RFC 6455 5.2]: their headers, and the mask of what clients send.
//!
//! ```text
//! byte 0   FIN, three reserved bits, opcode (4)
//! byte 1   MASK, length (7): 126 and 127 say that it stands in the next 2 or 8 bytes
//! then     the mask (4), where MASK is set
//! ```

/// The longest header.
pub(super) const MAX_HEADER_BYTES: usize = 14;
/// The most that a control frame holds.
pub(super) const MAX_CONTROL_BYTES: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Binary,
    Close,
    Ping,
    Pong,
}

/// Why a connection is closed [RFC 6455 7.4.1].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseCode {
    Normal = 1000,
    Protocol = 1002,
    /// A text frame: MQTT is binary [MQTT-6.0.0-1].
    Unacceptable = 1003,
}

/// Who sends a frame. What clients send is masked, what servers send is not [RFC 6455 5.1].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    Server,
}

/// The header of a frame that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) last: bool,
    pub(super) opcode: Opcode,
    pub(super) length: u64,
    /// Zeros where there is none.
    pub(super) mask: [u8; 4],
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a text frame")]
    Text,
    #[error("a frame with a reserved bit or opcode")]
    Reserved,
    #[error("a frame without mask")]
    Unmasked,
    #[error("a frame with a mask")]
    Masked,
    #[error("a control frame in pieces, or too long")]
    Control,
    #[error("a frame whose length is not written in the shortest way")]
    Length,
    #[error("a continuation of nothing, or a new message within another")]
    Order,
}

impl FrameError {
    pub(super) fn close_code(self) -> CloseCode {
        match self {
            Self::Text => CloseCode::Unacceptable,
            _ => CloseCode::Protocol,
        }
    }
}

impl Header {
    /// The header at the beginning of `bytes` and its length; `None` where it is not whole.
    ///
    /// # Errors
    /// What `sender` may not send.
    pub(super) fn decode(bytes: &[u8], sender: Sender) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => return Err(FrameError::Text),
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(FrameError::Reserved),
        };
        if first & RESERVED != 0 {
            return Err(FrameError::Reserved);
        }
        match (sender, second & MASKED != 0) {
            (Sender::Client, false) => return Err(FrameError::Unmasked),
            (Sender::Server, true) => return Err(FrameError::Masked),
            _ => {}
        }
        let last = first & FIN != 0;
        let short = u64::from(second & !MASKED);
        let is_control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
        if is_control && (!last || short > MAX_CONTROL_BYTES as u64) {
            return Err(FrameError::Control);
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk::<2>() {
                Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((bytes, rest)) => (u64::from_be_bytes(*bytes), rest),
                None => return Ok(None),
            },
            short => (short, rest),
        };
        let shortest = match short {
            126 => length > 125,
            127 => length > u64::from(u16::MAX) && length >> 63 == 0,
            _ => true,
        };
        if !shortest {
            return Err(FrameError::Length);
        }
        let (mask, rest) = match (sender, rest.split_first_chunk::<4>()) {
            (Sender::Server, _) => ([0; 4], rest),
            (Sender::Client, Some((&mask, rest))) => (mask, rest),
            (Sender::Client, None) => return Ok(None),
        };
        Ok(Some((Self { last, opcode, length, mask }, bytes.len() - rest.len())))
    }
}

/// The header of an unmasked frame that is a message of its own, and its length.
pub(super) fn encode_header(opcode: Opcode, length: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = FIN
        | match opcode {
            Opcode::Continuation => 0,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        };
    match length {
        0..=125 => {
            header[1] = length as u8;
            (header, 2)
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            (header, 4)
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            (header, 10)
        }
    }
}

/// A masked frame that is a message of its own, appended to `into`.
pub(super) fn encode_masked(opcode: Opcode, content: &[u8], mask: [u8; 4], into: &mut Vec<u8>) {
    let (mut header, length) = encode_header(opcode, content.len());
    header[1] |= MASKED;
    into.extend_from_slice(&header[..length]);
    into.extend_from_slice(&mask);
    let begin = into.len();
    into.extend_from_slice(content);
    apply_mask(&mut into[begin..], mask);
}

/// Takes the mask off `bytes`, or puts it on, and gives the mask for what follows them.
pub(super) fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let word = u32::from_ne_bytes(mask);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    let mut next = mask;
    next.rotate_left(rest.len());
    next
}
