//! The checksum of records: CRC-32C, seeded with the segment and the store that a record stands in.

use std::sync::OnceLock;

use super::record::HEADER_BYTES;

/// The polynomial of CRC-32C, the coefficient of the highest power in the lowest bit.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// Distances between places whose prefix is known.
const STRIDE: usize = 64;
/// Powers that stand in each table.
const POWERS: usize = 4096;

/// What tells one store's records from bytes that somebody else made up: chosen by chance when the store is made.
///
/// A payload may hold anything, a copy of a journal, too. Where the record around it cannot be read, the search for
/// the next record goes through the payload, and must find none there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub u64);

impl Salt {
    /// A new one, by chance. `None` where the system has no chance to give.
    pub fn random() -> Option<Self> {
        use ring::rand::{SecureRandom, SystemRandom};
        let mut bytes = [0; 8];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(u64::from_le_bytes(bytes)))
    }
}

/// What the checksums of a segment's records begin with. Records of another store, or of another segment, whose bytes
/// a recycled file still holds, have other checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    /// That of a segment.
    pub fn new(salt: Salt, segment: u64) -> Self {
        // Numbers that differ in their lower 32 bits give different seeds.
        Self(crc32c::crc32c_append(crc32c::crc32c(&salt.0.to_le_bytes()), &segment.to_le_bytes()))
    }

    fn of_length(self, length: u32) -> u32 {
        crc32c::crc32c_append(self.0, &length.to_le_bytes())
    }

    /// The checksum of a record with this kind and body.
    fn checksum(self, body: &[u8]) -> u32 {
        crc32c::crc32c_append(self.of_length(body.len() as u32), body)
    }
}

/// Fills in the checksums of encoded records, which stand one behind the other.
pub fn seal_records(mut records: &mut [u8], seed: Seed) {
    while let Some((header, rest)) = records.split_first_chunk_mut::<HEADER_BYTES>() {
        let (length, _) = split_header(*header);
        let Some((body, rest)) = rest.split_at_mut_checked(length as usize) else {
            debug_assert!(false, "a record is encoded whole");
            return;
        };
        header[4..].copy_from_slice(&seed.checksum(body).to_le_bytes());
        records = rest;
    }
}

/// Bytes of the whole records that stand at the front of `records` and fit into `room`.
pub fn whole_records(records: &[u8], room: usize) -> usize {
    let mut end = 0;
    while let Some(header) = records[end..].first_chunk::<HEADER_BYTES>() {
        let (length, _) = split_header(*header);
        match end.checked_add(HEADER_BYTES + length as usize) {
            Some(next) if next <= room && next <= records.len() => end = next,
            _ => break,
        }
    }
    end
}

/// The kind and body of the record at the front of `bytes`, where one stands there whole and has its checksum.
pub fn verify(bytes: &[u8], seed: Seed) -> Option<&[u8]> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let (length, checksum) = split_header(*header);
    let body = rest.get(..length as usize).filter(|body| !body.is_empty())?;
    (seed.checksum(body) == checksum).then_some(body)
}

/// Length and checksum.
pub(super) fn split_header(header: [u8; HEADER_BYTES]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = header;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

/// Checks records anywhere in `bytes`, each in the same small time however long it is.
///
/// A checksum of a part is what its end's prefix and its begin's differ in, the latter moved on by as many bytes: to
/// look for a record at every byte of a segment costs one pass, whatever lengths seem to stand there.
#[derive(Debug)]
pub(super) struct Prefixes<'a> {
    bytes: &'a [u8],
    /// The checksum of all before every [`STRIDE`]th byte.
    prefixes: Vec<u32>,
}

impl<'a> Prefixes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut prefixes = Vec::with_capacity(bytes.len() / STRIDE + 1);
        let mut checksum = 0;
        for part in bytes.chunks(STRIDE) {
            prefixes.push(checksum);
            checksum = crc32c::crc32c_append(checksum, part);
        }
        prefixes.push(checksum);
        Self { bytes, prefixes }
    }

    /// As [`verify`] at `offset`.
    pub fn verify(&self, offset: usize, seed: Seed) -> Option<&'a [u8]> {
        let header = self.bytes.get(offset..)?.first_chunk::<HEADER_BYTES>()?;
        let (length, checksum) = split_header(*header);
        let begin = offset + HEADER_BYTES;
        let end = begin.checked_add(length as usize)?;
        let body = self.bytes.get(begin..end).filter(|body| !body.is_empty())?;
        let before = self.prefix(begin) ^ seed.of_length(length);
        (self.prefix(end) ^ moved_on(before, body.len()) == checksum).then_some(body)
    }

    fn prefix(&self, end: usize) -> u32 {
        let known = end / STRIDE;
        crc32c::crc32c_append(self.prefixes[known], &self.bytes[known * STRIDE..end])
    }
}

/// What `checksum` has become of when `count` zero bytes have followed: its product with x to the power of 8 `count`.
fn moved_on(checksum: u32, count: usize) -> u32 {
    static TABLES: OnceLock<(Vec<u32>, Vec<u32>)> = OnceLock::new();
    let (small, large) = TABLES.get_or_init(|| {
        // The coefficient of x to the power of 0 stands in the highest bit.
        let (one, byte) = (1 << 31, 1 << (31 - 8));
        let powers = |step| std::iter::successors(Some(one), move |power| Some(product(*power, step)));
        let small: Vec<u32> = powers(byte).take(POWERS).collect();
        let step = product(small[POWERS - 1], byte);
        (small, powers(step).take(POWERS).collect())
    });
    let mut moved = product(checksum, small[count % POWERS]);
    let mut blocks = count / POWERS;
    while blocks > 0 {
        let step = blocks.min(POWERS - 1);
        moved = product(moved, large[step]);
        blocks -= step;
    }
    moved
}

/// The product of two polynomials over GF(2), modulo that of the checksum.
fn product(mut factor: u32, mut other: u32) -> u32 {
    let mut product = 0;
    while factor != 0 {
        // From the power of 0 on: the mask is all ones where the coefficient is 1.
        product ^= other & ((factor as i32) >> 31) as u32;
        factor <<= 1;
        other = (other >> 1) ^ (POLYNOMIAL & (other & 1).wrapping_neg());
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Encoded records without checksums.
    fn records(bodies: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for body in bodies {
            bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(body);
        }
        bytes
    }

    #[test]
    fn sealed_records_are_verified_in_their_segment_and_store_alone() {
        let seed = Seed::new(Salt(7), 3);
        let mut bytes = records(&[b"one", b"three"]);
        assert_eq!(verify(&bytes, seed), None);
        seal_records(&mut bytes, seed);
        assert_eq!(verify(&bytes, seed), Some(&b"one"[..]));
        assert_eq!(verify(&bytes[11..], seed), Some(&b"three"[..]));
        assert_eq!(verify(&bytes[11..23], seed), None);
        for other in [Seed::new(Salt(7), 4), Seed::new(Salt(8), 3)] {
            assert_eq!(verify(&bytes, other), None);
        }
        // What a cleared file holds is no record of no bytes.
        assert_eq!(verify(&[0; 64], seed), None);
    }

    #[test]
    fn whole_records_are_counted_up_to_the_room() {
        let bytes = records(&[b"one", b"three"]);
        let fits = |room| whole_records(&bytes, room);
        assert_eq!((fits(10), fits(11), fits(23), fits(24), fits(100)), (0, 11, 11, 24, 24));
        assert_eq!(whole_records(&bytes[..23], 100), 11);
        assert_eq!(whole_records(&[0xFF; 20], 100), 0);
    }

    proptest! {
        #[test]
        fn prefixes_verify_what_verify_does(
            before in prop::collection::vec(any::<u8>(), 0..300),
            body in prop::collection::vec(any::<u8>(), 1..20_000),
            flipped in any::<prop::sample::Index>(),
            salt in any::<u64>(),
        ) {
            let seed = Seed::new(Salt(salt), 1);
            let mut bytes = records(&[&body]);
            seal_records(&mut bytes, seed);
            bytes.splice(..0, before.iter().copied());
            prop_assert_eq!(Prefixes::new(&bytes).verify(before.len(), seed), Some(&body[..]));
            let place = before.len() + flipped.index(bytes.len() - before.len());
            bytes[place] ^= 1;
            prop_assert_eq!(Prefixes::new(&bytes).verify(before.len(), seed), None);
            let prefixes = Prefixes::new(&bytes);
            for offset in 0..bytes.len().min(400) {
                prop_assert_eq!(prefixes.verify(offset, seed), verify(&bytes[offset..], seed));
            }
        }

        #[test]
        fn moving_on_by_many_bytes_is_appending_zeros(checksum in any::<u32>(), count in 0usize..40_000_000) {
            let (once, twice) = (count / 3, count - count / 3);
            prop_assert_eq!(moved_on(moved_on(checksum, once), twice), moved_on(checksum, count));
            let few = count % 9_000;
            let zeros = vec![0; few];
            let appended = crc32c::crc32c_append(checksum, &zeros) ^ crc32c::crc32c(&zeros);
            prop_assert_eq!(moved_on(checksum, few), appended);
        }
    }
}
