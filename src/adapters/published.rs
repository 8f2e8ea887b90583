//! What an adapter will publish, told before it runs: for `edgeway check` and `edgeway explain`.

use std::sync::Arc;
use std::time::Duration;

use crate::mapping::{PayloadFormat, Value, payload};
use crate::mqtt::{Form, QoS, Quality, Reading, Sampled, TopicName};

/// Messages that an adapter publishes on one topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Where.
    pub topic: TopicName,
    /// The device that is read.
    pub device: Arc<str>,
    /// The point of the device; `None` where a message carries the whole device.
    pub point: Option<Arc<str>>,
    /// The physical unit.
    pub unit: Option<Arc<str>>,
    /// How often.
    pub pace: Pace,
    /// With what QoS.
    pub qos: QoS,
    /// Whether the broker keeps the newest.
    pub retain: bool,
    /// The shape of the payload.
    pub format: PayloadFormat,
    /// About the bytes of the payload.
    pub payload_bytes: usize,
}

/// How often something is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Each time.
    Every(Duration),
    /// Not each time: only when it changes, or when the device says something.
    AtMostEvery(Duration),
    /// When the device says something.
    Unknown,
}

impl Pace {
    /// The same, of what is not published each time.
    pub fn at_most(self) -> Self {
        match self {
            Self::Every(every) | Self::AtMostEvery(every) => Self::AtMostEvery(every),
            Self::Unknown => Self::Unknown,
        }
    }
}

/// A value like many: nobody knows what the device will say.
pub(super) const SAMPLE: Value = Value::Double(1234.5);

/// About the bytes of a payload in `format`.
pub(super) fn payload_bytes(
    format: &PayloadFormat,
    topic: &TopicName,
    device: &Arc<str>,
    point: Option<&Arc<str>>,
    unit: Option<&Arc<str>>,
) -> usize {
    let reading = Reading {
        sampled: Sampled::at(0),
        unit: unit.cloned(),
        quality: Quality::Good,
        device: Arc::clone(device),
        point: point.cloned(),
        form: Form::default(),
    };
    payload::encode(format, topic.as_str(), Some(&SAMPLE), &reading).map_or(0, |(payload, _)| payload.len())
}
