//! JSONPath (RFC 9535) as points use it: the first value that a path finds.

use std::fmt;

use serde_json::Value as Json;

/// A path such as `$.aenergy.total`, `$.soil[0]` or `$["em:0"].a_voltage`.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    path: serde_json_path::JsonPath,
}

/// Why a text is no JSONPath, in words that say where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JsonPathError {
    message: String,
}

impl JsonPath {
    /// Parses `text`.
    ///
    /// # Errors
    /// A [`JsonPathError`] where it is no JSONPath.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        if !text.starts_with('$') {
            return Err(JsonPathError { message: format!("a JSONPath starts with `$`: `$.{text}`") });
        }
        serde_json_path::JsonPath::parse(text).map(|path| Self { path }).map_err(|error| JsonPathError {
            message: format!("no JSONPath: {} at character {}", error.message(), error.position()),
        })
    }

    /// The first value that the path finds in `json`.
    pub fn find<'a>(&self, json: &'a Json) -> Option<&'a Json> {
        self.path.query(json).first()
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_finds_the_first_value() {
        let json = json!({"t": 21.4, "soil": [512, 498], "em:0": {"a_voltage": 227.0}, "n": null});
        let find = |path: &str| JsonPath::parse(path).unwrap().find(&json).cloned();
        assert_eq!(find("$.t"), Some(json!(21.4)));
        assert_eq!(find("$.soil[0]"), Some(json!(512)));
        assert_eq!(find("$.soil[*]"), Some(json!(512)));
        assert_eq!(find(r#"$["em:0"].a_voltage"#), Some(json!(227.0)));
        assert_eq!(find("$.n"), Some(json!(null)));
        assert_eq!(find("$.soil[7]"), None);
    }

    #[test]
    fn what_is_no_path_says_why() {
        assert_eq!(JsonPath::parse("t").unwrap_err().to_string(), "a JSONPath starts with `$`: `$.t`");
        let error = JsonPath::parse("$.soil[").unwrap_err().to_string();
        assert!(error.starts_with("no JSONPath: "), "{error}");
    }
}
