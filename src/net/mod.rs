//! Connections to the outside: transports, dialling, TLS, and who holds a port.

pub mod dial;
pub mod port_holder;
pub mod tls;
pub mod transport;

pub use transport::{SocketReader, SocketWriter, Stream, Transport};
