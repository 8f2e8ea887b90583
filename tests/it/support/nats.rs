//! Debian's nats-server with its MQTT listener on a loopback port.

use super::process::{Peer, wait_until};
use super::{peer_program, ports::free_port};
use std::net::TcpStream;
use std::process::Command;
use tempfile::TempDir;

/// A nats-server that keeps sessions and messages in a folder of its own.
pub struct Nats {
    /// Where it speaks MQTT.
    pub port: u16,
    folder: TempDir,
    peer: Option<Peer>,
}

impl Nats {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (own, port) = (free_port(), free_port());
        // MQTT wants JetStream, and JetStream a name.
        let text = format!(
            "server_name: cloud\nlisten: \"127.0.0.1:{own}\"\njetstream {{ store_dir: \"{}\" }}\nmqtt {{ listen: \
             \"127.0.0.1:{port}\" }}\n",
            folder.path().join("store").display()
        );
        std::fs::write(folder.path().join("nats.conf"), text).expect("the temporary folder can be written");
        let mut server = Self { port, folder, peer: None };
        server.start_again();
        server
    }

    /// Starts it again, after `kill`, on the same port with the same store.
    pub fn start_again(&mut self) {
        assert!(self.peer.is_none(), "nats-server is running");
        let mut command = Command::new(peer_program("nats-server"));
        command.arg("-c").arg(self.folder.path().join("nats.conf"));
        let mut peer = Peer::start("nats-server", &mut command);
        let port = self.port;
        wait_until("nats-server accepts connections", || {
            assert!(peer.is_running(), "nats-server ended at its start\n{}", peer.told());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        self.peer = Some(peer);
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        drop(self.peer.take().expect("nats-server is running"));
    }

    /// Its running process, whose standard error is its log.
    pub fn peer(&self) -> &Peer {
        self.peer.as_ref().expect("nats-server is running")
    }
}
