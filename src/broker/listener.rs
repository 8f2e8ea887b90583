//! What a listener asks of those who come in by it: its rules, its limits, and a place for each connection.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::access::Access;
use super::link::Standing;
use super::{Broker, Limits, link};
use crate::mqtt::ReasonCode;
use crate::net::Transport;

/// Connections beyond the limit that are told so; more are closed without a word.
const MAX_TURNED_AWAY: usize = 16;

/// The rules of one listener, and who has come in by it.
#[derive(Debug)]
pub struct Entrance {
    /// Who may connect.
    pub access: Access,
    /// What each of them is allowed.
    pub limits: Limits,
    connected: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, u32>>,
}

/// A connection below MQTT, after the handshakes of TLS and WebSocket.
#[derive(Debug)]
pub struct Arrival {
    /// The connection.
    pub transport: Transport,
    /// The user that its certificate names.
    pub user: Option<Arc<str>>,
    /// Whether it counts as from another machine though it came from this one: a web page of elsewhere has asked for it.
    pub is_foreign: bool,
}

/// The place that a connection takes; it is given back when this is dropped.
#[derive(Debug)]
struct Place {
    broker: Arc<Broker>,
    entrance: Arc<Entrance>,
    address: Option<IpAddr>,
}

impl Entrance {
    /// The rules of a listener.
    pub fn new(access: Access, limits: Limits) -> Arc<Self> {
        Arc::new(Self { access, limits, connected: AtomicUsize::new(0), by_address: Mutex::default() })
    }

    /// Counts a connection from `address`, where it keeps count of addresses. `false` where there are too many.
    fn enter(&self, address: Option<IpAddr>) -> bool {
        let (Some(limit), Some(address)) = (self.limits.connections_per_address, address) else {
            return true;
        };
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_default();
        *count += 1;
        *count <= limit
    }

    fn leave(&self, address: Option<IpAddr>) {
        let (Some(_), Some(address)) = (self.limits.connections_per_address, address) else {
            return;
        };
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}

impl From<Transport> for Arrival {
    fn from(transport: Transport) -> Self {
        Self { transport, user: None, is_foreign: false }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.broker.connected.fetch_sub(1, Ordering::Relaxed);
        self.entrance.connected.fetch_sub(1, Ordering::Relaxed);
        self.entrance.leave(self.address);
    }
}

impl Broker {
    /// Takes a connection that needs no handshake below MQTT; see [`Broker::accept`].
    pub fn accept_transport(self: &Arc<Self>, transport: Transport, address: Option<IpAddr>, entrance: &Arc<Entrance>) {
        self.accept(address, entrance, std::future::ready(Ok(transport.into())));
    }

    /// Takes a connection from `address` by the rules of `entrance`. `handshake` makes its transport, in a task of its
    /// own; it and CONNECT together have the connect timeout. Where there are too many connections it is told so and
    /// closed, and at once where too many wait for that.
    pub fn accept(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        entrance: &Arc<Entrance>,
        handshake: impl Future<Output = io::Result<Arrival>> + Send + 'static,
    ) {
        if self.cancellation().is_cancelled() {
            return;
        }
        let place = Place { broker: Arc::clone(self), entrance: Arc::clone(entrance), address };
        let everywhere = self.connected.fetch_add(1, Ordering::Relaxed);
        let here = entrance.connected.fetch_add(1, Ordering::Relaxed);
        let too_many_of_address = !entrance.enter(address);
        let over =
            everywhere.saturating_sub(self.limits().connections).max(here.saturating_sub(entrance.limits.connections));
        let is_full = everywhere >= self.limits().connections || here >= entrance.limits.connections;
        let from = address.map(tracing::field::display);
        if over >= MAX_TURNED_AWAY {
            tracing::debug!(from, "too many connections; closed without a word");
            return;
        }
        let standing = if is_full {
            tracing::warn!(from, limit = entrance.limits.connections, "too many connections");
            Standing::TurnedAway(ReasonCode::QuotaExceeded)
        } else if too_many_of_address {
            let limit = entrance.limits.connections_per_address;
            tracing::warn!(from, limit, "too many connections from one address");
            Standing::TurnedAway(ReasonCode::QuotaExceeded)
        } else {
            self.metrics.connections.add(1);
            Standing::Welcome
        };
        let entering = Box::pin(link::enter(Arc::clone(self), Arc::clone(entrance), address, standing, handshake));
        self.tasks().spawn(async move {
            let end = link::drive(entering).await;
            drop(place);
            if let link::End::Protocol(error) = end {
                tracing::info!(%error, reason = %error.reason, "client disconnected for what it sent");
            }
        });
    }
}
