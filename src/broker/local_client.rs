//! Clients inside the process: adapters publish and take commands through the router, without a connection.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Broker;
use super::delivery::{Delivery, DeliveryQoS, RetainRule};
use super::session_slot::{SessionSlot, Turn};
use crate::clock;
use crate::mqtt::{Message, QoS, TopicFilter};
use crate::store::{Batch, SessionKind};

/// A client inside the process.
#[derive(Debug)]
pub struct LocalClient {
    broker: Arc<Broker>,
    slot: Arc<SessionSlot>,
}

impl LocalClient {
    /// A client called `name`, and the queue of what it subscribes to: `capacity` messages; what does not fit is
    /// dropped and counted.
    pub fn new(broker: &Arc<Broker>, name: &str, capacity: usize) -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let slot = broker.new_slot(name.into(), SessionKind::Client);
        slot.attach_local(sender);
        (Self { broker: Arc::clone(broker), slot }, receiver)
    }

    /// Subscribes; what is retained is delivered at once, with RETAIN. Live messages keep the RETAIN that they were
    /// published with, so that nobody takes a stored command for a fresh one.
    pub fn subscribe(&self, filter: &TopicFilter) {
        let delivery = Arc::new(Delivery {
            qos: DeliveryQoS::AtMost(QoS::ExactlyOnce),
            retain: RetainRule::AsPublished,
            no_local: true,
            identifiers: Vec::new(),
            readable: None,
            share: None,
            route: None,
        });
        let router = &self.broker.router;
        router.subscribe(&self.slot, filter, Arc::clone(&delivery));
        let mut batch = Batch::default();
        let mut turn = Turn { now: clock::now(), batch: &mut batch };
        router.deliver_retained(&self.slot, filter.as_str(), &mut None, &delivery, &mut turn, |_| true);
        router.finish(&mut batch);
    }

    /// Publishes, in this order.
    pub fn publish(&self, messages: &[Message]) {
        self.broker.router.publish_all(messages, clock::now());
    }
}

impl Drop for LocalClient {
    fn drop(&mut self) {
        self.broker.router.unsubscribe_all(&self.slot);
    }
}
