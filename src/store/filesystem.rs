//! What the journal needs of a disk: one folder of files, so that tests can put a worse disk in its place.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that is locked while a process uses the folder.
const LOCK_NAME: &str = "lock";

/// One folder of files. A name is a file name without a path.
///
/// Nothing that changes the folder (a file that is new, renamed or removed) survives a power cut before
/// [`Filesystem::sync`].
pub trait Filesystem: Send + Sync + Debug {
    /// The names of its files, in no order.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens a file, for reading and, unless the folder was opened for reading only, for writing.
    ///
    /// # Errors
    /// `NotFound` where there is no such file.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Makes an empty file; one of the same name that was there is emptied.
    ///
    /// # Errors
    /// Where the disk refuses.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name; a file that had this name is gone. What has the file open keeps it.
    ///
    /// # Errors
    /// `NotFound` where there is no such file.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. What has it open keeps it.
    ///
    /// # Errors
    /// `NotFound` where there is no such file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns once new, renamed and removed files survive a power cut.
    ///
    /// # Errors
    /// Where it is not known whether they do.
    fn sync(&self) -> io::Result<()>;

    /// Takes the folder for this process, until the lock is dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// [`LockError::Taken`] where somebody has it.
    fn try_lock(&self) -> Result<Lock, LockError>;

    /// Bytes that can still be written, where that can be known.
    fn free_bytes(&self) -> Option<u64>;
}

/// An open file. Several threads may use it at once.
pub trait File: Send + Sync + Debug {
    /// Reads from `offset` on, and says how many bytes; 0 at the end. It may be fewer than asked for.
    ///
    /// # Errors
    /// Where the disk cannot give them.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. They do not survive a power cut before [`File::sync`].
    ///
    /// # Errors
    /// Where the disk refuses; some of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns once what was written survives a power cut (fdatasync).
    ///
    /// # Errors
    /// Where it does not. What was written since the last success may then be lost, even if a later call succeeds:
    /// the system marks the pages as clean.
    fn sync(&self) -> io::Result<()>;

    /// As [`File::sync`], with all that is known of the file (fsync).
    ///
    /// # Errors
    /// As [`File::sync`].
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts the file, or lengthens it with zeros that take no room on the disk yet.
    ///
    /// # Errors
    /// Where the disk refuses.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// Where the disk cannot say.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// Where the disk cannot say.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|bytes| bytes == 0)
    }

    /// Fills `into` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends before.
    fn read_exact_at(&self, mut offset: u64, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            match self.read_at(offset, into) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    offset += count as u64;
                    into = &mut into[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Holds a folder for this process until it is dropped.
#[derive(Debug)]
#[must_use = "the folder is free again once the lock is dropped"]
pub struct Lock {
    /// What ends when it is dropped.
    _held: Box<dyn Debug + Send + Sync>,
}

impl Lock {
    pub(super) fn new(held: impl Debug + Send + Sync + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

/// Why a folder cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it. Who that is cannot be known.
    #[error("another process uses this folder")]
    Taken,
    /// The lock file cannot be used.
    #[error("cannot use the lock file: {0}")]
    Io(#[from] io::Error),
}

/// A folder of the real file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The folder itself, which can be synced.
    handle: fs::File,
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Write,
    ReadOnly,
}

impl Folder {
    /// Opens the folder, and makes it where it is not there, with the folders above it. Others than the user and the
    /// group have no access to what is made.
    ///
    /// # Errors
    /// Where it cannot be made, or is no folder.
    pub fn create(path: &Path) -> io::Result<Self> {
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !is_there(path)).collect();
        for path in missing.into_iter().rev() {
            match DirBuilder::new().mode(0o750).create(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            // The new folder must survive a power cut, as what it will hold must.
            let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::File::open(above)?.sync_all()?;
        }
        Self::open(path, Access::Write)
    }

    /// Opens a folder that is there, and never changes anything in it.
    ///
    /// # Errors
    /// Where it is not there, or is no folder.
    pub fn read_only(path: &Path) -> io::Result<Self> {
        Self::open(path, Access::ReadOnly)
    }

    fn open(path: &Path, access: Access) -> io::Result<Self> {
        let handle = fs::File::open(path)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: path.to_owned(), handle, access })
    }

    fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(self.access == Access::Write).mode(0o640);
        options
    }

    fn writable(&self) -> io::Result<()> {
        match self.access {
            Access::Write => Ok(()),
            Access::ReadOnly => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }
}

/// An empty path stands for the folder at hand.
fn is_there(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

impl Filesystem for Folder {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A name that is no UTF-8 is none of ours.
            if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(self.options().open(self.path.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.writable()?;
        Ok(Arc::new(self.options().create(true).truncate(true).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.writable()?;
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.writable()?;
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn try_lock(&self) -> Result<Lock, LockError> {
        let path = self.path.join(LOCK_NAME);
        // A file that was opened for reading can be locked, too, where the file system is read-only.
        let file = match OpenOptions::new().read(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.access {
                Access::Write => self.options().create(true).truncate(false).open(&path)?,
                // No process that writes has ever been here.
                Access::ReadOnly => return Ok(Lock::new(())),
            },
            Err(error) => return Err(error.into()),
        };
        match file.try_lock() {
            Ok(()) => Ok(Lock::new(file)),
            Err(TryLockError::WouldBlock) => Err(LockError::Taken),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        let of = rustix::fs::fstatvfs(&self.handle).ok()?;
        Some(of.f_bavail.saturating_mul(of.f_frsize))
    }
}

impl File for fs::File {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        Self::set_len(self, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|of| of.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::Simulated;
    use super::*;

    /// What both the real file system and the one of the tests must do.
    fn behaves_like_a_folder(folder: &dyn Filesystem) {
        let file = folder.create("one").unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(3, b"abc").unwrap();
        assert_eq!(file.len().unwrap(), 6);
        let mut bytes = [9; 8];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), 6);
        assert_eq!(&bytes[..6], b"\0\0\0abc");
        assert_eq!(file.read_at(6, &mut bytes).unwrap(), 0);
        assert_eq!(file.read_exact_at(4, &mut bytes).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

        file.sync().unwrap();
        file.set_len(4).unwrap();
        file.set_len(7).unwrap();
        file.sync_all().unwrap();
        folder.sync().unwrap();
        let mut bytes = [9; 7];
        folder.open("one").unwrap().read_exact_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0\0a\0\0\0");

        folder.create("two").unwrap().write_at(0, b"two").unwrap();
        folder.rename("one", "two").unwrap();
        assert_eq!(folder.names().unwrap(), ["two"]);
        assert_eq!(folder.open("two").unwrap().len().unwrap(), 7);
        folder.remove("two").unwrap();
        assert_eq!(folder.names().unwrap(), [""; 0]);
        // What has a removed file open keeps it.
        file.write_at(0, b"still there").unwrap();
        assert_eq!(file.len().unwrap(), 11);

        for missing in [folder.open("two").map(|_| ()), folder.rename("two", "one"), folder.remove("two")] {
            assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        folder.create("one").unwrap().write_at(0, b"again").unwrap();
        assert!(folder.create("one").unwrap().is_empty().unwrap());
        folder.remove("one").unwrap();
        assert!(folder.free_bytes().unwrap() > 0);

        let lock = folder.try_lock().unwrap();
        assert!(matches!(folder.try_lock(), Err(LockError::Taken)));
        drop(lock);
        drop(folder.try_lock().unwrap());
    }

    #[test]
    fn the_real_folder_and_the_simulated_one_behave_alike() {
        let temporary = tempfile::tempdir().unwrap();
        behaves_like_a_folder(&Folder::create(temporary.path()).unwrap());
        behaves_like_a_folder(&Simulated::new());
    }

    #[test]
    fn a_folder_is_made_with_those_above_it() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("var/lib/edgeway");
        assert_eq!(Folder::read_only(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(Folder::create(&path).unwrap().create("file").unwrap());
        assert_eq!(Folder::create(&path).unwrap().names().unwrap(), ["file"]);
        assert_eq!(Folder::create(&path.join("file")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn a_lock_holds_through_every_other_way_into_the_folder() {
        let temporary = tempfile::tempdir().unwrap();
        let lock = Folder::create(temporary.path()).unwrap().try_lock().unwrap();
        let other = Folder::read_only(temporary.path()).unwrap();
        let error = other.try_lock().unwrap_err();
        assert_eq!(error.to_string(), "another process uses this folder");
        drop(lock);
        drop(other.try_lock().unwrap());
    }

    #[test]
    fn a_folder_that_is_only_looked_at_is_left_as_it_is() {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join("one"), "one").unwrap();
        let folder = Folder::read_only(temporary.path()).unwrap();
        let lock = folder.try_lock().unwrap();
        let refused = [folder.create("one").map(|_| ()), folder.rename("one", "two"), folder.remove("one")];
        for refused in refused {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        assert!(folder.open("one").unwrap().write_at(0, b"two").is_err());
        drop(lock);
        assert_eq!(folder.names().unwrap(), ["one"]);
        assert_eq!(fs::read(temporary.path().join("one")).unwrap(), b"one");
    }
}
