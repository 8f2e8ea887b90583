//! Just enough DER to find a field of a certificate [X.690].

/// DER tags [X.690 8.1.2].
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const PRINTABLE_STRING: u8 = 0x13;
pub(super) const IA5_STRING: u8 = 0x16;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, the version of a certificate, where it is not 1.
const EXPLICIT_0: u8 = 0xa0;

/// Not in the form of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// What remains of some DER.
pub(super) struct Der<'a>(pub(super) &'a [u8]);

impl<'a> Der<'a> {
    /// The fields of a certificate from its validity on.
    pub(super) fn from_validity_on(certificate: &'a [u8]) -> Result<Self, Malformed> {
        // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version, serialNumber, signature, issuer, validity,
        // subject, ... }, ... } [RFC 5280 4.1]
        let mut certificate = Der(Der(certificate).take(SEQUENCE)?);
        let mut fields = Der(certificate.take(SEQUENCE)?);
        if fields.0.first() == Some(&EXPLICIT_0) {
            fields.take(EXPLICIT_0)?;
        }
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            fields.take(tag)?;
        }
        Ok(fields)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the next element, which has that tag.
    pub(super) fn take(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let (found, value) = self.next()?;
        if found == tag { Ok(value) } else { Err(Malformed) }
    }

    /// Tag and value of the next element.
    pub(super) fn next(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        let (&[tag, length], rest) = self.0.split_first_chunk::<2>().ok_or(Malformed)?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            // The length stands in 1 to 3 bytes of its own: certificates are no larger.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80)).ok_or(Malformed)?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return Err(Malformed),
        };
        let (value, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok((tag, value))
    }
}
