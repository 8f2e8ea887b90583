//! A device that is polled: a request every so often, commands between them.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use reqwest::Url;
use serde_json::Value as Json;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::client::Endpoint;
use super::sampled_at;
use super::write::Write;
use crate::adapters::source::Source;
use crate::adapters::{Adapter, AdapterHandle, Command, CommandTopic, Health, Outcome, Pace, Published};
use crate::mapping::JsonPath;
use crate::mqtt::TopicName;

/// What the settings of a polled device come to.
#[derive(Debug)]
pub(crate) struct PollPlan {
    pub url: Url,
    pub endpoint: Endpoint,
    pub source: Source,
    pub time: Option<JsonPath>,
    pub writes: Vec<Write>,
    pub every: Duration,
    pub timeout: Duration,
    pub write_timeout: Duration,
    pub offline_after: u32,
}

/// A device that is polled over HTTP.
#[derive(Debug)]
pub struct Poll {
    plan: PollPlan,
    started: Instant,
    next_poll: Instant,
    online: bool,
    failures: u32,
    time_missed: bool,
}

enum Step {
    Cancelled,
    Command(Command),
    Answer(Result<Json, String>),
}

/// The first tick after `now` of those that are `every` apart; the ones that were missed are skipped.
fn following(tick: Instant, every: Duration, now: Instant) -> Instant {
    let late = now.saturating_duration_since(tick).as_nanos();
    let ticks = late / every.as_nanos().max(1) + 1;
    // More than 2^32 missed ticks are none to be exact about.
    tick + every * u32::try_from(ticks).unwrap_or(u32::MAX)
}

impl Adapter for Poll {
    fn name(&self) -> &str {
        self.plan.source.device()
    }

    fn devices(&self) -> Vec<String> {
        vec![self.plan.source.device().to_owned()]
    }

    fn command_topics(&self) -> Vec<CommandTopic> {
        let topic = |write: &Write| {
            Some(CommandTopic {
                topic: TopicName::new(&format!("{}/set", write.topic)).ok()?,
                device: self.plan.source.device().to_owned(),
                point: Some(write.point.clone()),
                timeout: self.plan.write_timeout,
            })
        };
        self.plan.writes.iter().filter_map(topic).collect()
    }

    fn published(&self) -> Vec<Published> {
        self.plan.source.published(Pace::Every(self.plan.every))
    }

    fn run(self: Box<Self>, handle: AdapterHandle) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.run_until_cancelled(handle))
    }
}

impl Poll {
    pub(crate) fn new(plan: PollPlan) -> Self {
        let now = Instant::now();
        Self { plan, started: now, next_poll: now, online: false, failures: 0, time_missed: false }
    }

    async fn run_until_cancelled(mut self: Box<Self>, mut handle: AdapterHandle) {
        let cancelled = handle.cancellation();
        self.next_poll = Instant::now();
        loop {
            // A command goes ahead of a poll: the poll that it interrupts is dropped, and made anew after it, so that
            // no answer from before the command is published after it.
            let step = tokio::select! {
                biased;
                () = cancelled.cancelled() => Step::Cancelled,
                command = handle.next_command() => Step::Command(command),
                answer = self.poll() => Step::Answer(answer),
            };
            match step {
                Step::Cancelled => return,
                Step::Command(command) => {
                    let executed = tokio::select! {
                        () = cancelled.cancelled() => Outcome::Failed("the gateway is stopping".into()),
                        outcome = self.execute(&command) => outcome,
                    };
                    // What was refused changed nothing, and must not keep polls from their turn.
                    if !matches!(executed, Outcome::Refused(_)) {
                        self.next_poll = Instant::now();
                    }
                    command.answer(&executed);
                }
                Step::Answer(answer) => {
                    self.next_poll = following(self.next_poll, self.plan.every, Instant::now());
                    match answer.and_then(|answer| self.handle_answer(&answer, &handle)) {
                        Ok(()) => self.failures = 0,
                        Err(reason) => self.handle_failure(reason, &handle),
                    }
                }
            }
        }
    }

    async fn poll(&self) -> Result<Json, String> {
        sleep_until(self.next_poll).await;
        let span = self.plan.timeout;
        let answer = timeout(span, self.plan.endpoint.fetch(&self.plan.url)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {span:?}")))
    }

    fn handle_answer(&mut self, answer: &Json, handle: &AdapterHandle) -> Result<(), String> {
        let device = self.plan.source.device();
        let sampled = sampled_at(answer, self.plan.time.as_ref(), device, &mut self.time_missed);
        let now_ms = self.started.elapsed().as_millis() as u64;
        let harvest = self.plan.source.read(answer, sampled, now_ms);
        if !harvest.found {
            return Err("no point found in the answer".into());
        }
        self.online = true;
        handle.report(self.plan.source.device(), &Health::Online);
        handle.publish(&harvest.messages);
        Ok(())
    }

    fn handle_failure(&mut self, reason: String, handle: &AdapterHandle) {
        self.failures = self.failures.saturating_add(1);
        let device = self.plan.source.device();
        handle.count_error(device);
        if self.online && self.failures < self.plan.offline_after {
            tracing::debug!(device, reason, "poll failed");
            return;
        }
        self.online = false;
        handle.report(device, &Health::Offline(reason));
        self.plan.source.reset();
    }

    async fn execute(&self, command: &Command) -> Outcome {
        let write = self.plan.writes.iter().find(|write| Some(&write.point) == command.point.as_ref());
        let Some(write) = write else { return Outcome::Refused("this point is not written to".into()) };
        let (url, body) = match write.request(&command.value) {
            Ok(request) => request,
            Err(reason) => return Outcome::Refused(reason),
        };
        if command.is_late() {
            return Outcome::Failed("not done in time".into());
        }
        let sent = self.plan.endpoint.send(&write.method, &url, body.as_deref());
        match timeout_at(command.deadline(), sent).await {
            Ok(Ok(_)) => Outcome::Done,
            Ok(Err(reason)) => Outcome::Failed(reason),
            Err(_) => Outcome::Failed("no answer in time".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_ticks_are_skipped() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let every = Duration::from_secs(10);
        assert_eq!(following(start, every, after(3)), after(10));
        assert_eq!(following(start, every, after(10)), after(20));
        assert_eq!(following(start, every, after(34)), after(40));
    }
}
