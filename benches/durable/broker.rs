//! The brokers that are measured: started with an empty store each time, ended when dropped, asked what they used.

use super::process::{as_whoever_we_are, cpu_of, free_port, mosquitto, on_core_0};
use std::fmt;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
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
    /// Of the disk under the store, by everybody; `None` where the system does not tell.
    pub device_bytes: Option<u64>,
    pub at: Instant,
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
        let mut command = on_core_0(&program);
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
        Usage { cpu: cpu_of(self.child.id()), device_bytes: device_bytes(&self.folder), at: Instant::now() }
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

/// What the disk under a folder was written since the system started.
fn device_bytes(folder: &Path) -> Option<u64> {
    let device = std::fs::metadata(folder).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let sectors: u64 = stat.split_ascii_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * 512)
}
