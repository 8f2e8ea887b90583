//! Connections to the outside: transports, dialling, TLS on both sides, WebSocket, and who holds a port.

pub mod common_name;
pub mod dial;
pub mod port_holder;
pub mod server_tls;
pub mod tls;
pub mod transport;
pub mod websocket;

pub use transport::{SocketReader, SocketWriter, Stream, Transport};
