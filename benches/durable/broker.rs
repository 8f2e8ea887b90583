//! The brokers that are measured: started with an empty store each time, ended when dropped, asked what they used.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const EDGEWAY: &str = r#"
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  limits: { connections: 2000, inflight: 1000, queue: 1000000, queue_bytes: 1GB }
storage: { path: "@DIR@/store", limit: 8GB }
log: { level: warn }
"#;

const MOSQUITTO: &str = "
listener @PORT@ 127.0.0.1
allow_anonymous true
persistence true
persistence_location @DIR@/
max_inflight_messages 1000
max_queued_messages 1000000
set_tcp_nodelay true
sys_interval 0
log_type error
log_dest stderr
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Edgeway,
    Mosquitto,
}

/// A running broker.
pub struct Broker {
    pub kind: Kind,
    pub port: u16,
    folder: PathBuf,
    child: Child,
}

/// What a process used so far, or between two moments.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    pub written_bytes: u64,
}

impl Broker {
    /// With nothing in its store.
    pub fn start(kind: Kind) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("durable-{}-{kind}", std::process::id()));
        // Nothing that is there already is ours to keep.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder can be made under target/");
        let port = free_port();
        let (text, program) = match kind {
            Kind::Edgeway => (EDGEWAY.to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_edgeway"))),
            Kind::Mosquitto => (as_whoever_we_are(MOSQUITTO), mosquitto().expect("it is there")),
        };
        let text = text.replace("@PORT@", &port.to_string()).replace("@DIR@", &folder.display().to_string());
        let configuration = folder.join("configuration");
        std::fs::write(&configuration, text).expect("the folder can be written");
        let mut command = match has_taskset() {
            true => Command::new("taskset"),
            false => Command::new(&program),
        };
        if has_taskset() {
            command.args(["-c", "0"]).arg(&program);
        }
        match kind {
            Kind::Edgeway => command.args(["run", "-c"]).arg(&configuration),
            Kind::Mosquitto => command.arg("-c").arg(&configuration),
        };
        let child = command.stdin(Stdio::null()).spawn().expect("the broker can be started");
        let mut broker = Self { kind, port, folder, child };
        broker.await_listening();
        broker
    }

    /// What it used since its start.
    pub fn usage(&self) -> Usage {
        let file = |name: &str| {
            std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("the broker is running")
        };
        let stat = file("stat");
        // After the name in parentheses; the 12th and 13th are user and system time in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')').expect("it has a name").1.split_ascii_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u64>().expect("a number");
        let io = file("io");
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("Linux tells it");
        Usage {
            cpu: Duration::from_millis((ticks(11) + ticks(12)) * 10),
            written_bytes: written.parse().expect("a number"),
        }
    }

    fn await_listening(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "{} ended at its start: {ended:?}", self.kind);
            assert!(Instant::now() < deadline, "{} does not listen", self.kind);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edgeway => "edgeway",
            Self::Mosquitto => "mosquitto",
        })
    }
}

impl Usage {
    pub fn since(self, before: Self) -> Self {
        Self { cpu: self.cpu - before.cpu, written_bytes: self.written_bytes - before.written_bytes }
    }
}

/// Debian's, as `make peers` installed it.
pub fn mosquitto() -> Option<PathBuf> {
    let folder = std::env::var_os("EDGEWAY_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers"), PathBuf::from);
    Some(folder.join("bin/mosquitto")).filter(|program| program.exists())
}

/// Puts this process on core 1, before it has threads; whether that was possible.
pub fn pin_ourselves() -> bool {
    let process = std::process::id().to_string();
    has_taskset()
        && Command::new("taskset")
            .args(["-cp", "1", &process])
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
}

fn has_taskset() -> bool {
    Command::new("taskset").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Started by root it would become a user that this machine may not have.
fn as_whoever_we_are(configuration: &str) -> String {
    let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
    format!("{configuration}{user}")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
