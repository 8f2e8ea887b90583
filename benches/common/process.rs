//! What the comparisons share: where the other broker is, who runs on which core, and what a process used.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Debian's, as `make peers` installed it.
pub fn mosquitto() -> Option<PathBuf> {
    let folder = std::env::var_os("EDGEWAY_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers"), PathBuf::from);
    Some(folder.join("bin/mosquitto")).filter(|program| program.exists())
}

/// A command that runs a program on core 0, where `taskset` is there.
pub fn on_core_0(program: &Path) -> Command {
    if !has_taskset() {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
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

/// User and system time of a process and all its threads, in steps of 10 ms.
pub fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the broker is running");
    // After the name in parentheses; the 12th and 13th are user and system time in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit_once(')').expect("it has a name").1.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("a number");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Started by root, mosquitto would become a user that this machine may not have.
pub fn as_whoever_we_are(configuration: &str) -> String {
    let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
    format!("{configuration}{user}")
}

/// A port below those that systems hand to outgoing connections: while a broker is away, no connection may take its port.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_240 + (std::process::id() as u16).wrapping_mul(257).wrapping_add(step) % 22_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// How a run is made: a number from the environment, or the default.
pub fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}
