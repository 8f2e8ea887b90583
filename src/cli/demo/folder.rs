//! A folder that goes when the demo goes.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A temporary folder for this user alone; dropping it removes it with all that is in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes `edgeway-demo-N` in the system's folder for such things.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn create() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        let process = std::process::id();
        let mut attempt = 0;
        loop {
            let name = if attempt == 0 { process.to_string() } else { format!("{process}-{attempt}") };
            let path = parent.join(format!("edgeway-demo-{name}"));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                // Left by a demo that was killed, or made by somebody else: never used again.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Where it cannot be removed there is nothing left to do about it.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_folders_differ_and_both_go() {
        let (first, second) = (Folder::create().unwrap(), Folder::create().unwrap());
        assert_ne!(first.path(), second.path());
        std::fs::write(first.path().join("file"), "x").unwrap();
        let paths = [first.path().to_owned(), second.path().to_owned()];
        drop((first, second));
        assert!(paths.iter().all(|path| !path.exists()));
    }
}
