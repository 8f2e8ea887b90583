//! Commands on `…/set`: what is refused before an adapter sees it, and how each is answered on `…/set/result`.
//!
//! Writing moves real equipment: a retained `set` is never executed, nothing is done late, and a command whose `id`
//! was seen in the last ten minutes is answered, not done again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::handle::Publish;
use crate::mapping::Value;
use crate::mqtt::properties::ForwardableBuilder;
use crate::mqtt::{Message, MessageBuilder, QoS, TopicName};

/// How long a command may take where nothing else is said.
pub const DEFAULT_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an `id` is remembered.
const ID_MEMORY: Duration = Duration::from_secs(600);
/// How many of them.
const MAX_REMEMBERED_IDS: usize = 1024;
/// The longest payload of a command.
const MAX_COMMAND_BYTES: usize = 64 * 1024;

/// A topic on which a command is taken, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTopic {
    /// Ends in `/set`.
    pub topic: TopicName,
    /// The device written to.
    pub device: String,
    /// The point written to; `None` where the whole device takes the command.
    pub point: Option<String>,
    /// A command that cannot be done in this time fails (`write_timeout`, default 5 s).
    pub timeout: Duration,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The device took it.
    Done,
    /// It was not tried, and why.
    Refused(String),
    /// It was tried, and why it did not work.
    Failed(String),
}

/// A command that may be executed. Whoever takes it answers it, by [`Command::answer`].
#[derive(Clone)]
pub struct Command {
    /// The device written to.
    pub device: String,
    /// The point written to; `None` where the whole device takes the command.
    pub point: Option<String>,
    /// What to write: a JSON value where the payload is one, else text.
    pub value: Value,
    /// The payload as it came (of `{value, id}` the value alone, as text), for what goes out on a wire as it is.
    pub payload: Vec<u8>,
    deadline: Instant,
    reply: Arc<Reply>,
    publish: Arc<dyn Publish>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("device", &self.device)
            .field("point", &self.point)
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}

/// Where the answer goes.
#[derive(Debug)]
struct Reply {
    result_topic: Option<TopicName>,
    response_topic: Option<TopicName>,
    correlation_data: Option<Vec<u8>>,
    id: Option<serde_json::Value>,
}

impl Command {
    /// When it must be done; it fails after that, and is never done later.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the deadline has passed.
    pub fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Publishes what became of it: on `…/set/result`, and on the Response Topic where there is one.
    pub fn answer(self, outcome: &Outcome) {
        tracing::info!(device = self.device, point = self.point, ?outcome, "command answered");
        self.reply.send(outcome, &self.publish);
    }
}

impl Outcome {
    fn text(&self) -> String {
        match self {
            Self::Done => "ok".into(),
            Self::Refused(reason) => format!("refused: {reason}"),
            Self::Failed(reason) => format!("failed: {reason}"),
        }
    }
}

impl Reply {
    fn send(&self, outcome: &Outcome, publish: &Arc<dyn Publish>) {
        let payload = match &self.id {
            Some(id) => json!({ "id": id, "result": outcome.text() }).to_string(),
            None => outcome.text(),
        };
        let message = |topic: &TopicName, correlation: Option<&Vec<u8>>| {
            let mut properties = ForwardableBuilder::default();
            if let Some(data) = correlation {
                properties = properties.correlation_data(data);
            }
            MessageBuilder::new(topic, payload.as_bytes()).qos(QoS::AtLeastOnce).properties(properties).build()
        };
        let mut messages = Vec::with_capacity(2);
        messages.extend(self.result_topic.as_ref().map(|topic| message(topic, None)));
        messages.extend(self.response_topic.as_ref().map(|topic| message(topic, self.correlation_data.as_ref())));
        publish.publish(&messages);
    }
}

/// Decides which messages on command topics become commands.
#[derive(Debug)]
pub struct CommandGate {
    topics: Vec<CommandTopic>,
    seen: VecDeque<(String, String, Instant)>,
}

impl CommandGate {
    /// Takes commands on `topics`.
    pub fn new(topics: Vec<CommandTopic>) -> Self {
        Self { topics, seen: VecDeque::new() }
    }

    /// The command that `message` is, or `None` after it has been refused and answered.
    pub fn admit(&mut self, message: &Message, publish: &Arc<dyn Publish>) -> Option<Command> {
        let topic = self.topics.iter().find(|topic| topic.topic.as_str() == message.topic())?;
        let (value, payload, id) = parse(message.payload());
        let reply = Arc::new(Reply {
            result_topic: TopicName::new(&format!("{}/result", topic.topic)).ok(),
            response_topic: message.properties().response_topic().and_then(|text| TopicName::new(text).ok()),
            correlation_data: message.properties().correlation_data().map(<[u8]>::to_vec),
            id: id.clone(),
        });
        let refuse = |reason: &str| {
            tracing::warn!(topic = message.topic(), reason, "command refused");
            reply.send(&Outcome::Refused(reason.into()), publish);
        };
        if message.retain {
            // Clearing a retained command is no command either, and needs no answer.
            if !message.payload().is_empty() {
                refuse("retained");
            }
            return None;
        }
        if message.payload().len() > MAX_COMMAND_BYTES {
            refuse("the payload has more than 64 KB");
            return None;
        }
        let now = Instant::now();
        if let Some(id) = &id {
            let id = id.to_string();
            self.seen.retain(|(_, _, at)| now.duration_since(*at) < ID_MEMORY);
            if self.seen.iter().any(|(seen_topic, seen, _)| seen_topic == message.topic() && *seen == id) {
                refuse("this id was seen before");
                return None;
            }
            if self.seen.len() == MAX_REMEMBERED_IDS {
                self.seen.pop_front();
            }
            self.seen.push_back((message.topic().to_owned(), id, now));
        }
        Some(Command {
            device: topic.device.clone(),
            point: topic.point.clone(),
            value,
            payload,
            deadline: now + topic.timeout,
            reply,
            publish: Arc::clone(publish),
        })
    }
}

/// Value, bytes for a wire, and id of a command's payload.
fn parse(payload: &[u8]) -> (Value, Vec<u8>, Option<serde_json::Value>) {
    let text = String::from_utf8_lossy(payload);
    let text_value = || (Value::Text(text.trim().to_owned()), payload.to_vec(), None);
    match serde_json::from_slice::<serde_json::Value>(payload) {
        Ok(serde_json::Value::Object(mut object)) if object.contains_key("value") => {
            let value = Value::from_json(&object["value"]);
            let id = object.remove("id");
            let bytes = value.to_string().into_bytes();
            (value, bytes, id)
        }
        Ok(json) => (Value::from_json(&json), payload.to_vec(), None),
        Err(_) => match text.trim().to_ascii_lowercase().as_str() {
            "on" => (Value::Bool(true), payload.to_vec(), None),
            "off" => (Value::Bool(false), payload.to_vec(), None),
            _ => text_value(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::handle::Recorder;
    use super::*;

    fn gate() -> CommandGate {
        CommandGate::new(vec![CommandTopic {
            topic: TopicName::new("edge/plc/pump/set").unwrap(),
            device: "plc".into(),
            point: Some("pump".into()),
            timeout: Duration::from_secs(5),
        }])
    }

    fn admit(gate: &mut CommandGate, recorder: &Arc<Recorder>, payload: &str, retain: bool) -> Option<Command> {
        let topic = TopicName::new("edge/plc/pump/set").unwrap();
        let publish: Arc<dyn Publish> = recorder.clone();
        gate.admit(&MessageBuilder::new(&topic, payload.as_bytes()).retain(retain).build(), &publish)
    }

    #[test]
    fn a_retained_set_is_never_executed_and_says_so() {
        let recorder = Arc::new(Recorder::default());
        assert!(admit(&mut gate(), &recorder, "true", true).is_none());
        assert_eq!(recorder.published(), [("edge/plc/pump/set/result".into(), "refused: retained".into())]);
    }

    #[test]
    fn an_id_is_executed_once() {
        let recorder = Arc::new(Recorder::default());
        let mut gate = gate();
        let command = admit(&mut gate, &recorder, r#"{"value":true,"id":7}"#, false).unwrap();
        assert_eq!(command.value, Value::Bool(true));
        command.answer(&Outcome::Done);
        assert!(admit(&mut gate, &recorder, r#"{"value":true,"id":7}"#, false).is_none());
        let published: Vec<String> = recorder.published().into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(published, [r#"{"id":7,"result":"ok"}"#, r#"{"id":7,"result":"refused: this id was seen before"}"#]);
    }

    #[test]
    fn payloads_are_read_as_json_or_text() {
        for (payload, expected) in [
            ("21.5", Value::Double(21.5)),
            ("3", Value::Integer(3)),
            ("ON", Value::Bool(true)),
            ("auto", Value::Text("auto".into())),
        ] {
            let recorder = Arc::new(Recorder::default());
            assert_eq!(admit(&mut gate(), &recorder, payload, false).unwrap().value, expected);
        }
    }
}
