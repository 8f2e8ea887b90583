//! The files of the journal: their names, their headers, how they are made, used again and opened.
//!
//! ```text
//! journal-0000000001.seg
//!
//!  0  magic  "edgewayj"
//!  8  u32    format; what follows up to 60 is that of format 1, magic and format stand here in every format
//! 12  u32    0
//! 16  u64    number, that of the name
//! 24  u64    salt of the store
//! 32  u64    bytes that the file was made with
//! 40  text   version of the program that made it, filled up with zeros
//! 60  u32    CRC-32C of all before
//! 64  records, see record.rs and scan.rs; integers are little-endian
//! ```
//!
//! A file is filled with zeros when it is made, so that a commit changes no size and allocates nothing. A file in which
//! nothing is alive any more gets the next number and a new header, and is written over.
//!
//! After a crash, or a failed sync, nothing more is appended to a segment that holds records: a write that came in part
//! may have left whole records behind its first gap, which would come after what was appended later.

use std::io;
use std::sync::Arc;

use super::checksum::{Salt, Seed};
use super::filesystem::{File, Filesystem};
use super::scan::{END, Scan, Scanned};

/// The format that this program writes, and the newest that it reads. 2 is 1 with notes, and with
/// the times at which what waits for bridges came.
pub const FORMAT: u32 = 2;
/// Where the first record stands.
pub const FIRST_RECORD: u64 = HEADER_BYTES as u64;

const MAGIC: [u8; 8] = *b"edgewayj";
const HEADER_BYTES: usize = 64;
const VERSION: std::ops::Range<usize> = 40..60;
/// Bytes that are written or read at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// What is tried alone where more cannot be read.
const PAGE_BYTES: usize = 4096;

/// One file of the journal.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its number; later ones have higher numbers.
    pub number: u64,
    /// The file.
    pub file: Arc<dyn File>,
    /// What the checksums of its records begin with.
    pub seed: Seed,
    /// Bytes that the file was made with; they take room on the disk already.
    pub bytes: u64,
}

/// A segment that was found in a folder.
#[derive(Debug)]
pub struct Opened {
    /// The segment.
    pub segment: Segment,
    /// What its header says.
    pub state: State,
}

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Records may follow.
    Begun,
    /// The file was being made, or used again, when the process ended: no record has ever been written under its
    /// number. It can be removed.
    NotBegun,
    /// The header is damaged. Records may follow.
    Damaged,
}

/// The segments of a folder.
#[derive(Debug, Default)]
pub struct Segments {
    /// In the order of their numbers.
    pub segments: Vec<Opened>,
    /// The salt of the store; `None` where no header could be read.
    pub salt: Option<Salt>,
}

/// Why the segments of a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The folder or a file cannot be read.
    #[error("{name}: {error}")]
    Io {
        /// The file, or what was tried.
        name: String,
        /// What the system says.
        error: io::Error,
    },
    /// A newer program wrote it. Nothing was changed.
    #[error(
        "{name} has journal format {format}, written by edgeway {written_by}; this program reads up to format {FORMAT}"
    )]
    Newer {
        /// The file.
        name: String,
        /// Its format.
        format: u32,
        /// The version of that program.
        written_by: String,
    },
}

/// The bytes of a segment.
#[derive(Debug)]
pub struct Contents {
    /// All that is there, zeros where it cannot be read.
    pub bytes: Vec<u8>,
    /// The parts that the disk refuses to give: first byte and length, in the order in which they stand there.
    pub unreadable: Vec<(u64, u64)>,
}

/// The name of a segment's file.
pub fn file_name(number: u64) -> String {
    format!("journal-{number:010}.seg")
}

/// The number of the segment with this name; `None` where it is no segment's.
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("journal-")?.strip_suffix(".seg")?;
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    // So that no two names stand for one number.
    (file_name(number) == name).then_some(number)
}

impl Segment {
    /// Makes a file of `bytes`, no fewer than its header needs, and writes all of it. It survives a power cut when
    /// this returns.
    ///
    /// # Errors
    /// Where the disk refuses; what was made is removed again where that can be done.
    pub fn create(folder: &dyn Filesystem, number: u64, salt: Salt, bytes: u64) -> io::Result<Self> {
        let name = file_name(number);
        let bytes = bytes.max((HEADER_BYTES + END.len()) as u64);
        let made = folder.create(&name).and_then(|file| {
            // Page by page: what is written as one is kept, and written again, as one.
            let zeros = vec![0; PAGE_BYTES.min(bytes as usize)];
            let mut at = 0;
            while at < bytes {
                let count = zeros.len().min((bytes - at) as usize);
                file.write_at(at, &zeros[..count])?;
                at += count as u64;
            }
            Self::begin(folder, file, number, salt, bytes)
        });
        if made.is_err() {
            // The room is needed by others. Where this fails, too, the next start finds a file that is not begun.
            let _ = folder.remove(&name);
        }
        made
    }

    /// Gives a segment in which nothing is alive any more the number `number`. What it holds is gone. It survives a
    /// power cut when this returns.
    ///
    /// # Errors
    /// Where the disk refuses. The file may bear either name then; it holds nothing that is alive.
    pub fn recycle(folder: &dyn Filesystem, dead: &Self, number: u64, salt: Salt) -> io::Result<Self> {
        let bytes = dead.file.len()?;
        folder.rename(&file_name(dead.number), &file_name(number))?;
        Self::begin(folder, Arc::clone(&dead.file), number, salt, bytes)
    }

    fn begin(folder: &dyn Filesystem, file: Arc<dyn File>, number: u64, salt: Salt, bytes: u64) -> io::Result<Self> {
        let mut begin = [0; HEADER_BYTES + END.len()];
        begin[..HEADER_BYTES].copy_from_slice(&header(number, salt, bytes));
        file.write_at(0, &begin)?;
        file.sync_all()?;
        folder.sync()?;
        Ok(Self { number, file, seed: Seed::new(salt, number), bytes })
    }

    /// Reads all of it. What the disk refuses to give is left out and told; the rest may still be good.
    ///
    /// # Errors
    /// Where not even its length is known.
    pub fn read(&self) -> io::Result<Contents> {
        let length = usize::try_from(self.file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; length];
        let mut unreadable: Vec<(u64, u64)> = Vec::new();
        for (index, chunk) in bytes.chunks_mut(CHUNK_BYTES).enumerate() {
            let at = (index * CHUNK_BYTES) as u64;
            if self.file.read_exact_at(at, chunk).is_ok() {
                continue;
            }
            for (index, page) in chunk.chunks_mut(PAGE_BYTES).enumerate() {
                let (at, count) = (at + (index * PAGE_BYTES) as u64, page.len() as u64);
                if self.file.read_exact_at(at, page).is_err() {
                    page.fill(0);
                    match unreadable.last_mut() {
                        Some((begin, bytes)) if *begin + *bytes == at => *bytes += count,
                        _ => unreadable.push((at, count)),
                    }
                }
            }
        }
        Ok(Contents { bytes, unreadable })
    }

    fn holds_records(&self) -> bool {
        let Ok(contents) = self.read() else { return false };
        self.scan(&contents).any(|scanned| matches!(scanned, Scanned::Record { .. }))
    }

    /// Goes through the records of what [`Segment::read`] gave.
    pub fn scan<'a>(&self, contents: &'a Contents) -> Scan<'a> {
        Scan::new(&contents.bytes, FIRST_RECORD, self.seed, self.bytes)
    }
}

#[cfg(test)]
impl Segment {
    /// Writes the records that a batch holds encoded at `offset`; gives where they end. For tests of what reads them.
    pub fn write_batch(&self, offset: u64, batch: &super::batch::Batch) -> io::Result<u64> {
        let mut bytes = batch.bytes.clone();
        super::checksum::seal_records(&mut bytes, self.seed);
        let end = offset + bytes.len() as u64;
        bytes.extend_from_slice(&END);
        self.file.write_at(offset, &bytes)?;
        self.file.sync()?;
        Ok(end)
    }
}

impl Segments {
    /// Opens the segments of a folder, and changes nothing.
    ///
    /// # Errors
    /// Where the folder or a file cannot be read, or a newer program wrote one of them.
    pub fn open(folder: &dyn Filesystem) -> Result<Self, SegmentError> {
        let names =
            folder.names().map_err(|error| SegmentError::Io { name: "cannot list the folder".into(), error })?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        let mut opened = Vec::new();
        for number in numbers {
            let name = file_name(number);
            let found = find(folder, &name).map_err(|error| SegmentError::Io { name: name.clone(), error })?;
            if let Header::Newer { format, written_by } = found.1 {
                return Err(SegmentError::Newer { name, format, written_by });
            }
            opened.push((number, found));
        }
        let salt = opened.iter().rev().find_map(|(_, (_, header))| match header {
            Header::Whole { salt, .. } | Header::Mended { salt, .. } => Some(*salt),
            _ => None,
        });
        let segments = opened.into_iter().map(|(number, (file, header))| {
            let length = file.len().unwrap_or(0);
            // All segments of a store have the same salt.
            let salt = salt.unwrap_or(Salt(0));
            let (state, salt, bytes) = match header {
                Header::Whole { number: told, salt, bytes } if told == number => (State::Begun, salt, bytes),
                Header::Mended { number: told, salt, bytes } if told == number => (State::Damaged, salt, bytes),
                // It was to be used again and got its header; its new name did not come to the disk.
                Header::Whole { number: told, .. } if told > number => (State::NotBegun, salt, length),
                Header::Newer { .. } | Header::Damaged => (State::Damaged, salt, length),
                // A disk that has lost the header, or an older one in its place, may still have the records.
                Header::Whole { .. } | Header::Mended { .. } | Header::Absent => {
                    let segment =
                        Segment { number, file: Arc::clone(&file), seed: Seed::new(salt, number), bytes: length };
                    let state = if segment.holds_records() { State::Damaged } else { State::NotBegun };
                    (state, salt, length)
                }
            };
            let segment = Segment { number, file, seed: Seed::new(salt, number), bytes };
            Opened { segment, state }
        });
        Ok(Self { segments: segments.collect(), salt })
    }
}

/// What stands where a header should.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    Whole {
        number: u64,
        salt: Salt,
        bytes: u64,
    },
    /// One bit was wrong.
    Mended {
        number: u64,
        salt: Salt,
        bytes: u64,
    },
    Newer {
        format: u32,
        written_by: String,
    },
    /// Zeros, or nothing.
    Absent,
    Damaged,
}

fn find(folder: &dyn Filesystem, name: &str) -> io::Result<(Arc<dyn File>, Header)> {
    let file = folder.open(name)?;
    let mut bytes = [0; HEADER_BYTES];
    let length = file.len()?;
    let count = bytes.len().min(length as usize);
    let header = match file.read_exact_at(0, &mut bytes[..count]) {
        Ok(()) => match parse(&bytes) {
            Header::Damaged => mend(&bytes),
            header => header,
        },
        Err(_) => Header::Damaged,
    };
    Ok((file, header))
}

fn header(number: u64, salt: Salt, bytes: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    header[24..32].copy_from_slice(&salt.0.to_le_bytes());
    header[32..40].copy_from_slice(&bytes.to_le_bytes());
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let version = &version[..version.len().min(VERSION.len())];
    header[VERSION][..version.len()].copy_from_slice(version);
    let checksum = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn parse(header: &[u8; HEADER_BYTES]) -> Header {
    if header.iter().all(|byte| *byte == 0) {
        return Header::Absent;
    }
    let long = |at: usize| header[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let short = |at: usize| header[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    if header[..8] != MAGIC || short(60) != crc32c::crc32c(&header[..60]) {
        return Header::Damaged;
    }
    match short(8) {
        format if format > FORMAT => {
            let version = header[VERSION].split(|byte| *byte == 0).next().unwrap_or_default();
            let printable = version.iter().filter(|byte| byte.is_ascii_graphic());
            Header::Newer { format, written_by: printable.map(|byte| char::from(*byte)).collect() }
        }
        0 => Header::Damaged,
        _ => Header::Whole { number: long(16), salt: Salt(long(24)), bytes: long(32) },
    }
}

/// What a damaged header was if one bit of it is wrong. So few bytes with a right checksum differ in more than two.
fn mend(header: &[u8; HEADER_BYTES]) -> Header {
    let mended = (0..HEADER_BYTES * 8).find_map(|bit| {
        let mut header = *header;
        header[bit / 8] ^= 1 << (bit % 8);
        match parse(&header) {
            Header::Whole { number, salt, bytes } => Some(Header::Mended { number, salt, bytes }),
            newer @ Header::Newer { .. } => Some(newer),
            _ => None,
        }
    });
    mended.unwrap_or(Header::Damaged)
}

#[cfg(test)]
mod tests {
    use super::super::checksum::seal_records;
    use super::super::record::{QueueId, Record};
    use super::super::simulated::{Chance, Simulated};
    use super::*;

    const SALT: Salt = Salt(99);

    fn open(folder: &Simulated) -> Segments {
        Segments::open(folder).unwrap()
    }

    fn write(segment: &Segment, queues: std::ops::Range<u64>) {
        let mut bytes = Vec::new();
        queues.for_each(|queue| Record::SessionEnd { queue: QueueId(queue) }.put(&mut bytes));
        seal_records(&mut bytes, segment.seed);
        bytes.extend_from_slice(&END);
        segment.file.write_at(FIRST_RECORD, &bytes).unwrap();
        segment.file.sync().unwrap();
    }

    fn queues(opened: &Opened) -> Vec<u64> {
        let contents = opened.segment.read().unwrap();
        let scanned: Vec<u64> = opened
            .segment
            .scan(&contents)
            .filter_map(|scanned| match scanned {
                Scanned::Record { bytes, .. } => match Record::decode(bytes) {
                    Ok(Record::SessionEnd { queue }) => Some(queue.0),
                    other => panic!("{other:?}"),
                },
                _ => None,
            })
            .collect();
        scanned
    }

    #[test]
    fn names_and_numbers_are_the_same_thing() {
        assert_eq!(file_name(7), "journal-0000000007.seg");
        assert_eq!(number_of("journal-0000000007.seg"), Some(7));
        assert_eq!(number_of(&file_name(u64::MAX)), Some(u64::MAX));
        for other in
            ["journal-7.seg", "journal-0000000000.seg", "journal-+000000007.seg", "journal-0000000007.seg~", ""]
        {
            assert_eq!(number_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_segment_takes_its_room_when_it_is_made_and_survives_every_crash() {
        let folder = Simulated::new();
        folder.set_capacity(Some(1 << 20));
        let segment = Segment::create(&folder, 3, SALT, 300_000).unwrap();
        assert!(folder.free_bytes().unwrap() <= (1 << 20) - 300_000);
        write(&segment, 0..9);
        for seed in 0..50 {
            let after = folder.crash(&mut Chance(seed));
            let Segments { segments, salt } = open(&after);
            assert_eq!((segments.len(), salt), (1, Some(SALT)));
            assert_eq!((segments[0].segment.number, segments[0].segment.bytes), (3, 300_000));
            assert_eq!(segments[0].state, State::Begun);
            assert_eq!(queues(&segments[0]), (0..9).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_segment_that_does_not_fit_leaves_nothing_behind() {
        let folder = Simulated::new();
        folder.set_capacity(Some(100_000));
        let error = Segment::create(&folder, 1, SALT, 300_000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(folder.names().unwrap(), [""; 0]);
        assert_eq!(folder.free_bytes(), Some(100_000));
    }

    #[test]
    fn a_recycled_segment_takes_no_more_room_and_yields_nothing_of_its_earlier_use() {
        let folder = Simulated::new();
        let dead = Segment::create(&folder, 1, SALT, 8192).unwrap();
        write(&dead, 0..400);
        let before = folder.free_bytes();
        let segment = Segment::recycle(&folder, &dead, 5, SALT).unwrap();
        assert_eq!(folder.free_bytes(), before);
        assert_eq!(folder.names().unwrap(), [file_name(5)]);
        assert_eq!(queues(&open(&folder).segments[0]), [0; 0]);
        write(&segment, 500..503);
        let after = folder.crash(&mut Chance(1));
        assert_eq!(queues(&open(&after).segments[0]), [500, 501, 502]);
    }

    #[test]
    fn a_crash_while_a_segment_is_made_or_used_again_leaves_it_begun_or_not_begun() {
        let mut seen = Vec::new();
        for (changes, seed) in (0..12).flat_map(|changes| (0..40).map(move |seed| (changes, seed))) {
            let folder = Simulated::new();
            let dead = Segment::create(&folder, 1, SALT, 8192).unwrap();
            write(&dead, 0..20);
            folder.cut_after(changes);
            let made =
                Segment::create(&folder, 2, SALT, 8192).is_ok() && Segment::recycle(&folder, &dead, 3, SALT).is_ok();
            for Opened { segment, state } in open(&folder.crash(&mut Chance(seed))).segments {
                let opened = Opened { segment, state };
                assert_ne!(state, State::Damaged);
                if opened.segment.number > 1 {
                    assert_eq!(queues(&opened), [0; 0]);
                    seen.push((opened.segment.number, state == State::Begun));
                }
                assert!(!made || state == State::Begun && opened.segment.number > 1);
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [(2, false), (2, true), (3, false), (3, true)]);
    }

    #[test]
    fn a_newer_format_is_refused_in_words() {
        let folder = Simulated::new();
        Segment::create(&folder, 1, SALT, 4096).unwrap();
        let mut newer = header(2, SALT, 4096);
        newer[8..12].copy_from_slice(&7u32.to_le_bytes());
        newer[VERSION].copy_from_slice(b"12.3.4-beta\0\0\0\0\0\0\0\0\0");
        let checksum = crc32c::crc32c(&newer[..60]);
        newer[60..].copy_from_slice(&checksum.to_le_bytes());
        folder.put(&file_name(2), &newer);
        let changes = folder.counters().changes;
        assert_eq!(
            Segments::open(&folder).unwrap_err().to_string(),
            "journal-0000000002.seg has journal format 7, written by edgeway 12.3.4-beta; this program reads up to \
             format 2"
        );
        assert_eq!(folder.counters().changes, changes);
    }

    #[test]
    fn an_older_format_is_read() {
        let folder = Simulated::new();
        write(&Segment::create(&folder, 1, SALT, 4096).unwrap(), 10..13);
        let mut bytes = folder.contents(&file_name(1)).unwrap();
        bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
        folder.put(&file_name(1), &bytes);
        let opened = &open(&folder).segments[0];
        assert_eq!((opened.state, queues(opened)), (State::Begun, vec![10, 11, 12]));
    }

    #[test]
    fn a_header_with_one_wrong_bit_is_told_and_read_all_the_same() {
        let folder = Simulated::new();
        write(&Segment::create(&folder, 1, SALT, 4096).unwrap(), 10..13);
        for bit in 0..HEADER_BYTES * 8 {
            folder.flip(&file_name(1), bit / 8, 1 << (bit % 8));
            let Segments { segments, salt } = open(&folder);
            assert_eq!((segments[0].state, salt), (State::Damaged, Some(SALT)), "bit {bit}");
            assert_eq!((queues(&segments[0]), segments[0].segment.bytes), (vec![10, 11, 12], 4096), "bit {bit}");
            folder.flip(&file_name(1), bit / 8, 1 << (bit % 8));
        }
    }

    #[test]
    fn records_without_their_header_are_read_by_the_number_of_the_name_and_the_salt_of_the_others() {
        let folder = Simulated::new();
        for number in [1, 2] {
            write(&Segment::create(&folder, number, SALT, 4096).unwrap(), number * 10..number * 10 + 3);
        }
        // Zeros, other bytes, and the header of an earlier use.
        for lost in [[0; HEADER_BYTES], [0xA5; HEADER_BYTES], header(1, SALT, 4096)] {
            let mut bytes = folder.contents(&file_name(2)).unwrap();
            bytes[..HEADER_BYTES].copy_from_slice(&lost);
            folder.put(&file_name(2), &bytes);
            let opened = &open(&folder).segments[1];
            assert_eq!((opened.state, queues(opened)), (State::Damaged, vec![20, 21, 22]));
        }
    }

    #[test]
    fn pages_that_cannot_be_read_are_left_out() {
        let folder = Simulated::new();
        let segment = Segment::create(&folder, 1, SALT, 40_000).unwrap();
        write(&segment, 0..1500);
        folder.set_unreadable(&file_name(1), 5000..9000);
        let contents = segment.read().unwrap();
        assert_eq!(contents.unreadable, [(4096, 8192)]);
        let mut read = 0;
        let mut damage = Vec::new();
        for scanned in segment.scan(&contents) {
            match scanned {
                Scanned::Record { .. } => read += 1,
                Scanned::Damage { offset, bytes } => damage.push((offset / 4096, (offset + bytes) / 4096)),
                Scanned::End { torn_bytes, .. } => assert_eq!(torn_bytes, 0),
            }
        }
        assert_eq!(damage, [(0, 3)]);
        assert!((600..1000).contains(&read), "{read}");
    }
}
