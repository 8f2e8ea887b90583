//! A disk in memory for tests: it forgets what was not synced, tears and reorders writes, runs full and fails.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::filesystem::{File, Filesystem, Lock, LockError};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// What a file system hands out room in.
const BLOCK_BYTES: usize = 4096;

/// A folder on a disk in memory. Clones are the same folder.
///
/// Reads show what was written; [`Simulated::crash`] gives what a power cut would have left.
#[derive(Clone, Default)]
pub struct Simulated(Arc<Mutex<Disk>>);

/// How often something was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls that write to files.
    pub writes: u64,
    /// Bytes that they wrote.
    pub written_bytes: u64,
    /// Calls that sync files.
    pub syncs: u64,
    /// Calls that sync the folder.
    pub folder_syncs: u64,
    /// Calls of every kind that change or sync something, failed ones too.
    pub changes: u64,
}

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
struct Disk {
    files: BTreeMap<u64, Inode>,
    next_file: u64,
    /// What the names stand for now.
    names: BTreeMap<String, u64>,
    /// What they stand for after a power cut, if none of `pending` was done.
    durable_names: BTreeMap<String, u64>,
    pending: Vec<NameChange>,
    is_locked: bool,
    capacity: Option<u64>,
    failing_syncs: u64,
    failing_writes: Option<io::ErrorKind>,
    is_read_only: bool,
    changes_until_cut: Option<u64>,
    counters: Counters,
}

#[derive(Clone)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// What stood in each sector since the last sync, in order: any of it may be on the disk.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
    /// The same of sectors whose sync failed: no later sync writes them, unless they are written again.
    dropped: BTreeMap<usize, Vec<Vec<u8>>>,
    /// Lengths since the last sync.
    lengths: Vec<usize>,
    /// What reads fail on.
    unreadable: Option<std::ops::Range<usize>>,
    /// Blocks that take room.
    blocks: std::collections::BTreeSet<usize>,
    handles: usize,
}

impl Simulated {
    /// An empty folder on a disk without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a power cut now would leave: all that was synced and, of what was written since, any sectors, each as it
    /// stood at any time since; of the changes of names since the folder was synced, any. What a failed sync covered
    /// is there or not in the same way, whatever was synced later. The new disk has no faults, and no limit but the
    /// capacity. This one goes on.
    pub fn crash(&self, chance: &mut Chance) -> Self {
        let disk = self.disk();
        let mut names = disk.durable_names.clone();
        let mood = Mood::of(chance);
        for change in disk.pending.iter().filter(|_| mood.keeps(chance)) {
            change.apply(&mut names);
        }
        let files = names.values().filter_map(|&file| Some((file, disk.files.get(&file)?.crash(chance)))).collect();
        Self(Arc::new(Mutex::new(Disk {
            files,
            next_file: disk.next_file,
            durable_names: names.clone(),
            names,
            capacity: disk.capacity,
            ..Disk::default()
        })))
    }

    /// Lets files take no more than `bytes`, in blocks of 4 KiB; writes beyond it fail with `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Lets the next `count` syncs, of files or of the folder, fail.
    pub fn fail_next_syncs(&self, count: u64) {
        self.disk().failing_syncs = count;
    }

    /// Lets all writes to files fail, until `None` is said.
    pub fn fail_writes(&self, kind: Option<io::ErrorKind>) {
        self.disk().failing_writes = kind;
    }

    /// Lets all that would change anything fail, and syncs where something is to be synced.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.disk().is_read_only = is_read_only;
    }

    /// Does `changes` more of what [`Counters::changes`] counts, and from then on nothing: everything fails, as if
    /// the power had been cut. [`Simulated::crash`] says what is left.
    pub fn cut_after(&self, changes: u64) {
        self.disk().changes_until_cut = Some(changes);
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.disk().counters
    }

    /// What a file holds, unsynced or not.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        Some(disk.files[disk.names.get(name)?].bytes.clone())
    }

    /// Puts a file there, as if it had always been.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut disk = self.disk();
        let file = match disk.names.get(name) {
            Some(&file) => file,
            None => disk.make(name),
        };
        disk.durable_names.insert(name.to_owned(), file);
        let handles = disk.files.get(&file).map_or(0, |inode| inode.handles);
        let blocks = (0..bytes.len().div_ceil(BLOCK_BYTES)).collect();
        let inode = Inode { bytes: bytes.to_vec(), durable: bytes.to_vec(), blocks, handles, ..Inode::default() };
        disk.files.insert(file, inode);
    }

    /// Flips bits of a byte on the disk, as a dying card does. Nothing happens beyond the end of the file.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) {
        if let Some(mut bytes) = self.contents(name)
            && let Some(byte) = bytes.get_mut(offset)
        {
            *byte ^= mask;
            self.put(name, &bytes);
        }
    }

    /// Lets reads of these bytes of a file fail, as those of a bad sector do.
    pub fn set_unreadable(&self, name: &str, bytes: std::ops::Range<usize>) {
        let mut disk = self.disk();
        let file = disk.names.get(name).copied();
        if let Some(inode) = file.and_then(|file| disk.files.get_mut(&file)) {
            inode.unreadable = Some(bytes);
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Debug for Simulated {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Simulated").field("names", &self.disk().names).finish_non_exhaustive()
    }
}

/// How much of what was not synced is there after a power cut: chances alone would hardly ever give all or nothing.
#[derive(Clone, Copy)]
enum Mood {
    Nothing,
    Everything,
    Anything,
}

impl Mood {
    fn of(chance: &mut Chance) -> Self {
        match chance.below(4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Anything,
        }
    }

    fn keeps(self, chance: &mut Chance) -> bool {
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
    fn crash(&self, chance: &mut Chance) -> Self {
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

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
            self.lengths.push(end);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        self.touch(offset, end);
    }

    fn set_len(&mut self, length: usize) {
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

    fn sync(&mut self) {
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

    fn fail_sync(&mut self) {
        for (sector, mut versions) in std::mem::take(&mut self.dirty) {
            self.dropped.entry(sector).or_default().append(&mut versions);
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Disk {
    /// Counts a change, and refuses it where there is no power.
    fn change(&mut self) -> io::Result<()> {
        self.counters.changes += 1;
        match &mut self.changes_until_cut {
            Some(0) => return Err(io::Error::other("the power is cut")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn change_names(&mut self) -> io::Result<()> {
        self.change()?;
        if self.is_read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    fn change_bytes(&mut self) -> io::Result<()> {
        self.change_names()?;
        self.failing_writes.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn is_sync_failing(&mut self) -> bool {
        let is_failing = self.failing_syncs > 0;
        self.failing_syncs = self.failing_syncs.saturating_sub(1);
        is_failing
    }

    fn make(&mut self, name: &str) -> u64 {
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, Inode::default());
        self.names.insert(name.to_owned(), file);
        file
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used_bytes(&self) -> u64 {
        let taking =
            self.files.iter().filter(|(file, inode)| inode.handles > 0 || self.names.values().any(|n| n == *file));
        taking.map(|(_, inode)| (inode.blocks.len() * BLOCK_BYTES) as u64).sum()
    }

    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change_bytes()?;
        self.counters.writes += 1;
        let mut room = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used_bytes()));
        let inode = self.files.get_mut(&file).expect("an open file is there");
        let offset = offset as usize;
        let mut fits = 0;
        // What fits is written, as by a system call that is tried again for the rest.
        while fits < bytes.len() {
            let block = (offset + fits) / BLOCK_BYTES;
            if !inode.blocks.contains(&block) {
                if room < BLOCK_BYTES as u64 {
                    break;
                }
                room -= BLOCK_BYTES as u64;
                inode.blocks.insert(block);
            }
            fits = ((block + 1) * BLOCK_BYTES - offset).min(bytes.len());
        }
        if fits > 0 {
            inode.write(offset, &bytes[..fits]);
        }
        self.counters.written_bytes += fits as u64;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_file(&mut self, file: u64) -> io::Result<()> {
        self.change()?;
        self.counters.syncs += 1;
        let is_failing = self.is_sync_failing();
        let inode = self.files.get_mut(&file).expect("an open file is there");
        let is_clean = inode.dirty.is_empty() && inode.lengths.is_empty();
        if is_failing || self.is_read_only && !is_clean {
            inode.fail_sync();
            return Err(io::Error::other("input/output error"));
        }
        inode.sync();
        Ok(())
    }
}

impl Filesystem for Simulated {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        let file = disk.find(name)?;
        Ok(self.handle(&mut disk, file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        disk.change_names()?;
        let file = match disk.names.get(name).copied() {
            Some(file) => {
                disk.files.get_mut(&file).expect("a name stands for a file").set_len(0);
                file
            }
            None => {
                let file = disk.make(name);
                disk.pending.push(NameChange::Create(name.to_owned(), file));
                file
            }
        };
        Ok(self.handle(&mut disk, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change_names()?;
        disk.find(from)?;
        disk.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change_names()?;
        disk.find(name)?;
        disk.change_name(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change()?;
        disk.counters.folder_syncs += 1;
        if disk.is_sync_failing() || disk.is_read_only && !disk.pending.is_empty() {
            // What stands in a file system's own journal is tried again.
            return Err(io::Error::other("input/output error"));
        }
        disk.pending.clear();
        disk.durable_names = disk.names.clone();
        disk.forget_what_nothing_names();
        Ok(())
    }

    fn try_lock(&self) -> Result<Lock, LockError> {
        let mut disk = self.disk();
        if disk.is_locked {
            return Err(LockError::Taken);
        }
        disk.is_locked = true;
        Ok(Lock::new(Held(self.clone())))
    }

    fn free_bytes(&self) -> Option<u64> {
        let disk = self.disk();
        Some(disk.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(disk.used_bytes())))
    }
}

impl Simulated {
    fn handle(&self, disk: &mut Disk, file: u64) -> Arc<dyn File> {
        disk.files.get_mut(&file).expect("a name stands for a file").handles += 1;
        Arc::new(Open { folder: self.clone(), file })
    }
}

impl Disk {
    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
        self.forget_what_nothing_names();
    }

    fn forget_what_nothing_names(&mut self) {
        let Self { files, names, durable_names, pending, .. } = self;
        files.retain(|file, inode| {
            let is_created = |change: &NameChange| matches!(change, NameChange::Create(_, created) if created == file);
            inode.handles > 0
                || names.values().chain(durable_names.values()).any(|named| named == file)
                || pending.iter().any(is_created)
        });
    }
}

#[derive(Debug)]
struct Held(Simulated);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.disk().is_locked = false;
    }
}

#[derive(Debug)]
struct Open {
    folder: Simulated,
    file: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut disk = self.folder.disk();
        if let Some(inode) = disk.files.get_mut(&self.file) {
            inode.handles -= 1;
        }
        disk.forget_what_nothing_names();
    }
}

impl File for Open {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let disk = self.folder.disk();
        let inode = &disk.files[&self.file];
        let bytes = inode.bytes.get(offset as usize..).unwrap_or_default();
        let count = bytes.len().min(into.len());
        let end = offset as usize + count;
        if inode.unreadable.as_ref().is_some_and(|bad| bad.start < end && (offset as usize) < bad.end) {
            return Err(io::Error::other("input/output error"));
        }
        into[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.folder.disk().write(self.file, offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.folder.disk().sync_file(self.file)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.folder.disk();
        disk.change_bytes()?;
        disk.files.get_mut(&self.file).expect("an open file is there").set_len(bytes as usize);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.folder.disk().files[&self.file].bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASHES: u64 = 200;

    fn crashes(disk: &Simulated) -> impl Iterator<Item = Simulated> {
        (0..CRASHES).map(|seed| disk.crash(&mut Chance(seed)))
    }

    fn synced(bytes: &[u8]) -> (Simulated, Arc<dyn File>) {
        let disk = Simulated::new();
        let file = disk.create("file").unwrap();
        file.write_at(0, bytes).unwrap();
        file.sync().unwrap();
        disk.sync().unwrap();
        (disk, file)
    }

    #[test]
    fn what_was_synced_survives_every_crash() {
        let (disk, _file) = synced(b"synced");
        assert!(crashes(&disk).all(|after| after.contents("file").unwrap() == b"synced"));
    }

    #[test]
    fn unsynced_sectors_come_in_any_order_or_not_at_all() {
        let (disk, file) = synced(&[0; 4 * SECTOR_BYTES]);
        file.write_at(0, &[1; 2 * SECTOR_BYTES]).unwrap();
        file.write_at(2 * SECTOR_BYTES as u64, &[2; 2 * SECTOR_BYTES]).unwrap();
        let mut seen: Vec<Vec<u8>> = crashes(&disk)
            .map(|after| {
                let bytes = after.contents("file").unwrap();
                let sectors: Vec<&[u8]> = bytes.chunks(SECTOR_BYTES).collect();
                assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])), "a torn sector");
                sectors.iter().map(|sector| sector[0]).collect()
            })
            .collect();
        seen.sort();
        seen.dedup();
        // Each of the four was there or not.
        assert_eq!(seen.len(), 16, "{seen:?}");
    }

    #[test]
    fn a_sector_that_was_written_twice_may_stand_as_after_either() {
        let (disk, file) = synced(&[0; SECTOR_BYTES]);
        file.write_at(0, b"a").unwrap();
        file.write_at(1, b"b").unwrap();
        let mut seen: Vec<Vec<u8>> =
            crashes(&disk).map(|after| after.contents("file").unwrap()[..2].to_vec()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, [b"\0\0", b"a\0", b"ab"]);
    }

    #[test]
    fn the_same_seed_crashes_alike() {
        let (disk, file) = synced(&[0; 64 * SECTOR_BYTES]);
        file.write_at(0, &[1; 64 * SECTOR_BYTES]).unwrap();
        for seed in 0..20 {
            let [one, other] = [seed, seed].map(|seed| disk.crash(&mut Chance(seed)).contents("file"));
            assert_eq!(one, other);
        }
    }

    #[test]
    fn unsynced_names_are_there_or_not() {
        let (disk, _file) = synced(b"old");
        disk.create("new").unwrap();
        disk.rename("file", "renamed").unwrap();
        let mut seen: Vec<Vec<String>> = crashes(&disk).map(|after| after.names().unwrap()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, [vec!["file"], vec!["file", "new"], vec!["new", "renamed"], vec!["renamed"]]);

        disk.sync().unwrap();
        assert!(crashes(&disk).all(|after| after.names().unwrap() == ["new", "renamed"]));
        disk.remove("renamed").unwrap();
        let there = crashes(&disk).filter(|after| after.contents("renamed").is_some_and(|bytes| bytes == b"old"));
        assert!((1..CRASHES as usize).contains(&there.count()));
    }

    #[test]
    fn what_a_failed_sync_covered_is_not_synced_by_the_next() {
        let (disk, file) = synced(b"old");
        disk.fail_next_syncs(1);
        file.write_at(0, b"new").unwrap();
        file.sync().unwrap_err();
        file.sync().unwrap();
        let mut bytes = [0; 3];
        file.read_exact_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"new");
        let lost = crashes(&disk).filter(|after| after.contents("file").unwrap() == b"old").count();
        assert!((1..CRASHES as usize).contains(&lost));

        // Written again, it is synced.
        file.write_at(0, b"new").unwrap();
        file.sync().unwrap();
        assert!(crashes(&disk).all(|after| after.contents("file").unwrap() == b"new"));
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_has_room_again_after_a_removal() {
        let disk = Simulated::new();
        disk.set_capacity(Some(2 * BLOCK_BYTES as u64));
        let file = disk.create("file").unwrap();
        let error = file.write_at(0, &[1; 3 * BLOCK_BYTES]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().unwrap(), 2 * BLOCK_BYTES as u64);
        assert_eq!(disk.free_bytes(), Some(0));
        // What has room already can be written over.
        file.write_at(0, &[2; 2 * BLOCK_BYTES]).unwrap();
        disk.remove("file").unwrap();
        assert_eq!(disk.free_bytes(), Some(0));
        drop(file);
        assert_eq!(disk.free_bytes(), Some(2 * BLOCK_BYTES as u64));
    }

    #[test]
    fn faults_come_as_asked_for() {
        let (disk, file) = synced(b"old");
        disk.flip("file", 0, b'o' ^ b'O');
        assert_eq!(disk.contents("file").unwrap(), b"Old");
        disk.fail_writes(Some(io::ErrorKind::TimedOut));
        assert_eq!(file.write_at(0, b"new").unwrap_err().kind(), io::ErrorKind::TimedOut);
        disk.fail_writes(None);
        disk.set_read_only(true);
        assert_eq!(file.write_at(0, b"new").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(disk.create("new").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        file.sync().unwrap();
        disk.set_read_only(false);
        disk.cut_after(1);
        file.write_at(0, b"new").unwrap();
        file.sync().unwrap_err();
        disk.sync().unwrap_err();
        assert_eq!(disk.contents("file").unwrap(), b"new");
        assert_eq!(disk.counters().writes, 2);
    }
}
