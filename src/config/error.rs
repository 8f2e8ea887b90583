//! What goes wrong while nodes become settings, in words, and the nearest right word.

use std::fmt;

use serde::de::{Expected, Unexpected};

use super::nodes::{Content, Node, Scalar, Style, Value};
use crate::settings::{Mistake, NOT_AVAILABLE_YET, Place, nearest, one_of};

/// An error on its way up to the node that it belongs to.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    help: Option<String>,
    node: Option<u32>,
    place: Option<Place>,
}

/// What the deserializer has to know about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A field is missing.
    Missing(&'static str),
    /// A field is missing because it was taken out: no mistake of its own.
    Excused,
    /// A structure does not know this key, and what it was probably meant to be.
    UnknownField(String, Option<&'static str>),
    /// The configuration reference has it, this version has not.
    NotYet,
    /// Anything else.
    Other,
}

impl Error {
    fn new(kind: Kind, message: String, help: Option<String>) -> Self {
        Self(Box::new(Inner { kind, message, help, node: None, place: None }))
    }

    /// What it is.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// The node to take out, once known.
    pub fn node(&self) -> Option<u32> {
        self.0.node
    }

    /// The error, caused by `node` and shown at `place`, or at the node's.
    pub fn at(mut self, node: &Node, place: Option<Place>) -> Self {
        self.0.node = Some(node.id);
        self.0.place = Some(place.unwrap_or(node.place));
        self
    }

    /// The error as one that follows from another.
    pub fn excused(mut self) -> Self {
        self.0.kind = Kind::Excused;
        self
    }

    /// The error with `help`, unless it has some.
    pub fn or_help(mut self, help: &str) -> Self {
        self.0.help.get_or_insert_with(|| help.into());
        self
    }

    /// Says which key is not available yet.
    pub fn named(mut self, key: &str) -> Self {
        self.0.message = format!("`{key}` is {}", self.0.message);
        self
    }

    /// The mistake to report; at `otherwise` where the error never came to a node.
    pub fn into_mistake(self, otherwise: Place) -> Mistake {
        let Inner { message, help, place, .. } = *self.0;
        Mistake { place: place.unwrap_or(otherwise), message, help, related: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    /// A line break parts what is wrong from what would be right.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        if message.starts_with(NOT_AVAILABLE_YET) {
            return Self::new(Kind::NotYet, message, None);
        }
        match message.split_once('\n') {
            Some((message, help)) => Self::new(Kind::Other, message.into(), Some(help.into())),
            None => Self::new(Kind::Other, message, None),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Kind::Other, format!("expected {expected}, found {}", in_words(found)), None)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        let help = match nearest(word, known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are {}", one_of(known, "and")),
        };
        Self::new(Kind::Other, format!("`{word}` is not one of the words for this"), Some(help))
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        let meant = nearest(name, known);
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are {}", one_of(known, "and")),
        };
        Self::new(Kind::UnknownField(name.into(), meant), format!("unknown key `{name}`"), Some(help))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::Missing(field), format!("`{field}` is missing"), None)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Kind::Other, format!("`{field}` stands here twice"), None)
    }
}

/// What stands at `node`, in words and without its value.
pub fn describe(node: &Node) -> &'static str {
    match &node.content {
        Content::Sequence(_) => "a list",
        Content::Mapping(_) => "a map",
        Content::Mistaken => "nothing",
        Content::Scalar(scalar) => match scalar.value() {
            Value::Null => "nothing",
            Value::Bool(true) => "`true`",
            Value::Bool(false) => "`false`",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
        },
    }
}

fn in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number".into(),
        // Never the text itself: it may be a secret.
        Unexpected::Str(_) | Unexpected::Char(_) | Unexpected::Bytes(_) => "text".into(),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a map".into(),
        other => other.to_string(),
    }
}

impl Scalar {
    /// `text` as if it stood there without quotes.
    pub fn plain(text: &str) -> Self {
        Self { text: text.into(), style: Style::Plain, is_file: false }
    }

    /// Whether it is a number.
    pub fn is_number(&self) -> bool {
        matches!(self.value(), Value::Integer(_) | Value::Float(_))
    }
}
