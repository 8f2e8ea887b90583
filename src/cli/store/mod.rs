//! `edgeway store`: looks at the journal of a gateway that is stopped, and never changes it.

mod check;
mod dump;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use crate::store::{Filesystem, Folder, Lock, LockError, SegmentError, Segments, inspect};

/// The journal cannot be looked at.
const EXIT_REFUSED: u8 = 2;

/// Look at the journal of a gateway that is stopped. Nothing is changed.
#[derive(Debug, clap::Args)]
pub struct Store {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what each file holds and whether anything is damaged: exit status 0 if nothing is, 1 if something is, 2 if
    /// the journal cannot be looked at.
    Check {
        /// The folder of the journal, `path` of `storage` in the configuration.
        path: PathBuf,
    },
    /// Print every record, one a line, in the order in which they were written.
    Dump {
        /// The folder of the journal, `path` of `storage` in the configuration.
        path: PathBuf,
        /// Print payloads, too, as text.
        #[arg(long)]
        payload: bool,
    },
}

/// Why the journal cannot be looked at.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Folder(io::Error),
    #[error("a gateway is running on it: stop it first, or look at a copy of the folder")]
    Running,
    #[error("there is no journal in it")]
    Nothing,
    #[error("{0}")]
    Segments(#[from] SegmentError),
    #[error("{0}")]
    Lock(LockError),
    #[error("{0}")]
    Output(io::Error),
}

/// Whether anything is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Whole,
    Damaged,
}

impl Store {
    /// Prints what was asked for.
    pub fn run(self) -> ExitCode {
        let (path, name) = match &self.command {
            Command::Check { path } => (path, "check"),
            Command::Dump { path, .. } => (path, "dump"),
        };
        let outcome = open(path).and_then(|stopped| {
            let mut output = BufWriter::new(io::stdout().lock());
            let verdict = match &self.command {
                Command::Check { .. } => stopped.check(&mut output)?,
                Command::Dump { payload, .. } => stopped.dump(*payload, &mut output)?,
            };
            output.flush().map_err(Refused::Output)?;
            Ok(verdict)
        });
        match outcome {
            Ok(Verdict::Whole) => ExitCode::SUCCESS,
            Ok(Verdict::Damaged) => ExitCode::FAILURE,
            // Whoever read our output has seen enough.
            Err(Refused::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(refused) => {
                eprintln!("edgeway store {name}: {}: {refused}", path.display());
                ExitCode::from(EXIT_REFUSED)
            }
        }
    }
}

/// A journal that no gateway has open, and that none can open while this lives.
#[derive(Debug)]
struct Stopped {
    folder: Folder,
    segments: Segments,
    _lock: Lock,
}

/// Opens the journal at `path` for reading.
fn open(path: &Path) -> Result<Stopped, Refused> {
    let folder = Folder::read_only(path).map_err(Refused::Folder)?;
    let lock = folder.try_lock().map_err(|error| match error {
        LockError::Taken => Refused::Running,
        other => Refused::Lock(other),
    })?;
    let segments = Segments::open(&folder)?;
    if segments.segments.is_empty() {
        return Err(Refused::Nothing);
    }
    Ok(Stopped { folder, segments, _lock: lock })
}

impl Stopped {
    fn check(&self, output: &mut impl Write) -> Result<Verdict, Refused> {
        let inspection = inspect(&self.folder)?;
        check::check(&self.segments, &inspection, output).map_err(Refused::Output)
    }

    fn dump(&self, with_payload: bool, output: &mut impl Write) -> Result<Verdict, Refused> {
        dump::dump(&self.segments, with_payload, output).map_err(Refused::Output)?;
        Ok(Verdict::Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::mqtt::{MessageBuilder, Millis, Publication, QoS, TopicName};
    use crate::store::{
        Batch, Delivered, FIRST_RECORD, How, QueueId, Record, Salt, Segment, SessionKind, SessionState, file_name,
    };

    fn delivered(queue: u64, sequence: u64) -> Delivered {
        Delivered { queue: QueueId(queue), sequence }
    }

    /// A session that subscribed, two messages of which one is over, and a retained one.
    fn batch() -> Batch {
        let mut batch = Batch::default();
        // A commit begins with the time.
        let (now, unbroken_since) = (Millis(12_345), Millis(1));
        let wall_ms = 1_795_351_208_017;
        batch.push(&Record::Time(Moment { now, unbroken_since, wall_ms, is_synchronised: true }));
        let state = SessionState {
            kind: SessionKind::Client,
            client_id: "meter\n7".into(),
            owner: Some("bob".into()),
            expiry_interval: 3600,
            window: 20,
            will: None,
        };
        batch.push(&Record::Session { queue: QueueId(3), state });
        for sequence in 0..2 {
            let topic = TopicName::new("plants/a").unwrap();
            let message = MessageBuilder::new(&topic, b"21.5 \x1B").qos(QoS::AtLeastOnce).build();
            batch.deliver(delivered(3, sequence), &How::plain(QoS::AtLeastOnce, false));
            if sequence == 1 {
                batch.deliver(delivered(0, 0), &How::plain(QoS::AtLeastOnce, true));
            }
            batch.publish(&Publication::from_message(&message), None);
        }
        batch.push(&Record::Received { delivered: delivered(3, 0) });
        batch.push(&Record::Away { queue: QueueId(3), at: Millis(12_345) });
        batch
    }

    /// A journal of two files with the batch in each; gives where the second's records end.
    fn journal(path: &Path) -> u64 {
        let folder = Folder::create(path).unwrap();
        drop(folder.try_lock().unwrap());
        let ends = [1, 2].map(|number| {
            let segment = Segment::create(&folder, number, Salt(5), 8192).unwrap();
            segment.write_batch(FIRST_RECORD, &batch()).unwrap()
        });
        ends[1]
    }

    fn checked(path: &Path) -> (Verdict, String) {
        let mut output = Vec::new();
        let verdict = open(path).unwrap().check(&mut output).unwrap();
        (verdict, String::from_utf8(output).unwrap())
    }

    fn dumped(path: &Path, payload: bool) -> String {
        let mut output = Vec::new();
        open(path).unwrap().dump(payload, &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    /// Names and contents of all that is in the folder.
    fn contents(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let mut contents: Vec<_> = entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        contents.sort();
        contents
    }

    fn change(path: &Path, number: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let path = path.join(file_name(number));
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_whole_journal_is_listed_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        journal(folder.path());
        let before = contents(folder.path());
        let (verdict, output) = checked(folder.path());
        assert_eq!(verdict, Verdict::Whole);
        insta::assert_snapshot!(output, @r#"
        file                           bytes        used     records
        journal-0000000001.seg          8192         202           6
        journal-0000000002.seg          8192         202           6

           queue    messages         bytes  whose
               0           1                retained messages
               3           2           140  client "meter\n7" of user "bob", 0 subscriptions, away

        2 files of format 2 with 12 records
        nothing is damaged
        "#);
        insta::assert_snapshot!(dumped(folder.path(), false).lines().take(6).collect::<Vec<_>>().join("\n"), @r#"
        1:64 time 12345 ms, 2026-11-22T12:40:08.017Z on the wall, synchronised
        1:85 session queue 3 client "meter\n7" user "bob" expiry 3600 s window 20
        1:114 publish "plants/a" 6 bytes qos 1 to 3/0
        1:145 publish "plants/a" 6 bytes qos 1 to 3/1 0/0(retain)
        1:179 received queue 3 0
        1:190 away queue 3 since 12345 ms
        "#);
        assert!(dumped(folder.path(), true).contains(r#" payload "21.5 \u{1b}""#));
        assert_eq!(contents(folder.path()), before);
    }

    #[test]
    fn a_torn_tail_is_told_and_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let end = journal(folder.path()) as usize;
        change(folder.path(), 2, |bytes| bytes[end - 1] ^= 1);
        let (verdict, output) = checked(folder.path());
        assert_eq!(verdict, Verdict::Whole);
        assert!(output.contains("torn: "), "{output}");
        assert!(dumped(folder.path(), false).contains(" torn, "));
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        journal(folder.path());
        // Two commits: what cannot be read in the last one may never have been written.
        let first = Segment::create(&Folder::create(folder.path()).unwrap(), 1, Salt(5), 8192).unwrap();
        let end = first.write_batch(FIRST_RECORD, &batch()).unwrap();
        first.write_batch(end, &batch()).unwrap();
        let whole = std::fs::read(folder.path().join(file_name(1))).unwrap();
        type Change = fn(&mut Vec<u8>);
        let changes: [(&str, Change); 2] =
            [("damaged: 29 bytes at 85", |bytes| bytes[100] ^= 1), ("damaged: the header", |bytes| bytes[17] ^= 1)];
        for (told, how) in changes {
            change(folder.path(), 1, how);
            let (verdict, output) = checked(folder.path());
            assert_eq!(verdict, Verdict::Damaged, "{output}");
            assert!(output.contains(told), "{output}");
            change(folder.path(), 1, |bytes| bytes.clone_from(&whole));
        }
        assert_eq!(checked(folder.path()).0, Verdict::Whole);
    }

    #[test]
    fn a_journal_that_is_in_use_or_not_there_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| open(path).map(|_| ()).unwrap_err().to_string();
        assert_eq!(refused(folder.path()), "there is no journal in it");
        assert_eq!(refused(&folder.path().join("none")), "No such file or directory (os error 2)");
        journal(folder.path());
        let lock = Folder::create(folder.path()).unwrap().try_lock().unwrap();
        assert!(refused(folder.path()).starts_with("a gateway is running on it"));
        drop(lock);
        open(folder.path()).unwrap();
    }
}
