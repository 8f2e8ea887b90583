//! Listeners: accept connections, and go on accepting whatever happens.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};

use super::{Broker, link};
use crate::net::Transport;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Pause after accepting failed, which is mostly because file descriptors ran out.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(200);

/// Opens a listening socket whose connections send small packets at once.
///
/// # Errors
/// Where the address is taken or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it on Linux; without it acknowledgements wait for one another.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections for `broker` until it stops.
pub fn serve(broker: &Arc<Broker>, listener: TcpListener) {
    let serving = Arc::clone(broker);
    broker.tasks().spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = serving.cancellation().cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    if !cfg!(target_os = "linux") {
                        let _ = stream.set_nodelay(true);
                    }
                    serving.accept(Transport::tcp(stream), &address);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    });
}

impl Broker {
    /// Takes a connection that has been accepted; it is closed at once where there are too many.
    pub fn accept(self: &Arc<Self>, transport: Transport, from: &dyn std::fmt::Display) {
        if self.cancellation().is_cancelled() {
            return;
        }
        if self.connected.load(Ordering::Relaxed) >= self.limits().connections {
            tracing::warn!(%from, limit = self.limits().connections, "too many connections");
            return;
        }
        self.connected.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections.add(1);
        let broker = Arc::clone(self);
        self.tasks().spawn(async move {
            let end = link::accept(Arc::clone(&broker), transport).await;
            broker.connected.fetch_sub(1, Ordering::Relaxed);
            if let link::End::Protocol(error) = end {
                tracing::info!(%error, reason = %error.reason, "client disconnected for what it sent");
            }
        });
    }
}
