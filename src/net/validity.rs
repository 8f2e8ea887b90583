//! Until when a certificate is valid.

use std::time::{Duration, SystemTime};

use super::der::{Der, GENERALIZED_TIME, SEQUENCE, UTC_TIME};

/// The end of the validity of a certificate in DER. `None` where it cannot be read, or is before 1970.
pub fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    // Validity ::= SEQUENCE { notBefore Time, notAfter Time } [RFC 5280 4.1.2.5]
    let mut validity = Der(Der::from_validity_on(certificate).ok()?.take(SEQUENCE).ok()?);
    validity.next().ok()?;
    let (tag, time) = validity.next().ok()?;
    let digits: Vec<i64> = time
        .strip_suffix(b"Z")?
        .iter()
        .map(|digit| digit.is_ascii_digit().then(|| i64::from(digit - b'0')))
        .collect::<Option<_>>()?;
    let (year, rest) = match tag {
        // YYMMDDHHMMSSZ of 1950 to 2049.
        UTC_TIME if digits.len() == 12 => {
            let year = digits[0] * 10 + digits[1];
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        GENERALIZED_TIME if digits.len() == 14 => {
            (digits[..4].iter().fold(0, |year, digit| year * 10 + digit), &digits[4..])
        }
        _ => return None,
    };
    let pair = |at: usize| rest[at] * 10 + rest[at + 1];
    let (month, day) = (pair(0), pair(2));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + pair(4) * 3600 + pair(6) * 60 + pair(8);
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// Days of the proleptic Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // A year that begins in March has its odd day at its end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_found() {
        for (year, month, day, seconds) in
            [(2000, 2, 29, 951_782_400), (2026, 11, 22, 1_795_305_600), (2049, 12, 31, 2_524_521_600)]
                .into_iter()
                // GeneralizedTime from 2050 on.
                .chain([(2050, 1, 1, 2_524_608_000), (2100, 3, 1, 4_107_542_400u64)])
        {
            let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
            params.not_after = date_time_ymd(year, month, day);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let end = not_after(certificate.der()).unwrap();
            assert_eq!(end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), seconds, "{year}");
        }
    }

    #[test]
    fn what_is_cut_has_no_end() {
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap().cert;
        let whole = certificate.der();
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
    }
}
