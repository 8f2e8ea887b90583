//! The common name of a certificate's subject: the user that a client certificate speaks for.

use super::der::{Der, IA5_STRING, Malformed, OBJECT_IDENTIFIER, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING};

/// id-at-commonName, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// Why a certificate names no user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not in the form of a certificate.
    #[error("the certificate cannot be read")]
    Malformed,
    /// A subject without a common name, or with an empty one.
    #[error("the certificate's subject has no common name")]
    Missing,
    /// Two of them: which one would be the user?
    #[error("the certificate's subject has several common names")]
    Several,
    /// An encoding other than UTF8String, PrintableString and IA5String, or bytes that it does not allow.
    #[error("the certificate's common name is no text (UTF8String or PrintableString)")]
    NoText,
}

impl From<Malformed> for NameError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// The common name of the subject of a certificate in DER. Whether the certificate is to be trusted is not asked here.
///
/// # Errors
/// Where there is none that could be a user's name.
pub fn common_name(certificate: &[u8]) -> Result<&str, NameError> {
    let mut fields = Der::from_validity_on(certificate)?;
    fields.take(SEQUENCE)?;
    let mut subject = Der(fields.take(SEQUENCE)?);
    let mut found = None;
    while !subject.is_empty() {
        let mut attributes = Der(subject.take(SET)?);
        while !attributes.is_empty() {
            let mut attribute = Der(attributes.take(SEQUENCE)?);
            let identifier = attribute.take(OBJECT_IDENTIFIER)?;
            if identifier == COMMON_NAME && found.replace(attribute.next()?).is_some() {
                return Err(NameError::Several);
            }
        }
    }
    let (tag, value) = found.ok_or(NameError::Missing)?;
    let name = match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => std::str::from_utf8(value).map_err(|_| NameError::NoText)?,
        _ => return Err(NameError::NoText),
    };
    if (tag != UTF8_STRING && !name.is_ascii()) || name.chars().any(char::is_control) {
        return Err(NameError::NoText);
    }
    if name.is_empty() { Err(NameError::Missing) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn certificate(names: &[DnValue]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Plant");
        for name in names {
            params.distinguished_name.push(DnType::CommonName, name.clone());
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found_in_each_of_its_encodings() {
        for name in [
            DnValue::Utf8String("pumpe-ä".into()),
            DnValue::PrintableString("pump 1".try_into().unwrap()),
            DnValue::Ia5String("pump@plant".try_into().unwrap()),
        ] {
            let certificate = certificate(std::slice::from_ref(&name));
            let text = match &name {
                DnValue::Utf8String(text) => text.as_str(),
                DnValue::PrintableString(text) => text.as_str(),
                DnValue::Ia5String(text) => text.as_str(),
                _ => unreachable!(),
            };
            assert_eq!(common_name(&certificate), Ok(text));
        }
        let long = "n".repeat(300);
        assert_eq!(common_name(&certificate(&[long.as_str().into()])), Ok(long.as_str()));
    }

    #[test]
    fn a_subject_that_names_nobody_is_refused() {
        assert_eq!(common_name(&certificate(&[])), Err(NameError::Missing));
        assert_eq!(common_name(&certificate(&["".into()])), Err(NameError::Missing));
        assert_eq!(common_name(&certificate(&["a\0b".into()])), Err(NameError::NoText));
        let wide = DnValue::BmpString("a".try_into().unwrap());
        assert_eq!(common_name(&certificate(&[wide])), Err(NameError::NoText));
    }

    #[test]
    fn two_common_names_are_refused() {
        let mut certificate = certificate(&["first".into()]);
        // The organization becomes a second common name: 2.5.4.10 -> 2.5.4.3, in issuer and subject.
        let mut at = 0;
        while let Some(found) = certificate[at..].windows(5).position(|bytes| bytes == [6, 3, 0x55, 4, 10]) {
            at += found + 5;
            certificate[at - 1] = 3;
        }
        assert_eq!(common_name(&certificate), Err(NameError::Several));
    }

    #[test]
    fn a_certificate_that_was_cut_is_refused() {
        let certificate = certificate(&["me".into()]);
        let end = certificate.windows(2).rposition(|bytes| bytes == b"me").unwrap() + 2;
        for length in 0..end {
            assert_eq!(common_name(&certificate[..length]), Err(NameError::Malformed), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(flips in prop::collection::vec((0usize..700, any::<u8>()), 0..8)) {
            let mut certificate = certificate(&["me".into()]);
            for (at, byte) in flips {
                if let Some(there) = certificate.get_mut(at) {
                    *there = byte;
                }
            }
            let _ = common_name(&certificate);
        }
    }
}
