//! Finds the data that others made, which stands beside the repository and not in it.

use std::path::{Path, PathBuf};

/// The folder `fixtures`, from `EDGEWAY_FIXTURES` or `../shared`; where it is absent, says so and gives `None`.
pub fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("EDGEWAY_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("fixtures not there: skipped");
    None
}
