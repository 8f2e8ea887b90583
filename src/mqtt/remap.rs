//! A route's pure part: `from -> to`, where `+` and `#` carry over what they matched.

use super::topic::{self, TopicError, TopicFilter};

/// Rewrites the topics that `from` matches into topics of the shape of `to`.
///
/// The n-th wildcard of `to` takes what the n-th wildcard of `from` matched. `to` without wildcards sends all to one
/// topic. Without `to` topics stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Remap {
    from: TopicFilter,
    to: Option<TopicFilter>,
}

/// Why a pair of filters is no remap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemapError {
    /// One of the two is no filter.
    #[error("{0}")]
    Topic(#[from] TopicError),
    /// The wildcards do not correspond.
    #[error(
        "the wildcards of `to` stand for those of `from` in their order, so `to` has none or the same ones: {from} -> {to}"
    )]
    Wildcards {
        /// The filter matched.
        from: String,
        /// The shape of the result.
        to: String,
    },
}

impl Remap {
    /// Pairs `from` with `to`.
    ///
    /// # Errors
    /// Where the wildcards of `to` are neither none nor those of `from`, in their order.
    pub fn new(from: TopicFilter, to: Option<TopicFilter>) -> Result<Self, RemapError> {
        if let Some(to) = &to {
            let wildcards = |filter: &TopicFilter| -> Vec<String> {
                filter.as_str().split('/').filter(|level| matches!(*level, "+" | "#")).map(String::from).collect()
            };
            let wanted = wildcards(to);
            if !wanted.is_empty() && wanted != wildcards(&from) {
                return Err(RemapError::Wildcards { from: from.to_string(), to: to.to_string() });
            }
        }
        Ok(Self { from, to })
    }

    /// The filter that topics must match.
    pub fn from(&self) -> &TopicFilter {
        &self.from
    }

    /// The shape of the result; `None` where topics stay as they are.
    pub fn to(&self) -> Option<&TopicFilter> {
        self.to.as_ref()
    }

    /// Appends the new topic of `name` to `into` and says `true`; `false` where `from` does not match,
    /// or where the result would be no topic name.
    pub fn apply(&self, name: &str, into: &mut String) -> bool {
        if !self.from.matches(name) {
            return false;
        }
        let start = into.len();
        let Some(to) = &self.to else {
            into.push_str(name);
            return true;
        };
        let mut captured = captures(self.from.as_str(), name);
        for (index, level) in to.as_str().split('/').enumerate() {
            match level {
                // A `#` that matched the level above it has nothing to carry over, and no `/` before it.
                "+" | "#" => {
                    if let Some(Some(part)) = captured.next() {
                        if index > 0 {
                            into.push('/');
                        }
                        into.push_str(part);
                    }
                }
                literal => {
                    if index > 0 {
                        into.push('/');
                    }
                    into.push_str(literal);
                }
            }
        }
        if topic::validate_name(&into[start..]).is_err() {
            into.truncate(start);
            return false;
        }
        true
    }
}

/// What each wildcard of `filter` matched in `name`, in their order; `None` for a `#` that matched no level.
fn captures<'a>(filter: &'a str, name: &'a str) -> impl Iterator<Item = Option<&'a str>> {
    let mut filter_levels = filter.split('/');
    let mut rest = Some(name);
    std::iter::from_fn(move || {
        loop {
            let wanted = filter_levels.next()?;
            if wanted == "#" {
                return Some(rest.take());
            }
            let text = rest.take()?;
            let level = match text.split_once('/') {
                Some((level, after)) => {
                    rest = Some(after);
                    level
                }
                None => text,
            };
            if wanted == "+" {
                return Some(Some(level));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remap(from: &str, to: &str) -> Result<Remap, RemapError> {
        Remap::new(TopicFilter::new(from)?, Some(TopicFilter::new(to)?))
    }

    #[test]
    fn wildcards_carry_over_in_their_order() {
        for (from, to, name, expected) in [
            ("edge/meter/#", "dt/edge/meter/#", "edge/meter/a/b", Some("dt/edge/meter/a/b")),
            ("edge/meter/#", "dt/#", "edge/meter", Some("dt")),
            ("edge/+/status", "dt/edge/+/status", "edge/plc/status", Some("dt/edge/plc/status")),
            ("cmd/+/+", "edge/+/+/set", "cmd/plc/pump", Some("edge/plc/pump/set")),
            ("+/b/#", "x/+/y/#", "a/b/c/d", Some("x/a/y/c/d")),
            ("edge/gps", "fleet/edge", "edge/gps", Some("fleet/edge")),
            ("edge/#", "all", "edge/a/b", Some("all")),
            ("edge/#", "all/#", "other/a", None),
            ("#", "#", "/a", Some("/a")),
            ("+/#", "+/#", "/a", Some("/a")),
        ] {
            let mut out = String::new();
            let matched = remap(from, to).unwrap().apply(name, &mut out);
            assert_eq!(matched.then_some(out.as_str()), expected, "{from} -> {to}: {name}");
        }
    }

    #[test]
    fn wildcards_that_do_not_correspond_are_refused() {
        assert!(remap("a/+", "b/#").is_err());
        assert!(remap("a/b", "b/+").is_err());
        assert!(remap("a/+/+", "b/+").is_err());
    }
}
