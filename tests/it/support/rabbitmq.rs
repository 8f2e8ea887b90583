//! Debian's rabbitmq-server with its MQTT plugin on a loopback port.

use super::process::Peer;
use super::{peer_program, ports::free_port};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Of its first start it spends six seconds waiting for others of a cluster.
const START: Duration = Duration::from_secs(120);

/// A rabbitmq-server that speaks MQTT alone, and keeps everything in a folder of its own.
pub struct RabbitMq {
    /// Where it speaks MQTT.
    pub port: u16,
    /// Where nodes would speak with each other.
    distribution: u16,
    folder: TempDir,
    peer: Option<Peer>,
}

impl RabbitMq {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (port, distribution) = (free_port(), free_port());
        let text = format!(
            "listeners.tcp = none\nmqtt.listeners.tcp.default = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n\
             log.console = true\nlog.console.level = info\nlog.file = false\n"
        );
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("the temporary folder can be written");
        };
        write("rabbitmq.conf", &text);
        write("enabled_plugins", "[rabbitmq_mqtt].\n");
        let mut broker = Self { port, distribution, folder, peer: None };
        broker.start_again();
        broker
    }

    /// Starts it again, after `kill`, on the same port with the same database.
    pub fn start_again(&mut self) {
        assert!(self.peer.is_none(), "rabbitmq-server is running");
        let mut command = Command::new(peer_program("rabbitmq-server"));
        command.arg(self.folder.path()).arg(self.distribution.to_string()).current_dir(self.folder.path());
        let mut peer = Peer::start("rabbitmq-server", &mut command);
        let deadline = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(peer.is_running(), "rabbitmq-server ended at its start\n{}", peer.told());
            assert!(Instant::now() < deadline, "rabbitmq-server does not listen\n{}", peer.told());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.peer = Some(peer);
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        drop(self.peer.take().expect("rabbitmq-server is running"));
    }

    /// Its running process, whose standard output is its log.
    pub fn peer(&self) -> &Peer {
        self.peer.as_ref().expect("rabbitmq-server is running")
    }
}
