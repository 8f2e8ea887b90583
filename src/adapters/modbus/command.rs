//! Writing: a command becomes one request that goes ahead of the polls, is answered in time, and is read back.

use tokio::time::Instant;

use super::bus::{Bus, Failure, MAX_COMMANDS_AHEAD};
use super::layout::TableRead;
use super::plan::Read;
use super::wire::{Wire, WireError};
use crate::adapters::{AdapterHandle, Command, Outcome};
use crate::mapping::PayloadFormat;

impl<W: Wire> Bus<W> {
    /// Executes the commands that wait, so many that polls still have their turn.
    pub(super) async fn execute_waiting(&mut self, handle: &mut AdapterHandle) {
        for _ in 0..MAX_COMMANDS_AHEAD {
            let command = tokio::select! {
                biased;
                command = handle.next_command() => command,
                () = std::future::ready(()) => return,
            };
            self.execute(handle, command).await;
        }
    }

    /// Writes, answers, and reads back what was written.
    pub(super) async fn execute(&mut self, handle: &AdapterHandle, command: Command) {
        let named = |index: &usize| {
            let point = &self.layout.points[*index];
            *self.layout.devices[point.device].name == *command.device
                && command.point.as_deref() == Some(point.point.name())
        };
        let Some(index) = (0..self.layout.points.len()).find(named) else {
            return command.answer(&Outcome::Refused("there is no such point".into()));
        };
        let outcome = self.write(handle, index, &command).await;
        let is_done = outcome == Outcome::Done;
        command.answer(&outcome);
        if is_done {
            self.read_back(handle, index).await;
        }
    }

    async fn write(&mut self, handle: &AdapterHandle, index: usize, command: &Command) -> Outcome {
        let point = &self.layout.points[index];
        let request = match point.write_request(&command.value) {
            None => return Outcome::Refused("this point is not written".into()),
            Some(Err(error)) => return Outcome::Refused(error.to_string()),
            Some(Ok(request)) => request,
        };
        if command.is_late() {
            return Outcome::Failed("it waited too long".into());
        }
        let unit = self.layout.devices[point.device].unit;
        match self.request(handle, unit, &request, self.pace.retries, Some(command.deadline())).await {
            Ok(_) => Outcome::Done,
            Err(Failure::Stopping) => Outcome::Failed("the gateway is stopping".into()),
            Err(Failure::Wire(WireError::Late)) => Outcome::Failed("there was no time left".into()),
            Err(Failure::Wire(error)) => Outcome::Failed(error.to_string()),
        }
    }

    async fn read_back(&mut self, handle: &AdapterHandle, index: usize) {
        let point = &mut self.layout.points[index];
        // It is published even if it is what it was.
        point.point.reset();
        let device = point.device;
        if *point.point.format() == PayloadFormat::Object {
            // The whole object is read anew.
            self.due[self.poll_of[index]] = Instant::now();
            return;
        }
        let read = Read { range: point.extent, points: vec![index] };
        let part = TableRead::new(point.table, read);
        let unit = self.layout.devices[device].unit;
        // If it cannot be read now, the next poll tells.
        if let Ok(response) = self.request(handle, unit, &part.request(), 0, None).await {
            self.handle_good_answer(handle, device, index);
            self.publish(handle, &part, &response, &mut Vec::new());
        }
    }
}
