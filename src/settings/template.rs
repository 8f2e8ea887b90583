//! Templates in topics, filters and names: `{gateway}/{device}/{point}`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};

/// What may stand between braces.
const NAMES: [&str; 5] = ["gateway", "device", "point", "bus", "bridge"];

/// A text with `{gateway}`, `{device}`, `{point}`, `{bus}` or `{bridge}` in it. `{{` and `}}` stand for the braces
/// themselves.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Template {
    written: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Text(String),
    Name(&'static str),
}

/// Why a text is no template, or has no value here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A name that no template knows.
    #[error("`{{{name}}}` stands for nothing; there are {}", list(known))]
    Unknown {
        /// The name between the braces.
        name: String,
        /// Those that there are.
        known: &'static [&'static str],
    },
    /// A name that has no value where this template stands.
    #[error("`{{{name}}}` has no meaning here")]
    NoMeaning {
        /// The name between the braces.
        name: &'static str,
    },
    /// A brace without its other one.
    #[error("a `{{` or `}}` without the other one; write `{{{{` or `}}}}` for the brace itself")]
    Brace,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Where a brace stands alone, or an unknown name between two.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Self::parse_with(text, &NAMES)
    }

    /// Reads a template in which other names stand between braces: `known`.
    ///
    /// # Errors
    /// Where a brace stands alone, or an unknown name between two.
    pub fn parse_with(text: &str, known: &'static [&'static str]) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let end = rest.find(['{', '}']).filter(|end| brace == "{" && rest[*end..].starts_with('}'));
            let end = end.ok_or(TemplateError::Brace)?;
            let name = known
                .iter()
                .copied()
                .find(|name| *name == &rest[..end])
                .ok_or_else(|| TemplateError::Unknown { name: rest[..end].into(), known })?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Name(name));
            rest = &rest[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { written: text.into(), parts })
    }

    /// The text with `value` put in for each name.
    ///
    /// # Errors
    /// Where `value` has nothing for a name.
    pub fn expand<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, TemplateError> {
        let mut out = String::with_capacity(self.written.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(name) => out.push_str(value(name).ok_or(TemplateError::NoMeaning { name })?),
            }
        }
        Ok(out)
    }

    /// The template without its last level, where that is `{name}`; as it is, where `{name}` is not in it at all.
    /// `None` where `{name}` stands elsewhere and cannot be left out.
    pub fn without_level(&self, name: &str) -> Option<Self> {
        if !self.mentions(name) {
            return Some(self.clone());
        }
        let rest = self.written.strip_suffix(&format!("/{{{name}}}"))?;
        Self::parse(rest).ok().filter(|rest| !rest.mentions(name))
    }

    /// Whether `{name}` stands in it.
    pub fn mentions(&self, name: &str) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Name(mentioned) if *mentioned == name))
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.written, f)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, TemplateError> {
        Template::parse(text)?.expand(|name| match name {
            "gateway" => Some("edge-01"),
            "bridge" => Some("aws"),
            _ => None,
        })
    }

    #[test]
    fn names_are_replaced_wherever_they_stand() {
        assert_eq!(expand("dt/{gateway}/+/x-{bridge}").unwrap(), "dt/edge-01/+/x-aws");
        assert_eq!(expand("plain").unwrap(), "plain");
        assert_eq!(expand("").unwrap(), "");
        assert_eq!(expand("{gateway}{bridge}").unwrap(), "edge-01aws");
        assert_eq!(expand("{{gateway}}").unwrap(), "{gateway}");
        assert!(Template::parse("{gateway}/{device}").unwrap().mentions("device"));
    }

    #[test]
    fn a_level_is_left_out_where_it_is_the_last_one() {
        let without = |text: &str| {
            let template = Template::parse(text).unwrap().without_level("point");
            template.map(|template| template.to_string())
        };
        assert_eq!(without("{gateway}/{device}/{point}").as_deref(), Some("{gateway}/{device}"));
        assert_eq!(without("{gateway}/{device}").as_deref(), Some("{gateway}/{device}"));
        for text in ["{point}", "{point}/{device}", "{point}/x/{point}", "a-{point}"] {
            assert_eq!(without(text), None, "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_names_there_are() {
        let error = expand("{gatway}/x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`{gatway}` stands for nothing; there are {gateway}, {device}, {point}, {bus}, {bridge}"
        );
        assert_eq!(expand("{device}/x").unwrap_err().to_string(), "`{device}` has no meaning here");
    }

    #[test]
    fn a_brace_alone_is_refused() {
        for text in ["{", "}", "a{gateway", "a}b", "{a{gateway}}", "{gateway"] {
            assert!(matches!(expand(text), Err(TemplateError::Brace)), "{text}");
        }
        assert!(matches!(expand("{}"), Err(TemplateError::Unknown { .. })));
    }
}
