//! Percent-encoding of names and values (RFC 3986), as property bags and tokens have them.

/// Appends `text`; what is not unreserved stands as `%XX`.
pub fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => into.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                into.push('%');
                into.push(char::from(HEX[usize::from(byte >> 4)]));
                into.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

/// `text` encoded.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    encode(text, &mut out);
    out
}

/// What was encoded; `None` where that was no UTF-8, or a `%` stands before what is no number.
pub fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return None;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(*high)? << 4 | digit(*low)?) as u8);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_unreserved_is_encoded() {
        assert_eq!(encoded("edge-01/plc_1.~"), "edge-01%2Fplc_1.~");
        assert_eq!(encoded("$.ct=°C +"), "%24.ct%3D%C2%B0C%20%2B");
        assert_eq!(decoded("%24.ct%3d%C2%B0C%20%2B").as_deref(), Some("$.ct=°C +"));
        for wrong in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decoded(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn everything_comes_back(text in ".*") {
            prop_assert_eq!(decoded(&encoded(&text)), Some(text));
        }
    }
}
