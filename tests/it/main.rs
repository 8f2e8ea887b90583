//! Integration tests: the binary among real peers, each in a process of its own.

mod support;

mod bridge;
mod client;
mod configuration;
mod http;
mod modbus;
mod offline;
mod peers;
mod serial;
mod webhook;
