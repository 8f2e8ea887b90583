//! A reading: what a message knows of the value that it carries, beyond its bytes.

use std::sync::Arc;

use super::Millis;

/// What a reading knows about itself beyond its value. It travels with the message to the bridge that sends it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// When the value was sampled.
    pub sampled: Sampled,
    /// The physical unit, for example `kWh`.
    pub unit: Option<Arc<str>>,
    /// How far the value itself can be trusted; [`Reading::overall_quality`] says it of value and time.
    pub quality: Quality,
    /// The device that it was read from.
    pub device: Arc<str>,
    /// The point of the device; `None` where a message carries the whole device.
    pub point: Option<Arc<str>>,
    /// What the payload of the message is.
    pub form: Form,
}

impl Reading {
    /// How far value and time can be trusted: a good value at an uncertain time is uncertain.
    pub fn overall_quality(&self) -> Quality {
        match self.quality {
            Quality::Good if !self.sampled.is_certain() => Quality::Uncertain,
            quality => quality,
        }
    }
}

/// When a value was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled {
    /// In milliseconds since the Unix epoch, as far as that was known.
    pub time_ms: i64,
    /// What the gateway's clock said, where the one on the wall could not be believed: what the time is corrected by
    /// once it can.
    pub uncertain_at: Option<Millis>,
}

impl Sampled {
    /// A sample of a time that is certain, in milliseconds since the Unix epoch.
    pub const fn at(time_ms: i64) -> Self {
        Self { time_ms, uncertain_at: None }
    }

    /// Whether the time is right.
    pub const fn is_certain(self) -> bool {
        self.uncertain_at.is_none()
    }

    /// The same sample with its right time, where that is uncertain and `wall_at` tells what a right clock on the wall
    /// said at a time of the gateway's.
    pub fn corrected(self, wall_at: impl FnOnce(Millis) -> Option<i64>) -> Self {
        self.uncertain_at.and_then(wall_at).map_or(self, Self::at)
    }
}

/// What the payload of a reading's message is: what it takes to make another one of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// The value alone: a number, a truth value or JSON.
    #[default]
    Value,
    /// The value alone, which is a text: `123` is three characters.
    Text,
    /// `{"topic":…,"value":…,"unit":…,"time":…,"quality":…}`.
    Json,
    /// One object for a whole device, with the time of the sample in it.
    Object,
    /// What a template of the user's made of it.
    Template,
}

/// How far a reading can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quality {
    /// The device answered and the value is what it said.
    #[default]
    Good,
    /// The value is there, but something about it is in doubt, for example its time.
    Uncertain,
    /// The device said that it has no value.
    Bad,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(quality: Quality, sampled: Sampled) -> Reading {
        Reading { sampled, unit: None, quality, device: "d".into(), point: None, form: Form::Value }
    }

    #[test]
    fn a_good_value_is_uncertain_until_its_time_is_corrected() {
        let sampled = Sampled { time_ms: 5_000, uncertain_at: Some(Millis(7)) };
        assert_eq!(reading(Quality::Good, sampled).overall_quality(), Quality::Uncertain);
        assert_eq!(reading(Quality::Bad, sampled).overall_quality(), Quality::Bad);
        assert_eq!(sampled.corrected(|_| None), sampled);
        let corrected = sampled.corrected(|at| Some(at.0 as i64 - 1_000));
        assert_eq!(corrected, Sampled::at(-993));
        assert_eq!(reading(Quality::Good, corrected).overall_quality(), Quality::Good);
        assert_eq!(corrected.corrected(|_| Some(0)), corrected, "what is certain stays");
    }
}
