//! Ranges of addresses: `192.168.1.0/24`, `fd00::/8`, one address, or `loopback`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that clients come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRange {
    /// `loopback`: this machine, Unix sockets included.
    Loopback,
    /// Those that agree with an address in its first bits.
    Network {
        /// The first of them.
        first: IpAddr,
        /// The bits that agree: 0 to 32, or to 128 for IPv6.
        bits: u8,
    },
}

/// Why a text is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// No address, or too many bits.
    #[error("a range of addresses is written 192.168.1.0/24, fd00::/8, 192.168.1.7 or loopback")]
    NoRange,
    /// An address that is not the first of its range.
    #[error("a range begins with its first address: {0}")]
    NotFirst(AddressRange),
}

impl AddressRange {
    /// Whether a client from `address` is in it; `None` stands for a Unix socket.
    pub fn contains(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::Loopback, address) => address.is_none_or(|address| address.to_canonical().is_loopback()),
            (Self::Network { first, bits }, Some(address)) => masked(address.to_canonical(), *bits) == Some(*first),
            (Self::Network { .. }, None) => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        if text == "loopback" {
            return Ok(Self::Loopback);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| RangeError::NoRange)?)),
            None => (text, None),
        };
        let address = IpAddr::from_str(address).map_err(|_| RangeError::NoRange)?;
        let bits = bits.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
        let first = masked(address, bits).ok_or(RangeError::NoRange)?;
        let range = Self::Network { first, bits };
        if first == address { Ok(range) } else { Err(RangeError::NotFirst(range)) }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            Self::Network { first, bits } => write!(f, "{first}/{bits}"),
        }
    }
}

/// The address with all but its first `bits` bits cleared; `None` where it has fewer.
fn masked(address: IpAddr, bits: u8) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => {
            let cleared = 32_u32.checked_sub(bits.into())?;
            IpAddr::from((address.to_bits() & u32::MAX.checked_shl(cleared).unwrap_or(0)).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let cleared = 128_u32.checked_sub(bits.into())?;
            IpAddr::from((address.to_bits() & u128::MAX.checked_shl(cleared).unwrap_or(0)).to_be_bytes())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_their_ranges_and_in_no_others() {
        for (range, inside, outside) in [
            ("192.168.1.0/24", "192.168.1.255", "192.168.2.0"),
            ("192.168.1.0/24", "::ffff:192.168.1.7", "::ffff:192.168.2.7"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.8"),
            ("192.168.1.0/25", "192.168.1.127", "192.168.1.128"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.9"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("loopback", "127.1.2.3", "128.0.0.1"),
            ("loopback", "::ffff:127.0.0.1", "192.168.1.1"),
            ("loopback", "::1", "::2"),
        ] {
            let parsed: AddressRange = range.parse().unwrap();
            assert!(parsed.contains(Some(inside.parse().unwrap())), "{inside} in {range}");
            assert!(!parsed.contains(Some(outside.parse().unwrap())), "{outside} in {range}");
            assert_eq!(parsed.contains(None), range == "loopback");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_in_words() {
        for text in ["", "localhost", "192.168.1", "192.168.1.0/33", "fd00::/129", "192.168.1.0/-1", "192.168.1.0/ 24"]
        {
            assert_eq!(text.parse::<AddressRange>(), Err(RangeError::NoRange), "{text}");
        }
        let error = "192.168.1.7/24".parse::<AddressRange>().unwrap_err();
        assert_eq!(error.to_string(), "a range begins with its first address: 192.168.1.0/24");
    }
}
