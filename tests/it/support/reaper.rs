//! Ends the peers of a test binary that is itself killed: guards run at a panic, but not at SIGKILL or Ctrl-C.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Keeps the process groups that it is told and kills those that are left when its input ends.
const SCRIPT: &str = r#"
groups=" "
while read -r verb group; do
  case $verb in
    add) groups="$groups$group " ;;
    drop) groups="${groups%% $group *} ${groups#* $group }" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"#;

/// From now on the group dies with this process.
pub fn add(group: u32) {
    tell("add", group);
}

/// The group is gone, and its number may become somebody else's.
pub fn drop(group: u32) {
    tell("drop", group);
}

fn tell(verb: &str, group: u32) {
    static REAPER: OnceLock<Mutex<Child>> = OnceLock::new();
    let reaper = REAPER.get_or_init(|| {
        let child = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches the test binary's group, not this one.
            .process_group(0)
            .spawn()
            .expect("/bin/sh can be run");
        Mutex::new(child)
    });
    let mut reaper = reaper.lock().unwrap_or_else(PoisonError::into_inner);
    let input = reaper.stdin.as_mut().expect("standard input is piped and stays open");
    // Without its reaper a test works as well.
    let _ = writeln!(input, "{verb} {group}");
}
