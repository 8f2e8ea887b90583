//! One task owns one bus: it polls what is due, the most overdue first, and keeps a dead unit from costing the others
//! more than one timeout now and then.
//!
//! ```text
//!            a good answer                    offline_after failures in a row
//! Starting ----------------> Online --------------------------------------------> Offline: probed with
//!     |                        ^                                                  growing pauses
//!     |                        +----------- a probe is answered well ----------------+  ^
//!     +--------------------------- offline_after failures in a row ----------------------+
//! ```

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::frame::{Exception, Request, Response, Table};
use super::layout::{Layout, TableRead};
use super::plan::{self, Extent, Read};
use super::wire::{Wire, WireError};
use crate::adapters::{Adapter, AdapterHandle, CommandTopic, Health, Published};
use crate::clock;
use crate::mapping::{PayloadFormat, Value};
use crate::mqtt::{Message, TopicName};

/// The first and the longest pause between two probes of a device that does not answer.
const PROBE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The first and the longest pause between two tries to open the wire.
const REOPEN_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A failed poll is repeated after this at the latest, however rarely it is due.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Commands that may go ahead of one request of an overdue poll.
pub(super) const MAX_COMMANDS_AHEAD: usize = 16;

/// How patient a bus is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long a unit may take to answer.
    pub timeout: Duration,
    /// How often a request without an answer is repeated.
    pub retries: u8,
    /// Failed polls in a row after which a device is offline, at least 1.
    pub offline_after: u32,
    /// How long a write may take.
    pub write_timeout: Duration,
}

/// A Modbus bus and its devices, an [`Adapter`].
#[derive(Debug)]
pub struct Bus<W> {
    pub(super) layout: Layout,
    pub(super) wire: W,
    pub(super) pace: Pace,
    extents: Vec<Extent>,
    pub(super) states: Vec<State>,
    /// When each poll is due.
    pub(super) due: Vec<Instant>,
    /// The poll of each point.
    pub(super) poll_of: Vec<usize>,
    /// Set while the wire cannot be opened.
    line: Option<LineDown>,
    started: Instant,
    pub(super) cancelled: CancellationToken,
}

/// What is known of a device.
#[derive(Debug, Default)]
pub(super) struct State {
    is_online: bool,
    /// Failed polls in a row.
    failures: u32,
    /// The point that was read last; if it still can be, the device is not offline.
    last_good: Option<usize>,
    /// Set while the device is offline.
    probe: Option<Probe>,
    /// What was logged last, so that a repeated error is logged once.
    logged: Option<String>,
    /// While it is offline, what was reported, without the place: probes go from point to point.
    offline_for: Option<String>,
}

#[derive(Debug)]
struct Probe {
    due: Instant,
    pause: Duration,
    /// Counts up: every probe tries another point, in case some are what makes the device silent.
    turn: usize,
}

#[derive(Debug)]
struct LineDown {
    until: Instant,
    pause: Duration,
    attempts: u32,
}

/// What the bus does next.
#[derive(Debug, Clone, Copy)]
enum Task {
    Poll(usize),
    Probe(usize),
}

/// Why a request has no good answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The bus is to stop.
    Stopping,
    /// The wire says why.
    Wire(WireError),
}

impl<W: Wire> Bus<W> {
    /// A bus that has asked nothing yet.
    pub fn new(layout: Layout, wire: W, pace: Pace) -> Self {
        let now = Instant::now();
        let mut poll_of = vec![0; layout.points.len()];
        for (index, poll) in layout.polls.iter().enumerate() {
            for point in poll.reads.iter().flat_map(|part| &part.read.points) {
                poll_of[*point] = index;
            }
        }
        Self {
            poll_of,
            extents: layout.points.iter().map(|point| point.extent).collect(),
            states: layout.devices.iter().map(|_| State::default()).collect(),
            due: vec![now; layout.polls.len()],
            layout,
            wire,
            pace,
            line: None,
            started: now,
            cancelled: CancellationToken::new(),
        }
    }

    /// What it reads and writes.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    async fn serve(mut self, mut handle: AdapterHandle) {
        self.cancelled = handle.cancellation();
        self.started = Instant::now();
        self.due.fill(self.started);
        let mut commands_ahead = 0;
        while !self.cancelled.is_cancelled() {
            let Some((due, task)) = self.next_task() else {
                return handle.cancelled().await;
            };
            if commands_ahead >= MAX_COMMANDS_AHEAD && due <= Instant::now() {
                commands_ahead = 0;
                self.perform(&mut handle, task).await;
                continue;
            }
            let cancelled = self.cancelled.clone();
            tokio::select! {
                biased;
                () = cancelled.cancelled() => {}
                command = handle.next_command() => {
                    commands_ahead += 1;
                    self.execute(&handle, command).await;
                }
                () = sleep_until(due) => {
                    commands_ahead = 0;
                    self.perform(&mut handle, task).await;
                }
            }
        }
    }

    /// The most overdue of polls and probes; an offline device is only probed.
    fn next_task(&self) -> Option<(Instant, Task)> {
        let polls = self.layout.polls.iter().zip(&self.due).enumerate();
        let polls = polls
            .filter(|(_, (poll, _))| self.states[poll.device].probe.is_none())
            .map(|(index, (_, due))| (*due, Task::Poll(index)));
        let probes = self.states.iter().enumerate();
        let probes = probes.filter_map(|(device, state)| Some((state.probe.as_ref()?.due, Task::Probe(device))));
        let (due, task) = polls.chain(probes).min_by_key(|(due, _)| *due)?;
        Some((self.line.as_ref().map_or(due, |line| due.max(line.until)), task))
    }

    async fn perform(&mut self, handle: &mut AdapterHandle, task: Task) {
        match task {
            Task::Poll(poll) => self.poll(handle, poll).await,
            Task::Probe(device) => self.probe(handle, device).await,
        }
    }

    async fn poll(&mut self, handle: &mut AdapterHandle, poll: usize) {
        let (device, every) = (self.layout.polls[poll].device, self.layout.polls[poll].every);
        let scheduled = self.due[poll];
        self.due[poll] = next_tick(scheduled, every, Instant::now());
        let mut open: VecDeque<TableRead> = std::mem::take(&mut self.layout.polls[poll].reads).into();
        let mut done = Vec::with_capacity(open.len());
        let mut object = Vec::new();
        let mut failed = None;
        while let Some(part) = open.pop_front() {
            match self.read(handle, device, &part, &mut open).await {
                Ok(Some((mut part, response))) => {
                    part.is_failing = false;
                    self.handle_good_answer(handle, device, part.read.points[0]);
                    self.publish(handle, &part, &response, &mut object);
                    done.push(part);
                }
                // It was split, and its parts come next.
                Ok(None) => {}
                Err((part, Failure::Stopping)) => {
                    done.push(part);
                    break;
                }
                Err((mut part, Failure::Wire(error))) => {
                    part.is_failing = true;
                    let reason = reason(&error, part.table, part.read.range);
                    let is_answered = is_answer_of_unit(&error);
                    if matches!(error, WireError::Unreachable { .. }) {
                        self.due[poll] = scheduled;
                    }
                    failed = Some((part.clone(), error, reason));
                    done.push(part);
                    if !is_answered {
                        // Whatever is left would only cost one more timeout each; next time it goes first.
                        break;
                    }
                }
            }
            self.execute_waiting(handle).await;
        }
        open.extend(done);
        self.layout.polls[poll].reads = open.into();
        self.publish_object(handle, device, object);
        if let Some((part, error, reason)) = failed
            && !matches!(error, WireError::Unreachable { .. })
        {
            self.due[poll] = self.due[poll].min(Instant::now() + every.min(LONGEST_RETRY));
            self.handle_failed_poll(handle, device, &part, &error, reason).await;
        }
    }

    /// Reads `part`, or what becomes of it: if it fails, it is tried in smaller parts before that counts, and what is
    /// left of them is put in front of `open`.
    async fn read(
        &mut self,
        handle: &AdapterHandle,
        device: usize,
        part: &TableRead,
        open: &mut VecDeque<TableRead>,
    ) -> Result<Option<(TableRead, Response)>, (TableRead, Failure)> {
        let is_first_failure = self.states[device].failures == 0 && !part.is_failing;
        let retries = if is_first_failure { self.pace.retries } else { 0 };
        let unit = self.layout.devices[device].unit;
        let failure = match self.request(handle, unit, &part.request(), retries, None).await {
            Ok(response) => return Ok(Some((part.clone(), response))),
            Err(failure) => failure,
        };
        let parts = plan::split(&part.read, &self.extents);
        let mut parts: VecDeque<TableRead> =
            parts.into_iter().map(|read: Read| TableRead::new(part.table, read)).collect();
        let Failure::Wire(error) = &failure else { return Err((part.clone(), failure)) };
        match error {
            WireError::Exception(Exception::ILLEGAL_ADDRESS | Exception::ILLEGAL_VALUE) if !parts.is_empty() => {
                while let Some(part) = parts.pop_back() {
                    open.push_front(part);
                }
                Ok(None)
            }
            // Some devices say nothing where an address does not exist. One part tells it from a dead unit.
            WireError::Timeout(_) if is_first_failure && !parts.is_empty() => {
                let Some(first) = parts.pop_front() else { return Err((part.clone(), failure)) };
                match self.request(handle, unit, &first.request(), 0, None).await {
                    Ok(response) => {
                        while let Some(part) = parts.pop_back() {
                            open.push_front(part);
                        }
                        Ok(Some((first, response)))
                    }
                    Err(Failure::Stopping) => Err((part.clone(), Failure::Stopping)),
                    Err(Failure::Wire(_)) => Err((part.clone(), failure)),
                }
            }
            _ => Err((part.clone(), failure)),
        }
    }

    /// One request, repeated where that may help.
    pub(super) async fn request(
        &mut self,
        handle: &AdapterHandle,
        unit: u8,
        request: &Request,
        retries: u8,
        deadline: Option<Instant>,
    ) -> Result<Response, Failure> {
        let mut left = retries;
        let mut earlier = None;
        loop {
            let cancelled = self.cancelled.clone();
            let answer = tokio::select! {
                biased;
                () = cancelled.cancelled() => return Err(Failure::Stopping),
                answer = self.wire.request(unit, request, deadline) => answer,
            };
            let error = match answer {
                Ok(response) => {
                    self.handle_open_line();
                    return Ok(response);
                }
                Err(error) => error,
            };
            tracing::debug!(bus = self.layout.name, unit, %error, "request failed");
            if let WireError::Unreachable { .. } = &error {
                self.handle_unreachable(handle, &error);
                return Err(Failure::Wire(error));
            }
            self.handle_open_line();
            let may_help = matches!(
                error,
                WireError::Timeout(_)
                    | WireError::Lost(_)
                    | WireError::Frame(_)
                    | WireError::Exception(Exception::BUSY)
            );
            if !may_help || left == 0 {
                // That a repetition came too late says less than what became of the first try.
                let error = if error == WireError::Late { earlier.unwrap_or(error) } else { error };
                return Err(Failure::Wire(error));
            }
            earlier = Some(error);
            left -= 1;
        }
    }

    async fn probe(&mut self, handle: &mut AdapterHandle, device: usize) {
        let Some(probe) = &mut self.states[device].probe else { return };
        probe.turn = probe.turn.wrapping_add(1);
        let turn = probe.turn;
        let points: Vec<usize> = (0..self.extents.len()).filter(|p| self.layout.points[*p].device == device).collect();
        let Some(&point) = points.get(turn % points.len().max(1)) else { return };
        let request = self.layout.points[point].request();
        match self.request(handle, self.layout.devices[device].unit, &request, 0, None).await {
            Ok(_) => {
                self.handle_good_answer(handle, device, point);
                let now = Instant::now();
                for (poll, due) in self.layout.polls.iter().zip(&mut self.due) {
                    if poll.device == device {
                        *due = now;
                    }
                }
            }
            Err(Failure::Wire(WireError::Unreachable { .. }) | Failure::Stopping) => {}
            Err(Failure::Wire(error)) => {
                if let Some(probe) = &mut self.states[device].probe {
                    // A unit that refuses is there: it costs no timeout.
                    if !is_answer_of_unit(&error) {
                        probe.pause = (probe.pause * 2).min(PROBE_PAUSE.1.max(probe.pause));
                    }
                    probe.due = Instant::now() + probe.pause;
                }
                let place = &self.layout.points[point];
                let reason = reason(&error, place.table, place.extent);
                self.report_offline(handle, device, &error, reason);
            }
        }
    }

    pub(super) fn handle_good_answer(&mut self, handle: &AdapterHandle, device: usize, point: usize) {
        let state = &mut self.states[device];
        state.failures = 0;
        state.last_good = Some(point);
        state.probe = None;
        if !state.is_online {
            state.is_online = true;
            state.logged = None;
            state.offline_for = None;
            // What was published before the outage is not news to compare with.
            for point in self.layout.points.iter_mut().filter(|point| point.device == device) {
                point.point.reset();
            }
            handle.report(&self.layout.devices[device].name, &Health::Online);
        }
    }

    async fn handle_failed_poll(
        &mut self,
        handle: &AdapterHandle,
        device: usize,
        part: &TableRead,
        error: &WireError,
        reason: String,
    ) {
        let name = self.layout.devices[device].name.clone();
        let state = &mut self.states[device];
        state.failures += 1;
        handle.count_error(&name);
        if state.is_online && state.logged.as_ref() != Some(&reason) {
            tracing::warn!(device = &*name, error = reason, "read failed");
            state.logged = Some(reason.clone());
        }
        if state.failures < self.pace.offline_after {
            return;
        }
        // Where one part of a device fails for good, another part may still answer.
        if let Some(point) = state.last_good.filter(|point| state.is_online && !part.read.points.contains(point)) {
            let request = self.layout.points[point].request();
            match self.request(handle, self.layout.devices[device].unit, &request, 0, None).await {
                Ok(_) => return self.handle_good_answer(handle, device, point),
                Err(Failure::Stopping | Failure::Wire(WireError::Unreachable { .. })) => return,
                Err(Failure::Wire(_)) => {}
            }
        }
        // Late answers to what was asked before should be over when it is asked something else.
        let pause = PROBE_PAUSE.0.max(self.pace.timeout * 2);
        let state = &mut self.states[device];
        state.is_online = false;
        state.probe = Some(Probe { due: Instant::now() + pause, pause, turn: 0 });
        self.report_offline(handle, device, error, reason);
    }

    /// Reports a device that does not answer well; the same error at another place is no news.
    fn report_offline(&mut self, handle: &AdapterHandle, device: usize, error: &WireError, reason: String) {
        let offline_for = Some(error.to_string());
        let state = &mut self.states[device];
        if state.offline_for != offline_for {
            state.offline_for = offline_for;
            handle.report(&self.layout.devices[device].name, &Health::Offline(reason));
        }
    }

    /// Without the wire nobody answers: that costs a try to open it now and then, and no timeouts.
    fn handle_unreachable(&mut self, handle: &AdapterHandle, error: &WireError) {
        let now = Instant::now();
        let line = self.line.get_or_insert(LineDown { until: now, pause: REOPEN_PAUSE.0 / 2, attempts: 0 });
        line.attempts = line.attempts.saturating_add(1);
        line.pause = (line.pause * 2).min(REOPEN_PAUSE.1);
        line.until = now + line.pause;
        for device in &self.layout.devices {
            handle.count_error(&device.name);
        }
        if line.attempts >= self.pace.offline_after {
            for (state, device) in self.states.iter_mut().zip(&self.layout.devices) {
                state.is_online = false;
                state.offline_for = Some(error.to_string());
                handle.report(&device.name, &Health::Offline(error.to_string()));
            }
        }
    }

    fn handle_open_line(&mut self) {
        if self.line.take().is_some() {
            let now = Instant::now();
            for probe in self.states.iter_mut().filter_map(|state| state.probe.as_mut()) {
                *probe = Probe { due: now, pause: PROBE_PAUSE.0.max(self.pace.timeout * 2), turn: probe.turn };
            }
        }
    }

    /// Publishes the points of one answer, together; those with `payload: object` are collected in `object`.
    pub(super) fn publish(
        &mut self,
        handle: &AdapterHandle,
        part: &TableRead,
        response: &Response,
        object: &mut Vec<(usize, Option<Value>)>,
    ) {
        let (sampled, now_ms) = (clock::sample(), self.started.elapsed().as_millis() as u64);
        let mut messages: Vec<Message> = Vec::with_capacity(part.read.points.len());
        for index in &part.read.points {
            let point = &mut self.layout.points[*index];
            let value = match point.decode(part.read.range.start, response) {
                Ok(value) => value,
                Err(error) => {
                    tracing::debug!(bus = self.layout.name, point = point.point.name(), %error, "no value");
                    continue;
                }
            };
            if *point.point.format() == PayloadFormat::Object {
                object.push((*index, value));
            } else {
                messages.extend(point.point.message(value, sampled, now_ms));
            }
        }
        handle.publish(&messages);
    }

    fn publish_object(&mut self, handle: &AdapterHandle, device: usize, mut values: Vec<(usize, Option<Value>)>) {
        if values.is_empty() {
            return;
        }
        // In the order of the file, whatever the order of the addresses.
        values.sort_by_key(|(index, _)| *index);
        let (sampled, now_ms) = (clock::sample(), self.started.elapsed().as_millis() as u64);
        let mut is_due = false;
        for (index, value) in &mut values {
            let (rounded, part_is_due) = self.layout.points[*index].point.part(value.take(), now_ms);
            *value = rounded;
            is_due |= part_is_due;
        }
        if !is_due {
            return;
        }
        let points = values.iter().map(|(index, value)| (self.layout.points[*index].point.name(), value.as_ref()));
        let message = self.layout.devices[device].whole.object(points, sampled);
        handle.publish(&[message]);
    }
}

impl<W: Wire> Adapter for Bus<W> {
    fn name(&self) -> &str {
        &self.layout.name
    }

    fn devices(&self) -> Vec<String> {
        self.layout.devices.iter().map(|device| device.name.to_string()).collect()
    }

    fn command_topics(&self) -> Vec<CommandTopic> {
        let writable = self.layout.points.iter().filter(|point| point.writing.is_some());
        let topic = |point: &super::layout::BusPoint| {
            Some(CommandTopic {
                topic: TopicName::new(&format!("{}/set", point.point.topic())).ok()?,
                device: self.layout.devices[point.device].name.to_string(),
                point: Some(point.point.name().to_owned()),
                timeout: self.pace.write_timeout,
            })
        };
        writable.filter_map(topic).collect()
    }

    fn published(&self) -> Vec<Published> {
        self.layout.published()
    }

    fn run(self: Box<Self>, handle: AdapterHandle) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.serve(handle))
    }
}

/// Ticks that were missed are left out; the rhythm stays.
fn next_tick(due: Instant, every: Duration, now: Instant) -> Instant {
    let behind = now.saturating_duration_since(due).as_nanos() % every.as_nanos().max(1);
    now + every - Duration::from_nanos(behind as u64)
}

/// Whether the unit itself said so: it is there, and asking it something else costs no timeout.
fn is_answer_of_unit(error: &WireError) -> bool {
    matches!(error, WireError::Exception(exception) if !exception.is_from_gateway())
}

fn reason(error: &WireError, table: Table, range: Extent) -> String {
    match error {
        WireError::Exception(exception) if !exception.is_from_gateway() => match range.count {
            1 => format!("{exception} at {table} {}", range.start),
            _ => format!("{exception} at {table} {} to {}", range.start, range.end() - 1),
        },
        other => other.to_string(),
    }
}
