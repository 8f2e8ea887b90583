//! `edgeway sub`: subscribes and prints, with the flags of mosquitto_sub.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::connection::{ConnectionArguments, random};
use super::format::Format;
use super::{EXIT_TIMEOUT, interrupted};
use crate::client::{Client, ClientError, ClientEvent};
use crate::mqtt::connection::CommandError;
use crate::mqtt::packet::{RetainHandling, SubscriptionOptions};
use crate::mqtt::{Message, ReasonCode, TopicFilter, Version};

/// Longest pause between two attempts to connect again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Subscribe and print what comes, like mosquitto_sub. Exits with 27 when the time of -W is over.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct Subscribe {
    /// Topic filter to subscribe to; give it several times for several.
    #[arg(short, long, required_unless_present = "url", value_name = "FILTER")]
    topic: Vec<String>,
    /// Topic filter of messages not to print.
    #[arg(short = 'T', long, value_name = "FILTER")]
    filter_out: Vec<String>,
    /// Topic filter to unsubscribe from, in a session that was kept.
    #[arg(short = 'U', long, value_name = "FILTER")]
    unsubscribe: Vec<String>,
    /// Print the topic before the payload.
    #[arg(short, long, conflicts_with = "format")]
    verbose: bool,
    /// How to print: %t topic, %p payload, %x %X payload in hexadecimal, %q QoS, %r retained, %l payload length,
    /// %m packet identifier, %U seconds since 1970, %C content type, %R response topic, %D correlation data,
    /// %P user properties, %% percent; and \n \t \r \0 \\.
    #[arg(short = 'F', long)]
    format: Option<Format>,
    /// No newline after a payload.
    #[arg(short = 'N')]
    no_newline: bool,
    /// End after this many messages.
    #[arg(short = 'C', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this many seconds, with exit status 27.
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// End once subscribed.
    #[arg(short = 'E')]
    exit_after_subscribing: bool,
    /// Leave retained messages out.
    #[arg(short = 'R', conflicts_with = "retained_only")]
    no_retained: bool,
    /// Print retained messages only, and end at the first other one.
    #[arg(long)]
    retained_only: bool,
    /// Keep the retain flag that messages were published with (5.0).
    #[arg(long)]
    retain_as_published: bool,
    #[command(flatten)]
    pub(super) connection: ConnectionArguments,
}

/// What follows from a message.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

/// What is subscribed and printed, ready to use.
struct Plan {
    filters: Vec<(TopicFilter, SubscriptionOptions)>,
    filter_out: Vec<TopicFilter>,
    unsubscribe: Vec<TopicFilter>,
    format: Format,
    left: Option<u64>,
}

impl Subscribe {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut plan = self.plan()?;
        let mut client = self.connection.client("sub")?;
        // mosquitto_sub counts -W from its start, so connecting is part of it.
        let outcome = tokio::select! {
            outcome = self.subscribe(&mut client, &mut plan) => outcome,
            () = interrupted() => Ok(ExitCode::SUCCESS),
            () = sleep(self.timeout) => Ok(ExitCode::from(EXIT_TIMEOUT)),
        };
        client.disconnect().await;
        outcome
    }

    async fn subscribe(&self, client: &mut Client, plan: &mut Plan) -> anyhow::Result<ExitCode> {
        client.connect().await?;
        self.subscribe_all(client, plan).await?;
        if self.exit_after_subscribing {
            return Ok(ExitCode::SUCCESS);
        }
        loop {
            match client.next().await {
                Ok(ClientEvent::Message(delivery)) => {
                    let packet_id = delivery.packet_id.map_or(0, std::num::NonZero::get);
                    let stop = match self.print(&delivery.message, packet_id, plan, &mut io::stdout().lock()) {
                        Ok(next) => next == Next::Stop,
                        // Whoever read our output has seen enough.
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => true,
                        Err(error) => return Err(error).context("cannot write to standard output"),
                    };
                    if stop {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                Ok(ClientEvent::Settled { .. }) => {}
                Err(error) if is_final(&error) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "link lost");
                    self.reconnect(client, plan).await?;
                }
            }
        }
    }

    /// Connects again, however long it takes.
    async fn reconnect(&self, client: &mut Client, plan: &Plan) -> anyhow::Result<()> {
        let mut pause = Duration::from_secs(1);
        loop {
            // Half a pause at least, so that many who lost the same broker do not return at once.
            tokio::time::sleep(pause.mul_f64(0.5 + f64::from(random() % 1000) / 2000.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let outcome = match client.connect().await {
                Ok(connected) if connected.session_present => return Ok(()),
                Ok(_) => self.subscribe_all(client, plan).await,
                Err(error) => Err(error.into()),
            };
            match outcome {
                Ok(()) => {
                    tracing::debug!("connected again");
                    return Ok(());
                }
                Err(error) if error.downcast_ref().is_none_or(is_final) => return Err(error),
                Err(error) => tracing::debug!(%error, "cannot connect again yet"),
            }
        }
    }

    async fn subscribe_all(&self, client: &mut Client, plan: &Plan) -> anyhow::Result<()> {
        if !plan.unsubscribe.is_empty() {
            client.unsubscribe(&plan.unsubscribe).await?;
        }
        let reasons = client.subscribe(&plan.filters).await?;
        let mut granted = 0;
        for ((filter, _), reason) in plan.filters.iter().zip(reasons) {
            if reason.is_error() {
                let reason = match client.version() {
                    // 3.1.1 has no reasons.
                    Version::V3 => "refused".to_owned(),
                    Version::V5 => reason.to_string(),
                };
                tracing::warn!(%filter, reason, "the broker refused the subscription");
            } else {
                tracing::debug!(%filter, qos = reason as u8, "subscribed");
                granted += 1;
            }
        }
        ensure!(granted > 0, "the broker refused every subscription");
        Ok(())
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        let options = SubscriptionOptions {
            qos: self.connection.qos,
            no_local: false,
            retain_as_published: self.retain_as_published,
            retain_handling: if self.no_retained { RetainHandling::DoNotSend } else { RetainHandling::Send },
        };
        let topics = self.topic.iter().map(String::as_str).chain(self.connection.url_topic());
        let filters = parse_filters("-t", topics)?;
        if filters.is_empty() {
            bail!("give a topic filter: -t FILTER");
        }
        Ok(Plan {
            filters: filters.into_iter().map(|filter| (filter, options)).collect(),
            filter_out: parse_filters("-T", self.filter_out.iter().map(String::as_str))?,
            unsubscribe: parse_filters("-U", self.unsubscribe.iter().map(String::as_str))?,
            format: match (&self.format, self.verbose) {
                (Some(format), _) => format.clone(),
                (None, true) => Format::verbose(),
                (None, false) => Format::payload(),
            },
            left: self.count,
        })
    }

    fn print(&self, message: &Message, packet_id: u16, plan: &mut Plan, output: &mut impl Write) -> io::Result<Next> {
        if self.no_retained && message.retain {
            return Ok(Next::GoOn);
        }
        if self.retained_only && !message.retain {
            return Ok(Next::Stop);
        }
        if plan.filter_out.iter().any(|filter| filter.matches(message.topic())) {
            return Ok(Next::GoOn);
        }
        let mut line = Vec::with_capacity(message.payload().len() + message.topic().len() + 16);
        let written = plan.format.write(message, packet_id, &mut line);
        if written && !self.no_newline {
            line.push(b'\n');
        }
        output.write_all(&line)?;
        output.flush()?;
        match &mut plan.left {
            Some(left) => {
                *left -= 1;
                Ok(if *left == 0 { Next::Stop } else { Next::GoOn })
            }
            None => Ok(Next::GoOn),
        }
    }
}

/// Whether trying again is of no use, or would do harm: two clients with one identifier would take turns for ever.
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { reason, .. } | ClientError::Disconnected { reason, .. } => !matches!(
            reason,
            ReasonCode::ServerUnavailable
                | ReasonCode::ServerBusy
                | ReasonCode::ServerShuttingDown
                | ReasonCode::UnspecifiedError
                | ReasonCode::KeepAliveTimeout
                | ReasonCode::ConnectionRateExceeded
                | ReasonCode::MessageRateTooHigh
                | ReasonCode::QuotaExceeded
                | ReasonCode::MaximumConnectTime
                | ReasonCode::AdministrativeAction
                | ReasonCode::Success
        ),
        ClientError::Protocol(_) | ClientError::Command(CommandError::QueueFull) | ClientError::Unread => true,
        ClientError::ConnectionRefused(_)
        | ClientError::Unreachable { .. }
        | ClientError::Timeout(_)
        | ClientError::Lost(_)
        | ClientError::Silent
        | ClientError::Command(_) => false,
    }
}

fn parse_filters<'a>(flag: &str, filters: impl Iterator<Item = &'a str>) -> anyhow::Result<Vec<TopicFilter>> {
    filters.map(|filter| TopicFilter::new(filter).with_context(|| format!("{flag} {filter}"))).collect()
}

async fn sleep(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::mqtt::{MessageBuilder, QoS, TopicName};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        subscribe: Subscribe,
    }

    fn parse(line: &str) -> Result<Subscribe, clap::Error> {
        Line::try_parse_from(std::iter::once("sub").chain(line.split(' '))).map(|line| line.subscribe)
    }

    /// What a command line prints of messages (topic, payload, retained), and whether it goes on after the last.
    fn printed(line: &str, messages: &[(&str, &str, bool)]) -> (String, Next) {
        let subscribe = parse(line).unwrap();
        let mut plan = subscribe.plan().unwrap();
        let mut output = Vec::new();
        let mut next = Next::GoOn;
        for (topic, payload, retain) in messages {
            let topic = TopicName::new(topic).unwrap();
            let message = MessageBuilder::new(&topic, payload.as_bytes()).retain(*retain).build();
            next = subscribe.print(&message, 0, &mut plan, &mut output).unwrap();
            if next == Next::Stop {
                break;
            }
        }
        (String::from_utf8(output).unwrap(), next)
    }

    #[test]
    fn several_filters_are_subscribed_with_the_qos() {
        let plan = parse("-t a/# -t b -q 1 -R").unwrap().plan().unwrap();
        let filters: Vec<&str> = plan.filters.iter().map(|(filter, _)| filter.as_str()).collect();
        assert_eq!(filters, ["a/#", "b"]);
        assert_eq!(plan.filters[0].1.qos, QoS::AtLeastOnce);
        assert_eq!(plan.filters[0].1.retain_handling, RetainHandling::DoNotSend);
        assert_eq!(parse("-L mqtt://h/x/+").unwrap().plan().unwrap().filters[0].0.as_str(), "x/+");
        assert!(parse("-v").is_err(), "no filter");
        assert!(parse("-t a/#/b").unwrap().plan().is_err());
    }

    #[test]
    fn messages_are_printed_as_the_flags_say() {
        let messages = [("a", "1", true), ("b", "2", false), ("c", "3", false)];
        assert_eq!(printed("-t #", &messages), ("1\n2\n3\n".into(), Next::GoOn));
        assert_eq!(printed("-t # -v -N", &messages).0, "a 1b 2c 3");
        assert_eq!(printed("-t # -R", &messages).0, "2\n3\n");
        assert_eq!(printed("-t # -T b", &messages).0, "1\n3\n");
        assert_eq!(printed("-t # -F %t=%p", &messages).0, "a=1\nb=2\nc=3\n");
        assert_eq!(printed("-t # -C 2", &messages), ("1\n2\n".into(), Next::Stop));
        assert_eq!(printed("-t # -T a -C 1", &messages), ("2\n".into(), Next::Stop));
        assert_eq!(printed("-t # --retained-only", &messages), ("1\n".into(), Next::Stop));
    }
}
