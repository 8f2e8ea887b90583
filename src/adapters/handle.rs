//! The one handle by which an adapter sees the gateway.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::command::{Command, CommandGate, CommandTopic};
use crate::health::DeviceHealth;
use crate::mqtt::{Message, MessageBuilder, QoS, TopicName};

/// Where messages of adapters go: the gateway supplies the broker, tests a recorder.
pub trait Publish: Send + Sync + 'static {
    /// Publishes all of `messages`, in their order. It never waits: bounds are those of the queues behind.
    fn publish(&self, messages: &[Message]);
}

/// Whether a device answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It answered.
    Online,
    /// It does not; the reason, as a lowercase fragment such as `timeout after 500 ms`.
    Offline(String),
}

/// What an adapter may do: publish, take commands, report health, learn when to stop.
///
/// Statuses are retained on `{gateway}/{device}/status`, reasons on `{gateway}/{device}/error`.
pub struct AdapterHandle {
    gateway: Arc<str>,
    publish: Arc<dyn Publish>,
    commands: mpsc::Receiver<Message>,
    gate: CommandGate,
    cancelled: CancellationToken,
    health: Arc<Mutex<HashMap<String, Health>>>,
    devices: Vec<Arc<DeviceHealth>>,
}

impl fmt::Debug for AdapterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdapterHandle").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl AdapterHandle {
    /// A handle for an adapter that takes commands on `topics`; the messages on them arrive by `commands`,
    /// a bounded queue whose sender drops what does not fit.
    pub fn new(
        gateway: Arc<str>,
        publish: Arc<dyn Publish>,
        topics: Vec<CommandTopic>,
        commands: mpsc::Receiver<Message>,
        cancelled: CancellationToken,
    ) -> Self {
        Self {
            gateway,
            publish,
            commands,
            gate: CommandGate::new(topics),
            cancelled,
            health: Arc::default(),
            devices: Vec::new(),
        }
    }

    /// Keeps the entries of its `devices` in the table of the gateway's health.
    pub fn with_devices(self, devices: Vec<Arc<DeviceHealth>>) -> Self {
        Self { devices, ..self }
    }

    /// Name of the gateway, the first level of its topics.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Publishes a read batch.
    pub fn publish(&self, messages: &[Message]) {
        if !messages.is_empty() {
            for same in messages.chunk_by(|a, b| device_of(a) == device_of(b)) {
                if let Some(health) = device_of(&same[0]).and_then(|name| self.device(name)) {
                    health.add_readings(same.len() as u64);
                }
            }
            self.publish.publish(messages);
        }
    }

    /// Notes that reading `device` failed once, whether or not it is offline for that.
    pub fn count_error(&self, device: &str) {
        if let Some(health) = self.device(device) {
            health.add_error();
        }
    }

    fn device(&self, name: &str) -> Option<&Arc<DeviceHealth>> {
        self.devices.iter().find(|health| health.name() == name)
    }

    /// The next command that may be executed. Retained, repeated and malformed ones have been refused already,
    /// and what is no longer in time is [`Command::is_late`].
    ///
    /// Cancel-safe. It waits for ever where no commands are taken.
    pub async fn next_command(&mut self) -> Command {
        loop {
            let Some(message) = self.commands.recv().await else {
                return std::future::pending().await;
            };
            if let Some(command) = self.gate.admit(&message, &self.publish) {
                return command;
            }
        }
    }

    /// Reports whether `device` answers; what did not change is not published again.
    pub fn report(&self, device: &str, health: &Health) {
        let previous =
            self.health.lock().unwrap_or_else(PoisonError::into_inner).insert(device.to_owned(), health.clone());
        if previous.as_ref() == Some(health) {
            return;
        }
        if let Some(entry) = self.device(device) {
            match health {
                Health::Online => entry.online(),
                Health::Offline(error) => entry.offline(error),
            }
        }
        let was_offline = matches!(previous, Some(Health::Offline(_)));
        match health {
            Health::Online => tracing::info!(device, "device online"),
            Health::Offline(error) if was_offline => tracing::debug!(device, error, "device offline"),
            Health::Offline(error) => tracing::warn!(device, error, "device offline"),
        }
        let mut messages = status_messages(&self.gateway, device, health);
        if was_offline && matches!(health, Health::Offline(_)) {
            // Another reason alone is no news of the status.
            messages.truncate(1);
        }
        self.publish(&messages);
    }

    /// Completes when the adapter is to stop.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// The token behind [`AdapterHandle::cancelled`].
    pub fn cancellation(&self) -> CancellationToken {
        self.cancelled.clone()
    }
}

/// The device that a message is a reading of.
fn device_of(message: &Message) -> Option<&str> {
    message.reading.as_ref().map(|reading| &*reading.device)
}

/// The retained messages that tell the world whether `device` answers.
pub fn status_messages(gateway: &str, device: &str, health: &Health) -> Vec<Message> {
    let (status, error) = match health {
        Health::Online => ("online", ""),
        Health::Offline(error) => ("offline", error.as_str()),
    };
    let message = |suffix: &str, payload: &str| {
        let topic = TopicName::new(&format!("{gateway}/{device}/{suffix}")).ok()?;
        Some(MessageBuilder::new(&topic, payload.as_bytes()).qos(QoS::AtLeastOnce).retain(true).build())
    };
    // An empty retained payload clears the error of a device that answers again.
    [message("error", error), message("status", status)].into_iter().flatten().collect()
}

/// A [`Publish`] that remembers what was published, for tests of adapters.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct Recorder {
    messages: Mutex<Vec<Message>>,
    arrived: tokio::sync::Notify,
}

#[cfg(test)]
impl Publish for Recorder {
    fn publish(&self, messages: &[Message]) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(messages);
        self.arrived.notify_waiters();
    }
}

#[cfg(test)]
impl Recorder {
    /// Topics and payloads so far, payloads as text.
    pub fn published(&self) -> Vec<(String, String)> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.iter().map(|m| (m.topic().to_owned(), String::from_utf8_lossy(m.payload()).into_owned())).collect()
    }

    /// The messages so far.
    pub fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `found` says so of what has been published.
    ///
    /// # Panics
    /// When that does not come; the message tells what was published last.
    pub async fn until(&self, mut found: impl FnMut(&[(String, String)]) -> bool) {
        let waiting = async {
            loop {
                let arrived = self.arrived.notified();
                if found(&self.published()) {
                    return;
                }
                arrived.await;
            }
        };
        super::patience::within(waiting, || {
            let published = self.published();
            format!("{} published, at last {:?}", published.len(), published.iter().rev().take(10).collect::<Vec<_>>())
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::HealthTable;
    use crate::mqtt::{Quality, Reading, Sampled};

    #[test]
    fn the_health_of_each_device_is_that_of_its_reports_and_readings() {
        let table = HealthTable::default();
        let (_sender, commands) = mpsc::channel(1);
        let recorder = Arc::new(Recorder::default());
        let handle =
            AdapterHandle::new("edge".into(), recorder.clone(), Vec::new(), commands, CancellationToken::new())
                .with_devices(vec![table.device("a"), table.device("b")]);
        let reading = |device: &str| {
            let reading = Reading {
                sampled: Sampled::at(0),
                unit: None,
                quality: Quality::Good,
                device: device.into(),
                point: None,
                form: Default::default(),
            };
            MessageBuilder::new(&TopicName::new("t").unwrap(), b"1").reading(Arc::new(reading)).build()
        };
        handle.publish(&["a", "b", "b", "a", "nobody"].map(reading));
        handle.publish(&[reading("b")]);
        handle.report("a", &Health::Online);
        handle.report("a", &Health::Offline("timeout".into()));
        handle.report("b", &Health::Online);
        handle.count_error("a");
        handle.count_error("nobody");
        let seen: Vec<_> = table
            .devices()
            .iter()
            .map(|device| (device.is_online(), device.error(), device.readings(), device.errors()))
            .collect();
        assert_eq!(seen, [(false, Some("timeout".into()), 2, 1), (true, None, 3, 0)]);
    }
}
