//! Integration tests: the binary among real peers, each in a process of its own.

mod support;

mod client;
mod connect;
mod peers;
mod qos;
mod retained;
mod session;
mod v5;
mod will;
