//! Finds the records in a segment's bytes, past places that cannot be read.
//!
//! Behind the last record of every write stands [`END`], and the next write begins on it. So what follows the last
//! whole record says what happened:
//!
//! | there stands | then |
//! |---|---|
//! | [`END`], or the end of the file, and no record further on | this is the end, whatever an earlier use of a recycled file left behind it |
//! | other bytes, and no record further on | the end; a write was under way, and came here in part: a torn tail |
//! | anything, and a record further on | damage; reading goes on at the record |
//! | other bytes, and the file is shorter than it was made | damage |
//!
//! Records of an earlier use of the file have the checksums of another segment, so none of them is a "record further
//! on". One thing cannot be told from damage: a write of several sectors that came to the disk without its first ones.

use super::checksum::{self, Prefixes, Seed};
use super::record::{HEADER_BYTES, Record};

/// What stands behind the last record of every write, where it fits: the header of no record.
pub const END: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

/// A disk tears a write between two of these.
const SECTOR_BYTES: usize = 512;

/// What stands in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned<'a> {
    /// A whole record with its checksum.
    Record {
        /// Where it begins, from the start of the file.
        offset: u64,
        /// Kind and body, as [`Record::decode`] takes them. It takes [`Scanned::HEADER_BYTES`] more in the file.
        bytes: &'a [u8],
    },
    /// Something stood here that cannot be read any more.
    Damage {
        /// Where it begins.
        offset: u64,
        /// Bytes until the next record, or to where the file should end.
        bytes: u64,
    },
    /// No record follows. It comes once, at last.
    End {
        /// Behind the last record.
        offset: u64,
        /// Bytes of a write that was not completed; no fewer, but there may be more.
        torn_bytes: u64,
    },
}

impl Scanned<'_> {
    /// Bytes in the file before the kind of a record.
    pub const HEADER_BYTES: u64 = HEADER_BYTES as u64;
}

/// Goes through a segment's bytes; ends after [`Scanned::End`].
#[derive(Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    seed: Seed,
    /// How long the file was made.
    made_bytes: u64,
    offset: usize,
    prefixes: Option<Prefixes<'a>>,
    has_ended: bool,
}

impl<'a> Scan<'a> {
    /// Scans `bytes`, all of a segment's file, from the record at `offset` on. `made_bytes` says how long the file was
    /// when it was made; it may have been cut since.
    pub fn new(bytes: &'a [u8], offset: u64, seed: Seed, made_bytes: u64) -> Self {
        let offset = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
        Self { bytes, seed, made_bytes, offset, prefixes: None, has_ended: false }
    }

    /// The next place from `from` on where a record stands.
    fn find(&mut self, from: usize) -> Option<usize> {
        let Self { bytes, seed, prefixes, .. } = self;
        let last = bytes.len().checked_sub(HEADER_BYTES + 1)?;
        (from..=last).find(|&offset| {
            let Some(header) = bytes[offset..].first_chunk::<HEADER_BYTES>() else { return false };
            let (length, _) = checksum::split_header(*header);
            // Most places are ruled out by this.
            let room = bytes.len() - offset - HEADER_BYTES;
            if length == 0 || length as usize > room || !Record::is_known(bytes[offset + HEADER_BYTES]) {
                return false;
            }
            let body = prefixes.get_or_insert_with(|| Prefixes::new(bytes)).verify(offset, *seed);
            body.is_some_and(|body| Record::decode(body).is_ok())
        })
    }

    fn torn_bytes(&self) -> u64 {
        let rest = &self.bytes[self.offset..];
        // Where no record fits, no end does: an earlier use of the file may show.
        if rest.len() < END.len() || rest.iter().take(HEADER_BYTES).all(|byte| *byte == 0) {
            return 0;
        }
        let whole = rest.first_chunk::<HEADER_BYTES>().map(|header| checksum::split_header(*header).0 as usize);
        match whole.and_then(|length| length.checked_add(HEADER_BYTES)) {
            Some(whole) if whole <= rest.len() => whole as u64,
            // The length itself is not to be trusted.
            _ => rest.len().min(SECTOR_BYTES - self.offset % SECTOR_BYTES) as u64,
        }
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Scanned<'a>;

    fn next(&mut self) -> Option<Scanned<'a>> {
        if self.has_ended {
            return None;
        }
        let begin = self.offset;
        let offset = begin as u64;
        if let Some(bytes) = checksum::verify(&self.bytes[begin..], self.seed) {
            self.offset += HEADER_BYTES + bytes.len();
            return Some(Scanned::Record { offset, bytes });
        }
        if let Some(next) = self.find(begin + 1) {
            self.offset = next;
            return Some(Scanned::Damage { offset, bytes: (next - begin) as u64 });
        }
        let is_cut = (self.bytes.len() as u64) < self.made_bytes;
        let is_end = self.bytes[begin..].starts_with(&END);
        if is_cut && !is_end {
            self.offset = self.bytes.len();
            let bytes = self.made_bytes - offset;
            // What is missing is said once.
            self.made_bytes = 0;
            return Some(Scanned::Damage { offset, bytes });
        }
        self.has_ended = true;
        Some(Scanned::End { offset, torn_bytes: self.torn_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::checksum::{Salt, seal_records};
    use super::super::record::{Delivered, QueueId, Sequences};
    use super::*;
    use crate::mqtt::Millis;

    const BEGIN: usize = 64;

    fn seed() -> Seed {
        Seed::new(Salt(5), 1)
    }

    fn record(number: u64) -> Record<'static> {
        let (queue, sequence) = (QueueId(number), number * 1000);
        match number % 4 {
            0 => Record::Received { delivered: Delivered { queue, sequence } },
            1 => Record::Settle { queue, sequences: Sequences { first: sequence, last: sequence + 3 } },
            2 => Record::Unsubscribe { queue, filter: "meters/+/power" },
            _ => Record::Away { queue, at: Millis(sequence) },
        }
    }

    fn sealed(numbers: std::ops::Range<u64>, seed: Seed) -> Vec<u8> {
        let mut bytes = Vec::new();
        numbers.for_each(|number| record(number).put(&mut bytes));
        seal_records(&mut bytes, seed);
        bytes
    }

    /// A file of `length` bytes with these, and END, behind where the header stands.
    fn file(length: usize, records: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; length];
        bytes[BEGIN..BEGIN + records.len()].copy_from_slice(records);
        bytes
    }

    /// Puts sealed records and END over what stands at `offset`.
    fn write(file: &mut [u8], offset: usize, records: &[u8]) {
        file[offset..offset + records.len()].copy_from_slice(records);
        file[offset + records.len()..][..END.len()].copy_from_slice(&END);
    }

    /// The numbers of the records, the damage, and the end with its torn bytes.
    type Found = (Vec<u64>, Vec<(u64, u64)>, (u64, u64));

    fn scan(bytes: &[u8], made: usize) -> Found {
        let (mut records, mut damage, mut end) = (Vec::new(), Vec::new(), None);
        for scanned in Scan::new(bytes, BEGIN as u64, seed(), made as u64) {
            assert_eq!(end, None, "something follows the end");
            match scanned {
                Scanned::Record { bytes, .. } => {
                    let decoded = Record::decode(bytes).unwrap();
                    records.push((0..100).find(|number| record(*number) == decoded).expect("one that was written"));
                }
                Scanned::Damage { offset, bytes } => damage.push((offset, bytes)),
                Scanned::End { offset, torn_bytes } => end = Some((offset, torn_bytes)),
            }
        }
        (records, damage, end.expect("an end"))
    }

    #[test]
    fn whole_records_are_found_to_the_end() {
        let records = sealed(0..5, seed());
        let bytes = file(4096, &records);
        assert_eq!(scan(&bytes, 4096), ((0..5).collect(), vec![], ((BEGIN + records.len()) as u64, 0)));
        // A file that is full to the last byte.
        let full = &bytes[..BEGIN + records.len()];
        assert_eq!(scan(full, full.len()), ((0..5).collect(), vec![], (full.len() as u64, 0)));
        assert_eq!(scan(&bytes[..BEGIN], BEGIN), (vec![], vec![], (BEGIN as u64, 0)));
        assert_eq!(scan(&[], 0), (vec![], vec![], (0, 0)));
    }

    #[test]
    fn what_an_earlier_use_left_behind_is_neither_damage_nor_torn() {
        let mut bytes = file(4096, &sealed(0..90, Seed::new(Salt(5), 0)));
        let records = sealed(0..3, seed());
        write(&mut bytes, BEGIN, &records);
        assert_eq!(scan(&bytes, 4096), (vec![0, 1, 2], vec![], ((BEGIN + records.len()) as u64, 0)));
    }

    #[test]
    fn an_earlier_use_that_shows_where_no_record_fits_is_not_torn() {
        let records = sealed(0..3, seed());
        let end = BEGIN + records.len();
        for left in 1..END.len() {
            let mut bytes = vec![0xA5; end + left];
            bytes[BEGIN..end].copy_from_slice(&records);
            assert_eq!(scan(&bytes, bytes.len()), (vec![0, 1, 2], vec![], (end as u64, 0)));
        }
    }

    #[test]
    fn a_write_that_came_in_part_is_a_torn_tail() {
        let records = sealed(0..3, seed());
        let end = BEGIN + sealed(0..2, seed()).len();
        for kept in end + 1..BEGIN + records.len() {
            let mut bytes = file(4096, &records);
            bytes[kept..].fill(0);
            assert_eq!(scan(&bytes, 4096).0, [0, 1]);
            let (at, torn) = scan(&bytes, 4096).2;
            assert_eq!((at, torn), (end as u64, (BEGIN + records.len() - end) as u64), "kept to {kept}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_told_and_reading_goes_on_behind_it() {
        let records = sealed(0..6, seed());
        let (begin, end) = (BEGIN + sealed(0..2, seed()).len(), BEGIN + sealed(0..4, seed()).len());
        for fill in [0, 0xFF] {
            let mut bytes = file(4096, &records);
            bytes[begin..end - 1].fill(fill);
            assert_eq!(scan(&bytes, 4096).0, [0, 1, 4, 5]);
            assert_eq!(scan(&bytes, 4096).1, [(begin as u64, (end - begin) as u64)]);
        }
    }

    #[test]
    fn a_file_that_was_cut_is_damaged_unless_nothing_stood_there() {
        let records = sealed(0..6, seed());
        let bytes = file(4096, &records);
        let (fifth, end) = (BEGIN + sealed(0..5, seed()).len(), BEGIN + records.len());
        assert_eq!(
            scan(&bytes[..end - 1], 4096),
            ((0..5).collect(), vec![(fifth as u64, (4096 - fifth) as u64)], ((end - 1) as u64, 0))
        );
        assert_eq!(scan(&bytes[..end], 4096).1, [(end as u64, (4096 - end) as u64)]);
        assert_eq!(scan(&bytes[..end + END.len()], 4096).1, []);
    }

    #[test]
    fn a_record_in_a_payload_is_not_taken_for_one() {
        // Whoever published it knew all but the salt.
        let mut bytes = file(4096, &sealed(0..2, seed()));
        let guessed = sealed(2..40, Seed::new(Salt(0), 1));
        bytes[BEGIN + 200..][..guessed.len()].copy_from_slice(&guessed);
        assert_eq!(scan(&bytes, 4096).0, [0, 1]);
        assert_eq!(scan(&bytes, 4096).1, []);
    }

    #[test]
    fn lengths_at_every_byte_cost_no_more_than_one_pass() {
        // At every fourth byte a record of half a megabyte seems to begin: to sum up each would take minutes.
        let one = [1, 1, 8, 0];
        let bytes: Vec<u8> = one.iter().copied().cycle().take(1 << 20).collect();
        assert_eq!(scan(&bytes, bytes.len()).0, [0; 0]);
    }

    proptest! {
        #[test]
        fn a_record_with_a_flipped_bit_is_never_yielded(bit in any::<prop::sample::Index>()) {
            let records = sealed(0..40, seed());
            let mut bytes = file(8192, &records);
            let bit = bit.index(records.len() * 8);
            let place = BEGIN + bit / 8;
            bytes[place] ^= 1 << (bit % 8);
            let hit = (0..40).find(|number| place < BEGIN + sealed(0..number + 1, seed()).len()).unwrap();
            let (found, damage, (_, torn)) = scan(&bytes, 8192);
            prop_assert_eq!(found, (0..40).filter(|number| *number != hit).collect::<Vec<u64>>());
            // In the last record it looks as if the write had been torn.
            prop_assert_eq!((damage.len(), torn > 0), if hit == 39 { (0, true) } else { (1, false) });
        }

        #[test]
        fn arbitrary_bytes_are_scanned_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..2000), made in 0usize..3000) {
            scan(&bytes, made);
        }
    }
}
