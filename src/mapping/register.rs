//! Registers and bits to values and back: types, byte and word order, scale, bits, maps, unavailable values.

use std::collections::BTreeMap;

use super::{BeyondLimits, Limits, Value};

/// How the bytes of a value lie in its registers. `A` is the most significant byte of a 32-bit value.
///
/// | order | 32 bits as registers | 64 bits | 16 bits, text |
/// |---|---|---|---|
/// | `ABCD` | `AB CD` | `AB CD EF GH` | high byte first |
/// | `CDAB` | `CD AB` | `GH EF CD AB` | high byte first |
/// | `BADC` | `BA DC` | `BA DC FE HG` | low byte first |
/// | `DCBA` | `DC BA` | `HG FE DC BA` | low byte first |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// High word first, high byte first: what the Modbus specification shows.
    #[default]
    Abcd,
    /// Low word first.
    Cdab,
    /// High word first, bytes swapped within each word.
    Badc,
    /// Low word first, bytes swapped within each word.
    Dcba,
}

/// The type of a value in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RegisterType {
    /// One register, 0 to 65,535.
    #[default]
    Uint16,
    /// One register, two's complement.
    Int16,
    /// Two registers.
    Uint32,
    /// Two registers, two's complement.
    Int32,
    /// Four registers.
    Uint64,
    /// Four registers, two's complement.
    Int64,
    /// Two registers, IEEE 754 single precision.
    Float32,
    /// Four registers, IEEE 754 double precision.
    Float64,
    /// One register, four decimal digits.
    Bcd16,
    /// Two registers, eight decimal digits.
    Bcd32,
    /// Two characters a register; NULs and blanks at the end are no part of it.
    Text {
        /// Number of characters, 1 to 250.
        chars: u16,
    },
}

impl RegisterType {
    /// Registers that a value takes, 1 to 125.
    pub const fn registers(self) -> u16 {
        match self {
            Self::Uint16 | Self::Int16 | Self::Bcd16 => 1,
            Self::Uint32 | Self::Int32 | Self::Float32 | Self::Bcd32 => 2,
            Self::Uint64 | Self::Int64 | Self::Float64 => 4,
            Self::Text { chars } => chars.div_ceil(2),
        }
    }

    /// Whether it is a whole number in registers: one that may have a `bit` or a `map`.
    pub const fn is_integer(self) -> bool {
        !matches!(self, Self::Float32 | Self::Float64 | Self::Text { .. })
    }

    /// The smallest and largest whole number that fits; `None` for floats and text.
    const fn range(self) -> Option<(i128, i128)> {
        Some(match self {
            Self::Uint16 => (0, u16::MAX as i128),
            Self::Int16 => (i16::MIN as i128, i16::MAX as i128),
            Self::Uint32 => (0, u32::MAX as i128),
            Self::Int32 => (i32::MIN as i128, i32::MAX as i128),
            Self::Uint64 => (0, u64::MAX as i128),
            Self::Int64 => (i64::MIN as i128, i64::MAX as i128),
            Self::Bcd16 => (0, 9_999),
            Self::Bcd32 => (0, 99_999_999),
            Self::Float32 | Self::Float64 | Self::Text { .. } => return None,
        })
    }
}

/// What a device gives where it has no value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unavailable {
    /// The registers' bits, or the number that they stand for: `0x8000` and `-32768` mean the same in an int16.
    Integer(i128),
    /// The number that they stand for.
    Float(f64),
}

/// Why registers are no value of their type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The caller handed over another number of registers than [`RegisterType::registers`].
    #[error("{expected} registers are needed, not {actual}")]
    Count {
        /// Needed.
        expected: u16,
        /// Handed over.
        actual: usize,
    },
    /// A nibble above 9.
    #[error("0x{0:x} is no binary coded decimal")]
    Bcd(u32),
}

/// Why a value cannot be written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The point takes numbers.
    #[error("{0:?} is no number")]
    NotANumber(String),
    /// The point takes `true` and `false`.
    #[error("{0:?} is neither true nor false")]
    NotABool(String),
    /// The point has no scale, and its type has no fractions.
    #[error("{0} is no whole number")]
    Fraction(f64),
    /// Below `min` or above `max`.
    #[error(transparent)]
    Limits(#[from] BeyondLimits),
    /// It does not fit the registers.
    #[error("{0} does not fit the point's type")]
    OutOfRange(String),
    /// More characters than the point has.
    #[error("the text has {actual} bytes and the point takes {chars}")]
    TooLong {
        /// Bytes of the text.
        actual: usize,
        /// Room.
        chars: u16,
    },
    /// A character that one byte cannot hold.
    #[error("the text has characters beyond ASCII")]
    NotAscii,
    /// One bit of a register.
    #[error("a single bit of a register cannot be written")]
    Bit,
}

/// How one point's registers become its value, and back.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterCodec {
    /// Type in the registers.
    pub kind: RegisterType,
    /// Where the bytes lie.
    pub order: Order,
    /// value = raw * scale + offset; 1 leaves the type as it is.
    pub scale: f64,
    /// In the point's unit.
    pub offset: f64,
    /// One bit of it, 0 is the least significant.
    pub bit: Option<u8>,
    /// Words for raw numbers; a number without a word stays a number.
    pub map: BTreeMap<i64, String>,
    /// What means that there is no value.
    pub unavailable: Option<Unavailable>,
}

impl Default for RegisterCodec {
    fn default() -> Self {
        Self {
            kind: RegisterType::default(),
            order: Order::default(),
            scale: 1.0,
            offset: 0.0,
            bit: None,
            map: BTreeMap::new(),
            unavailable: None,
        }
    }
}

impl RegisterCodec {
    /// The value in `registers`; `None` where the device says that it has none.
    ///
    /// # Errors
    /// A [`DecodeError`] where the registers are no value of the type.
    pub fn decode(&self, registers: &[u16]) -> Result<Option<Value>, DecodeError> {
        let expected = self.kind.registers();
        if registers.len() != usize::from(expected) {
            return Err(DecodeError::Count { expected, actual: registers.len() });
        }
        if let RegisterType::Text { chars } = self.kind {
            return Ok(Some(Value::Text(decode_text(registers, self.order, chars))));
        }
        let bits = join(registers, self.order);
        let number = match self.kind {
            RegisterType::Float32 => Number::Single(f32::from_bits(bits as u32)),
            RegisterType::Float64 => Number::Double(f64::from_bits(bits)),
            RegisterType::Int16 => Number::Integer(i128::from(bits as u16 as i16)),
            RegisterType::Int32 => Number::Integer(i128::from(bits as u32 as i32)),
            RegisterType::Int64 => Number::Integer(i128::from(bits as i64)),
            RegisterType::Bcd16 | RegisterType::Bcd32 if !self.is_unavailable(bits, Number::Single(f32::NAN)) => {
                Number::Integer(i128::from(decode_bcd(bits as u32)?))
            }
            _ => Number::Integer(i128::from(bits)),
        };
        if self.is_unavailable(bits, number) || number.is_nan() {
            return Ok(None);
        }
        if let Some(bit) = self.bit {
            return Ok(Some(Value::Bool(bits.checked_shr(u32::from(bit)).unwrap_or(0) & 1 == 1)));
        }
        if let Number::Integer(raw) = number
            && let Some(word) = i64::try_from(raw).ok().and_then(|raw| self.map.get(&raw))
        {
            return Ok(Some(Value::Text(word.clone())));
        }
        Ok(Some(self.scaled(number)))
    }

    /// The registers that hold `value`, in the point's unit.
    ///
    /// # Errors
    /// An [`EncodeError`] that says in words why it cannot be written.
    pub fn encode(&self, value: &Value, limits: Limits) -> Result<Vec<u16>, EncodeError> {
        if self.bit.is_some() {
            return Err(EncodeError::Bit);
        }
        if let RegisterType::Text { chars } = self.kind {
            return encode_text(&value.to_string(), self.order, chars);
        }
        if let Some(raw) = self.raw_of_word(value) {
            return self.encode_integer(i128::from(raw));
        }
        let number = match value {
            Value::Integer(_) | Value::Unsigned(_) | Value::Single(_) | Value::Double(_) => value.as_f64(),
            _ => None,
        };
        let number = number.ok_or_else(|| EncodeError::NotANumber(value.to_string()))?;
        limits.check(value)?;
        let unscaled = self.scale == 1.0 && self.offset == 0.0;
        match (self.kind, value) {
            // Whole numbers take the exact way: an f64 holds only 53 bits of them.
            (kind, Value::Integer(whole)) if unscaled && kind.is_integer() => self.encode_integer(i128::from(*whole)),
            (kind, Value::Unsigned(whole)) if unscaled && kind.is_integer() => self.encode_integer(i128::from(*whole)),
            (RegisterType::Float32, _) => {
                let raw = ((number - self.offset) / self.scale) as f32;
                if !raw.is_finite() {
                    return Err(EncodeError::OutOfRange(value.to_string()));
                }
                Ok(split(u64::from(raw.to_bits()), 2, self.order))
            }
            (RegisterType::Float64, _) => Ok(split(((number - self.offset) / self.scale).to_bits(), 4, self.order)),
            _ => {
                let raw = (number - self.offset) / self.scale;
                if unscaled && raw.fract() != 0.0 {
                    return Err(EncodeError::Fraction(number));
                }
                // A value between two steps of the scale goes to the nearer one.
                let raw = raw.round();
                // Beyond this an f64 does not even know whole numbers, and no type holds it.
                if raw.abs() > 1e20 {
                    return Err(EncodeError::OutOfRange(value.to_string()));
                }
                self.encode_integer(raw as i128).map_err(|_| EncodeError::OutOfRange(value.to_string()))
            }
        }
    }

    fn is_unavailable(&self, bits: u64, number: Number) -> bool {
        match (self.unavailable, number) {
            (None, _) => false,
            (Some(Unavailable::Integer(none)), Number::Integer(raw)) => none == i128::from(bits) || none == raw,
            (Some(Unavailable::Integer(none)), number) => none == i128::from(bits) || number.as_f64() == none as f64,
            // What a configuration writes as -9999.9 is a single only nearly.
            (Some(Unavailable::Float(none)), Number::Single(raw)) => raw == none as f32,
            (Some(Unavailable::Float(none)), number) => number.as_f64() == none,
        }
    }

    fn scaled(&self, number: Number) -> Value {
        if self.scale == 1.0 && self.offset == 0.0 {
            return match number {
                Number::Single(raw) => Value::Single(raw),
                Number::Double(raw) => Value::Double(raw),
                Number::Integer(raw) => whole(raw, self.kind),
            };
        }
        if let Number::Integer(raw) = number
            && let Some(result) = self.scaled_whole(raw)
        {
            return result;
        }
        let exact = number.as_f64() * self.scale + self.offset;
        // 3 * 0.1 is 0.30000000000000004: as many decimals as scale and offset have are meant, no more.
        let decimals = decimals(self.scale).max(decimals(self.offset));
        Value::Double(match number {
            Number::Integer(_) if decimals <= 12 && exact.abs() < 1e15 => {
                format!("{exact:.decimals$}").parse().unwrap_or(exact)
            }
            _ => format!("{exact:.14e}").parse().unwrap_or(exact),
        })
    }

    /// Whole numbers that stay whole: scale 10, offset -40.
    fn scaled_whole(&self, raw: i128) -> Option<Value> {
        let as_whole = |number: f64| (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i128);
        let result = raw.checked_mul(as_whole(self.scale)?)?.checked_add(as_whole(self.offset)?)?;
        i64::try_from(result).ok().map(Value::Integer)
    }

    fn raw_of_word(&self, value: &Value) -> Option<i64> {
        let words: &[&str] = match value {
            // `on` and `off` arrive as booleans.
            Value::Bool(true) => &["true", "on"],
            Value::Bool(false) => &["false", "off"],
            Value::Text(text) => &[text.as_str()],
            _ => return None,
        };
        self.map.iter().find(|(_, word)| words.iter().any(|w| w.eq_ignore_ascii_case(word))).map(|(raw, _)| *raw)
    }

    fn encode_integer(&self, raw: i128) -> Result<Vec<u16>, EncodeError> {
        let out_of_range = || EncodeError::OutOfRange(raw.to_string());
        let (min, max) = self.kind.range().ok_or_else(out_of_range)?;
        if raw < min || raw > max {
            return Err(out_of_range());
        }
        let bits = match self.kind {
            RegisterType::Bcd16 | RegisterType::Bcd32 => u64::from(encode_bcd(raw as u32)),
            // Two's complement; `split` takes as many bits as there are registers.
            _ => raw as u64,
        };
        Ok(split(bits, usize::from(self.kind.registers()), self.order))
    }
}

/// `true` or `false` for a coil: booleans, 0 and 1, and the words for them.
///
/// # Errors
/// [`EncodeError::NotABool`] for anything else.
pub fn encode_bit(value: &Value) -> Result<bool, EncodeError> {
    match value {
        Value::Bool(on) => Ok(*on),
        Value::Integer(0) | Value::Unsigned(0) => Ok(false),
        Value::Integer(1) | Value::Unsigned(1) => Ok(true),
        other => Err(EncodeError::NotABool(other.to_string())),
    }
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Integer(i128),
    Single(f32),
    Double(f64),
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Self::Integer(raw) => raw as f64,
            Self::Single(raw) => Value::Single(raw).as_f64().unwrap_or(f64::NAN),
            Self::Double(raw) => raw,
        }
    }

    /// IEEE 754 has a word for "no value".
    fn is_nan(self) -> bool {
        match self {
            Self::Integer(_) => false,
            Self::Single(raw) => raw.is_nan(),
            Self::Double(raw) => raw.is_nan(),
        }
    }
}

fn whole(raw: i128, kind: RegisterType) -> Value {
    match kind {
        RegisterType::Int16 | RegisterType::Int32 | RegisterType::Int64 => Value::Integer(raw as i64),
        _ => Value::Unsigned(raw as u64),
    }
}

/// Up to four registers as one number, the most significant bits first.
fn join(registers: &[u16], order: Order) -> u64 {
    let take = |bits: u64, register: &u16| bits << 16 | u64::from(swap(*register, order));
    match order {
        Order::Abcd | Order::Badc => registers.iter().fold(0, take),
        Order::Cdab | Order::Dcba => registers.iter().rev().fold(0, take),
    }
}

/// The inverse of [`join`].
fn split(bits: u64, count: usize, order: Order) -> Vec<u16> {
    let low_first = (0..count).map(|index| swap((bits >> (16 * index)) as u16, order));
    match order {
        Order::Abcd | Order::Badc => low_first.rev().collect(),
        Order::Cdab | Order::Dcba => low_first.collect(),
    }
}

const fn swap(register: u16, order: Order) -> u16 {
    match order {
        Order::Abcd | Order::Cdab => register,
        Order::Badc | Order::Dcba => register.swap_bytes(),
    }
}

/// Text has no word order: only the bytes within a register may be swapped.
fn decode_text(registers: &[u16], order: Order, chars: u16) -> String {
    let mut bytes: Vec<u8> = registers.iter().flat_map(|register| swap(*register, order).to_be_bytes()).collect();
    bytes.truncate(usize::from(chars));
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        // Latin-1 is what devices with umlauts in their names use.
        Err(error) => error.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
    };
    text.trim_end().to_owned()
}

fn encode_text(text: &str, order: Order, chars: u16) -> Result<Vec<u16>, EncodeError> {
    if !text.is_ascii() {
        return Err(EncodeError::NotAscii);
    }
    if text.len() > usize::from(chars) {
        return Err(EncodeError::TooLong { actual: text.len(), chars });
    }
    let byte = |index: usize| text.as_bytes().get(index).copied().unwrap_or(0);
    let register = |index: usize| swap(u16::from_be_bytes([byte(2 * index), byte(2 * index + 1)]), order);
    Ok((0..usize::from(chars.div_ceil(2))).map(register).collect())
}

fn decode_bcd(bits: u32) -> Result<u32, DecodeError> {
    (0..8).rev().try_fold(0, |number, nibble| match bits >> (4 * nibble) & 0xF {
        digit @ 0..=9 => Ok(number * 10 + digit),
        _ => Err(DecodeError::Bcd(bits)),
    })
}

fn encode_bcd(number: u32) -> u32 {
    (0..8).fold(0, |bits, nibble| bits | (number / 10u32.pow(nibble) % 10) << (4 * nibble))
}

/// Digits behind the point of the shortest text that means `number`.
fn decimals(number: f64) -> usize {
    number.to_string().split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORDERS: [Order; 4] = [Order::Abcd, Order::Cdab, Order::Badc, Order::Dcba];

    fn codec(kind: RegisterType, order: Order) -> RegisterCodec {
        RegisterCodec { kind, order, ..RegisterCodec::default() }
    }

    #[test]
    fn known_registers_give_known_values_and_come_back() {
        use Order::{Abcd, Badc, Cdab, Dcba};
        let text = RegisterType::Text { chars: 5 };
        for (kind, order, registers, expected) in [
            (RegisterType::Uint16, Abcd, vec![0xFFFE], Value::Unsigned(65_534)),
            (RegisterType::Uint16, Badc, vec![0x0100], Value::Unsigned(1)),
            (RegisterType::Int16, Abcd, vec![0xFFFE], Value::Integer(-2)),
            (RegisterType::Uint32, Abcd, vec![0x0001, 0x0002], Value::Unsigned(65_538)),
            (RegisterType::Uint32, Cdab, vec![0x0002, 0x0001], Value::Unsigned(65_538)),
            (RegisterType::Uint32, Badc, vec![0x0100, 0x0200], Value::Unsigned(65_538)),
            (RegisterType::Uint32, Dcba, vec![0x0200, 0x0100], Value::Unsigned(65_538)),
            (RegisterType::Int32, Abcd, vec![0xFFFF, 0xFFFE], Value::Integer(-2)),
            (RegisterType::Float32, Abcd, vec![0x4366, 0x199A], Value::Single(230.1)),
            (RegisterType::Float32, Cdab, vec![0x199A, 0x4366], Value::Single(230.1)),
            (RegisterType::Float32, Badc, vec![0x6643, 0x9A19], Value::Single(230.1)),
            (RegisterType::Float32, Dcba, vec![0x9A19, 0x6643], Value::Single(230.1)),
            (RegisterType::Uint64, Abcd, vec![1, 2, 3, 4], Value::Unsigned(0x0001_0002_0003_0004)),
            (RegisterType::Uint64, Cdab, vec![4, 3, 2, 1], Value::Unsigned(0x0001_0002_0003_0004)),
            (RegisterType::Int64, Abcd, vec![0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE], Value::Integer(-2)),
            (RegisterType::Float64, Abcd, vec![0x3FF8, 0, 0, 0], Value::Double(1.5)),
            (RegisterType::Float64, Dcba, vec![0, 0, 0, 0xF83F], Value::Double(1.5)),
            (RegisterType::Bcd16, Abcd, vec![0x1234], Value::Unsigned(1_234)),
            (RegisterType::Bcd32, Abcd, vec![0x1234, 0x5678], Value::Unsigned(12_345_678)),
            (RegisterType::Bcd32, Cdab, vec![0x5678, 0x1234], Value::Unsigned(12_345_678)),
            (text, Abcd, vec![0x4865, 0x6C6C, 0x6F00], Value::Text("Hello".into())),
            (text, Cdab, vec![0x4865, 0x6C6C, 0x6F00], Value::Text("Hello".into())),
            (text, Badc, vec![0x6548, 0x6C6C, 0x006F], Value::Text("Hello".into())),
        ] {
            let codec = codec(kind, order);
            assert_eq!(codec.decode(&registers), Ok(Some(expected.clone())), "{kind:?} {order:?}");
            assert_eq!(codec.encode(&expected, Limits::default()), Ok(registers), "{kind:?} {order:?}");
        }
    }

    #[test]
    fn scale_and_offset_leave_no_noise_behind_the_last_decimal() {
        let scaled = |scale, offset, kind, registers: &[u16]| {
            let codec = RegisterCodec { scale, offset, kind, ..RegisterCodec::default() };
            codec.decode(registers).unwrap().unwrap().to_string()
        };
        assert_eq!(scaled(0.1, 0.0, RegisterType::Int16, &[3]), "0.3");
        assert_eq!(scaled(0.1, -40.0, RegisterType::Int16, &[403]), "0.3");
        assert_eq!(scaled(0.001, 0.0, RegisterType::Uint32, &[0, 1_001]), "1.001");
        assert_eq!(scaled(10.0, 0.0, RegisterType::Uint16, &[5]), "50");
        assert_eq!(scaled(1.0, -40.0, RegisterType::Uint16, &[5]), "-35");
        assert_eq!(scaled(0.001, 0.0, RegisterType::Float32, &[0x4366, 0x199A]), "0.2301");
    }

    #[test]
    fn a_bit_and_a_map_say_what_a_register_means() {
        let bit = |bit| RegisterCodec { bit: Some(bit), ..RegisterCodec::default() };
        assert_eq!(bit(2).decode(&[0b100]), Ok(Some(Value::Bool(true))));
        assert_eq!(bit(1).decode(&[0b100]), Ok(Some(Value::Bool(false))));
        assert_eq!(bit(2).encode(&Value::Bool(true), Limits::default()), Err(EncodeError::Bit));
        let map = RegisterCodec {
            map: [(1, "off".to_owned()), (4, "producing".to_owned())].into(),
            ..RegisterCodec::default()
        };
        assert_eq!(map.decode(&[4]), Ok(Some(Value::Text("producing".into()))));
        assert_eq!(map.decode(&[9]), Ok(Some(Value::Unsigned(9))));
        assert_eq!(map.encode(&Value::Text("producing".into()), Limits::default()), Ok(vec![4]));
        assert_eq!(map.encode(&Value::Bool(false), Limits::default()), Ok(vec![1]), "off arrives as false");
        assert!(map.encode(&Value::Text("sleeping".into()), Limits::default()).is_err());
    }

    #[test]
    fn an_unavailable_value_is_none() {
        let none = |kind, unavailable, registers: &[u16]| {
            let codec = RegisterCodec { kind, unavailable: Some(unavailable), ..RegisterCodec::default() };
            codec.decode(registers).unwrap()
        };
        assert_eq!(none(RegisterType::Int16, Unavailable::Integer(0x8000), &[0x8000]), None);
        assert_eq!(none(RegisterType::Int16, Unavailable::Integer(-32_768), &[0x8000]), None);
        assert_eq!(none(RegisterType::Bcd16, Unavailable::Integer(0xFFFF), &[0xFFFF]), None);
        assert_eq!(none(RegisterType::Float32, Unavailable::Float(-9999.9), &[0xC61C, 0x3F9A]), None);
        assert_eq!(none(RegisterType::Int16, Unavailable::Integer(0x8000), &[1]), Some(Value::Integer(1)));
        assert_eq!(codec(RegisterType::Float32, Order::Abcd).decode(&[0x7FC0, 0]), Ok(None), "not a number");
    }

    #[test]
    fn what_cannot_be_written_says_why() {
        let setpoint = RegisterCodec { kind: RegisterType::Int16, scale: 0.1, ..RegisterCodec::default() };
        let limits = Limits { min: Some(5.0), max: Some(35.0) };
        assert_eq!(setpoint.encode(&Value::Double(21.5), limits), Ok(vec![215]));
        let error = |codec: &RegisterCodec, value: Value, limits| codec.encode(&value, limits).unwrap_err().to_string();
        assert_eq!(error(&setpoint, Value::Integer(4), limits), "4 is below the minimum 5");
        assert_eq!(error(&setpoint, Value::Double(35.1), limits), "35.1 is above the maximum 35");
        assert_eq!(error(&setpoint, Value::Text("warm".into()), limits), r#""warm" is no number"#);
        assert_eq!(error(&setpoint, Value::Bool(true), limits), r#""true" is no number"#);
        assert_eq!(error(&setpoint, Value::Integer(4_000), Limits::default()), "4000 does not fit the point's type");
        let plain = codec(RegisterType::Uint16, Order::Abcd);
        assert_eq!(error(&plain, Value::Double(1.5), Limits::default()), "1.5 is no whole number");
        assert_eq!(error(&plain, Value::Integer(-1), Limits::default()), "-1 does not fit the point's type");
        assert_eq!(
            error(&plain, Value::Double(1e300), Limits::default()).len(),
            "does not fit the point's type".len() + 302
        );
        let text = codec(RegisterType::Text { chars: 2 }, Order::Abcd);
        assert_eq!(
            error(&text, Value::Text("abc".into()), Limits::default()),
            "the text has 3 bytes and the point takes 2"
        );
        assert!(encode_bit(&Value::Integer(2)).is_err());
        assert_eq!(encode_bit(&Value::Integer(1)), Ok(true));
    }

    fn kinds() -> impl Strategy<Value = RegisterType> {
        prop_oneof![
            Just(RegisterType::Uint16),
            Just(RegisterType::Int16),
            Just(RegisterType::Uint32),
            Just(RegisterType::Int32),
            Just(RegisterType::Uint64),
            Just(RegisterType::Int64),
            Just(RegisterType::Float32),
            Just(RegisterType::Float64),
            Just(RegisterType::Bcd16),
            Just(RegisterType::Bcd32),
            (1..=250u16).prop_map(|chars| RegisterType::Text { chars }),
        ]
    }

    proptest! {
        #[test]
        fn any_value_that_registers_give_goes_back_into_the_same_value(
            kind in kinds(),
            order in prop::sample::select(&ORDERS[..]),
            pool in prop::collection::vec(any::<u16>(), 125),
        ) {
            let codec = codec(kind, order);
            let registers = &pool[..usize::from(kind.registers())];
            // Bytes that are no BCD, no ASCII or no finite number have no way back.
            let Ok(Some(value)) = codec.decode(registers) else { return Ok(()) };
            if value.is_unusable() || matches!(&value, Value::Text(text) if !text.is_ascii()) {
                return Ok(());
            }
            let written = codec.encode(&value, Limits::default()).unwrap();
            prop_assert_eq!(codec.decode(&written), Ok(Some(value.clone())));
            if !matches!(kind, RegisterType::Text { .. }) {
                prop_assert_eq!(&written[..], registers);
            }
        }

        #[test]
        fn a_scaled_value_comes_back_to_its_register(raw in any::<i16>(), decimals in 0..4u32, offset in -100..100i32) {
            let codec = RegisterCodec {
                kind: RegisterType::Int16,
                scale: 0.1f64.powi(decimals as i32),
                offset: f64::from(offset),
                ..RegisterCodec::default()
            };
            let value = codec.decode(&[raw as u16]).unwrap().unwrap();
            prop_assert_eq!(codec.encode(&value, Limits::default()), Ok(vec![raw as u16]));
        }

        #[test]
        fn any_registers_are_decoded_without_a_panic(
            kind in kinds(),
            scale in any::<f64>(),
            offset in any::<f64>(),
            bit in prop::option::of(any::<u8>()),
            pool in prop::collection::vec(any::<u16>(), 0..130),
        ) {
            let codec = RegisterCodec { kind, scale, offset, bit, ..RegisterCodec::default() };
            let _ = codec.decode(&pool);
            let count = usize::from(kind.registers()).min(pool.len());
            if let Ok(Some(value)) = codec.decode(&pool[..count]) {
                let _ = codec.encode(&value, Limits { min: Some(offset), max: None });
            }
        }
    }
}
