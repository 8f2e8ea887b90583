//! Watches a broker as any MQTT client does: subscribes to all below a topic and tells what comes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use super::scene::{Event, Seen, Where};
use crate::client::{Address, Client, ClientError, ClientEvent};
use crate::mqtt::connection::ConnectOptions;
use crate::mqtt::packet::SubscriptionOptions;
use crate::mqtt::{QoS, TopicFilter};

/// Before connecting again, should the link ever be lost.
const PAUSE: Duration = Duration::from_millis(500);

/// A client that has subscribed.
#[derive(Debug)]
pub struct Observer {
    client: Client,
    filters: Vec<(TopicFilter, SubscriptionOptions)>,
    of: Where,
}

impl Observer {
    /// Connects to the broker at `address` and subscribes to `filter`.
    ///
    /// # Errors
    /// Where the broker does not take it.
    pub async fn connect(of: Where, address: SocketAddr, filter: &TopicFilter) -> Result<Self, ClientError> {
        let address = Address { host: address.ip().to_string(), port: address.port() };
        // QoS 2, so that each message comes with the QoS that it was published with.
        let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() };
        let filters = vec![(filter.clone(), options)];
        let client = Client::new(address, ConnectOptions::new("edgeway-demo"));
        let mut observer = Self { client, filters, of };
        observer.subscribe().await?;
        Ok(observer)
    }

    /// Tells what comes, until nobody listens.
    pub async fn watch(mut self, events: mpsc::Sender<Event>) {
        loop {
            match self.client.next().await {
                Ok(ClientEvent::Message(delivery)) => {
                    let seen = Seen::new(self.of, &delivery.message);
                    // Where the screen is slow, the broker's queue waits.
                    if events.send(Event::Seen(seen)).await.is_err() {
                        return;
                    }
                }
                Ok(ClientEvent::Settled { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "the demo's own client lost its broker");
                    tokio::time::sleep(PAUSE).await;
                    let _ = self.subscribe().await;
                }
            }
        }
    }

    async fn subscribe(&mut self) -> Result<(), ClientError> {
        self.client.connect().await?;
        self.client.subscribe(&self.filters).await.map(drop)
    }
}
