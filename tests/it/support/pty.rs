//! A serial line without wires: two pseudo-terminals that socat joins.

use super::peer_program;
use super::process::{Peer, wait_until};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Two ends of one line; what is written to one is read from the other. Dropping it is pulling the cable.
pub struct PtyPair {
    /// For the gateway.
    pub near: PathBuf,
    /// For the device.
    pub far: PathBuf,
    folder: TempDir,
    peer: Option<Peer>,
    /// Both ends held open: a line does not hang up because the program at its end closes it.
    held: Vec<File>,
}

impl PtyPair {
    pub fn open() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (near, far) = (folder.path().join("near"), folder.path().join("far"));
        let mut pair = Self { near, far, folder, peer: None, held: Vec::new() };
        pair.open_again();
        pair
    }

    /// Pulls the cable: both ends are gone, as when a USB adapter is unplugged.
    pub fn unplug(&mut self) {
        drop(self.peer.take().expect("the line is open"));
        self.held.clear();
        for end in [&self.near, &self.far] {
            // socat, being killed, leaves its links.
            let _ = std::fs::remove_file(end);
        }
    }

    /// Plugs it in again under the same names.
    pub fn open_again(&mut self) {
        assert!(self.peer.is_none(), "the line is open");
        let mut command = Command::new(peer_program("socat"));
        for end in [&self.near, &self.far] {
            command.arg(format!("pty,raw,echo=0,link={}", end.display()));
        }
        let mut peer = Peer::start("socat", &mut command);
        wait_until("socat opens the line", || {
            assert!(peer.is_running(), "socat ended at its start\n{}", peer.told());
            self.near.exists() && self.far.exists()
        });
        self.peer = Some(peer);
        self.held = vec![open_line(&self.near), open_line(&self.far)];
    }
}

/// Opens an end as a program does that knows nothing of serial lines: bytes in and out, as they are.
pub fn open_line(end: &Path) -> File {
    let no_controlling_terminal = i32::try_from(OFlags::NOCTTY.bits()).expect("the flag is one low bit");
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(no_controlling_terminal);
    options.open(end).unwrap_or_else(|error| panic!("cannot open {}: {error}", end.display()))
}
