//! Opening the broker's sockets; where a port is taken, it is said by whom.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};

use crate::broker::listener;
use crate::net::port_holder::holder_of;

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The host has no address.
    #[error("{host} has no address: {error}")]
    NoAddress {
        /// The host as it was given.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// The port is taken.
    #[error("port {} is taken{}; stop it, or change `listen`", address.port(), by(holder.as_ref()))]
    Taken {
        /// The address.
        address: SocketAddr,
        /// The process that holds it, where that can be seen.
        holder: Option<String>,
    },
    /// Anything else: the address is not ours, or the port needs a privilege.
    #[error("{address}: {error}")]
    Failed {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

fn by(holder: Option<&String>) -> String {
    holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
}

/// Opens a socket on each address of `host`.
///
/// # Errors
/// Where none can be opened, or a port is taken.
pub async fn bind(host: &str, port: u16) -> Result<Vec<TcpListener>, ListenError> {
    let addresses: Vec<SocketAddr> =
        lookup_host((host, port)).await.map_err(|error| ListenError::NoAddress { host: host.into(), error })?.collect();
    let mut listeners = Vec::new();
    let mut failed = None;
    for address in addresses {
        match listener::bind(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ListenError::Taken { address, holder: holder_of(address.port()) });
            }
            // A host with two kinds of addresses may have only one of them up.
            Err(error) => failed = Some(ListenError::Failed { address, error }),
        }
    }
    match failed {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}
