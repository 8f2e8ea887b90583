//! Connections to the outside: transports, dialling, proxies, TLS and WebSocket on both sides, and who holds a port.

pub mod client_tls;
pub mod common_name;
mod der;
pub mod dial;
pub mod port_holder;
pub mod proxy;
pub mod server_tls;
pub mod tls;
pub mod tls_files;
pub mod transport;
pub mod validity;
pub mod websocket;

pub use transport::{SocketReader, SocketWriter, Stream, Transport};
