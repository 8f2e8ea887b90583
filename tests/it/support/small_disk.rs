//! A small file system of its own, made without privileges: a tmpfs in a user and mount namespace.

use super::process::Peer;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Mounted for as long as it is kept; only the processes that are started in it see it.
pub struct SmallDisk {
    /// Sits in the namespace, which would end with its last process.
    keeper: Peer,
    mount: PathBuf,
}

impl SmallDisk {
    /// An empty disk of so many bytes at `mount`, an empty folder. Where this system does not allow it, says so on
    /// standard output and gives `None`.
    pub fn mount(mount: &Path, bytes: u64) -> Option<Self> {
        let script = format!("mount -t tmpfs -o size={bytes},mode=0755 none \"$0\" && echo mounted && exec cat");
        let mut keeper = Peer::start(
            "the keeper of a small disk",
            Command::new("unshare").args(["--map-root-user", "--mount", "sh", "-c", &script]).arg(mount),
        );
        while keeper.is_running() {
            if keeper.stdout().try_take(|line| line == "mounted").is_some() {
                return Some(Self { keeper, mount: mount.to_owned() });
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        println!("SKIPPED: no tmpfs can be mounted in a user namespace here: {}", keeper.stderr().lines().join("; "));
        None
    }

    /// The words of a command that runs another one where the disk is seen.
    pub fn within(&self) -> Vec<String> {
        let words = ["nsenter", "--user", "--preserve-credentials", "--mount", "--target"];
        words.into_iter().map(str::to_owned).chain([self.keeper.id().to_string(), "--".to_owned()]).collect()
    }

    /// Where this process finds a file of the disk.
    pub fn path(&self, file: &str) -> PathBuf {
        let mount = self.mount.strip_prefix("/").expect("the mount point is an absolute path");
        Path::new("/proc").join(self.keeper.id().to_string()).join("root").join(mount).join(file)
    }

    /// Takes all room that is left but for `bytes`.
    pub fn fill(&self, bytes: u64) {
        let free = rustix::fs::statvfs(self.path("")).expect("it is mounted");
        let length = (free.f_bavail * free.f_frsize).saturating_sub(bytes);
        std::fs::write(self.path("filler"), vec![b'x'; length as usize]).expect("there is as much room");
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub fn make_room(&self) {
        std::fs::remove_file(self.path("filler")).expect("it was filled");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_runs_full_and_has_room_again() {
        let folder = tempfile::tempdir().unwrap();
        let Some(disk) = SmallDisk::mount(folder.path(), 1 << 20) else { return };
        let within = disk.within();
        let writes_64_kib = || {
            let file = folder.path().join("file");
            let mut command = Command::new(&within[0]);
            command.args(&within[1..]).args(["sh", "-c", "head -c 65536 /dev/zero > \"$0\""]).arg(file);
            let mut peer = Peer::start("head", &mut command);
            peer.wait().success()
        };
        assert!(writes_64_kib());
        std::fs::remove_file(disk.path("file")).unwrap();
        disk.fill(4096);
        assert!(!writes_64_kib());
        disk.make_room();
        assert!(writes_64_kib());
        assert!(!folder.path().join("file").exists(), "it is seen from outside");
    }
}
