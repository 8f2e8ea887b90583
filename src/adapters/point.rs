//! What every adapter's points share: topic, payload, unit, when to report. Here "the innermost wins" is resolved.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::published::{Pace, Published, payload_bytes};
use super::topics::Names;
use crate::mapping::{PayloadFormat, Report, ReportFilter, Value, payload};
use crate::mqtt::{Form, Message, MessageBuilder, QoS, Quality, Reading, Sampled, TopicName};
use crate::settings::{Duration, Located, Mistake, Qos, Template};

/// How often devices are read where nothing else is said.
pub const DEFAULT_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
/// How long and how short `every`, timeouts and the like can be.
pub const SPANS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(366 * 86_400);
/// How long an unchanged value is held back where nothing else is said.
const DEFAULT_MAX_SILENCE_MS: u64 = 15 * 60 * 1000;
/// More digits than a double has.
const MAX_ROUND: u8 = 15;

/// What may be said of messages at the gateway, a bus, a device or a point; the innermost wins.
///
/// Settings of buses, devices and points have these keys among their own, and build a value of this type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Publishing {
    /// Topic template, default `{gateway}/{device}/{point}`.
    pub topic: Option<Located<Template>>,
    /// QoS 0 to 2, default 1.
    pub qos: Option<Qos>,
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
            payload: inner.payload.clone().or_else(|| self.payload.clone()),
        }
    }

    /// The QoS, or the default.
    pub fn qos(&self) -> QoS {
        self.qos.map_or(QoS::AtLeastOnce, |qos| qos.0)
    }

    /// Whether the broker keeps the newest value, or the default.
    pub fn retain(&self) -> bool {
        self.retain.unwrap_or(true)
    }

    /// The shape of the payload, or the default.
    pub fn format(&self) -> PayloadFormat {
        self.payload.clone().unwrap_or_default()
    }
}

/// What may be said of a point's value, whatever adapter reads it. Point settings have these keys among their own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reporting {
    /// Physical unit.
    pub unit: Option<String>,
    /// Publish only when the value differs.
    pub on_change: bool,
    /// Publish only when the value is farther than this from the last one.
    pub deadband: Option<Located<f64>>,
    /// With `on_change` and `deadband`: publish at least this often, default 15m.
    pub max_silence: Option<Located<Duration>>,
    /// Digits behind the decimal point, 0 to 15.
    pub round: Option<Located<u8>>,
}

impl Reporting {
    /// What is wrong in it for a point whose values are numbers, or are not.
    pub fn mistakes(&self, is_number: bool) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if let Some(deadband) = self.deadband {
            if !deadband.is_finite() || deadband.value < 0.0 {
                mistakes.push(deadband.mistake("a deadband is a number from 0 on"));
            } else if !is_number {
                mistakes.push(deadband.mistake("`deadband` belongs to numbers; `on_change` does for anything"));
            }
        }
        if let Some(round) = self.round {
            if is_number {
                mistakes.extend(round.outside("round", 0..=MAX_ROUND));
            } else {
                mistakes.push(round.mistake("`round` belongs to numbers"));
            }
        }
        if let Some(silence) = self.max_silence.filter(|_| self.deadband.is_none() && !self.on_change) {
            mistakes.push(silence.mistake("`max_silence` belongs to `deadband` or `on_change`"));
        }
        mistakes
    }

    fn report(&self) -> Report {
        let max_silence_ms = self.max_silence.map_or(DEFAULT_MAX_SILENCE_MS, |silence| silence.0.as_millis() as u64);
        match self.deadband.map(|deadband| deadband.value) {
            Some(deadband) => Report::Deadband { deadband, max_silence_ms },
            None if self.on_change => Report::OnChange { max_silence_ms },
            None => Report::Always,
        }
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
    pub fn new(names: Names<'_>, name: &str, topic: TopicName, publishing: &Publishing, reporting: &Reporting) -> Self {
        Self {
            topic,
            device: names.device.as_str().into(),
            name: name.into(),
            unit: reporting.unit.as_deref().map(Arc::from),
            format: publishing.format().bound(names.gateway),
            qos: publishing.qos(),
            retain: publishing.retain(),
            round: reporting.round.map(|digits| digits.value),
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
    pub fn format(&self) -> &PayloadFormat {
        &self.format
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

    /// The message for a value `sampled` then, or `None` where nothing is to be published:
    /// it did not change, it is no finite number, or the device has none (`value` is `None`) in a plain payload.
    /// `now_ms` is on a clock that never goes back.
    pub fn message(&mut self, value: Option<Value>, sampled: Sampled, now_ms: u64) -> Option<Message> {
        let (value, is_due) = self.part(value, now_ms);
        if !is_due {
            return None;
        }
        let mut reading = Reading {
            sampled,
            unit: self.unit.clone(),
            quality: if value.is_some() { Quality::Good } else { Quality::Bad },
            device: Arc::clone(&self.device),
            point: Some(Arc::clone(&self.name)),
            form: Form::default(),
        };
        let (payload, form) = payload::encode(&self.format, self.topic.as_str(), value.as_ref(), &reading)?;
        reading.form = form;
        Some(
            MessageBuilder::new(&self.topic, &payload)
                .qos(self.qos)
                .retain(self.retain)
                .reading(Arc::new(reading))
                .build(),
        )
    }

    /// What it publishes, read at `pace`.
    pub fn published(&self, pace: Pace) -> Published {
        Published {
            topic: self.topic.clone(),
            device: Arc::clone(&self.device),
            point: Some(Arc::clone(&self.name)),
            unit: self.unit.clone(),
            pace: self.pace(pace),
            qos: self.qos,
            retain: self.retain,
            format: self.format.clone(),
            payload_bytes: payload_bytes(&self.format, &self.topic, &self.device, Some(&self.name), self.unit.as_ref()),
        }
    }

    /// How often something of it is published that is read at `pace`.
    pub fn pace(&self, pace: Pace) -> Pace {
        if self.filter.is_always() { pace } else { pace.at_most() }
    }

    /// Forgets what was published last, so that the next value goes out.
    pub fn reset(&mut self) {
        self.filter.reset();
    }
}
