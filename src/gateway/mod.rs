//! The gateway: builds everything from a configuration, watches over it, and stops it in order.
//!
//! ```text
//! start: sockets, journal, sessions of bridges, adapters (their devices `offline`), `$SYS`, then listeners accept
//! stop:  listeners, adapters, bridges (what is in flight, `offline`), clients (DISCONNECT 0x8B), journal
//! ```

mod devices;
mod listen;
mod storage;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use listen::ListenError;
pub use storage::StorageError;

use crate::adapters::http::Webhooks;
use crate::admin::Admin;
use crate::bridge::Bridge;
use crate::broker::access::Accesses;
use crate::broker::access::hash::NoRandomness;
use crate::broker::listener::Entrance;
use crate::broker::settings::Listener;
use crate::broker::socket::{self, Listening};
use crate::broker::{Broker, sys_topics};
use crate::clock;
use crate::config::Configuration;
use crate::health::HealthTable;
use crate::mqtt::{MessageBuilder, QoS, TopicName};
use crate::net::server_tls::ServerTls;
use crate::settings::Secret;
use crate::store::Statistics;
use listen::SocketFile;
use storage::Opened;

/// Between two looks whether certificates were replaced.
const CERTIFICATE_CHECKS: Duration = Duration::from_secs(2);
/// How long adapters and bridges get to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket cannot be opened.
    #[error("cannot listen: {0}")]
    Listen(ListenError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Passwords cannot be checked.
    #[error("cannot check passwords: {0}")]
    Passwords(#[from] NoRandomness),
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    broker: Arc<Broker>,
    addresses: Vec<std::net::SocketAddr>,
    /// The files of Unix sockets, which go with the gateway.
    socket_files: Vec<SocketFile>,
    adapters: TaskTracker,
    bridges: TaskTracker,
    health: Arc<HealthTable>,
    admin: TaskTracker,
    admin_address: Option<std::net::SocketAddr>,
    stop_adapters: CancellationToken,
    stop_bridges: CancellationToken,
    stop_admin: CancellationToken,
}

impl Gateway {
    /// Starts what `configuration` describes on the current runtime.
    ///
    /// # Errors
    /// Where a socket cannot be opened; nothing runs then.
    pub async fn start(configuration: Configuration) -> Result<Self, StartError> {
        let Configuration { settings, resolved, .. } = configuration;
        clock::set_trust(settings.gateway.clock);
        let (mut opened, mut socket_files) = (Vec::new(), Vec::new());
        for listener in &resolved.listeners {
            let (sockets, file) = listen::open(listener).await.map_err(StartError::Listen)?;
            opened.push((listener, sockets));
            socket_files.extend(file);
        }
        let sockets = opened.iter().flat_map(|(_, sockets)| sockets);
        let addresses = sockets.filter_map(Listening::local_address).collect();

        let mut adapters = resolved.adapters.adapters;
        if let Some((host, port)) = resolved.webhooks.filter(|_| !resolved.adapters.hooks.is_empty()) {
            let mut opened = listen::bind(&host, port).await.map_err(StartError::Listen)?;
            if let Some(listener) = opened.pop() {
                adapters.push(Box::new(Webhooks::new(listener, resolved.adapters.hooks)));
            }
        }

        let admin = match &resolved.admin {
            Some(admin) => listen::bind(&admin.host, admin.port).await.map_err(StartError::Listen)?.pop(),
            None => None,
        };

        let entrances = entrances(&resolved.listeners)?;
        let health = Arc::<HealthTable>::default();
        // Last of all that may be refused: nothing has to be undone.
        let Opened { journal, restored, statistics } = storage::open(&resolved.storage, &health).await?;
        let broker = Broker::start(settings.broker.limits(), journal);
        broker.budget().set(resolved.storage.limit, resolved.storage.when_full);
        broker.restore(restored).map_err(StorageError::Restore)?;
        let gateway = Self {
            broker,
            addresses,
            socket_files,
            adapters: TaskTracker::new(),
            bridges: TaskTracker::new(),
            health,
            admin: TaskTracker::new(),
            admin_address: admin.as_ref().and_then(|listener| listener.local_addr().ok()),
            stop_adapters: CancellationToken::new(),
            stop_bridges: CancellationToken::new(),
            stop_admin: CancellationToken::new(),
        };
        // Bridges first, so that nothing is published before it is routed.
        let bridges: Vec<Bridge> = resolved
            .bridges
            .into_iter()
            .map(|plan| Bridge::new(plan, &gateway.broker, &gateway.health))
            .collect::<Result<_, _>>()
            .map_err(StorageError::Restore)?;
        gateway.broker.end_restoring();
        gateway.publish_status(&resolved.gateway);
        gateway.start_adapters(&resolved.gateway, adapters);
        for bridge in bridges {
            gateway.bridges.spawn(bridge.run(gateway.stop_bridges.clone()));
        }
        sys_topics::start(
            &gateway.broker,
            Arc::clone(&gateway.health),
            statistics.clone(),
            settings.broker.sys_interval(),
        );
        if let Some(listener) = admin {
            gateway.serve_admin(listener, statistics, resolved.admin.and_then(|admin| admin.password));
        }
        gateway.watch_certificates(&resolved.listeners);
        for ((listener, sockets), entrance) in opened.into_iter().zip(entrances) {
            for socket in sockets {
                let url = socket.local_address().map_or_else(|| listener.to_string(), |address| listener.at(address));
                tracing::info!(url, "listening");
                socket::serve(&gateway.broker, socket, listen::layers(listener), Arc::clone(&entrance));
            }
        }
        Ok(gateway)
    }

    /// The broker inside.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// The TCP addresses that the broker listens on, with the ports that it got.
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        &self.addresses
    }

    /// The address that `/healthz` and `/metrics` are served at, with the port that it got.
    pub fn admin_address(&self) -> Option<std::net::SocketAddr> {
        self.admin_address
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
        self.stop_admin.cancel();
        wait(&self.admin, "admin").await;
        if !storage::close(self.broker.router.journal(), GRACE).await {
            let error = self.health.store().failure().unwrap_or_else(|| "it takes too long".into());
            tracing::error!(%error, "not everything could be written; nothing of it had been acknowledged");
        }
        drop(self.socket_files);
        tracing::info!("stopped");
    }

    /// Serves `/healthz` and `/metrics`.
    fn serve_admin(&self, listener: TcpListener, statistics: Option<Arc<Statistics>>, password: Option<Secret>) {
        if let Some(address) = self.admin_address {
            tracing::info!(url = %format_args!("http://{address}"), "serving /healthz and /metrics");
        }
        let (broker, health) = (Arc::clone(&self.broker), Arc::clone(&self.health));
        let admin = Admin { broker, health, statistics, password, started: Instant::now() };
        self.admin.spawn(admin.serve(listener, self.stop_admin.clone()));
    }

    /// Has new certificates taken without a restart.
    fn watch_certificates(&self, listeners: &[Listener]) {
        let mut watched: Vec<&Arc<ServerTls>> = Vec::new();
        for tls in listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
            if watched.iter().any(|other| Arc::ptr_eq(tls, other)) {
                continue;
            }
            watched.push(tls);
            let (watch, stopping) = (Arc::clone(tls).watch(CERTIFICATE_CHECKS), self.broker.cancellation().clone());
            self.broker.tasks().spawn(async move {
                tokio::select! {
                    () = stopping.cancelled() => {}
                    () = watch => {}
                }
            });
        }
    }

    /// `{gateway}/status`, retained: `online` after every start. Bridges say `offline` when it ends.
    fn publish_status(&self, gateway: &str) {
        if let Ok(topic) = TopicName::new(&format!("{gateway}/status")) {
            let online = MessageBuilder::new(&topic, b"online").qos(QoS::AtLeastOnce).retain(true).build();
            self.broker.router.publish_all(&[online], clock::now());
        }
    }
}

/// The rules of each listener. Those that have none of their own share one, and so its counts.
fn entrances(listeners: &[Listener]) -> Result<Vec<Arc<Entrance>>, NoRandomness> {
    let mut accesses = Accesses::default();
    let mut shared: Option<Arc<Entrance>> = None;
    let new = |accesses: &mut Accesses, listener: &Listener| {
        Ok(Entrance::new(accesses.of(listener.rules.clone())?, listener.limits.clone()))
    };
    let entrance = |listener: &Listener| match &shared {
        _ if listener.has_own_rules => new(&mut accesses, listener),
        Some(entrance) => Ok(Arc::clone(entrance)),
        None => Ok(Arc::clone(shared.insert(new(&mut accesses, listener)?))),
    };
    listeners.iter().map(entrance).collect()
}

async fn wait(tasks: &TaskTracker, what: &'static str) {
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!(what, count = tasks.len(), "some tasks are left behind");
    }
}
