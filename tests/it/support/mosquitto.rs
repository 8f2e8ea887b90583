//! Debian's mosquitto as a broker on a loopback port, and its two clients.

use super::process::{Peer, wait_until};
use super::{peer_program, ports::free_port};
use rustix::process::Signal;
use std::fmt::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A mosquitto that listens on one port for as long as it is kept.
pub struct Mosquitto {
    pub port: u16,
    folder: TempDir,
    peer: Option<Peer>,
}

/// How a mosquitto is started: anonymous, and by default forgetting everything at its end.
#[derive(Default)]
pub struct Options {
    /// Sessions, queues and retained messages are kept in a file from one start to the next.
    pub persistent: bool,
    /// It logs errors only; else everything.
    pub quiet: bool,
    /// Further lines of its configuration.
    pub lines: Vec<String>,
    /// It speaks no TLS above 1.2, for which its configuration has no word.
    pub old_tls: bool,
}

impl Mosquitto {
    /// A broker that anyone may use, without persistence.
    pub fn start() -> Self {
        Self::start_with(&Options::default())
    }

    pub fn start_with(options: &Options) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let port = free_port();
        let mut text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\n");
        text.push_str(if options.quiet { "log_type error\n" } else { "log_type all\n" });
        // Started by root it would become a user that this machine may not have.
        if rustix::process::geteuid().is_root() {
            text.push_str("user root\n");
        }
        let path = folder.path().display();
        let _ = writeln!(text, "persistence {}\npersistence_location {path}/", options.persistent);
        for line in &options.lines {
            let _ = writeln!(text, "{line}");
        }
        std::fs::write(folder.path().join("mosquitto.conf"), text).expect("the temporary folder can be written");
        if options.old_tls {
            let text = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMaxProtocol = TLSv1.2\n";
            std::fs::write(folder.path().join("openssl.cnf"), text).expect("the temporary folder can be written");
        }
        let mut broker = Self { port, folder, peer: None };
        broker.start_again();
        broker
    }

    /// Starts it again, after `stop` or `kill`, on the same port with the same configuration.
    pub fn start_again(&mut self) {
        assert!(self.peer.is_none(), "mosquitto is running");
        let mut command = Command::new(peer_program("mosquitto"));
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        let openssl = self.folder.path().join("openssl.cnf");
        if openssl.exists() {
            command.env("OPENSSL_CONF", openssl);
        }
        let mut peer = Peer::start("mosquitto", &mut command);
        let port = self.port;
        wait_until("mosquitto accepts connections", || {
            assert!(peer.is_running(), "mosquitto ended at its start\n{}", peer.told());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        self.peer = Some(peer);
    }

    /// Ends it by SIGTERM, so that a persistent one writes its file.
    pub fn stop(&mut self) {
        let mut peer = self.peer.take().expect("mosquitto is running");
        peer.terminate();
        peer.wait();
    }

    /// Has a persistent one write its file now.
    pub fn save(&mut self) {
        let peer = self.peer.as_mut().expect("mosquitto is running");
        peer.signal(Signal::USR1);
        peer.stderr().wait_for("Saving in-memory database");
        // It does one thing after the other: when it answers, it has written.
        mosquitto_pub(self.port, &["-t", "saved", "-n", "-q", "1"]);
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        drop(self.peer.take().expect("mosquitto is running"));
    }

    /// Its running process, whose standard error is its log.
    pub fn peer(&self) -> &Peer {
        self.peer.as_ref().expect("mosquitto is running")
    }

    /// Where its files are.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

/// Runs mosquitto_pub against a port of this machine until it ends.
///
/// # Panics
/// When it fails.
pub fn mosquitto_pub(port: u16, arguments: &[&str]) {
    let mut peer = client("mosquitto_pub", port, arguments);
    peer.close_stdin();
    let status = peer.wait();
    assert!(status.success(), "mosquitto_pub {arguments:?}: {status}\n{}", peer.told());
}

/// Runs mosquitto_pub against a port of this machine until it ends; whether it went well.
pub fn mosquitto_try_pub(port: u16, arguments: &[&str]) -> bool {
    let mut peer = client("mosquitto_pub", port, arguments);
    peer.close_stdin();
    peer.wait().success()
}

/// Starts mosquitto_sub against a port of this machine and waits until the broker has acknowledged all its
/// filters. Its lines begin with `Client ` where they are about packets (`-d`); `messages` leaves those out.
pub fn mosquitto_sub(port: u16, arguments: &[&str]) -> Subscriber {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["-d"]).collect();
    let peer = client("mosquitto_sub", port, &arguments);
    peer.stdout().wait_for("Subscribed (mid:");
    Subscriber { peer }
}

/// A running mosquitto_sub.
pub struct Subscriber {
    peer: Peer,
}

impl Subscriber {
    /// The next message, as mosquitto_sub prints it.
    pub fn next(&self) -> String {
        self.peer.stdout().take("a message", is_message)
    }

    /// Waits for that line among those that were not taken; the others stay.
    pub fn until(&self, line: &str) {
        self.take(&format!("{line:?}"), |other| other == line);
    }

    /// The first message that was not taken and that `wanted` accepts.
    pub fn take(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.peer.stdout().take(what, |line| is_message(line) && wanted(line))
    }

    /// All that came so far and was not taken.
    pub fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.peer.stdout().try_take(is_message)).collect()
    }

    pub fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }
}

/// What `-d` prints of packets, apart from messages.
fn is_message(line: &str) -> bool {
    !line.starts_with("Client ") && !line.starts_with("Subscribed (mid:")
}

fn client(program: &str, port: u16, arguments: &[&str]) -> Peer {
    // Their lines about packets would wait in a buffer until it is full.
    let mut command = Command::new("stdbuf");
    command.arg("-oL").arg(peer_program(program));
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments);
    Peer::start(program, &mut command)
}
