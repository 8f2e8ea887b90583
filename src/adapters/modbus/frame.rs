//! Modbus frames, RTU and TCP, without I/O: encoding requests, and finding the answer to one in what arrives.
//!
//! Answers are looked for, not assumed: noise before a frame, frames of other units, and late replies to earlier
//! requests are skipped. What is taken has the right unit, function, length and content for the request.
//!
//! | RTU | unit | function | data | CRC, low byte first |
//! |---|---|---|---|---|
//! | bytes | 1 | 1 | 0-252 | 2 |
//!
//! | TCP | transaction | protocol (0) | length of the rest | unit | function | data |
//! |---|---|---|---|---|---|---|
//! | bytes | 2 | 2 | 2 | 1 | 1 | 0-252 |

use std::fmt;

/// The most registers that one request reads (Modbus Application Protocol 1.1b3, sections 6.3 and 6.4).
pub const MAX_READ_REGISTERS: u16 = 125;
/// The most coils or discrete inputs that one request reads (sections 6.1 and 6.2).
pub const MAX_READ_BITS: u16 = 2000;
/// The most registers that one request writes (section 6.12).
pub const MAX_WRITE_REGISTERS: u16 = 123;

/// The longest RTU frame.
const MAX_RTU_BYTES: usize = 256;
/// Transaction, protocol, length and unit.
const MBAP_BYTES: usize = 7;
/// The longest function and data.
const MAX_PDU_BYTES: usize = 253;

/// One of the four tables of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Single bits, read and written.
    Coil,
    /// Single bits, read only.
    Discrete,
    /// Registers of 16 bits, read and written.
    Holding,
    /// Registers of 16 bits, read only.
    Input,
}

impl Table {
    /// Whether its entries are single bits.
    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// The most entries that one request reads.
    pub const fn max_read(self) -> u16 {
        if self.is_bits() { MAX_READ_BITS } else { MAX_READ_REGISTERS }
    }

    const fn function(self) -> u8 {
        match self {
            Self::Coil => 1,
            Self::Discrete => 2,
            Self::Holding => 3,
            Self::Input => 4,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Holding => "holding",
            Self::Input => "input",
        })
    }
}

/// What is asked of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Functions 1 to 4.
    Read {
        /// Which table.
        table: Table,
        /// First address.
        start: u16,
        /// Entries, 1 to [`Table::max_read`].
        count: u16,
    },
    /// Function 5.
    WriteCoil {
        /// Address of the coil.
        address: u16,
        /// What to set it to.
        on: bool,
    },
    /// Function 6.
    WriteRegister {
        /// Address of the register.
        address: u16,
        /// What to set it to.
        value: u16,
    },
    /// Function 15.
    WriteCoils {
        /// Address of the first coil.
        start: u16,
        /// 1 to 1,968 coils.
        values: Vec<bool>,
    },
    /// Function 16.
    WriteRegisters {
        /// Address of the first register.
        start: u16,
        /// 1 to [`MAX_WRITE_REGISTERS`] registers.
        values: Vec<u16>,
    },
}

/// What a unit answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// As many bits as were asked for.
    Bits(Vec<bool>),
    /// As many registers as were asked for.
    Registers(Vec<u16>),
    /// A write was done.
    Written,
}

/// The unit understood and refused (section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Exception(pub u8);

impl Exception {
    /// The unit does not know this function.
    pub const ILLEGAL_FUNCTION: Self = Self(1);
    /// Some address of the range does not exist.
    pub const ILLEGAL_ADDRESS: Self = Self(2);
    /// Some devices mean an address, too.
    pub const ILLEGAL_VALUE: Self = Self(3);
    /// The unit is busy; the same request may work later.
    pub const BUSY: Self = Self(6);

    /// Whether a gateway on the way speaks for a unit that it cannot reach.
    pub const fn is_from_gateway(self) -> bool {
        matches!(self.0, 10 | 11)
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0 {
            1 => "illegal function",
            2 => "illegal data address",
            3 => "illegal data value",
            4 => "device failure",
            5 => "acknowledge: it takes longer",
            6 => "device busy",
            8 => "memory parity error",
            10 => "gateway path unavailable",
            11 => "gateway target does not respond",
            _ => "unknown",
        };
        write!(f, "exception {} ({words})", self.0)
    }
}

/// A byte stream that is no Modbus TCP, or an answer that does not fit its request: the connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Wrong protocol number or impossible length.
    #[error("the stream is no Modbus TCP")]
    NotModbus,
    /// The transaction is right, and the content is not.
    #[error("the answer does not fit the request")]
    Unfitting,
}

/// What a unit said to a request.
pub type Answer = Result<Response, Exception>;

impl Request {
    /// The function code.
    pub const fn function(&self) -> u8 {
        match self {
            Self::Read { table, .. } => table.function(),
            Self::WriteCoil { .. } => 5,
            Self::WriteRegister { .. } => 6,
            Self::WriteCoils { .. } => 15,
            Self::WriteRegisters { .. } => 16,
        }
    }

    /// Function and data.
    fn write_pdu(&self, into: &mut Vec<u8>) {
        let put = |into: &mut Vec<u8>, word: u16| into.extend_from_slice(&word.to_be_bytes());
        into.push(self.function());
        match self {
            Self::Read { start, count, .. } => {
                put(into, *start);
                put(into, *count);
            }
            Self::WriteCoil { address, on } => {
                put(into, *address);
                put(into, if *on { 0xFF00 } else { 0 });
            }
            Self::WriteRegister { address, value } => {
                put(into, *address);
                put(into, *value);
            }
            Self::WriteCoils { start, values } => {
                put(into, *start);
                put(into, values.len() as u16);
                into.push(values.len().div_ceil(8) as u8);
                into.extend(
                    values.chunks(8).map(|bits| {
                        bits.iter().enumerate().fold(0u8, |byte, (index, on)| byte | u8::from(*on) << index)
                    }),
                );
            }
            Self::WriteRegisters { start, values } => {
                put(into, *start);
                put(into, values.len() as u16);
                into.push((values.len() * 2) as u8);
                for value in values {
                    put(into, *value);
                }
            }
        }
    }

    /// Bytes of function and data of the answer, if it is no exception.
    fn answer_bytes(&self) -> usize {
        match self {
            Self::Read { table, count, .. } if table.is_bits() => 2 + usize::from(count.div_ceil(8)),
            Self::Read { count, .. } => 2 + usize::from(*count) * 2,
            _ => 5,
        }
    }

    /// What `pdu` (function and data, of the right length or not) answers; `None` where it is no answer to this.
    fn decode_pdu(&self, pdu: &[u8]) -> Option<Answer> {
        let (function, data) = pdu.split_first()?;
        if *function == self.function() | 0x80 {
            return match data {
                [code] => Some(Err(Exception(*code))),
                _ => None,
            };
        }
        if *function != self.function() || pdu.len() != self.answer_bytes() {
            return None;
        }
        match self {
            Self::Read { table, count, .. } => {
                let (bytes, data) = data.split_first()?;
                if usize::from(*bytes) != data.len() {
                    return None;
                }
                let response = if table.is_bits() {
                    Response::Bits((0..usize::from(*count)).map(|bit| data[bit / 8] >> (bit % 8) & 1 == 1).collect())
                } else {
                    Response::Registers(
                        data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect(),
                    )
                };
                Some(Ok(response))
            }
            // Writes of one are echoed, writes of several by address and count: the first five bytes of the request.
            _ => {
                let mut request = Vec::with_capacity(16);
                self.write_pdu(&mut request);
                (request[..5] == *pdu).then_some(Ok(Response::Written))
            }
        }
    }
}

/// The RTU frame of `request`.
pub fn encode_rtu(unit: u8, request: &Request) -> Vec<u8> {
    let mut frame = Vec::with_capacity(16);
    frame.push(unit);
    request.write_pdu(&mut frame);
    let check = crc(&frame);
    frame.extend_from_slice(&check.to_le_bytes());
    frame
}

/// The TCP frame of `request`.
pub fn encode_tcp(transaction: u16, unit: u8, request: &Request) -> Vec<u8> {
    let mut frame = Vec::with_capacity(16);
    frame.extend_from_slice(&transaction.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 0, unit]);
    request.write_pdu(&mut frame);
    let length = (frame.len() - MBAP_BYTES + 1) as u16;
    frame[4..6].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Bytes of the RTU answer to `request`, if it is no exception: what a line needs time for.
pub fn rtu_answer_bytes(request: &Request) -> usize {
    request.answer_bytes() + 3
}

/// Looks for the answer to `request` in what an RTU line brought. What is of no use is removed from `buffer`, of which
/// never more than one frame's length stays.
pub fn take_rtu_answer(buffer: &mut Vec<u8>, unit: u8, request: &Request) -> Option<Answer> {
    let mut at = 0;
    let mut keep_from = None;
    while at < buffer.len() {
        match classify(&buffer[at..], unit, request) {
            Part::Answer(length, answer) => {
                buffer.drain(..at + length);
                return Some(answer);
            }
            Part::Foreign(length) => {
                at += length;
                // What seemed to be the beginning of something ended in a whole frame: it was noise.
                keep_from = None;
            }
            Part::Beginning => {
                keep_from = keep_from.or(Some(at));
                at += 1;
            }
            Part::Noise => at += 1,
        }
    }
    let keep_from = keep_from.unwrap_or(buffer.len()).max(buffer.len().saturating_sub(MAX_RTU_BYTES));
    buffer.drain(..keep_from);
    None
}

/// Looks for the answer to `request` in what a TCP stream brought; answers to earlier transactions and of other units
/// are removed from `buffer`.
///
/// # Errors
/// A [`FrameError`] after which the connection must be closed.
pub fn take_tcp_answer(
    buffer: &mut Vec<u8>,
    transaction: u16,
    unit: u8,
    request: &Request,
) -> Result<Option<Answer>, FrameError> {
    loop {
        let Some(header) = buffer.first_chunk::<MBAP_BYTES>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        // The length counts the unit, and a PDU has at least a function and one byte.
        if header[2..4] != [0, 0] || !(3..=MAX_PDU_BYTES + 1).contains(&length) {
            return Err(FrameError::NotModbus);
        }
        let end = MBAP_BYTES - 1 + length;
        if buffer.len() < end {
            return Ok(None);
        }
        let ours = header[..2] == transaction.to_be_bytes() && header[6] == unit;
        let answer = ours.then(|| request.decode_pdu(&buffer[MBAP_BYTES..end]));
        buffer.drain(..end);
        match answer {
            Some(Some(answer)) => return Ok(Some(answer)),
            Some(None) => return Err(FrameError::Unfitting),
            None => {}
        }
    }
}

/// What stands at some place of an RTU stream.
enum Part {
    /// The answer, and its length.
    Answer(usize, Answer),
    /// A whole frame of something else, and its length.
    Foreign(usize),
    /// Perhaps the beginning of a frame.
    Beginning,
    /// Nothing.
    Noise,
}

fn classify(bytes: &[u8], unit: u8, request: &Request) -> Part {
    let &[first, function, ..] = bytes else { return Part::Beginning };
    if first == unit {
        let length = match function {
            f if f == request.function() => request.answer_bytes() + 3,
            f if f == request.function() | 0x80 => 5,
            _ => 0,
        };
        if let Some(frame) = whole_frame(bytes, length)
            && let Some(answer) = request.decode_pdu(&frame[1..length - 2])
        {
            return Part::Answer(length, answer);
        }
    }
    let mut is_beginning = false;
    for length in frame_lengths(bytes, function) {
        match length {
            Length::Known(length) if bytes.len() < length => is_beginning = true,
            Length::Known(length) if whole_frame(bytes, length).is_some() => return Part::Foreign(length),
            Length::Known(_) => {}
            Length::NeedsMore => is_beginning = true,
            Length::None => {}
        }
    }
    if is_beginning { Part::Beginning } else { Part::Noise }
}

fn whole_frame(bytes: &[u8], length: usize) -> Option<&[u8]> {
    let frame = bytes.get(..length).filter(|frame| frame.len() >= 4)?;
    let (content, check) = frame.split_at(length - 2);
    (crc(content).to_le_bytes() == check).then_some(frame)
}

enum Length {
    Known(usize),
    NeedsMore,
    None,
}

/// The lengths that a frame with this function can have: as an answer, and as a request, for a line echoes what we
/// send, and others may ask on it.
fn frame_lengths(bytes: &[u8], function: u8) -> [Length; 2] {
    let counted = |index: usize, overhead: usize| match bytes.get(index) {
        Some(count) if usize::from(*count) + overhead <= MAX_RTU_BYTES => Length::Known(usize::from(*count) + overhead),
        Some(_) => Length::None,
        None => Length::NeedsMore,
    };
    match function {
        1..=4 => [counted(2, 5), Length::Known(8)],
        5 | 6 => [Length::Known(8), Length::None],
        15 | 16 => [Length::Known(8), counted(6, 9)],
        7 => [Length::Known(5), Length::Known(4)],
        17 => [counted(2, 5), Length::Known(4)],
        22 => [Length::Known(10), Length::None],
        23 => [counted(2, 5), counted(10, 13)],
        0x81..=0x97 => [Length::Known(5), Length::None],
        _ => [Length::None, Length::None],
    }
}

/// CRC-16/MODBUS (Modbus over Serial Line 1.02, section 6.2.2).
pub fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const READ_TWO: Request = Request::Read { table: Table::Holding, start: 0x6B, count: 2 };

    fn rtu(unit: u8, pdu: &[u8]) -> Vec<u8> {
        let mut frame = vec![unit];
        frame.extend_from_slice(pdu);
        let check = crc(&frame);
        frame.extend_from_slice(&check.to_le_bytes());
        frame
    }

    fn tcp(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
        let mut frame = transaction.to_be_bytes().to_vec();
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(&(pdu.len() as u16 + 1).to_be_bytes());
        frame.push(unit);
        frame.extend_from_slice(pdu);
        frame
    }

    const TWO: [u8; 6] = [3, 4, 0x02, 0x2B, 0x01, 0x00];

    fn two_answered() -> Option<Answer> {
        Some(Ok(Response::Registers(vec![0x022B, 0x0100])))
    }

    #[test]
    fn requests_are_encoded_as_in_the_specification() {
        // The examples of sections 6.1 to 6.12.
        for (request, pdu) in [
            (Request::Read { table: Table::Coil, start: 0x13, count: 0x13 }, vec![1, 0, 0x13, 0, 0x13]),
            (Request::Read { table: Table::Discrete, start: 0xC4, count: 0x16 }, vec![2, 0, 0xC4, 0, 0x16]),
            (Request::Read { table: Table::Holding, start: 0x6B, count: 3 }, vec![3, 0, 0x6B, 0, 3]),
            (Request::Read { table: Table::Input, start: 8, count: 1 }, vec![4, 0, 8, 0, 1]),
            (Request::WriteCoil { address: 0xAC, on: true }, vec![5, 0, 0xAC, 0xFF, 0]),
            (Request::WriteRegister { address: 1, value: 3 }, vec![6, 0, 1, 0, 3]),
            (
                Request::WriteCoils {
                    start: 0x13,
                    values: [1, 0, 1, 1, 0, 0, 1, 1, 1, 0].map(|bit| bit == 1).to_vec(),
                },
                vec![15, 0, 0x13, 0, 0x0A, 2, 0xCD, 0x01],
            ),
            (Request::WriteRegisters { start: 1, values: vec![0x0A, 0x0102] }, vec![16, 0, 1, 0, 2, 4, 0, 0x0A, 1, 2]),
        ] {
            assert_eq!(encode_tcp(0x1234, 17, &request), tcp(0x1234, 17, &pdu));
            assert_eq!(encode_rtu(17, &request), rtu(17, &pdu));
        }
        assert_eq!(crc(b"123456789"), 0x4B37);
    }

    #[test]
    fn answers_are_decoded_as_in_the_specification() {
        for (request, pdu, answer) in [
            (
                Request::Read { table: Table::Coil, start: 0x13, count: 10 },
                vec![1, 2, 0xCD, 0x01],
                Ok(Response::Bits([1, 0, 1, 1, 0, 0, 1, 1, 1, 0].map(|bit| bit == 1).to_vec())),
            ),
            (READ_TWO, TWO.to_vec(), Ok(Response::Registers(vec![0x022B, 0x0100]))),
            (READ_TWO, vec![0x83, 2], Err(Exception::ILLEGAL_ADDRESS)),
            (Request::WriteCoil { address: 0xAC, on: true }, vec![5, 0, 0xAC, 0xFF, 0], Ok(Response::Written)),
            (Request::WriteRegister { address: 1, value: 3 }, vec![6, 0, 1, 0, 3], Ok(Response::Written)),
            (Request::WriteRegisters { start: 1, values: vec![1, 2] }, vec![16, 0, 1, 0, 2], Ok(Response::Written)),
        ] {
            assert_eq!(take_rtu_answer(&mut rtu(1, &pdu), 1, &request), Some(answer.clone()));
            assert_eq!(take_tcp_answer(&mut tcp(9, 1, &pdu), 9, 1, &request), Ok(Some(answer)));
        }
    }

    #[test]
    fn an_answer_on_a_line_is_found_behind_what_is_none() {
        for before in [
            vec![],
            vec![0x00, 0xFF, 0x01, 0x03],
            vec![1, 3, 200],
            rtu(2, &TWO),
            rtu(1, &[4, 4, 0, 1, 0, 2]),
            rtu(1, &[3, 2, 0, 1]),
            encode_rtu(1, &READ_TWO),
            encode_rtu(7, &Request::WriteRegisters { start: 1, values: vec![1, 2] }),
            [rtu(2, &[0x83, 2]), vec![9]].concat(),
        ] {
            let mut buffer = [before.clone(), rtu(1, &TWO)].concat();
            assert_eq!(take_rtu_answer(&mut buffer, 1, &READ_TWO), two_answered(), "behind {before:?}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn an_answer_on_a_line_is_found_however_it_arrives() {
        let stream = [rtu(3, &TWO), vec![1, 3], rtu(1, &TWO)].concat();
        let mut buffer = Vec::new();
        for (index, byte) in stream.iter().enumerate() {
            buffer.push(*byte);
            let answer = take_rtu_answer(&mut buffer, 1, &READ_TWO);
            assert_eq!(answer, if index + 1 == stream.len() { two_answered() } else { None });
        }
    }

    #[test]
    fn a_write_is_confirmed_by_its_own_echo_only() {
        let write = Request::WriteRegister { address: 1, value: 3 };
        assert_eq!(take_rtu_answer(&mut rtu(1, &[6, 0, 1, 0, 4]), 1, &write), None);
        assert_eq!(take_rtu_answer(&mut rtu(1, &[6, 0, 2, 0, 3]), 1, &write), None);
        assert_eq!(take_tcp_answer(&mut tcp(1, 1, &[6, 0, 2, 0, 3]), 1, 1, &write), Err(FrameError::Unfitting));
    }

    #[test]
    fn a_late_answer_on_tcp_is_skipped() {
        let mut buffer = [tcp(4, 1, &[3, 4, 9, 9, 9, 9]), tcp(5, 2, &TWO), tcp(5, 1, &TWO)].concat();
        assert_eq!(take_tcp_answer(&mut buffer, 5, 1, &READ_TWO), Ok(two_answered()));
        assert_eq!(take_tcp_answer(&mut buffer, 5, 1, &READ_TWO), Ok(None));
    }

    #[test]
    fn a_stream_that_is_no_modbus_is_given_up() {
        let mut http = b"HTTP/1.1 400 Bad Request".to_vec();
        assert_eq!(take_tcp_answer(&mut http, 1, 1, &READ_TWO), Err(FrameError::NotModbus));
        let mut endless = vec![0, 1, 0, 0, 0xFF, 0xFF, 1];
        assert_eq!(take_tcp_answer(&mut endless, 1, 1, &READ_TWO), Err(FrameError::NotModbus));
    }

    fn requests() -> impl Strategy<Value = Request> {
        let table = prop::sample::select(&[Table::Coil, Table::Discrete, Table::Holding, Table::Input][..]);
        prop_oneof![
            (table, any::<u16>(), any::<u16>()).prop_map(|(table, start, count)| Request::Read {
                table,
                start,
                count: 1 + count % table.max_read()
            }),
            (any::<u16>(), any::<bool>()).prop_map(|(address, on)| Request::WriteCoil { address, on }),
            (any::<u16>(), any::<u16>()).prop_map(|(address, value)| Request::WriteRegister { address, value }),
            (any::<u16>(), prop::collection::vec(any::<bool>(), 1..1969))
                .prop_map(|(start, values)| Request::WriteCoils { start, values }),
            (any::<u16>(), prop::collection::vec(any::<u16>(), 1..124))
                .prop_map(|(start, values)| Request::WriteRegisters { start, values }),
        ]
    }

    /// A right answer to `request` made of `pool`.
    fn answer_pdu(request: &Request, pool: &[u8]) -> Vec<u8> {
        match request {
            Request::Read { .. } => {
                let bytes = request.answer_bytes() - 2;
                let mut pdu = vec![request.function(), bytes as u8];
                pdu.extend(pool.iter().cycle().take(bytes));
                pdu
            }
            _ => encode_tcp(0, 0, request)[MBAP_BYTES..MBAP_BYTES + 5].to_vec(),
        }
    }

    proptest! {
        #[test]
        fn requests_stay_within_the_longest_frame(request in requests(), unit: u8) {
            prop_assert!(encode_rtu(unit, &request).len() <= MAX_RTU_BYTES);
            prop_assert!(rtu_answer_bytes(&request) <= MAX_RTU_BYTES);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_pile_up(
            bytes in prop::collection::vec(any::<u8>(), 0..600), request in requests(), unit: u8, transaction: u16,
        ) {
            let mut buffer = bytes.clone();
            let answer = take_rtu_answer(&mut buffer, unit, &request);
            prop_assert!(answer.is_some() || buffer.len() <= MAX_RTU_BYTES);
            let mut buffer = bytes;
            let _ = take_tcp_answer(&mut buffer, transaction, unit, &request);
        }

        #[test]
        fn the_answer_is_found_behind_arbitrary_noise_in_arbitrary_pieces(
            noise in prop::collection::vec(any::<u8>(), 0..80),
            request in requests(), unit: u8, pool in prop::collection::vec(any::<u8>(), 1..20), piece in 1..40usize,
        ) {
            let stream = [noise.clone(), rtu(unit, &answer_pdu(&request, &pool))].concat();
            // Noise that happens to end in a frame with a right CRC takes the answer's first bytes away.
            prop_assume!((0..noise.len()).all(|at| match classify(&stream[at..], unit, &request) {
                Part::Answer(length, _) | Part::Foreign(length) => at + length <= noise.len(),
                Part::Beginning | Part::Noise => true,
            }));
            let mut buffer = Vec::new();
            let mut found = None;
            for bytes in stream.chunks(piece) {
                buffer.extend_from_slice(bytes);
                found = found.or_else(|| take_rtu_answer(&mut buffer, unit, &request));
            }
            prop_assert!(matches!(found, Some(Ok(_))));
        }

        #[test]
        fn an_answer_to_something_else_is_never_taken(
            asked in requests(), answered in requests(), unit: u8, other_unit: u8,
            transaction: u16, other: u16, pool in prop::collection::vec(any::<u8>(), 1..20),
        ) {
            let pdu = answer_pdu(&answered, &pool);
            let fits = asked.decode_pdu(&pdu).is_some();
            prop_assume!(!(fits && unit == other_unit));
            prop_assert_eq!(take_rtu_answer(&mut rtu(other_unit, &pdu), unit, &asked), None);
            let mut frames = [rtu(other_unit, &pdu), rtu(unit, &answer_pdu(&asked, &pool))].concat();
            prop_assert!(matches!(take_rtu_answer(&mut frames, unit, &asked), Some(Ok(_))));
            let taken = take_tcp_answer(&mut tcp(other, other_unit, &pdu), transaction, unit, &asked);
            prop_assert!(!matches!(taken, Ok(Some(_))));
        }

        #[test]
        fn a_damaged_answer_is_never_taken(
            request in requests(), unit: u8, pool in prop::collection::vec(any::<u8>(), 1..20),
            at: prop::sample::Index, bit in 0..8u8,
        ) {
            let mut frame = rtu(unit, &answer_pdu(&request, &pool));
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            prop_assert_eq!(take_rtu_answer(&mut frame, unit, &request), None);
        }
    }
}
