//! What the integration tests are made with: the gateway, its peers, serial lines, and waiting for them with a deadline.
#![allow(dead_code, reason = "each test takes the part of the support that it needs")]

pub mod certificates;
pub mod edgeway;
pub mod fixtures;
pub mod gate;
pub mod http;
pub mod modbus_server;
pub mod mosquitto;
pub mod mqtt_client;
pub mod nats;
pub mod peer;
pub mod ports;
pub mod process;
pub mod pty;
pub mod python;
pub mod rabbitmq;
pub mod random;
mod reaper;
pub mod rumqttc;
pub mod small_disk;
pub mod vitals;
pub mod wall;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a test waits for something that must come. Long, since it only ever passes where a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The program of a test peer.
///
/// # Panics
/// Where the peers are not installed.
pub fn peer_program(name: &str) -> PathBuf {
    let program = peer_folder().join("bin").join(name);
    assert!(program.exists(), "the test peer {name} is not at {}: run `make peers`", program.display());
    program
}

/// A library of a test peer, to be loaded into a program before its own.
///
/// # Panics
/// Where the peers are not installed.
pub fn peer_library(name: &str) -> PathBuf {
    let library = peer_folder().join("lib").join(name);
    assert!(library.exists(), "the test peer {name} is not at {}: run `make peers`", library.display());
    library
}

/// Where the test peers are installed.
pub fn peer_folder() -> PathBuf {
    std::env::var_os("EDGEWAY_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers"), PathBuf::from)
}
