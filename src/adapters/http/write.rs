//! What a command on `<point topic>/set` becomes: a checked value in a request. Pure.

use reqwest::{Method, Url};

use crate::adapters::source::Writing;
use crate::mapping::{Limits, Value, ValueType, text};
use crate::mqtt::TopicName;

/// What stands for the value in a URL or a body.
pub const VALUE: &str = "{value}";

/// How a point is written to.
#[derive(Debug, Clone)]
pub struct Write {
    /// Name of the point.
    pub point: String,
    /// Topic of the point, without `/set`.
    pub topic: TopicName,
    /// GET, POST or PUT.
    pub method: Method,
    /// With [`VALUE`] in it, or in the body.
    pub url: String,
    /// Body of a POST or PUT.
    pub body: Option<String>,
    /// Bounds of the value.
    pub limits: Limits,
    /// Type and scale of the point.
    pub writing: Writing,
}

impl Write {
    /// URL and body that write `value`.
    ///
    /// # Errors
    /// Why the value is refused, as a lowercase fragment.
    pub fn request(&self, value: &Value) -> Result<(Url, Option<String>), String> {
        let value = self.check(value)?.to_string();
        let url = Url::parse(&self.url.replace(VALUE, &percent_encode(&value)));
        let url = url.map_err(|error| format!("the value makes no URL: {error}"))?;
        let body = self.body.as_ref().map(|body| {
            let is_json = body.trim_start().starts_with(['{', '[']);
            body.replace(VALUE, &if is_json { json_escape(&value) } else { value.clone() })
        });
        Ok((url, body))
    }

    fn check(&self, value: &Value) -> Result<Value, String> {
        if matches!(value, Value::Json(_)) {
            return Err("a point takes one value".into());
        }
        let wanted = match self.writing.kind {
            None if !self.limits.is_none() => Some(ValueType::Number),
            kind => kind,
        };
        let value = match wanted {
            Some(kind) => text::convert(value.clone(), kind).ok_or_else(|| {
                format!("{value} is {}", if kind == ValueType::Bool { "neither true nor false" } else { "no number" })
            })?,
            None => value.clone(),
        };
        self.limits.check(&value).map_err(|error| error.to_string())?;
        Ok(self.writing.linear.invert(value))
    }
}

/// All but the unreserved characters of RFC 3986 as `%XX`.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The text as it stands between the quotes of a JSON string, so that no value ends its string.
fn json_escape(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Linear;

    fn write(url: &str, body: Option<&str>) -> Write {
        Write {
            point: "p".into(),
            topic: TopicName::new("edge/d/p").unwrap(),
            method: Method::POST,
            url: url.into(),
            body: body.map(str::to_owned),
            limits: Limits::default(),
            writing: Writing::default(),
        }
    }

    #[test]
    fn values_stand_encoded_in_url_and_body() {
        let write = write("http://plug/set?on={value}", Some(r#"{"on": "{value}"}"#));
        let (url, body) = write.request(&Value::Bool(true)).unwrap();
        assert_eq!((url.as_str(), body.as_deref()), ("http://plug/set?on=true", Some(r#"{"on": "true"}"#)));
        let (url, body) = write.request(&Value::Text(r#"a&b "c""#.into())).unwrap();
        assert_eq!(url.as_str(), "http://plug/set?on=a%26b%20%22c%22");
        assert_eq!(body.as_deref(), Some(r#"{"on": "a&b \"c\""}"#));
    }

    #[test]
    fn a_value_is_checked_before_it_is_written() {
        let mut write = write("http://heater/set?t={value}", None);
        write.limits = Limits { min: Some(5.0), max: Some(35.0) };
        let refused = |value: Value| write.request(&value).unwrap_err();
        assert_eq!(refused(Value::Integer(4)), "4 is below the minimum 5");
        assert_eq!(refused(Value::Text("99".into())), "99 is above the maximum 35");
        assert_eq!(refused(Value::Text("warm".into())), "warm is no number");
        assert_eq!(refused(Value::Json(serde_json::json!([1]))), "a point takes one value");
        write.writing.linear = Linear::new(0.1, 0.0).unwrap();
        assert_eq!(write.request(&Value::Double(21.5)).unwrap().0.as_str(), "http://heater/set?t=215");
    }
}
