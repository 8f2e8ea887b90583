//! Integration tests: the binary among real peers, each in a process of its own.

mod support;

mod client;
mod demo;
mod peers;
