//! A value as a device gave it, with the type that it had there.

use std::fmt;

/// One value of a point.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// True or false: coils, bits.
    Bool(bool),
    /// Signed integers up to 64 bits.
    Integer(i64),
    /// Unsigned integers up to 64 bits.
    Unsigned(u64),
    /// A single precision number; it prints with as few digits as tell it from its neighbours.
    Single(f32),
    /// A double precision number.
    Double(f64),
    /// Text.
    Text(String),
    /// An array, an object or null out of JSON.
    Json(serde_json::Value),
}

impl Value {
    /// The value as a number; `None` for text and JSON, and for what is no finite number.
    pub fn as_f64(&self) -> Option<f64> {
        let number = match self {
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Integer(value) => *value as f64,
            Self::Unsigned(value) => *value as f64,
            // Through its decimal text: 230.1 stays 230.1 instead of 230.10000610351562.
            Self::Single(value) => value.to_string().parse().ok()?,
            Self::Double(value) => *value,
            Self::Text(_) | Self::Json(_) => return None,
        };
        number.is_finite().then_some(number)
    }

    /// The value as JSON; a number that is not finite becomes null.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Bool(value) => Json::Bool(*value),
            Self::Integer(value) => Json::from(*value),
            Self::Unsigned(value) => Json::from(*value),
            Self::Single(_) => self.as_f64().map_or(Json::Null, Json::from),
            Self::Double(value) => Json::from(*value),
            Self::Text(value) => Json::from(value.as_str()),
            Self::Json(value) => value.clone(),
        }
    }

    /// The value that `json` holds: booleans, numbers and strings as such, anything else as JSON.
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(value), _, _) => Self::Integer(value),
                (_, Some(value), _) => Self::Unsigned(value),
                (_, _, Some(value)) => Self::Double(value),
                _ => Self::Text(number.to_string()),
            },
            serde_json::Value::String(text) => Self::Text(text.clone()),
            other => Self::Json(other.clone()),
        }
    }

    /// Whether it is a number that is not finite: such a value is never published.
    pub fn is_unusable(&self) -> bool {
        match self {
            Self::Single(value) => !value.is_finite(),
            Self::Double(value) => !value.is_finite(),
            _ => false,
        }
    }
}

/// The value as it is published with `payload: plain`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Unsigned(value) => value.fmt(f),
            Self::Single(value) => value.fmt(f),
            Self::Double(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
            Self::Json(value) => value.fmt(f),
        }
    }
}
