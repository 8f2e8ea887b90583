//! The topics of devices and points: one template, expanded in one place.

use std::sync::Arc;

use super::point::Publishing;
use super::published::{Pace, Published, SAMPLE};
use crate::mapping::{PayloadFormat, Value, payload};
use crate::mqtt::{Form, Message, MessageBuilder, QoS, Quality, Reading, Sampled, TopicName};
use crate::settings::{Located, Mistake, Place, Template};

/// What stands for the names in a template.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// Name of the gateway.
    pub gateway: &'a str,
    /// Name of the bus, where devices share one.
    pub bus: Option<&'a str>,
    /// Name of the device, and where it stands.
    pub device: &'a Located<String>,
}

impl Names<'_> {
    /// The topic of `point`. Default `{gateway}/{device}/{point}`.
    ///
    /// # Errors
    /// A name that has no meaning here, or a text that is no topic.
    pub fn point_topic(&self, publishing: &Publishing, point: &Located<String>) -> Result<TopicName, Mistake> {
        match &publishing.topic {
            Some(template) => self.expand(template, Some(point), template.place),
            None => self.expand(&template("{gateway}/{device}/{point}"), Some(point), point.place),
        }
    }

    /// The topic of the device itself: that of its points without the level of the point. A template with the point in
    /// the middle has no level to leave out; then it is `{gateway}/{device}`.
    ///
    /// # Errors
    /// As [`Names::point_topic`].
    pub fn device_topic(&self, publishing: &Publishing) -> Result<TopicName, Mistake> {
        let written = publishing.topic.as_ref();
        let whole = written.and_then(|template| template.without_level("point"));
        let place = written.map_or(self.device.place, |template| template.place);
        self.expand(&whole.unwrap_or_else(|| template("{gateway}/{device}")), None, place)
    }

    fn expand(&self, template: &Template, point: Option<&str>, place: Place) -> Result<TopicName, Mistake> {
        let values = |name: &str| match name {
            "gateway" => Some(self.gateway),
            "bus" => self.bus,
            "device" => Some(self.device.as_str()),
            "point" => point,
            _ => None,
        };
        // A default stands nowhere: then the device's name is where the eye should go.
        let place = if place == Place::default() { self.device.place } else { place };
        let text = template.expand(values).map_err(|error| {
            let mistake = Mistake::new(place, format!("{error}, for `{}`", self.device.value));
            let bus = if self.bus.is_some() { ", {bus}" } else { "" };
            mistake.help(format!("in its topics there are {{gateway}}{bus}, {{device}} and {{point}}"))
        })?;
        TopicName::new(&text)
            .map_err(|error| Mistake::new(place, format!("`{text}` is no topic")).help(error.to_string()))
    }
}

fn template(text: &str) -> Template {
    Template::parse(text).expect("a default is a template")
}

/// The topic of a device as a whole, and how messages on it are published.
#[derive(Debug, Clone)]
pub struct DeviceTopic {
    /// Usually `{gateway}/{device}`.
    pub topic: TopicName,
    device: Arc<str>,
    qos: QoS,
    retain: bool,
}

impl DeviceTopic {
    /// What `publishing` says for the device of `names`.
    ///
    /// # Errors
    /// As [`Names::device_topic`].
    pub fn plan(names: Names<'_>, publishing: &Publishing) -> Result<Self, Mistake> {
        Ok(Self {
            topic: names.device_topic(publishing)?,
            device: names.device.as_str().into(),
            qos: publishing.qos(),
            retain: publishing.retain(),
        })
    }

    /// A message with `payload`, which is what `reading` says.
    pub fn message(&self, payload: &[u8], reading: Reading) -> Message {
        let builder = MessageBuilder::new(&self.topic, payload).qos(self.qos).retain(self.retain);
        builder.reading(Arc::new(reading)).build()
    }

    /// One JSON object of `points`, each `None` where the device has no value.
    pub fn object<'a>(
        &self,
        points: impl Iterator<Item = (&'a str, Option<&'a Value>)> + Clone,
        sampled: Sampled,
    ) -> Message {
        let quality = if points.clone().any(|(_, value)| value.is_some()) { Quality::Good } else { Quality::Bad };
        let reading = Reading { form: Form::Object, ..self.reading(sampled, quality) };
        self.message(&payload::encode_object(points, sampled), reading)
    }

    /// What is published of the whole device, read at `pace`, in an object of `points`.
    pub fn published<'a>(&self, pace: Pace, points: impl Iterator<Item = &'a str>) -> Published {
        let sample = points.map(|name| (name, Some(&SAMPLE)));
        let payload_bytes = payload::encode_object(sample, Sampled::at(0)).len();
        self.published_as(PayloadFormat::Object, pace, payload_bytes)
    }

    /// What is published of the whole device in `format`.
    pub fn published_as(&self, format: PayloadFormat, pace: Pace, payload_bytes: usize) -> Published {
        Published {
            topic: self.topic.clone(),
            device: Arc::clone(&self.device),
            point: None,
            unit: None,
            pace,
            qos: self.qos,
            retain: self.retain,
            format,
            payload_bytes,
        }
    }

    /// What goes with a message of the whole device.
    pub fn reading(&self, sampled: Sampled, quality: Quality) -> Reading {
        Reading { sampled, unit: None, quality, device: Arc::clone(&self.device), point: None, form: Form::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publishing(topic: &str) -> Publishing {
        let topic = Located { value: template(topic), place: Place { file: 0, start: 3, end: 9 } };
        Publishing { topic: Some(topic), ..Publishing::default() }
    }

    fn topics(topic: &str, bus: Option<&str>) -> (Result<String, Mistake>, Result<String, Mistake>) {
        let (device, point) = (Located::nowhere("plc".to_owned()), Located::nowhere("level".to_owned()));
        let names = Names { gateway: "edge", bus, device: &device };
        let publishing = if topic.is_empty() { Publishing::default() } else { publishing(topic) };
        let text = |topic: Result<TopicName, Mistake>| topic.map(|topic| topic.to_string());
        (text(names.point_topic(&publishing, &point)), text(names.device_topic(&publishing)))
    }

    #[test]
    fn a_device_has_the_topic_of_its_points_without_their_level() {
        for (template, point, device) in [
            ("", "edge/plc/level", "edge/plc"),
            ("{gateway}/{bus}/{device}/{point}", "edge/hall/plc/level", "edge/hall/plc"),
            ("x/{point}/{device}", "x/level/plc", "edge/plc"),
            ("x/{device}", "x/plc", "x/plc"),
        ] {
            assert_eq!(topics(template, Some("hall")), (Ok(point.into()), Ok(device.into())), "{template}");
        }
    }

    #[test]
    fn a_name_without_meaning_and_a_text_that_is_no_topic_are_mistakes_at_the_template() {
        let (point, device) = topics("{bus}/{point}", None);
        let mistake = point.unwrap_err();
        assert_eq!(mistake.message, "`{bus}` has no meaning here, for `plc`");
        assert_eq!(mistake.help.as_deref(), Some("in its topics there are {gateway}, {device} and {point}"));
        assert_eq!((mistake.place.start, device.is_err()), (3, true));
        assert_eq!(topics("a/#/{point}", None).0.unwrap_err().message, "`a/#/level` is no topic");
    }
}
