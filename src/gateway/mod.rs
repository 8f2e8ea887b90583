//! The gateway: builds everything from a configuration, watches over it, and stops it in order.
//!
//! ```text
//! start: sockets, sessions of bridges, adapters (their devices `offline`), `$SYS`, then listeners accept
//! stop:  listeners, adapters, bridges (what is in flight, `offline`), clients (DISCONNECT 0x8B)
//! ```

mod devices;
mod listen;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use listen::ListenError;

use crate::adapters::http::Webhooks;
use crate::bridge::Bridge;
use crate::broker::{Broker, Limits, clock, listener, sys_topics};
use crate::config::Configuration;
use crate::health::HealthTable;
use crate::mqtt::{MessageBuilder, QoS, TopicName};
use crate::store::Journal;

/// How long adapters and bridges get to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket cannot be opened.
    #[error("cannot listen: {0}")]
    Listen(ListenError),
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    broker: Arc<Broker>,
    addresses: Vec<std::net::SocketAddr>,
    adapters: TaskTracker,
    bridges: TaskTracker,
    health: Arc<HealthTable>,
    stop_adapters: CancellationToken,
    stop_bridges: CancellationToken,
}

impl Gateway {
    /// Starts what `configuration` describes on the current runtime.
    ///
    /// # Errors
    /// Where a socket cannot be opened; nothing runs then.
    pub async fn start(configuration: Configuration) -> Result<Self, StartError> {
        let Configuration { settings, resolved, .. } = configuration;
        let mut listeners = Vec::new();
        for wanted in &resolved.listeners {
            listeners.extend(listen::bind(&wanted.host, wanted.port).await.map_err(StartError::Listen)?);
        }
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();

        let mut adapters = resolved.adapters.adapters;
        if let Some((host, port)) = resolved.webhooks.filter(|_| !resolved.adapters.hooks.is_empty()) {
            let mut opened = listen::bind(&host, port).await.map_err(StartError::Listen)?;
            if let Some(listener) = opened.pop() {
                adapters.push(Box::new(Webhooks::new(listener, resolved.adapters.hooks)));
            }
        }

        let broker = Broker::start(settings.broker.limits.over(&Limits::default()), Arc::new(Journal::in_memory()));
        let gateway = Self {
            broker,
            addresses,
            adapters: TaskTracker::new(),
            bridges: TaskTracker::new(),
            health: Arc::default(),
            stop_adapters: CancellationToken::new(),
            stop_bridges: CancellationToken::new(),
        };
        // Bridges first, so that nothing is published before it is routed.
        let bridges: Vec<Bridge> =
            resolved.bridges.into_iter().map(|plan| Bridge::new(plan, &gateway.broker, &gateway.health)).collect();
        gateway.publish_status(&resolved.gateway);
        gateway.start_adapters(&resolved.gateway, adapters);
        for bridge in bridges {
            gateway.bridges.spawn(bridge.run(gateway.stop_bridges.clone()));
        }
        sys_topics::start(&gateway.broker, Arc::clone(&gateway.health), settings.broker.sys_interval());
        for listener in listeners {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "listening");
            }
            listener::serve(&gateway.broker, listener, Arc::clone(gateway.broker.entrance()));
        }
        Ok(gateway)
    }

    /// The broker inside.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// The addresses that the broker listens on, with the ports that it got.
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        &self.addresses
    }

    /// Stops in order. What does not stop within a few seconds is left behind, and named in the log.
    pub async fn stop(self) {
        tracing::info!("stopping");
        self.broker.cancellation().cancel();
        self.stop_adapters.cancel();
        wait(&self.adapters, "adapters").await;
        self.stop_bridges.cancel();
        wait(&self.bridges, "bridges").await;
        if tokio::time::timeout(GRACE, self.broker.stop()).await.is_err() {
            tracing::warn!(clients = self.broker.tasks().len(), "some clients are left behind");
        }
        tracing::info!("stopped");
    }

    /// `{gateway}/status`, retained: `online` after every start. Bridges say `offline` when it ends.
    fn publish_status(&self, gateway: &str) {
        if let Ok(topic) = TopicName::new(&format!("{gateway}/status")) {
            let online = MessageBuilder::new(&topic, b"online").qos(QoS::AtLeastOnce).retain(true).build();
            self.broker.router.publish_all(&[online], clock::now());
        }
    }
}

async fn wait(tasks: &TaskTracker, what: &'static str) {
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!(what, count = tasks.len(), "some tasks are left behind");
    }
}
