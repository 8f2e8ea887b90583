//! Runs the scripts of `tests/it/peers/` with the packages that `make peers` installed.

use super::peer_program;
use super::process::Peer;
use std::path::Path;
use std::process::Command;

/// Starts a script and waits for the line with which it says that it is ready.
pub fn python(script: &str, arguments: &[&str]) -> Peer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers").join(script);
    let mut command = Command::new(peer_program("python"));
    command.arg(path).args(arguments).env("PYTHONUNBUFFERED", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    let peer = Peer::start(script, &mut command);
    peer.stdout().take("being ready", |line| line.contains("ready"));
    peer
}
