//! Opens the journal and says in words why it cannot be opened, what was found in it, and how it is from then on.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::health::HealthTable;
use crate::store::settings::Disk;
use crate::store::{Report, Statistics};

/// The journal holds what was published: it is for its user, and those of its group may look.
const MODE: u32 = 0o750;

/// What to do where the folder is not ours.
const INSTEAD: &str = "make that folder for this user, name another by `storage: { path: ... }`, \
                       or keep nothing on disk by `storage: { in_memory: true }`";

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The folder is not there and cannot be made, or cannot be written.
    #[error("{}: {error}; {INSTEAD}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is something else of that name.
    #[error("{} is no folder; {INSTEAD}", path.display())]
    NoFolder {
        /// What is there.
        path: PathBuf,
    },
}

/// Makes the folder where there is none.
fn make_folder(disk: &Disk) -> Result<(), StorageError> {
    let path = &disk.path;
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(StorageError::NoFolder { path: path.clone() }),
        Err(_) => {
            let made = DirBuilder::new().recursive(true).mode(MODE).create(path);
            made.map_err(|error| StorageError::Folder { path: path.clone(), error })
        }
    }
}

/// Says in the log what was found, and keeps in mind what is lost.
fn tell_found(path: &Path, report: &Report, health: &HealthTable) {
    if report.torn_bytes > 0 {
        tracing::info!(bytes = report.torn_bytes, "cut off a commit that was under way when the process before ended");
    }
    for damage in &report.damage {
        let file = path.join(&damage.file).display().to_string();
        tracing::error!(file, offset = damage.offset, bytes = damage.bytes, "the journal is damaged here");
    }
    if report.lost_messages > 0 {
        tracing::error!(messages = report.lost_messages, "messages that were on disk cannot be read any more");
    }
    if let Some(warning) = warning(report) {
        health.store().set_warning(&warning);
    }
}

/// What is damaged, in words.
fn warning(report: &Report) -> Option<String> {
    let places = match report.damage.len() {
        0 if report.lost_messages == 0 => return None,
        1 => "1 place".into(),
        places => format!("{places} places"),
    };
    let messages = match report.lost_messages {
        0 => "no message is known to be lost".into(),
        1 => "1 message is lost".into(),
        messages => format!("{messages} messages are lost"),
    };
    Some(format!("the journal was damaged in {places} when it was opened, and {messages}"))
}

/// Says in the log when nothing can be committed and when it can again, and keeps it in mind.
fn watch(statistics: &Statistics, health: Arc<HealthTable>) {
    statistics.watch(move |statistics| {
        let failure = statistics.failure();
        match &failure {
            Some(failure) => tracing::error!(
                error = %failure.reason,
                "nothing can be committed: no acknowledgement leaves; trying again each second"
            ),
            None => tracing::info!("committing again"),
        }
        health.store().set_failure(failure.map(|failure| failure.reason));
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::health::Level;
    use crate::store::Damage;

    fn disk(path: PathBuf) -> Disk {
        let [commit, commit_min, commit_readings] = [Duration::from_millis(1); 3];
        Disk { path, commit, commit_min, commit_readings }
    }

    #[test]
    fn the_folder_is_made_and_what_is_there_instead_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        make_folder(&disk(path.clone())).unwrap();
        make_folder(&disk(path.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !MODE, 0);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(make_folder(&disk(file.clone())), Err(StorageError::NoFolder { .. })));
        let said = make_folder(&disk(file.join("below"))).unwrap_err().to_string();
        assert!(said.contains("file/below: ") && said.contains("`storage: { in_memory: true }`"), "{said}");
    }

    #[test]
    fn damage_is_a_warning_and_a_torn_tail_is_none() {
        let health = HealthTable::default();
        tell_found(Path::new("/x"), &Report { torn_bytes: 17, ..Report::default() }, &health);
        assert_eq!(health.verdict().level(), Level::Ok);
        let damage = vec![Damage { file: "journal-0000000001.seg".into(), offset: 4096, bytes: 200 }];
        let report = Report { torn_bytes: 0, damage, lost_messages: 2 };
        tell_found(Path::new("/x"), &report, &health);
        let warning = "the journal was damaged in 1 place when it was opened, and 2 messages are lost";
        assert_eq!((health.verdict().level(), health.verdict().warnings), (Level::Warning, vec![warning.to_owned()]));
    }

    #[test]
    fn a_failing_journal_turns_the_health_red_until_it_has_recovered() {
        let (statistics, health) = (Statistics::default(), Arc::new(HealthTable::default()));
        watch(&statistics, Arc::clone(&health));
        statistics.failed("no space left on device");
        assert_eq!(health.verdict().failures, ["nothing can be committed: no space left on device"]);
        statistics.recovered();
        assert_eq!(health.verdict().level(), Level::Ok);
    }
}
