//! Integration tests: the binary among real peers, each in a process of its own.
#![allow(clippy::unwrap_used, reason = "all of this binary is tests, the functions that they share too")]

mod support;

mod access;
mod admin;
mod bridge;
mod bridge_peers;
mod client;
mod clock;
mod cloud;
mod configuration;
mod connect;
mod demo;
mod disk;
mod http;
mod loops;
mod modbus;
mod offline;
mod payloads;
mod peers;
mod plug;
mod qos;
mod retained;
mod sequences;
mod serial;
mod session;
mod soak;
mod status;
mod store_cli;
mod sys;
mod transports;
mod upstream;
mod upstream_net;
mod v5;
mod webhook;
mod will;
