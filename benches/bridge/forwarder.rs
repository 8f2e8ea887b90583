//! The processes that are measured: a broker with one bridge, as its users configure it.

use super::process::{as_whoever_we_are, cpu_of, free_port, mosquitto, on_core_0};
use std::fmt;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const EDGEWAY: &str = r##"
gateway: { name: edge }
broker:
  listen: "mqtt://127.0.0.1:@PORT@"
  limits: { inflight: 1000 }
storage: { path: "@DIR@/store" }
log: { level: error }
bridges:
  sink:
    url: "mqtt://127.0.0.1:@SINK@"
    mqtt: 3.1.1
    send: [ { from: "bench/#", qos: @QOS@ } ]
"##;

const MOSQUITTO: &str = "
listener @PORT@ 127.0.0.1
allow_anonymous true
persistence_location @DIR@/
sys_interval 0
log_type none
log_dest stderr
connection sink
address 127.0.0.1:@SINK@
topic bench/# out @QOS@
cleansession false
notifications false
try_private false
";

/// Who forwards, and how it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Edgeway,
    Mosquitto {
        /// Lines beside those that all have.
        lines: &'static str,
        /// How the table names them.
        name: &'static str,
    },
}

/// A forwarder with a folder of its own, which may be killed and started again.
pub struct Forwarder {
    pub kind: Kind,
    pub port: u16,
    folder: PathBuf,
    child: Child,
    /// What the processes before this one have written.
    written: u64,
}

impl Forwarder {
    /// With nothing in its store.
    pub fn start(kind: Kind, sink: u16, qos: u8) -> Self {
        let port = free_port();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bridge-{}-{port}", std::process::id()));
        // Nothing that is there already is ours to keep.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder can be made under target/");
        let text = match kind {
            Kind::Edgeway => EDGEWAY.to_owned(),
            Kind::Mosquitto { lines, .. } => as_whoever_we_are(&format!("{lines}\n{MOSQUITTO}")),
        };
        let text = text.replace("@PORT@", &port.to_string()).replace("@DIR@", &folder.display().to_string());
        let text = text.replace("@SINK@", &sink.to_string()).replace("@QOS@", &qos.to_string());
        std::fs::write(folder.join("configuration"), text).expect("the folder can be written");
        let child = launch(kind, &folder);
        let mut forwarder = Self { kind, port, folder, child, written: 0 };
        forwarder.await_listening();
        forwarder
    }

    /// SIGKILL, and a start on the same store.
    pub fn kill_and_start_again(&mut self) {
        self.written = self.written_bytes();
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = launch(self.kind, &self.folder);
        self.await_listening();
    }

    pub fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }

    /// What it has made the system write to disks, over all its processes.
    pub fn written_bytes(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap_or_default();
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        self.written + line.and_then(|bytes| bytes.trim().parse::<u64>().ok()).unwrap_or_default()
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

fn launch(kind: Kind, folder: &Path) -> Child {
    let configuration = folder.join("configuration");
    let mut command = match kind {
        Kind::Edgeway => on_core_0(Path::new(env!("CARGO_BIN_EXE_edgeway"))),
        Kind::Mosquitto { .. } => on_core_0(&mosquitto().expect("it is there")),
    };
    match kind {
        Kind::Edgeway => command.args(["run", "-c"]).arg(configuration),
        Kind::Mosquitto { .. } => command.arg("-c").arg(configuration),
    };
    command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("the broker can be started")
}

impl Drop for Forwarder {
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
            Self::Mosquitto { name, .. } => name,
        })
    }
}
