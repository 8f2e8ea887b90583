//! `edgeway pub`: publishes, with the flags of mosquitto_pub.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{ArgGroup, Args};

use super::connection::ConnectionArguments;
use super::interrupted;
use super::payload::{self, Payloads};
use crate::client::{Client, ClientEvent};
use crate::mqtt::properties::ForwardableBuilder;
use crate::mqtt::{Message, MessageBuilder, Millis, ReasonCode, TopicName, Version};

/// Publish messages, like mosquitto_pub. Exits with 0 once the broker has taken all of them, else with 1.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
#[command(group(ArgGroup::new("payload").required(true).args(["message", "null_message", "file", "stdin_line", "stdin_file"])))]
pub(super) struct Publish {
    /// Topic to publish to.
    #[arg(short, long, required_unless_present = "url")]
    topic: Option<String>,
    /// The message.
    #[arg(short, long, allow_hyphen_values = true)]
    message: Option<String>,
    /// An empty message (with -r it clears what is retained).
    #[arg(short, long)]
    null_message: bool,
    /// The message is this file.
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Each line of standard input is a message, on one connection.
    #[arg(short = 'l', long)]
    stdin_line: bool,
    /// All of standard input is the message.
    #[arg(short, long)]
    stdin_file: bool,
    /// Retain the message.
    #[arg(short, long)]
    retain: bool,
    /// Send the message this many times (not with -l).
    #[arg(long, value_name = "COUNT", default_value_t = 1, conflicts_with = "stdin_line",
          value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Seconds between repetitions.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, requires = "repeat")]
    repeat_delay: f64,
    /// A property (5.0): publish NAME VALUE, or publish user-property KEY VALUE. Names: content-type,
    /// response-topic, correlation-data, message-expiry-interval, payload-format-indicator, user-property.
    #[arg(short = 'D', long, num_args = 3..=4, value_names = ["COMMAND", "NAME", "VALUE"])]
    property: Vec<String>,
    #[command(flatten)]
    pub(super) connection: ConnectionArguments,
}

/// The properties of `-D`.
#[derive(Debug, Default)]
struct Properties {
    forwardable: ForwardableBuilder,
    expiry_seconds: Option<u32>,
}

impl Publish {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let topic = self.topic.as_deref().or(self.connection.url_topic()).context("give a topic: -t TOPIC")?;
        let topic = TopicName::new(topic).with_context(|| format!("-t {topic}"))?;
        let properties = Properties::parse(&self.property)?;
        let mut payloads = self.payloads()?;
        let mut client = self.connection.client("pub")?;
        tokio::select! {
            connected = client.connect() => connected?,
            () = interrupted() => return Ok(ExitCode::SUCCESS),
        };
        ensure!(
            self.property.is_empty() || client.version() == Version::V5,
            "-D needs MQTT 5.0, which this connection does not speak"
        );
        let outcome = tokio::select! {
            outcome = self.publish(&mut client, &topic, &properties, &mut payloads) => outcome,
            () = interrupted() => Ok(ExitCode::SUCCESS),
        };
        client.disconnect().await;
        outcome
    }

    /// Publishes all payloads and waits for what is due for them.
    async fn publish(
        &self,
        client: &mut Client,
        topic: &TopicName,
        properties: &Properties,
        payloads: &mut Payloads,
    ) -> anyhow::Result<ExitCode> {
        let mut more = true;
        let mut refused = 0;
        while more || client.unsettled() > 0 {
            tokio::select! {
                payload = payloads.next(), if more && client.has_room() => match payload? {
                    Some(payload) => {
                        client.enqueue(self.message(topic, &payload, properties, client.now()))?;
                    }
                    None => more = false,
                },
                event = client.next() => match event.with_context(|| unfinished(client))? {
                    ClientEvent::Settled { reason, .. } => refused += self.judge(topic, reason),
                    // A session that was kept may still have subscriptions.
                    ClientEvent::Message(_) => {}
                },
            }
        }
        // The last answers may have come together.
        while client.has_settled() {
            if let ClientEvent::Settled { reason, .. } = client.next().await? {
                refused += self.judge(topic, reason);
            }
        }
        client.flush().await.with_context(|| unfinished(client))?;
        Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// 1 where the broker did not take the message.
    fn judge(&self, topic: &TopicName, reason: ReasonCode) -> u32 {
        if reason.is_error() {
            if !self.connection.quiet {
                eprintln!("edgeway pub: the broker did not take a message to {topic}: {reason}");
            }
            return 1;
        }
        if reason == ReasonCode::NoMatchingSubscribers {
            tracing::debug!(%topic, "no subscribers");
        }
        0
    }

    fn message(&self, topic: &TopicName, payload: &[u8], properties: &Properties, now: Millis) -> Message {
        MessageBuilder::new(topic, payload)
            .qos(self.connection.qos)
            .retain(self.retain)
            .properties(properties.forwardable.clone())
            .expires_at(properties.expiry_seconds.map(|seconds| now.plus_seconds(seconds)))
            .build()
    }

    fn payloads(&self) -> anyhow::Result<Payloads> {
        let payload = match (&self.message, &self.file) {
            (Some(message), _) => message.clone().into_bytes(),
            (_, Some(path)) => payload::read_file(path)?,
            _ if self.stdin_file => payload::read_stdin()?,
            _ if self.stdin_line => return Payloads::lines().context("cannot read standard input"),
            _ => Vec::new(),
        };
        let delay = Duration::try_from_secs_f64(self.repeat_delay).context("--repeat-delay")?;
        Ok(Payloads::repeated(payload, self.repeat, delay))
    }
}

impl Properties {
    /// Reads `publish NAME VALUE [VALUE]`, as often as it stands there.
    fn parse(words: &[String]) -> anyhow::Result<Self> {
        let mut properties = Self::default();
        let mut words = words.iter().map(String::as_str);
        while let Some(command) = words.next() {
            ensure!(command == "publish", "-D {command}: only the properties of publish are available");
            let name = words.next().context("-D publish: give a property")?;
            let value = words.next().with_context(|| format!("-D publish {name}: give a value"))?;
            properties.set(name, value, &mut words)?;
        }
        Ok(properties)
    }

    fn set<'a>(&mut self, name: &str, value: &str, rest: &mut impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
        let forwardable = std::mem::take(&mut self.forwardable);
        self.forwardable = match name {
            "user-property" => {
                let second =
                    rest.next().with_context(|| format!("-D publish user-property {value}: give its value"))?;
                forwardable.user_property(value, second)
            }
            "content-type" => forwardable.content_type(value),
            "response-topic" => {
                TopicName::new(value).context("-D publish response-topic")?;
                forwardable.response_topic(value)
            }
            "correlation-data" => forwardable.correlation_data(value.as_bytes()),
            "payload-format-indicator" => match value {
                "0" => forwardable,
                "1" => forwardable.utf8(),
                _ => bail!("-D publish payload-format-indicator is 0 or 1"),
            },
            "message-expiry-interval" => {
                self.expiry_seconds =
                    Some(value.parse().context("-D publish message-expiry-interval: seconds from 0 up")?);
                forwardable
            }
            _ => bail!(
                "-D publish {name}: the properties are content-type, response-topic, correlation-data, \
                 message-expiry-interval, payload-format-indicator and user-property"
            ),
        };
        Ok(())
    }
}

fn unfinished(client: &Client) -> String {
    match client.unsettled() {
        0 => "cannot publish".to_owned(),
        1 => "1 message was not acknowledged".to_owned(),
        count => format!("{count} messages were not acknowledged"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::mqtt::QoS;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        publish: Publish,
    }

    fn parse(line: &[&str]) -> Result<Publish, clap::Error> {
        Line::try_parse_from(std::iter::once(&"pub").chain(line)).map(|line| line.publish)
    }

    fn properties(words: &[&str]) -> anyhow::Result<Properties> {
        Properties::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_make_the_message() {
        let publish = parse(&["-t", "a/b", "-m", "-5.5", "-q", "2", "-r", "-V", "5"]).unwrap();
        let topic = TopicName::new("a/b").unwrap();
        let message = publish.message(&topic, b"-5.5", &Properties::default(), Millis(0));
        assert_eq!((message.qos, message.retain), (QoS::ExactlyOnce, true));
        assert_eq!(publish.message.as_deref(), Some("-5.5"));
    }

    #[test]
    fn exactly_one_payload_is_given() {
        assert!(parse(&["-t", "a"]).is_err());
        assert!(parse(&["-t", "a", "-m", "x", "-n"]).is_err());
        assert!(parse(&["-m", "x"]).is_err(), "no topic");
        assert!(parse(&["-L", "mqtt://broker/t", "-n"]).is_ok());
        assert!(parse(&["-t", "a", "-l", "--repeat", "2"]).is_err());
    }

    #[test]
    fn properties_are_taken_in_their_order() {
        let publish = parse(&[
            "-t",
            "a",
            "-D",
            "publish",
            "user-property",
            "k",
            "v",
            "-D",
            "publish",
            "content-type",
            "text/plain",
            "-m",
            "x",
            "-D",
            "publish",
            "message-expiry-interval",
            "30",
        ])
        .unwrap();
        let properties = Properties::parse(&publish.property).unwrap();
        let topic = TopicName::new("a").unwrap();
        let message = publish.message(&topic, b"x", &properties, Millis(1));
        assert_eq!(message.properties().user_properties().collect::<Vec<_>>(), [("k", "v")]);
        assert_eq!(message.properties().content_type(), Some("text/plain"));
        assert_eq!(message.expires_at, Some(Millis(30_001)));
    }

    #[test]
    fn properties_that_are_none_are_refused_in_words() {
        for (words, expected) in [
            (&["connect", "x", "y"][..], "only the properties of publish"),
            (&["publish", "colour", "red"], "the properties are"),
            (&["publish", "user-property", "k"], "give its value"),
            (&["publish", "message-expiry-interval", "soon"], "seconds from 0 up"),
            (&["publish", "response-topic", "a/#"], "response-topic"),
        ] {
            let error = format!("{:#}", properties(words).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
