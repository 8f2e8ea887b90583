//! Words that a user wrote and words that there are: the nearest one, and all of them.

/// Words of other programs' configurations, and the ones that we have for them.
const OTHERS: [(&str, &str); 24] = [
    ("address", "holding"),
    ("baudrate", "baud"),
    ("bauds", "baud"),
    ("bridge", "bridges"),
    ("bus", "host"),
    ("clientid", "client_id"),
    ("device", "port"),
    ("host", "url"),
    ("hostname", "host"),
    ("interval", "every"),
    ("keepalive", "keep_alive"),
    ("keepalive_interval", "keep_alive"),
    ("mqtt", "broker"),
    ("parity", "format"),
    ("poll_interval", "every"),
    ("register", "holding"),
    ("scan_interval", "every"),
    ("slave", "id"),
    ("slave_id", "id"),
    ("topics", "send"),
    ("unit", "id"),
    ("unit_id", "id"),
    ("url", "get"),
    ("user", "username"),
];

/// The word of `known` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase().replace('-', "_");
    let near = known
        .iter()
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_lowercase().replace('-', "_")), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count().min(word.chars().count()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate);
    let other = || {
        let of_word = OTHERS.iter().filter(|(other, _)| *other == lower).map(|(_, ours)| *ours);
        of_word.filter_map(|ours| known.iter().find(|known| **known == ours).copied()).next()
    };
    near.or_else(other)
}

/// `a, b and c`.
pub fn one_of(words: &[&str], conjunction: &str) -> String {
    match words {
        [] => "nothing".into(),
        [only] => (*only).into(),
        [all @ .., last] => format!("{} {conjunction} {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_understood_and_other_words_are_not() {
        let known = ["temperature", "lat", "queue_bytes"];
        assert_eq!(nearest("tempreature", &known), Some("temperature"));
        assert_eq!(nearest("LAT", &known), Some("lat"));
        assert_eq!(nearest("queue-bytes", &known), Some("queue_bytes"));
        assert_eq!(nearest("pressure", &known), None);
        assert_eq!(nearest("baudrate", &["port", "baud"]), Some("baud"));
        assert_eq!(nearest("baudrate", &known), None);
        assert_eq!(one_of(&known, "or"), "temperature, lat or queue_bytes");
    }
}
