//! What serial lines, HTTP answers and webhooks share: one device whose every answer is a whole, and the points in it.

use std::sync::Arc;

use serde_json::Value as Json;

use super::point::{Point, Publishing, Reporting};
use super::published::{Pace, Published, payload_bytes};
use super::topics::{DeviceTopic, Names};
use crate::mapping::{JsonPath, Linear, PayloadFormat, Value, ValueType, payload, text};
use crate::mqtt::{Message, Quality, Sampled, TopicName};
use crate::settings::names::check_point_name;
use crate::settings::{Located, Mistake};

/// Where a point's value stands in an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Selector {
    /// The answer itself is the value.
    Whole,
    /// A field of the answer.
    Field(String),
    /// The first value that a JSONPath finds.
    Path(JsonPath),
}

impl Selector {
    fn find<'a>(&self, answer: &'a Json) -> Option<&'a Json> {
        match self {
            Self::Whole => Some(answer),
            Self::Field(name) => answer.get(name),
            Self::Path(path) => path.find(answer),
        }
    }
}

/// What settings say of one point.
#[derive(Debug, Clone)]
pub struct PointPlan<'a> {
    /// Its name.
    pub name: &'a Located<String>,
    /// Where its value stands.
    pub selector: Selector,
    /// What its value is to be; `None` leaves it as it is.
    pub kind: Option<ValueType>,
    /// Factor, default 1.
    pub scale: Option<Located<f64>>,
    /// Added after scaling, default 0.
    pub offset: Option<Located<f64>>,
    /// When it is published.
    pub reporting: Reporting,
    /// How it is published.
    pub publishing: Publishing,
}

/// How numbers that are written become what the device is told.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Writing {
    /// What is to be written.
    pub kind: Option<ValueType>,
    /// Scale and offset of the point, applied backwards.
    pub linear: Linear,
}

/// One device, ready to turn answers into messages.
#[derive(Debug)]
pub struct Source {
    device: Arc<str>,
    whole: DeviceTopic,
    format: PayloadFormat,
    points: Vec<SourcePoint>,
}

#[derive(Debug)]
struct SourcePoint {
    point: Point,
    selector: Selector,
    kind: Option<ValueType>,
    linear: Linear,
    /// Its absence has been logged; a device that prints several kinds of lines is not logged at each of them.
    missed: bool,
}

/// What an answer gave.
#[derive(Debug, Default)]
pub struct Harvest {
    /// What is to be published.
    pub messages: Vec<Message>,
    /// Whether any point was found; always true without points.
    pub found: bool,
}

impl Source {
    /// A device with `points`; without any it publishes its answers as they are.
    ///
    /// # Errors
    /// Every mistake: names, topics that are none, two points on one topic, a scale of 0.
    pub fn plan(names: Names<'_>, publishing: &Publishing, points: Vec<PointPlan<'_>>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let device: Arc<str> = names.device.as_str().into();
        let whole = DeviceTopic::plan(names, publishing).map_err(|mistake| mistakes.push(mistake));
        let mut planned: Vec<SourcePoint> = Vec::with_capacity(points.len());
        for plan in points {
            mistakes.extend(check_point_name(plan.name));
            let is_number = !matches!(plan.kind, Some(ValueType::Text | ValueType::Bool));
            mistakes.extend(plan.reporting.mistakes(is_number));
            match SourcePoint::plan(names, publishing, &plan) {
                Ok(point) => {
                    // With `object` one message carries all points, on the topic of the device.
                    let separate = publishing.format() != PayloadFormat::Object;
                    let same = planned.iter().find(|other| other.point.topic() == point.point.topic());
                    if let Some(other) = same.filter(|_| separate) {
                        mistakes.push(
                            plan.name
                                .mistake(format!("`{}` has the topic of `{}`", plan.name.value, other.point.name()))
                                .help("put {point} into the topic"),
                        );
                    }
                    planned.push(point);
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        match whole {
            Ok(whole) if mistakes.is_empty() => {
                Ok(Self { device, whole, format: publishing.format().bound(names.gateway), points: planned })
            }
            _ => Err(mistakes),
        }
    }

    /// Name of the device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Whether it has points; else its answers go out as they are.
    pub fn has_points(&self) -> bool {
        !self.points.is_empty()
    }

    /// The topic of the device as a whole; commands for it arrive on this topic and `/set`.
    pub fn topic(&self) -> &TopicName {
        &self.whole.topic
    }

    /// Topic of a point, and how values are written to it.
    pub fn writing(&self, point: &str) -> Option<(&TopicName, Writing)> {
        let point = self.points.iter().find(|candidate| candidate.point.name() == point)?;
        Some((point.point.topic(), Writing { kind: point.kind, linear: point.linear }))
    }

    /// What an answer gives that was `sampled` then; `now_ms` is on a clock that never goes back.
    pub fn read(&mut self, answer: &Json, sampled: Sampled, now_ms: u64) -> Harvest {
        if self.points.is_empty() {
            return Harvest { messages: self.whole_message(answer, sampled).into_iter().collect(), found: true };
        }
        let object = self.format == PayloadFormat::Object;
        let mut harvest = Harvest::default();
        let mut due = false;
        let mut values = Vec::with_capacity(self.points.len());
        for (index, point) in self.points.iter_mut().enumerate() {
            let Some(found) = point.selector.find(answer) else {
                point.miss(&self.device, "the answer does not have it");
                continue;
            };
            harvest.found = true;
            let Ok(value) = point.value(found) else {
                point.miss(&self.device, "the value is not of the point's type");
                continue;
            };
            if object {
                let (value, is_due) = point.point.part(value, now_ms);
                due |= is_due;
                values.push((index, value));
            } else {
                harvest.messages.extend(point.point.message(value, sampled, now_ms));
            }
        }
        if due {
            let named = values.iter().map(|(index, value)| (self.points[*index].point.name(), value.as_ref()));
            harvest.messages.push(self.whole.object(named, sampled));
        }
        harvest
    }

    /// Whether `answer` has any of the points.
    pub fn finds(&self, answer: &Json) -> bool {
        self.points.is_empty() || self.points.iter().any(|point| point.selector.find(answer).is_some())
    }

    /// What it publishes, where answers come at `pace`.
    pub fn published(&self, pace: Pace) -> Vec<Published> {
        if self.points.is_empty() {
            let bytes = payload_bytes(&self.format, &self.whole.topic, &self.device, None, None);
            return vec![self.whole.published_as(self.format.clone(), pace, bytes)];
        }
        if self.format == PayloadFormat::Object {
            let is_always = self.points.iter().any(|point| point.point.pace(pace) == pace);
            let pace = if is_always { pace } else { pace.at_most() };
            return vec![self.whole.published(pace, self.points.iter().map(|point| point.point.name()))];
        }
        self.points.iter().map(|point| point.point.published(pace)).collect()
    }

    /// Forgets what was published, so that the next values go out: after the device was offline.
    pub fn reset(&mut self) {
        for point in &mut self.points {
            point.point.reset();
            point.missed = false;
        }
    }

    fn whole_message(&self, answer: &Json, sampled: Sampled) -> Option<Message> {
        if let (PayloadFormat::Object, Json::Object(object)) = (&self.format, answer) {
            let values: Vec<(&str, Value)> =
                object.iter().map(|(name, value)| (name.as_str(), Value::from_json(value))).collect();
            return Some(self.whole.object(values.iter().map(|(name, value)| (*name, Some(value))), sampled));
        }
        let value = (!answer.is_null()).then(|| Value::from_json(answer));
        let quality = if value.is_some() { Quality::Good } else { Quality::Bad };
        let mut reading = self.whole.reading(sampled, quality);
        let (bytes, form) = payload::encode(&self.format, self.whole.topic.as_str(), value.as_ref(), &reading)?;
        reading.form = form;
        Some(self.whole.message(&bytes, reading))
    }
}

impl SourcePoint {
    fn plan(names: Names<'_>, publishing: &Publishing, plan: &PointPlan<'_>) -> Result<Self, Mistake> {
        let publishing = publishing.overridden_by(&plan.publishing);
        let topic = names.point_topic(&publishing, plan.name)?;
        let (scale, offset) = (plan.scale.unwrap_or(Located::nowhere(1.0)), plan.offset.unwrap_or_default());
        let linear = Linear::new(*scale, *offset).ok_or_else(|| {
            Mistake::new(plan.scale.map_or(offset.place, |scale| scale.place), "a scale is a number other than 0")
        })?;
        // Scaling, rounding and deadbands are for numbers, also where a device writes them as text.
        let reporting = &plan.reporting;
        let numeric = linear != Linear::default() || reporting.round.is_some() || reporting.deadband.is_some();
        Ok(Self {
            point: Point::new(names, plan.name, topic, &publishing, reporting),
            selector: plan.selector.clone(),
            kind: match plan.kind {
                None | Some(ValueType::Printed) if numeric => Some(ValueType::Number),
                kind => kind,
            },
            linear,
            missed: false,
        })
    }

    /// The point's value in what was found: `Ok(None)` for null, `Err` where it is not of the point's type.
    fn value(&self, found: &Json) -> Result<Option<Value>, ()> {
        let value = match found {
            Json::Null => return Ok(None),
            found => Value::from_json(found),
        };
        let value = match self.kind {
            Some(kind) => text::convert(value, kind).ok_or(())?,
            None => value,
        };
        Ok(Some(self.linear.apply(value)))
    }

    fn miss(&mut self, device: &str, reason: &str) {
        if !std::mem::replace(&mut self.missed, true) {
            tracing::warn!(device, point = self.point.name(), reason, "point not read");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::Template;

    fn name(text: &str) -> Located<String> {
        Located::nowhere(text.to_owned())
    }

    fn template(text: &str) -> Located<Template> {
        Located::nowhere(Template::parse(text).unwrap())
    }

    fn plan<'a>(name: &'a Located<String>, path: &str) -> PointPlan<'a> {
        PointPlan {
            name,
            selector: Selector::Path(JsonPath::parse(path).unwrap()),
            kind: None,
            scale: None,
            offset: None,
            reporting: Reporting::default(),
            publishing: Publishing::default(),
        }
    }

    fn source(publishing: &Publishing, points: Vec<PointPlan<'_>>) -> Result<Source, Vec<Mistake>> {
        Source::plan(Names { gateway: "edge", bus: None, device: &name("probe") }, publishing, points)
    }

    fn read(source: &mut Source, answer: &Json) -> Vec<(String, String)> {
        let messages = source.read(answer, Sampled::at(0), 0).messages;
        messages.iter().map(|m| (m.topic().into(), String::from_utf8_lossy(m.payload()).into_owned())).collect()
    }

    fn published(topic: &str, payload: &str) -> (String, String) {
        (topic.into(), payload.into())
    }

    #[test]
    fn each_point_has_its_own_message() {
        let (t, h, gone) = (name("t"), name("h"), name("gone"));
        let mut h_plan = plan(&h, "$.h");
        h_plan.scale = Some(Located::nowhere(0.1));
        let points = vec![plan(&t, "$.t"), h_plan, plan(&gone, "$.gone")];
        let mut source = source(&Publishing::default(), points).unwrap();
        let expected = [published("edge/probe/t", "21.5"), published("edge/probe/h", "6.3")];
        assert_eq!(read(&mut source, &json!({"t": 21.5, "h": "63"})), expected);
        assert_eq!(read(&mut source, &json!({"t": null, "h": "wet"})), []);
        assert!(!source.read(&json!({"x": 1}), Sampled::at(0), 0).found);
    }

    #[test]
    fn an_object_carries_what_was_found_and_null_for_what_the_device_does_not_have() {
        let (t, h, gone) = (name("t"), name("h"), name("gone"));
        let publishing = Publishing { payload: Some(PayloadFormat::Object), ..Publishing::default() };
        let mut t_plan = plan(&t, "$.t");
        t_plan.reporting.on_change = true;
        let mut source = source(&publishing, vec![t_plan.clone(), plan(&h, "$.h"), plan(&gone, "$.gone")]).unwrap();
        let expected = r#"{"t":1,"h":null,"time":"1970-01-01T00:00:00.000Z"}"#;
        assert_eq!(read(&mut source, &json!({"t": 1, "h": null})), [published("edge/probe", expected)]);
        let mut source = tests::source(&publishing, vec![t_plan]).unwrap();
        assert_eq!(read(&mut source, &json!({"t": 1})).len(), 1);
        assert_eq!(read(&mut source, &json!({"t": 1})), []);
    }

    #[test]
    fn without_points_the_answer_goes_out_as_it_is() {
        let mut plain = source(&Publishing::default(), Vec::new()).unwrap();
        assert_eq!(read(&mut plain, &json!("hello")), [published("edge/probe", "hello")]);
        assert_eq!(read(&mut plain, &json!({"a": [1]})), [published("edge/probe", r#"{"a":[1]}"#)]);
        let publishing = Publishing { topic: Some(template("x/{device}/now/{point}")), ..Publishing::default() };
        let mut source = source(&publishing, Vec::new()).unwrap();
        assert_eq!(read(&mut source, &json!(1)), [published("x/probe/now", "1")]);
    }

    #[test]
    fn topics_and_names_that_cannot_be_are_all_mistakes() {
        let (one, two, set) = (name("one"), name("two"), name("set"));
        let publishing = Publishing { topic: Some(template("{gateway}/all")), ..Publishing::default() };
        let mistakes = source(&publishing, vec![plan(&one, "$.a"), plan(&two, "$.b"), plan(&set, "$.c")]).unwrap_err();
        let messages: Vec<&str> = mistakes.iter().map(|mistake| mistake.message.as_str()).collect();
        let expected = ["`two` has the topic of `one`", "no point can be named `set`", "`set` has the topic of `one`"];
        assert_eq!(messages, expected);
    }
}
