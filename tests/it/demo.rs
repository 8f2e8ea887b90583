//! `edgeway demo` as a user sees it: in a pipe, on a terminal, with its usual ports taken.

use crate::support::certificates::Authority;
use crate::support::edgeway::edgeway;
use crate::support::process::{Peer, wait_until};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// The usual port of the gateway's broker.
const USUAL: u16 = 1883;

/// A running demo, whose temporary folder is inside one of our own.
struct Demo {
    peer: Peer,
    folder: TempDir,
    /// Demos of one test binary run one after the other, so that they do not take each other's ports.
    _turn: MutexGuard<'static, ()>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let peer = Peer::start("edgeway demo", command(folder.path()).args(arguments));
        Self { peer, folder, _turn: turn }
    }

    fn waits_for(&self, text: &str) -> String {
        self.peer.stdout().wait_for(text)
    }

    /// The port in the line of the intro that begins with `what`.
    fn port(&self, what: &str) -> u16 {
        let line = self.waits_for(&format!("{what} mqtt://127.0.0.1:"));
        let digits = line.rsplit("127.0.0.1:").next().unwrap_or_default();
        digits.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a port follows the address")
    }

    /// Ends it and gives its lines, after seeing that it ended well and left nothing.
    fn end(mut self, signal: Option<Signal>) -> Vec<String> {
        if let Some(signal) = signal {
            self.peer.signal(signal);
        }
        let status = self.peer.wait();
        assert_eq!(status.code(), Some(0), "{}", self.peer.told());
        assert_eq!(self.peer.stderr().lines(), [""; 0]);
        assert_eq!(files(self.folder.path()), [""; 0]);
        self.peer.stdout().lines()
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeway"));
    command.arg("demo").current_dir(folder).env("TMPDIR", folder).env_remove("EDGEWAY_LOG");
    command
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the temporary folder can be read");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_device_is_seen_here_and_in_the_cloud_and_an_outage_loses_nothing() {
    let demo = Demo::start(&[]);
    for line in [
        "here            demo/meter/power = ",
        "here            demo/hall/power = ",
        "here            demo/gps = 52.4",
        "here            demo/plug/power = ",
        "here            demo/door/openings = ",
        "here            demo/spare/error = timeout",
        "cloud, QoS 0    fleet/demo = 52.4",
        "cloud, QoS 1    berlin/meter/power = ",
        "cloud, QoS 1    berlin/hall/power = ",
        "cloud, QoS 1    berlin/plug/power = ",
        "cloud, QoS 2    berlin/door/openings = ",
    ] {
        demo.waits_for(line);
    }
    assert_eq!(files(demo.folder.path()).len(), 1);
    demo.waits_for("the cloud goes away for 5 s");
    demo.waits_for("berlin/status = offline");
    demo.waits_for("the cloud is there again");
    let arrived = demo.waits_for("had waited for the cloud");
    assert!(arrived.ends_with("all have arrived, in order"), "{arrived}");
    let lines = demo.end(Some(Signal::INT));
    let openings: Vec<u64> = lines
        .iter()
        .filter_map(|line| line.split_once("cloud, QoS 2    berlin/door/openings = ")?.1.parse().ok())
        .collect();
    assert!(openings.len() > 2 && openings.is_sorted(), "{openings:?}");
    assert!(lines.last().unwrap().starts_with("The cloud was away once. Waited and arrived, in order: "), "{lines:?}");
}

#[test]
fn where_its_port_is_taken_it_says_so_and_its_devices_can_be_switched() {
    // Whoever else holds it does as well.
    let held = TcpListener::bind(("127.0.0.1", USUAL));
    let demo = Demo::start(&["--steady"]);
    let line = demo.waits_for(&format!("port {USUAL} is taken"));
    if held.is_ok() && cfg!(target_os = "linux") {
        assert!(line.contains(&format!("(process {})", std::process::id())), "{line}");
    }
    let (gateway, cloud) = (demo.port("gateway "), demo.port("cloud   "));
    assert!(gateway != USUAL && line.ends_with(&format!("so the gateway listens on {gateway}")), "{line}");

    let (gateway, cloud) = (gateway.to_string(), cloud.to_string());
    demo.waits_for("demo/meter/relay = true");
    demo.waits_for("demo/plug/on = true");
    for (port, topic) in [(&gateway, "demo/meter/relay/set"), (&cloud, "cmd/demo/plug/on")] {
        let arguments = ["pub", "-p", port, "-t", topic, "-m", "false", "-q", "1"];
        let (status, _, stderr) = edgeway(&arguments, demo.folder.path());
        assert!(status.success(), "{stderr}");
    }
    demo.waits_for("cloud, QoS 1    berlin/meter/relay/set/result = ok");
    demo.waits_for("cloud, QoS 1    berlin/meter/relay = false");
    demo.waits_for("cloud, QoS 1    berlin/plug/on = false");
    demo.end(Some(Signal::TERM));
}

#[test]
fn it_ends_by_itself() {
    let lines = Demo::start(&["--for", "1s"]).end(None);
    assert!(lines.last().unwrap().starts_with("Messages here: "), "{lines:?}");
}

#[test]
fn a_terminal_is_as_before_when_it_ends() {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: 30, ws_col: 110, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let before = tcgetattr(&terminal).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    command.args(["--for", "2s"]).env("TERM", "xterm").env_remove("NO_COLOR");
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    // The command holds the terminal open as well.
    drop(command);
    let reader = std::thread::spawn(move || {
        let (mut seen, mut master) = (Vec::new(), File::from(master));
        // The other end being closed is an error of a pseudo terminal.
        let _ = master.read_to_end(&mut seen);
        String::from_utf8_lossy(&seen).into_owned()
    });
    let mut status = None;
    wait_until("the demo ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let after = tcgetattr(&terminal).unwrap();
    drop(terminal);
    let seen = reader.join().unwrap();

    assert_eq!(status.unwrap().code(), Some(0), "{seen}");
    assert_eq!(format!("{:?}", after.local_modes), format!("{:?}", before.local_modes));
    assert!(seen.starts_with("\x1b[?1049h\x1b[?25l"), "{seen:?}");
    let (picture, end) = seen.split_once("\x1b[?25h\x1b[?1049l").expect("the cursor comes back");
    assert!(picture.contains("demo/meter/power") && picture.contains("berlin/door/openings"), "{picture:?}");
    assert!(end.starts_with("Messages here: ") && !end.contains('\x1b'), "{end:?}");
    assert_eq!(files(folder.path()), [""; 0]);
}

#[test]
fn every_example_has_no_mistakes() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in std::fs::read_dir(&examples).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            // What its page says to make first.
            let certificates = Authority::new();
            certificates.issue("server");
            certificates.issue("device");
            std::fs::copy(certificates.path("ca.crt"), certificates.path("AmazonRootCA1.pem")).unwrap();
            let checked = if folder.ends_with("tls") || folder.ends_with("aws") {
                std::fs::copy(folder.join("edgeway.yaml"), certificates.path("edgeway.yaml")).unwrap();
                certificates.folder()
            } else {
                &folder
            };
            let (status, _, stderr) = edgeway(&["check", "-c", "edgeway.yaml"], checked);
            assert!(status.success(), "{}: {stderr}", folder.display());
            assert!(folder.join("README.md").exists(), "{}: what will be seen?", folder.display());
            count += 1;
        }
    }
    assert!(count > 3, "{count} examples in {}", examples.display());
    let (_, printed, _) = edgeway(&["demo", "--config"], &examples);
    assert_eq!(printed.trim_end(), std::fs::read_to_string(examples.join("demo/edgeway.yaml")).unwrap().trim_end());
}
