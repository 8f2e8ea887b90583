//! Opens the journal and says in words why it cannot be opened, what was found in it, and how it is from then on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock;
use crate::health::HealthTable;
use crate::store::settings::{Disk, Plan};
use crate::store::{Journal, JournalOptions, LockError, OpenError, Report, Restored, SegmentError, Statistics};

/// What to do where the folder cannot be used.
const INSTEAD: &str = "make that folder for this user, name another by `storage: { path: ... }`, \
                       or keep nothing on disk by `storage: { in_memory: true }`";

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The folder is not there and cannot be made, or cannot be used.
    #[error("cannot keep messages in {}: {error}; {INSTEAD}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process has it.
    #[error("cannot keep messages in {}: another process uses it; stop it, or name another folder by `storage: {{ path: ... }}`", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// A newer version wrote it, or it cannot be read. Nothing was changed.
    #[error("cannot read the journal in {}: {error}", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// Why not, and what can be done.
        error: SegmentError,
    },
    /// What is in it cannot be read back.
    #[error("cannot read back what the journal holds: {0}")]
    Restore(io::Error),
}

/// A journal that is open.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Arc<Journal>,
    /// What it held.
    pub restored: Restored,
    /// What it counts; `None` where nothing is kept.
    pub statistics: Option<Arc<Statistics>>,
}

/// Opens the journal of `plan`, says what was found, and has the clock go on where the journal says.
///
/// # Errors
/// Where the folder cannot be used, or what is in it cannot be read.
pub async fn open(plan: &Plan, health: &Arc<HealthTable>) -> Result<Opened, StorageError> {
    let Some(disk) = plan.disk.clone() else {
        tracing::info!("everything is kept in memory: sessions, retained messages and what waits end with the process");
        let journal = Arc::new(Journal::in_memory());
        return Ok(Opened { journal, restored: Restored::default(), statistics: None });
    };
    let statistics = Arc::<Statistics>::default();
    let options = JournalOptions {
        commit: disk.commit,
        commit_min: disk.commit_min,
        commit_readings: disk.commit_readings,
        limit: plan.limit,
        statistics: Arc::clone(&statistics),
        ..JournalOptions::default()
    };
    let path = disk.path.clone();
    // It reads files, which may take a while.
    let opened = tokio::task::spawn_blocking(move || Journal::open(&path, &options)).await;
    let opened = opened.unwrap_or_else(|panic| Err(io::Error::other(panic).into()));
    let (journal, restored) = opened.map_err(|error| refusal(disk.path.clone(), error))?;
    if let Some(last) = restored.last_moment {
        clock::resume(last);
    }
    tell_found(&disk, &restored, health);
    watch(&statistics, Arc::clone(health));
    Ok(Opened { journal, restored, statistics: Some(statistics) })
}

fn refusal(path: PathBuf, error: OpenError) -> StorageError {
    match error {
        OpenError::Locked(LockError::Taken) => StorageError::Taken { path },
        OpenError::Locked(LockError::Io(error)) | OpenError::Folder(error) => StorageError::Folder { path, error },
        OpenError::Unreadable(SegmentError::Io { name, error }) if error.kind() == io::ErrorKind::PermissionDenied => {
            StorageError::Folder { path: path.join(name), error }
        }
        OpenError::Unreadable(error) => StorageError::Unreadable { path, error },
    }
}

/// Writes what is still to be written and ends the journal; gives up after `patience`, because a disk that fails must
/// not keep anybody from stopping. `false` where not all was written.
pub async fn close(journal: &Arc<Journal>, patience: Duration) -> bool {
    let (done, closed) = oneshot::channel();
    let journal = Arc::clone(journal);
    // Not one of the runtime's threads: it would wait for that when it ends.
    let closing = std::thread::Builder::new().name("journal-close".into()).spawn(move || {
        // Nobody waits any more where it took too long.
        let _ = done.send(journal.close());
    });
    if let Err(error) = closing {
        tracing::error!(%error, "cannot close the journal");
        return false;
    }
    matches!(tokio::time::timeout(patience, closed).await, Ok(Ok(true)))
}

/// Says in the log what was found, and keeps in mind what is lost.
fn tell_found(disk: &Disk, restored: &Restored, health: &HealthTable) {
    let path = disk.path.display();
    let (sessions, retained) = (restored.sessions.len(), restored.retained.len());
    let messages: u64 = restored.sessions.iter().map(|session| session.queued.messages).sum();
    tracing::info!(%path, sessions, messages, retained, "the journal is open");
    tell_damage(&disk.path, &restored.report, health);
}

fn tell_damage(path: &Path, report: &Report, health: &HealthTable) {
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
                "the journal cannot write: nothing is acknowledged that is not on disk; trying again each second"
            ),
            None => tracing::info!("committing again"),
        }
        health.store().set_failure(failure.as_ref().map(|failure| &*failure.reason));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Level;
    use crate::store::Damage;

    #[test]
    fn damage_is_a_warning_and_a_torn_tail_is_none() {
        let health = HealthTable::default();
        tell_damage(Path::new("/x"), &Report { torn_bytes: 17, ..Report::default() }, &health);
        assert_eq!(health.verdict().level(), Level::Ok);
        let damage = vec![Damage { file: "journal-0000000001.seg".into(), offset: 4096, bytes: 200 }];
        let report = Report { torn_bytes: 0, damage, lost_messages: 2 };
        tell_damage(Path::new("/x"), &report, &health);
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

    fn plan(path: PathBuf) -> Plan {
        let [commit, commit_min, commit_readings] = [Duration::from_millis(1); 3];
        Plan { disk: Some(Disk { path, commit, commit_min, commit_readings }), ..Plan::default() }
    }

    async fn refused(path: PathBuf) -> String {
        open(&plan(path), &Arc::default()).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_is_named_with_what_to_write() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let said = refused(path.clone()).await;
            assert!(said.starts_with(&format!("cannot keep messages in {}: ", path.display())), "{said}");
            assert!(said.ends_with("or keep nothing on disk by `storage: { in_memory: true }`"), "{said}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"");
    }

    #[tokio::test]
    async fn a_folder_is_one_gateways_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let first = open(&plan(path.clone()), &Arc::default()).await.unwrap();
        assert!(first.journal.is_durable());
        let said = refused(path.clone()).await;
        assert!(said.contains("another process uses it"), "{said}");
        assert!(close(&first.journal, Duration::from_secs(60)).await);
        let second = open(&plan(path), &Arc::default()).await.unwrap();
        assert!(close(&second.journal, Duration::from_secs(60)).await);
    }
}
