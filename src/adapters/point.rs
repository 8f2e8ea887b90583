//! What every adapter's points share: topic, payload, unit, when to report. Here "the innermost wins" is resolved.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, de::Error};

use crate::mapping::{PayloadFormat, Report, ReportFilter, Value, payload};
use crate::mqtt::{Message, MessageBuilder, QoS, Quality, Reading, TopicName};
use crate::settings::{Duration, Located, Mistake};

/// What may be said of messages at the gateway, a bus, a device or a point; the innermost wins.
///
/// Settings of buses, devices and points have these keys among their own, and build a value of this type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Publishing {
    /// Topic template, default `{gateway}/{device}/{point}`.
    pub topic: Option<Located<String>>,
    /// QoS 0 to 2, default 1.
    pub qos: Option<QoS>,
    /// Whether the broker keeps the newest value, default true.
    pub retain: Option<bool>,
    /// Shape of the payload, default plain.
    pub payload: Option<PayloadFormat>,
}

impl Publishing {
    /// What `inner` says, else what this says.
    pub fn overridden_by(&self, inner: &Self) -> Self {
        Self {
            topic: inner.topic.clone().or_else(|| self.topic.clone()),
            qos: inner.qos.or(self.qos),
            retain: inner.retain.or(self.retain),
            payload: inner.payload.or(self.payload),
        }
    }
}

/// What may be said of a point's value, whatever adapter reads it. Point settings have these keys among their own.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Reporting {
    /// Physical unit.
    pub unit: Option<String>,
    /// Publish only when the value differs.
    pub on_change: bool,
    /// Publish only when the value is farther than this from the last one.
    pub deadband: Option<f64>,
    /// With `on_change` and `deadband`: publish at least this often, default 15m.
    pub max_silence: Option<Duration>,
    /// Digits behind the decimal point.
    pub round: Option<u8>,
}

impl Reporting {
    fn report(&self) -> Report {
        let max_silence_ms = self.max_silence.map_or(900_000, |silence| silence.0.as_millis() as u64);
        match self.deadband {
            Some(deadband) => Report::Deadband { deadband, max_silence_ms },
            None if self.on_change => Report::OnChange { max_silence_ms },
            None => Report::Always,
        }
    }
}

/// Reads `qos:`, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// What is not 0, 1 or 2.
pub fn qos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<QoS>, D::Error> {
    let value = Option::<u8>::deserialize(deserializer)?;
    value
        .map(|value| QoS::from_wire(value).ok_or_else(|| D::Error::custom(format!("qos is 0, 1 or 2, not {value}"))))
        .transpose()
}

/// Reads `payload:`, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// What is not `plain`, `json` or `object`.
pub fn payload_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PayloadFormat>, D::Error> {
    let word = Option::<String>::deserialize(deserializer)?;
    match word.as_deref() {
        None => Ok(None),
        Some("plain") => Ok(Some(PayloadFormat::Plain)),
        Some("json") => Ok(Some(PayloadFormat::Json)),
        Some("object") => Ok(Some(PayloadFormat::Object)),
        Some(template) if template.contains('{') => {
            Err(D::Error::custom("a template as payload is not available yet; plain, json and object are"))
        }
        Some(word) => Err(D::Error::custom(format!("payload is plain, json or object, not `{word}`"))),
    }
}

/// `template` with each `{name}` replaced by its value; a name that is not known stays as it is.
pub fn expand_topic(template: &str, values: &[(&str, &str)]) -> String {
    let mut expanded = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        expanded.push_str(before);
        let value = from.find('}').and_then(|end| {
            let (_, value) = values.iter().find(|(name, _)| *name == &from[1..end])?;
            Some((value, end))
        });
        match value {
            // One pass: a value that looks like a template is none.
            Some((value, end)) => {
                expanded.push_str(value);
                rest = &from[end + 1..];
            }
            None => {
                expanded.push('{');
                rest = &from[1..];
            }
        }
    }
    expanded.push_str(rest);
    expanded
}

/// What is wrong with the name of a point: it is one level of a topic, and none of those that Edgeway uses itself.
pub fn point_name_mistake(name: &Located<String>) -> Option<Mistake> {
    match name.as_str() {
        "set" | "status" | "error" => {
            Some(name.mistake(format!("`{}` is no name for a point: Edgeway uses this topic itself", name.value)))
        }
        "" => Some(name.mistake("a point has a name")),
        text if text.contains(['/', '+', '#', '\0', '{', '}']) => {
            Some(name.mistake("the name of a point has no `/`, `+`, `#`, `{` or `}`"))
        }
        _ => None,
    }
}

/// One point, ready to turn values into messages.
#[derive(Debug, Clone)]
pub struct Point {
    topic: TopicName,
    device: Arc<str>,
    name: Arc<str>,
    unit: Option<Arc<str>>,
    format: PayloadFormat,
    qos: QoS,
    retain: bool,
    round: Option<u8>,
    filter: ReportFilter,
}

impl Point {
    /// A point that publishes on `topic`.
    pub fn new(topic: TopicName, device: Arc<str>, name: &str, publishing: &Publishing, reporting: &Reporting) -> Self {
        Self {
            topic,
            device,
            name: name.into(),
            unit: reporting.unit.as_deref().map(Arc::from),
            format: publishing.payload.unwrap_or_default(),
            qos: publishing.qos.unwrap_or(QoS::AtLeastOnce),
            retain: publishing.retain.unwrap_or(true),
            round: reporting.round,
            filter: ReportFilter::new(reporting.report()),
        }
    }

    /// Name of the point.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic that it publishes on.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Shape of the payload.
    pub fn format(&self) -> PayloadFormat {
        self.format
    }

    /// Rounds where the point says so.
    pub fn round(&self, value: Value) -> Value {
        match (self.round, value.as_f64()) {
            (Some(digits), Some(number)) if !matches!(value, Value::Bool(_)) => {
                let factor = 10f64.powi(i32::from(digits));
                Value::Double((number * factor).round() / factor)
            }
            _ => value,
        }
    }

    /// What an object of the whole device says of this point: the rounded value, `None` where the device has none, and
    /// whether it is to be published now as far as this point is concerned. `now_ms` is as in [`Point::message`].
    pub fn part(&mut self, value: Option<Value>, now_ms: u64) -> (Option<Value>, bool) {
        let value = value.filter(|value| !value.is_unusable()).map(|value| self.round(value));
        let is_due = value.as_ref().is_none_or(|value| self.filter.accept(value, now_ms));
        (value, is_due)
    }

    /// The message for a value sampled at `time_ms` (Unix epoch), or `None` where nothing is to be published:
    /// it did not change, it is no finite number, or the device has none (`value` is `None`) in a plain payload.
    /// `now_ms` is on a clock that never goes back.
    pub fn message(&mut self, value: Option<Value>, time_ms: i64, now_ms: u64) -> Option<Message> {
        let (value, is_due) = self.part(value, now_ms);
        if !is_due {
            return None;
        }
        let reading = Reading {
            time_ms,
            unit: self.unit.clone(),
            quality: if value.is_some() { Quality::Good } else { Quality::Bad },
            device: Arc::clone(&self.device),
            point: Some(Arc::clone(&self.name)),
        };
        let payload = payload::encode(self.format, self.topic.as_str(), value.as_ref(), &reading)?;
        Some(
            MessageBuilder::new(&self.topic, &payload)
                .qos(self.qos)
                .retain(self.retain)
                .reading(Arc::new(reading))
                .build(),
        )
    }

    /// Forgets what was published last, so that the next value goes out.
    pub fn reset(&mut self) {
        self.filter.reset();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn topics_expand_the_names_that_are_known() {
        let values = [("gateway", "edge"), ("device", "{point}"), ("point", "power")];
        assert_eq!(expand_topic("{gateway}/{device}/{point}", &values), "edge/{point}/power");
        assert_eq!(expand_topic("a/{bus}/{point", &values), "a/{bus}/{point");
    }

    proptest! {
        #[test]
        fn arbitrary_templates_expand(template in "[{}a-c/°]{0,20}") {
            let expanded = expand_topic(&template, &[("a", "1")]);
            prop_assert_eq!(expanded, template.replace("{a}", "1"));
        }
    }
}
