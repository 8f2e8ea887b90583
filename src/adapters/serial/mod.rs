//! Serial devices that print lines: a task owns a port, opens it again when it is gone, and says so.
//!
//! ```text
//! line::open -> bytes -> framing::LineFramer -> parse::Parser -> source::Source -> messages
//!     ^  |                                                          ^
//!     |  gone: device offline, commands fail, a growing pause       newest only, with `every`
//!     +--+
//! ```

pub mod framing;
pub mod parse;
pub mod port;
pub mod settings;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use self::framing::LineFramer;
use self::parse::{Heard, Parser};
use self::port::Backoff;
pub use self::settings::Settings;
use super::line::{self, LineSettings};
use super::source::Source;
use super::{Adapter, AdapterHandle, Command, CommandTopic, Health, Outcome, Pace, Published};
use crate::clock;
use crate::mqtt::{Sampled, TopicName};

/// A device that talks right after its port was opened may be in the middle of a line.
const MIDDLE_OF_A_LINE: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 4096;

/// What the settings of a serial device come to.
#[derive(Debug)]
pub(crate) struct Plan {
    pub source: Source,
    pub parser: Parser,
    pub port: LineSettings,
    pub max_line: usize,
    pub every: Option<Duration>,
    pub ask: Option<Vec<u8>>,
    pub write: Option<String>,
    pub write_timeout: Duration,
    pub offline_after: Duration,
}

/// One serial port with its device.
#[derive(Debug)]
pub struct Serial {
    plan: Plan,
    backoff: Backoff,
    started: Instant,
}

/// What is known since the port was opened.
struct Line {
    framer: LineFramer,
    opened: Instant,
    heard_anything: bool,
    overlong: u64,
    /// Why the last line was of no use.
    noise: Option<String>,
    noise_logged: bool,
    /// When silence means offline.
    silence: Instant,
    /// The newest answer that `every` holds back, and when it was sampled.
    newest: Option<(Json, Sampled)>,
    next_publish: Instant,
    next_ask: Option<Instant>,
}

impl Adapter for Serial {
    fn name(&self) -> &str {
        self.plan.source.device()
    }

    fn devices(&self) -> Vec<String> {
        vec![self.plan.source.device().to_owned()]
    }

    fn command_topics(&self) -> Vec<CommandTopic> {
        let topic = self.plan.write.as_ref().and_then(|_| set_topic(self.plan.source.topic()));
        let topic = topic.map(|topic| CommandTopic {
            topic,
            device: self.plan.source.device().to_owned(),
            point: None,
            timeout: self.plan.write_timeout,
        });
        topic.into_iter().collect()
    }

    fn published(&self) -> Vec<Published> {
        let pace = match (&self.plan.ask, self.plan.every) {
            (Some(_), Some(every)) => Pace::Every(every),
            (None, Some(every)) => Pace::AtMostEvery(every),
            (_, None) => Pace::Unknown,
        };
        self.plan.source.published(pace)
    }

    fn run(self: Box<Self>, handle: AdapterHandle) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.run_until_cancelled(handle))
    }
}

/// The topic on which commands for `topic` arrive.
fn set_topic(topic: &TopicName) -> Option<TopicName> {
    TopicName::new(&format!("{topic}/set")).ok()
}

impl Serial {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, backoff: Backoff::default(), started: Instant::now() }
    }

    async fn run_until_cancelled(mut self: Box<Self>, mut handle: AdapterHandle) {
        let cancelled = handle.cancellation();
        loop {
            let opened = tokio::select! {
                () = cancelled.cancelled() => return,
                opened = line::open(&self.plan.port) => opened,
            };
            let reason = match opened {
                // The stream is dropped when this returns: an open handle would force a new name on the port.
                Ok(stream) => match self.serve(stream, &mut handle).await {
                    Some(reason) => reason,
                    None => return,
                },
                Err(reason) => format!("cannot open {}: {reason}", self.plan.port.path),
            };
            self.offline(reason.clone(), &handle);
            self.plan.parser.reset();
            if self.wait(&reason, &mut handle).await.is_none() {
                return;
            }
        }
    }

    /// Waits before the port is opened again; `None` when cancelled meanwhile. Commands fail at once.
    async fn wait(&mut self, reason: &str, handle: &mut AdapterHandle) -> Option<()> {
        let cancelled = handle.cancellation();
        let until = Instant::now() + self.backoff.pause();
        loop {
            tokio::select! {
                biased;
                () = cancelled.cancelled() => return None,
                () = sleep_until(until) => return Some(()),
                command = handle.next_command() => command.answer(&Outcome::Failed(reason.to_owned())),
            }
        }
    }

    /// Reads and writes until the port is gone, which is the reason returned, or `None` when cancelled.
    async fn serve(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Send,
        handle: &mut AdapterHandle,
    ) -> Option<String> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let cancelled = handle.cancellation();
        let mut buffer = vec![0; READ_BYTES];
        let mut line = self.line();
        loop {
            let held_back = line.newest.is_some().then_some(line.next_publish);
            // All of these may be dropped: a command, a read and a sleep lose nothing by it.
            tokio::select! {
                biased;
                () = cancelled.cancelled() => return None,
                command = handle.next_command() => {
                    if let Err(reason) = self.execute(command, &mut writer).await {
                        return Some(reason);
                    }
                    // The device is read back at once.
                    line.next_ask = line.next_ask.map(|_| Instant::now());
                }
                () = at(line.next_ask) => {
                    if let Err(reason) = self.ask(&mut line, &mut writer).await {
                        return Some(reason);
                    }
                }
                () = at(held_back) => self.publish_newest(&mut line, handle),
                read = reader.read(&mut buffer) => {
                    if let Some(reason) = port::gone(&self.plan.port.path, &read) {
                        return Some(reason);
                    }
                    self.hear(&buffer[..read.unwrap_or(0)], &mut line, handle);
                }
                () = sleep_until(line.silence) => {
                    let span = self.plan.offline_after;
                    line.silence = Instant::now() + span;
                    self.offline(match &line.noise {
                        Some(noise) => format!("nothing understood for {span:?}: {noise}"),
                        None => format!("nothing received for {span:?}"),
                    }, handle);
                }
            }
        }
    }

    fn line(&self) -> Line {
        let now = Instant::now();
        Line {
            framer: LineFramer::new(self.plan.max_line),
            opened: now,
            heard_anything: false,
            overlong: 0,
            noise: None,
            noise_logged: false,
            silence: now + self.plan.offline_after,
            newest: None,
            next_publish: now,
            next_ask: self.plan.ask.as_ref().map(|_| now),
        }
    }

    fn hear(&mut self, bytes: &[u8], line: &mut Line, handle: &AdapterHandle) {
        let now = Instant::now();
        if !std::mem::replace(&mut line.heard_anything, true) {
            let talks_by_itself = self.plan.ask.is_none();
            let at_once = now.duration_since(line.opened) < MIDDLE_OF_A_LINE;
            if talks_by_itself && at_once && self.plan.parser.is_fooled_by_half_lines() {
                line.framer.skip_line();
            }
        }
        let mut heard = Vec::new();
        let parser = &mut self.plan.parser;
        line.framer.push(bytes, |text| heard.push(parser.read(text)));
        for heard in heard {
            if let Heard::Noise(reason) = heard {
                handle.count_error(self.plan.source.device());
                if !std::mem::replace(&mut line.noise_logged, true) {
                    tracing::warn!(device = self.plan.source.device(), reason, "line not understood");
                }
                line.noise = Some(reason);
                continue;
            }
            line.noise = None;
            line.silence = now + self.plan.offline_after;
            self.backoff.reset();
            handle.report(self.plan.source.device(), &Health::Online);
            // What has none of the points is not what `every` waits for.
            if let Heard::Answer(answer) = heard
                && self.plan.source.finds(&answer)
            {
                line.newest = Some((answer, clock::sample()));
                if line.next_publish <= now {
                    self.publish_newest(line, handle);
                }
            }
        }
        if line.framer.dropped() > line.overlong {
            if line.overlong == 0 {
                tracing::warn!(
                    device = self.plan.source.device(),
                    max_line = self.plan.max_line,
                    "a line is too long and was dropped"
                );
            }
            line.overlong = line.framer.dropped();
            line.noise = Some("a line is longer than max_line".into());
        }
    }

    fn publish_newest(&mut self, line: &mut Line, handle: &AdapterHandle) {
        let Some((answer, sampled)) = line.newest.take() else { return };
        let now = Instant::now();
        // With `ask` the questions keep the pace.
        if let (Some(every), None) = (self.plan.every, &self.plan.ask) {
            line.next_publish = now + every;
        }
        let now_ms = now.duration_since(self.started).as_millis() as u64;
        handle.publish(&self.plan.source.read(&answer, clock::correct(sampled), now_ms).messages);
    }

    async fn ask(&self, line: &mut Line, writer: &mut (impl AsyncWrite + Unpin)) -> Result<(), String> {
        let (Some(question), Some(every)) = (&self.plan.ask, self.plan.every) else { return Ok(()) };
        line.next_ask = Some(Instant::now() + every);
        match timeout(every, writer.write_all(question)).await {
            Ok(Err(error)) => Err(format!("{} is gone: {error}", self.plan.port.path)),
            // A line that takes nothing gives no answer either, and silence is dealt with already.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Executes a command and answers it.
    ///
    /// # Errors
    /// The port is gone.
    async fn execute(&self, command: Command, writer: &mut (impl AsyncWrite + Unpin)) -> Result<(), String> {
        let bytes = match self.written(&command.payload) {
            Ok(bytes) => bytes,
            Err(reason) => {
                command.answer(&Outcome::Refused(reason));
                return Ok(());
            }
        };
        if command.is_late() {
            command.answer(&Outcome::Failed("not done in time".into()));
            return Ok(());
        }
        match timeout_at(command.deadline(), writer.write_all(&bytes)).await {
            Ok(Ok(())) => {
                command.answer(&Outcome::Done);
                Ok(())
            }
            Err(_) => {
                command.answer(&Outcome::Failed("the port did not take it in time".into()));
                Ok(())
            }
            Ok(Err(error)) => {
                let reason = format!("{} is gone: {error}", self.plan.port.path);
                command.answer(&Outcome::Failed(reason.clone()));
                Err(reason)
            }
        }
    }

    /// What a command puts on the wire.
    fn written(&self, payload: &[u8]) -> Result<Vec<u8>, String> {
        let Some(template) = &self.plan.write else { return Err("this device is not written to".into()) };
        if template == "{value}" {
            return Ok(payload.to_vec());
        }
        let value = payload.trim_ascii();
        // A line break in the value would be a second command to the device.
        if value.iter().any(u8::is_ascii_control) {
            return Err("the value has a line break or another control character".into());
        }
        let mut written = Vec::with_capacity(template.len() + value.len());
        for (index, part) in template.split("{value}").enumerate() {
            if index > 0 {
                written.extend_from_slice(value);
            }
            written.extend_from_slice(part.as_bytes());
        }
        Ok(written)
    }

    fn offline(&mut self, reason: String, handle: &AdapterHandle) {
        self.plan.source.reset();
        handle.count_error(self.plan.source.device());
        handle.report(self.plan.source.device(), &Health::Offline(reason));
    }
}

/// Completes at `instant`, or never.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
