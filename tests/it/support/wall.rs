//! A clock on the wall that a test sets for a program while it runs: Debian's libfaketime, loaded into it.

use super::peer_library;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// A clock for the programs that are told of it. Clocks that never jump are left as they are.
pub struct Wall {
    folder: TempDir,
}

impl Wall {
    /// A clock that says `seconds` since the Unix epoch now.
    pub fn at(seconds: i64) -> Self {
        let wall = Self { folder: tempfile::tempdir().expect("a temporary folder can be made") };
        wall.set(seconds);
        wall
    }

    /// Sets it, for running programs too.
    pub fn set(&self, seconds: i64) {
        let offset = seconds - Self::right();
        // Written aside: a program that reads it meanwhile finds a whole one.
        let aside = self.folder.path().join("new");
        std::fs::write(&aside, format!("{offset:+}\n")).expect("the temporary folder can be written");
        std::fs::rename(aside, self.file()).expect("the temporary folder can be written");
    }

    /// What the machine's own clock says, in seconds since the Unix epoch.
    pub fn right() -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("this machine is not in the past");
        i64::try_from(since.as_secs()).expect("this machine is not in the far future")
    }

    /// The words that run a program which sees this clock: the program and its arguments come behind them.
    pub fn words(&self) -> Vec<String> {
        let library = peer_library("libfaketimeMT.so.1");
        [
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file().display()),
            // It looks at the file each time.
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "NO_FAKE_STAT=1".to_owned(),
        ]
        .into()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("wall")
    }
}
