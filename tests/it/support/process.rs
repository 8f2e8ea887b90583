//! A peer's process: started in a group of its own, its lines captured, killed with its children when dropped.

use super::{PATIENCE, reaper};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running process. Dropping it kills its whole group with SIGKILL and waits until it is gone.
pub struct Peer {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Output,
    stderr: Output,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

/// The lines that a process wrote to one of its streams. Cloning it gives another view of the same lines.
#[derive(Clone)]
pub struct Output {
    of: String,
    shared: Arc<(Mutex<Lines>, Condvar)>,
}

#[derive(Default)]
struct Lines {
    all: Vec<String>,
    /// Which of them `take` gave already.
    taken: Vec<bool>,
    ended: bool,
}

impl Peer {
    /// Starts `command`; its standard streams become ours.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        reaper::add(child.id());
        let stdout = Output::new(&format!("{name}'s standard output"));
        let stderr = Output::new(&format!("{name}'s standard error"));
        let readers = vec![
            stdout.read_from(child.stdout.take().expect("standard output is piped")),
            stderr.read_from(child.stderr.take().expect("standard error is piped")),
        ];
        let stdin = child.stdin.take();
        Self { name: name.to_owned(), child, stdin, stdout, stderr, readers, ended: None }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> &Output {
        &self.stdout
    }

    pub fn stderr(&self) -> &Output {
        &self.stderr
    }

    /// Writes a line to standard input.
    pub fn send_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        if let Err(error) = writeln!(stdin, "{line}").and_then(|()| stdin.flush()) {
            panic!("cannot write to {}: {error}\n{}", self.name, self.told());
        }
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be asked for its state");
        }
        self.ended.is_none()
    }

    /// Sends a signal to the process and its children.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            // A group that just ended by itself needs no signal.
            let _ = kill_process_group(self.group(), signal);
        }
    }

    /// SIGTERM, the polite end.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL to the whole group, as in a power cut, and waits until the process is gone.
    pub fn kill(&mut self) {
        let _ = kill_process_group(self.group(), Signal::KILL);
        if self.ended.is_none() {
            self.ended = Some(self.child.wait().expect("a killed child ends"));
        }
    }

    /// Waits until the process has ended and all its lines are read.
    ///
    /// # Panics
    /// When it is still running after `PATIENCE`.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while self.is_running() {
            assert!(Instant::now() < deadline, "{} does not end\n{}", self.name, self.told());
            std::thread::sleep(Duration::from_millis(5));
        }
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader of lines does not panic");
        }
        self.ended.expect("a process that runs no more has a status")
    }

    /// What it wrote so far, for the message of a failed test.
    pub fn told(&self) -> String {
        format!(
            "--- {}\n{}\n--- {}\n{}",
            self.stdout.of,
            self.stdout.lines().join("\n"),
            self.stderr.of,
            self.stderr.lines().join("\n")
        )
    }

    /// Whether a process of its group is left.
    pub fn group_is_alive(&self) -> bool {
        test_kill_process_group(self.group()).is_ok()
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
        reaper::drop(self.child.id());
        if std::thread::panicking() {
            eprintln!("{}", self.told());
        }
    }
}

impl Output {
    fn new(of: &str) -> Self {
        Self { of: of.to_owned(), shared: Arc::default() }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock().all.clone()
    }

    /// The first line that contains `text`, among those that came and those to come.
    ///
    /// # Panics
    /// When none comes within `PATIENCE`, or the stream ends without one.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_until(&format!("a line with {text:?}"), |lines| {
            lines.all.iter().find(|line| line.contains(text)).cloned()
        })
    }

    /// All lines, once there are `count` of them.
    ///
    /// # Panics
    /// As `wait_for`.
    pub fn wait_for_count(&self, count: usize) -> Vec<String> {
        self.wait_until(&format!("{count} lines"), |lines| (lines.all.len() >= count).then(|| lines.all.clone()))
    }

    /// The first line that no `take` gave before and that `wanted` accepts.
    ///
    /// # Panics
    /// As `wait_for`; the message names `what`.
    pub fn take(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.wait_until(what, |lines| lines.take(&wanted))
    }

    /// As `take`, without waiting.
    pub fn try_take(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.lock().take(&wanted)
    }

    fn wait_until<T>(&self, what: &str, mut found: impl FnMut(&mut Lines) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lock();
        loop {
            if let Some(found) = found(&mut lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if lines.ended || left.is_zero() {
                let why = if lines.ended { "ended" } else { "waited" };
                let all = lines.all.join("\n");
                drop(lines);
                panic!("{} {why} without {what}; it says:\n{all}", self.of);
            }
            lines = self.shared.1.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn read_from(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let output = self.clone();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line);
                output.lock().push(text.trim_end_matches(['\r', '\n']));
                output.shared.1.notify_all();
                line.clear();
            }
            output.lock().ended = true;
            output.shared.1.notify_all();
        })
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // A waiting test that panics leaves the lines as they were.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn push(&mut self, line: &str) {
        self.all.push(line.to_owned());
        self.taken.push(false);
    }

    fn take(&mut self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let index = (0..self.all.len()).find(|&index| !self.taken[index] && wanted(&self.all[index]))?;
        self.taken[index] = true;
        Some(self.all[index].clone())
    }
}

/// Waits until `condition` holds, looking again every few milliseconds.
///
/// # Panics
/// When it does not within `PATIENCE`; the message is `what`.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
