//! The gateway's binary under test: started with a configuration, killed, restarted.

use super::ports::free_port;
use super::process::{Peer, wait_until};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgeway");

/// `edgeway run` with a folder of its own, for as long as it is kept.
pub struct Edgeway {
    /// Where its broker listens: what `@PORT@` in its configuration became.
    pub port: u16,
    folder: TempDir,
    /// A command that runs it: its program and arguments come behind these words.
    within: Vec<String>,
    peer: Option<Peer>,
}

impl Edgeway {
    /// Runs `edgeway run` and waits until its broker accepts connections.
    ///
    /// In `configuration`, `@PORT@` becomes a free port for the broker to listen on (`broker: { listen:
    /// "mqtt://127.0.0.1:@PORT@" }`) and `@DIR@` the folder that goes with the gateway. Without a section `storage` it
    /// keeps everything in memory.
    ///
    /// # Panics
    /// When it ends instead; the message holds what it said.
    pub fn start(configuration: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder can be made"), configuration)
    }

    /// [`Edgeway::start`] in a folder that has something in it already.
    pub fn start_in(folder: TempDir, configuration: &str) -> Self {
        Self::start_within(folder, configuration, &[])
    }

    /// [`Edgeway::start`] with so few file descriptors.
    pub fn start_with_descriptors(configuration: &str, descriptors: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self::start_within(folder, configuration, &["sh", "-c", &format!("ulimit -n {descriptors}; exec \"$@\""), "sh"])
    }

    /// [`Edgeway::start_in`] by a command that runs it in its own place: program and arguments come behind its words.
    pub fn start_within(folder: TempDir, configuration: &str, command: &[&str]) -> Self {
        let within = command.iter().map(|&word| word.to_owned()).collect();
        let mut edgeway = Self { port: free_port(), folder, within, peer: None };
        edgeway.configure(configuration);
        edgeway.start_again();
        edgeway
    }

    /// Writes another configuration; a running gateway is not told.
    pub fn configure(&self, configuration: &str) {
        let mut text = configuration
            .replace("@PORT@", &self.port.to_string())
            .replace("@DIR@", &self.folder.path().display().to_string());
        if !text.lines().any(|line| line.starts_with("storage:")) {
            text = format!("{}\nstorage: {{ in_memory: true }}\n", text.trim_end());
        }
        std::fs::write(self.configuration(), text).expect("the temporary folder can be written");
    }

    /// Starts it again, after `kill` or `terminate`, on the same port with the same files.
    pub fn start_again(&mut self) {
        self.launch();
        self.await_listening();
    }

    /// As [`Edgeway::start_again`], without waiting for anything.
    pub fn launch(&mut self) {
        assert!(self.peer.is_none(), "edgeway is running");
        let mut words = self.within.iter().map(String::as_str).chain([PROGRAM, "run", "-c"]);
        let mut command = command(words.next().expect("there are three at least"), self.folder.path());
        command.args(words).arg(self.configuration());
        self.peer = Some(Peer::start("edgeway", &mut command));
    }

    /// Waits until its broker accepts connections.
    ///
    /// # Panics
    /// When it ends instead; the message holds what it said.
    pub fn await_listening(&mut self) {
        let port = self.port;
        let peer = self.peer();
        wait_until("edgeway accepts connections", || {
            assert!(peer.is_running(), "edgeway ended at its start\n{}", peer.told());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// SIGKILL, as in a power cut.
    pub fn kill(&mut self) {
        drop(self.peer.take().expect("edgeway is running"));
    }

    /// SIGTERM; gives its exit status and all lines of its standard error.
    pub fn terminate(&mut self) -> (ExitStatus, Vec<String>) {
        let mut peer = self.peer.take().expect("edgeway is running");
        peer.terminate();
        (peer.wait(), peer.stderr().lines())
    }

    /// Its running process; its log is on standard error.
    pub fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().expect("edgeway is running")
    }

    /// The folder that goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("edgeway.yaml")
    }
}

/// Runs one of edgeway's other commands to its end; gives the status, standard output and standard error.
pub fn edgeway(arguments: &[&str], folder: &Path) -> (ExitStatus, String, String) {
    let mut peer = Peer::start("edgeway", command(PROGRAM, folder).args(arguments));
    peer.close_stdin();
    let status = peer.wait();
    (status, peer.stdout().lines().join("\n"), peer.stderr().lines().join("\n"))
}

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_remove("RUST_LOG").env("NO_COLOR", "1");
    command
}
