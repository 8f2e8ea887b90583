//! What the gateway's process holds, as the system tells it.

use super::PATIENCE;
use std::fmt;
use std::time::{Duration, Instant};

/// Memory, open files and threads of a process.
#[derive(Debug, Clone, Copy)]
pub struct Vitals {
    /// Memory that it has in use.
    pub resident_kib: u64,
    /// The most that it ever had.
    pub peak_kib: u64,
    pub open_files: usize,
    pub threads: u64,
    /// Milliseconds of CPU that it took so far.
    pub cpu_ms: u64,
}

impl Vitals {
    pub fn of(process: u32) -> Self {
        let status = read(process, "status");
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells it");
            line.split_ascii_whitespace().next().unwrap().parse().unwrap()
        };
        let stat = read(process, "stat");
        // After the name in parentheses; the 12th and 13th are user and system time in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
        Self {
            resident_kib: number("VmRSS:"),
            peak_kib: number("VmHWM:"),
            open_files: std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count(),
            threads: number("Threads:"),
            cpu_ms: (ticks(11) + ticks(12)) * 10,
        }
    }

    /// Those of `process` after its start, once no connection that only tried whether it listens is open any more.
    pub fn at_rest(process: u32) -> Self {
        let mut before = Self::of(process);
        let mut same = 0;
        while same < 10 {
            std::thread::sleep(Duration::from_millis(20));
            let now = Self::of(process);
            same = if (now.open_files, now.threads) == (before.open_files, before.threads) { same + 1 } else { 0 };
            before = now;
        }
        before
    }

    /// Those of `process` once it has no more open files than `open_files`.
    ///
    /// # Panics
    /// When it keeps more.
    pub fn once_closed(process: u32, open_files: usize) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let vitals = Self::of(process);
            if vitals.open_files <= open_files {
                return vitals;
            }
            assert!(Instant::now() < deadline, "open files: {} and not {open_files}", vitals.open_files);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident_kib, peak_kib, open_files, threads, cpu_ms } = self;
        write!(
            f,
            "{resident_kib} KiB resident (peak {peak_kib}), {open_files} open files, {threads} threads, {cpu_ms} ms CPU"
        )
    }
}

fn read(process: u32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{process}/{file}")).expect("the gateway is running")
}
