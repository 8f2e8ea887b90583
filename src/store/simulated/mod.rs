//! A disk in memory for tests: it forgets what was not synced, tears and reorders writes, runs full and fails.

mod inode;
mod tests;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

pub use inode::Chance;
use inode::{BLOCK_BYTES, Inode, Mood};

use super::filesystem::{File, Filesystem, Lock, LockError};

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
