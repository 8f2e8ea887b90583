//! Connections to the outside: transports, dialling, TLS.

pub mod transport;

pub use transport::{SocketReader, SocketWriter, Stream, Transport};
