//! Topic names and topic filters: what is allowed in them and which name a filter matches (MQTT 5.0, section 4.7).

use std::fmt;
use std::sync::Arc;

/// The longest UTF-8 string that MQTT can carry, in bytes (section 1.5.4).
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// Why a string is no topic name or no topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Names and filters have at least one character [MQTT-4.7.3-1].
    #[error("a topic is at least one character long")]
    Empty,
    /// More than 65,535 bytes [MQTT-4.7.3-3].
    #[error("a topic is at most 65,535 bytes long")]
    TooLong,
    /// U+0000 [MQTT-4.7.3-2].
    #[error("a topic has no character U+0000")]
    Nul,
    /// `+` or `#` in a topic name [MQTT-4.7.0-1].
    #[error("a topic name has no wildcards; `+` and `#` belong in filters")]
    WildcardInName,
    /// `#` before the end, or not alone in its level [MQTT-4.7.1-1].
    #[error("`#` stands alone in the last level of a filter")]
    MultiLevelWildcard,
    /// `+` together with other characters in a level [MQTT-4.7.1-2].
    #[error("`+` stands alone in its level")]
    SingleLevelWildcard,
    /// `$share/name/filter` without name or filter, or with a wildcard in its name [MQTT-4.8.2-1].
    #[error("a shared subscription reads $share/NAME/FILTER, and NAME has no `/`, `+` or `#`")]
    Share,
}

/// Checks that `name` is a topic name (something that one publishes to).
///
/// # Errors
/// A [`TopicError`] where it is not.
pub fn validate_name(name: &str) -> Result<(), TopicError> {
    validate_length(name)?;
    // One pass over the bytes: all three are ASCII and never occur inside a multi-byte character.
    let mut forbidden = false;
    for &byte in name.as_bytes() {
        forbidden |= matches!(byte, 0 | b'+' | b'#');
    }
    if forbidden {
        return Err(if name.contains('\0') { TopicError::Nul } else { TopicError::WildcardInName });
    }
    Ok(())
}

/// Checks that `filter` is a topic filter (something that one subscribes to).
///
/// # Errors
/// A [`TopicError`] where it is not.
pub fn validate_filter(filter: &str) -> Result<(), TopicError> {
    validate_length(filter)?;
    if filter.contains('\0') {
        return Err(TopicError::Nul);
    }
    let filter = match filter.strip_prefix("$share/") {
        Some(shared) => {
            let (name, rest) = shared.split_once('/').ok_or(TopicError::Share)?;
            if name.is_empty() || rest.is_empty() || name.contains(['+', '#']) {
                return Err(TopicError::Share);
            }
            rest
        }
        None => filter,
    };
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(TopicError::MultiLevelWildcard);
        }
        if level.contains('+') && level != "+" {
            return Err(TopicError::SingleLevelWildcard);
        }
    }
    Ok(())
}

fn validate_length(topic: &str) -> Result<(), TopicError> {
    match topic.len() {
        0 => Err(TopicError::Empty),
        1..=MAX_TOPIC_BYTES => Ok(()),
        _ => Err(TopicError::TooLong),
    }
}

/// Whether the valid filter `filter` matches the valid name `name`.
///
/// A filter that starts with a wildcard matches no name that starts with `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut filter_levels = filter.split('/');
    let mut name_levels = name.split('/');
    loop {
        match (filter_levels.next(), name_levels.next()) {
            // `#` also matches the level above it: `a/#` matches `a`.
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Whether some topic name is matched by both filters.
pub fn overlap(one: &str, other: &str) -> bool {
    let starts = |filter: &str| filter.starts_with(['+', '#']);
    if (one.starts_with('$') && starts(other)) || (other.starts_with('$') && starts(one)) {
        return false;
    }
    let mut one = one.split('/');
    let mut other = other.split('/');
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == "+" || b == "+" || a == b => {}
            _ => return false,
        }
    }
}

/// Whether the filter `outer` matches every topic that the filter `inner` matches.
pub fn covers(outer: &str, inner: &str) -> bool {
    if inner.starts_with('$') && outer.starts_with(['+', '#']) {
        return false;
    }
    let mut inner = inner.split('/');
    for level in outer.split('/') {
        match (level, inner.next()) {
            ("#", _) => return true,
            ("+", Some(inner)) if inner != "#" => {}
            (level, Some(inner)) if level == inner => {}
            _ => return false,
        }
    }
    inner.next().is_none()
}

macro_rules! topic_string {
    ($(#[$doc:meta])* $name:ident, $validate:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes `text` if it is valid.
            ///
            /// # Errors
            /// A [`TopicError`] where it is not.
            pub fn new(text: &str) -> Result<Self, TopicError> {
                $validate(text)?;
                Ok(Self(text.into()))
            }

            /// The text as it goes on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

topic_string!(
    /// A valid topic name; cloning shares it.
    TopicName,
    validate_name
);
topic_string!(
    /// A valid topic filter; cloning shares it.
    TopicFilter,
    validate_filter
);

impl TopicFilter {
    /// Whether this filter matches `name`.
    pub fn matches(&self, name: &str) -> bool {
        matches(self.as_str(), name)
    }

    /// Name and filter of a shared subscription, `$share/NAME/FILTER` (section 4.8.2); `None` for any other filter.
    pub fn share(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix("$share/")?.split_once('/')
    }

    /// The filter itself, without the name of its group where it is a shared one.
    pub fn unshared(&self) -> &str {
        self.share().map_or(self.as_str(), |(_, filter)| filter)
    }

    /// Whether this filter matches every topic that `inner` matches.
    pub fn covers(&self, inner: &Self) -> bool {
        covers(self.as_str(), inner.as_str())
    }

    /// Whether the filter has a `+` or `#`.
    pub fn has_wildcard(&self) -> bool {
        self.0.contains(['+', '#'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_covers_what_matches_no_more_than_it() {
        for (outer, inner, expected) in [
            ("#", "a/+", true),
            ("#", "$SYS/#", false),
            ("a/#", "a", true),
            ("a/#", "a/b/+", true),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/+/c", true),
            ("a/+", "a/#", false),
            ("a/b/c", "a/+/c", false),
            ("a/+/c", "a/b/+", false),
            ("a", "a/b", false),
        ] {
            assert_eq!(covers(outer, inner), expected, "{outer} {inner}");
        }
    }

    #[test]
    fn filters_match_as_the_specification_says() {
        for (filter, name, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/a", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/a", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
            ("ACCOUNTS", "Accounts", false),
        ] {
            assert_eq!(matches(filter, name), expected, "{filter} against {name}");
        }
    }

    #[test]
    fn wrong_names_and_filters_say_what_is_wrong() {
        assert_eq!(validate_name(""), Err(TopicError::Empty));
        assert_eq!(validate_name("a/+/b"), Err(TopicError::WildcardInName));
        assert_eq!(validate_name("a\0b"), Err(TopicError::Nul));
        assert_eq!(validate_name(&"x".repeat(65_536)), Err(TopicError::TooLong));
        assert_eq!(validate_filter("a/#/b"), Err(TopicError::MultiLevelWildcard));
        assert_eq!(validate_filter("a#"), Err(TopicError::MultiLevelWildcard));
        assert_eq!(validate_filter("a+/b"), Err(TopicError::SingleLevelWildcard));
        assert_eq!(validate_filter("$share//t"), Err(TopicError::Share));
        assert_eq!(validate_filter("$share/g"), Err(TopicError::Share));
        assert_eq!(validate_filter("$share/g+/t"), Err(TopicError::Share));
        assert_eq!(validate_filter("$share/g/a/+/#"), Ok(()));
    }

    #[test]
    fn overlapping_filters_are_found() {
        for (one, other, expected) in [
            ("a/#", "a/b/+", true),
            ("a/+/c", "a/b/+", true),
            ("a/b", "a/c", false),
            ("cmd/#", "edge/#", false),
            ("#", "$SYS/a", false),
            ("a/#", "a", true),
            ("+", "a/b", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} and {other}");
            assert_eq!(overlap(other, one), expected, "{other} and {one}");
        }
    }
}
