//! A file on the simulated disk: what was written apart from what was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
/// What a file system hands out room in.
pub(super) const BLOCK_BYTES: usize = 4096;

/// Chances from a seed (SplitMix64): the same seed gives the same ones.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }
}

#[derive(Default)]
pub(super) struct Inode {
    pub bytes: Vec<u8>,
    pub durable: Vec<u8>,
    /// What stood in each sector since the last sync, in order: any of it may be on the disk.
    pub dirty: BTreeMap<usize, Vec<Vec<u8>>>,
    /// The same of sectors whose sync failed: no later sync writes them, unless they are written again.
    pub dropped: BTreeMap<usize, Vec<Vec<u8>>>,
    /// Lengths since the last sync.
    pub lengths: Vec<usize>,
    /// What reads fail on.
    pub unreadable: Option<Range<usize>>,
    /// Blocks that take room.
    pub blocks: BTreeSet<usize>,
    pub handles: usize,
}

/// How much of what was not synced is there after a power cut: chances alone would hardly ever give all or nothing.
#[derive(Clone, Copy)]
pub(super) enum Mood {
    Nothing,
    Everything,
    Anything,
}

impl Mood {
    pub fn of(chance: &mut Chance) -> Self {
        match chance.below(4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Anything,
        }
    }

    pub fn keeps(self, chance: &mut Chance) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Anything => chance.below(2) == 0,
        }
    }

    /// One of `count` things that came one after the other, or none of them.
    fn one_of(self, count: usize, chance: &mut Chance) -> Option<usize> {
        match self {
            Self::Nothing => None,
            Self::Everything => count.checked_sub(1),
            Self::Anything => (chance.below(count as u64 + 1) as usize).checked_sub(1),
        }
    }
}

impl Inode {
    pub fn crash(&self, chance: &mut Chance) -> Self {
        let mut bytes = self.durable.clone();
        for sectors in [&self.dropped, &self.dirty] {
            let mood = Mood::of(chance);
            for (&sector, versions) in sectors {
                if let Some(version) = mood.one_of(versions.len(), chance) {
                    let begin = sector * SECTOR_BYTES;
                    bytes.resize(bytes.len().max(begin + SECTOR_BYTES), 0);
                    bytes[begin..begin + SECTOR_BYTES].copy_from_slice(&versions[version]);
                }
            }
        }
        let length = match Mood::of(chance).one_of(self.lengths.len(), chance) {
            Some(length) => self.lengths[length],
            None => self.durable.len(),
        };
        bytes.resize(length, 0);
        let blocks = self.blocks.iter().copied().filter(|block| block * BLOCK_BYTES < length).collect();
        Self { durable: bytes.clone(), bytes, blocks, ..Self::default() }
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
            self.lengths.push(end);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        self.touch(offset, end);
    }

    pub fn set_len(&mut self, length: usize) {
        let before = self.bytes.len();
        self.bytes.resize(length, 0);
        self.lengths.push(length);
        if length < before {
            self.blocks.split_off(&length.div_ceil(BLOCK_BYTES));
            self.touch(length, before);
        }
    }

    /// Notes that the sectors of these bytes have changed.
    fn touch(&mut self, begin: usize, end: usize) {
        for sector in begin / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let begin = (sector * SECTOR_BYTES).min(self.bytes.len());
            let end = (begin + SECTOR_BYTES).min(self.bytes.len());
            let mut version = self.bytes[begin..end].to_vec();
            version.resize(SECTOR_BYTES, 0);
            self.dirty.entry(sector).or_default().push(version);
        }
    }

    pub fn sync(&mut self) {
        let length = if self.lengths.is_empty() { self.durable.len() } else { self.bytes.len() };
        let sectors = length.div_ceil(SECTOR_BYTES);
        self.durable.resize(sectors * SECTOR_BYTES, 0);
        for (sector, mut versions) in std::mem::take(&mut self.dirty) {
            self.dropped.remove(&sector);
            if let (true, Some(version)) = (sector < sectors, versions.pop()) {
                let begin = sector * SECTOR_BYTES;
                self.durable[begin..begin + SECTOR_BYTES].copy_from_slice(&version);
            }
        }
        self.durable.truncate(length);
        self.lengths.clear();
    }

    pub fn fail_sync(&mut self) {
        for (sector, mut versions) in std::mem::take(&mut self.dirty) {
            self.dropped.entry(sector).or_default().append(&mut versions);
        }
    }
}
