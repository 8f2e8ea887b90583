//! Starting adapters: each gets a handle over the broker, and its devices are `offline` until their first good answer.

use std::sync::Arc;

use super::Gateway;
use crate::adapters::handle::status_messages;
use crate::adapters::{Adapter, AdapterHandle, Health, Publish};
use crate::broker::LocalClient;
use crate::mqtt::{Message, TopicFilter};

/// Commands that may wait for one adapter; a wire that does not keep up should not be sent old ones.
const COMMAND_QUEUE: usize = 64;

/// What is wrong with a device before it has answered.
const STARTING: &str = "starting";

/// The broker as adapters see it.
struct ToBroker(LocalClient);

impl Publish for ToBroker {
    fn publish(&self, messages: &[Message]) {
        self.0.publish(messages);
    }
}

impl Gateway {
    /// Starts `adapters`, each in a task of its own.
    pub(super) fn start_adapters(&self, gateway: &str, adapters: Vec<Box<dyn Adapter>>) {
        let gateway: Arc<str> = gateway.into();
        for adapter in adapters {
            let name = adapter.name().to_owned();
            let (client, commands) = LocalClient::new(&self.broker, &name, COMMAND_QUEUE);
            let starting = Health::Offline(STARTING.into());
            let mut devices = Vec::new();
            for device in adapter.devices() {
                client.publish(&status_messages(&gateway, &device, &starting));
                let health = self.health.device(&device);
                health.offline(STARTING);
                devices.push(health);
            }
            let topics = adapter.command_topics();
            for topic in &topics {
                // A topic name is a filter that matches itself.
                if let Ok(filter) = TopicFilter::new(topic.topic.as_str()) {
                    client.subscribe(&filter);
                }
            }
            let handle = AdapterHandle::new(
                Arc::clone(&gateway),
                Arc::new(ToBroker(client)),
                topics,
                commands,
                self.stop_adapters.child_token(),
            )
            .with_devices(devices);
            let task = self.adapters.spawn(adapter.run(handle));
            let stopping = self.stop_adapters.clone();
            self.adapters.spawn(async move {
                let outcome = task.await;
                if !stopping.is_cancelled() {
                    tracing::error!(adapter = name, ?outcome, "an adapter ended by itself; its devices are not read");
                }
            });
        }
    }
}
