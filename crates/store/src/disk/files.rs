//! The border to the disk: the few things that are asked of a directory and of a file.
//!
//! [`Directory`] is the real one, and [`inspect`](super::inspect) has one that cannot write. Tests put a disk in its place that
//! tears, loses, reorders and damages what was written.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::lock::lock;
use super::sync_times::{Clock, SyncTimes};

/// A directory with the files of one log.
pub trait Files: Send + Sync + fmt::Debug {
    /// The names of all files, in any order.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The bytes of a file, from its beginning on, at most so many.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>>;

    /// The length of a file, in bytes.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.read(name, u64::MAX)?.len() as u64)
    }

    /// Makes a file of so many zero bytes, with the space for them where the system can promise it. Neither the file nor its
    /// name need be durable before [`FileAt::sync`] and [`Files::sync`]. A file of this name is replaced.
    ///
    /// # Errors
    ///
    /// What the system says; the file may be there nevertheless. Where the process may open no more files, that is
    /// [`StorageFull`](io::ErrorKind::StorageFull): room for one may come, and nothing was made.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn FileAt>>;

    /// Opens a file that is there, to write to it.
    ///
    /// # Errors
    ///
    /// What the system says; as [`Files::create`] where the process may open no more files.
    fn open(&self, name: &str) -> io::Result<Box<dyn FileAt>>;

    /// Cuts a file to so many bytes.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn cut(&self, name: &str, bytes: u64) -> io::Result<()>;

    /// Takes a file away.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which files there are.
    ///
    /// # Errors
    ///
    /// What the system says. Never call it again after that: what was lost may then be called durable.
    fn sync(&self) -> io::Result<()>;

    /// Looks whether the directory is still where it was: somebody may have taken away what a process has open, and it would write
    /// into what nobody finds again.
    ///
    /// # Errors
    ///
    /// It is not, or the system says no.
    fn is_in_place(&self) -> io::Result<()> {
        Ok(())
    }

    /// The files that were read or made here, and that somebody else has taken away or replaced.
    fn missing(&self) -> Vec<String> {
        Vec::new()
    }

    /// How many bytes this process may still write where the files lie. `None`: nobody knows.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// How long the syncs of files have taken so far.
    fn sync_times(&self) -> SyncTimes {
        SyncTimes::default()
    }
}

/// A file that is open for writing.
pub trait FileAt: Send + fmt::Debug {
    /// Writes all of this at the offset.
    ///
    /// # Errors
    ///
    /// What the system says; some of it may have been written.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything from the offset up to here zeros again, as it was when the file was made. The file is at no moment
    /// shorter, lest a crash in between shows one that was cut; and it keeps its space, if the system can do that.
    ///
    /// # Errors
    ///
    /// What the system says; some of it may be zeros already.
    fn wipe(&mut self, offset: u64, bytes: u64) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    ///
    /// What the system says. Never call it again after that: what was lost may then be called durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Why a directory cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Another process has it.
    #[error("{} is used by another process: one hub keeps its log in a directory at a time", .0.display())]
    InUse(PathBuf),
    /// The system says no.
    #[error("{} cannot be used as a data directory", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

/// A directory of the file system, locked against other processes as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Open for `sync`.
    directory: File,
    _lock: File,
    times: Arc<Clock>,
    /// The files that were read or made here, and not taken away.
    held: Mutex<BTreeMap<String, Identity>>,
}

/// What a file is, whatever its name.
type Identity = (u64, u64);

fn identity(there: &fs::Metadata) -> Identity {
    (there.dev(), there.ino())
}

/// Locked, and otherwise empty.
const LOCK: &str = "lock";

impl Directory {
    /// Takes the directory, which is made if it is not there, durably and for its owner alone.
    ///
    /// # Errors
    ///
    /// Another process has it, or the system says no.
    pub fn take(path: &Path) -> Result<Self, DirectoryError> {
        let io = |source| DirectoryError::Io { path: path.to_owned(), source };
        make(path).map_err(io)?;
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK));
        let lock = lock.map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirectoryError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let directory = File::open(path).map_err(io)?;
        // The folder too, because people take away a file that is called `lock`.
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirectoryError::InUse(path.to_owned())),
            // Not every file system locks a folder.
            Err(TryLockError::Error(_)) => {}
        }
        let (times, held) = (Arc::default(), Mutex::default());
        Ok(Self { path: path.to_owned(), directory, _lock: lock, times, held })
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Identity>> {
        lock(&self.held)
    }
}

/// Makes a directory and those above it, each durable in the one that it lies in.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make(above)?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(above)?.sync_all(),
    }
}

impl Files for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        let names: Vec<_> = names.collect::<io::Result<_>>()?;
        Ok(names.into_iter().flatten().collect())
    }

    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = File::open(self.path.join(name))?;
        let there = file.metadata()?;
        self.held().insert(name.to_owned(), identity(&there));
        let mut bytes = Vec::with_capacity(there.len().min(bytes_max) as usize);
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path.join(name))?.len())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn FileAt>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(self.path.join(name)).map_err(for_want_of_room)?;
        self.held().insert(name.to_owned(), identity(&file.metadata()?));
        allocate(&file, bytes)?;
        Ok(Box::new(OpenFile { file, times: self.times.clone() }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn FileAt>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name));
        let file = file.map_err(for_want_of_room)?;
        Ok(Box::new(OpenFile { file, times: self.times.clone() }))
    }

    fn cut(&self, name: &str, bytes: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.path.join(name))?.set_len(bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.held().remove(name);
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn is_in_place(&self) -> io::Result<()> {
        if identity(&self.directory.metadata()?) == identity(&fs::metadata(&self.path)?) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "another folder has its name"))
    }

    fn missing(&self) -> Vec<String> {
        let held = self.held().clone();
        let is_gone = |(name, held): &(String, Identity)| match fs::metadata(self.path.join(name)) {
            Ok(there) => identity(&there) != *held,
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        };
        let gone: Vec<_> = held.into_iter().filter(is_gone).collect();
        // Unless it was taken away here meanwhile.
        let held = self.held();
        let gone = gone.into_iter().filter(|(name, identity)| held.get(name) == Some(identity));
        gone.map(|(name, _)| name).collect()
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let room = rustix::fs::fstatvfs(&self.directory)?;
        // What is kept for the superuser is not counted.
        Ok(Some(room.f_bavail.saturating_mul(room.f_frsize)))
    }

    fn sync_times(&self) -> SyncTimes {
        self.times.so_far()
    }
}

/// A process (or a machine) that has as many files open as it may has no room, but its disk has not failed: connections go, and then
/// there is some.
fn for_want_of_room(error: io::Error) -> io::Error {
    use rustix::io::Errno;
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE) => {
            io::Error::new(io::ErrorKind::StorageFull, format!("no more files can be opened: {error}"))
        }
        _ => error,
    }
}

/// Takes the space now, so that a full disk shows here and not at a write, and a sync need not change the file's length.
#[cfg(target_os = "linux")]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::{Errno, retry_on_intr};

    // Where a disk is slow, a signal may come in between.
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes),
        allocated => Ok(allocated?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

/// Makes zeros of what the disk has there, whatever a cache says. With its space, or else without.
#[cfg(target_os = "linux")]
fn make_zeros(file: &File, offset: u64, length: u64, keeps_space: bool) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::retry_on_intr;

    let how = if keeps_space { FallocateFlags::ZERO_RANGE } else { FallocateFlags::PUNCH_HOLE };
    Ok(retry_on_intr(|| fallocate(file, how | FallocateFlags::KEEP_SIZE, offset, length))?)
}

#[cfg(not(target_os = "linux"))]
fn make_zeros(_: &File, _: u64, _: u64, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Writes zeros wherever something else is read.
fn write_zeros(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let (zeros, mut piece) = ([0; PIECE_BYTES], [0; PIECE_BYTES]);
    let mut at = offset;
    while at < bytes {
        let length = piece.len().min((bytes - at) as usize);
        file.read_exact_at(&mut piece[..length], at)?;
        if piece[..length] != zeros[..length] {
            file.write_all_at(&zeros[..length], at)?;
        }
        at += length as u64;
    }
    Ok(())
}

/// Looked through at a time.
const PIECE_BYTES: usize = 16 << 10;

#[derive(Debug)]
struct OpenFile {
    file: File,
    times: Arc<Clock>,
}

impl FileAt for OpenFile {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn wipe(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        let length = bytes.saturating_sub(offset);
        if length == 0 || make_zeros(&self.file, offset, length, true).is_ok() {
            return Ok(());
        }
        // Not every file system can do that, and one that writes nothing in place may have no room for it.
        write_zeros(&self.file, offset, bytes)
            .or_else(|error| make_zeros(&self.file, offset, length, false).map_err(|_| error))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.times.measure(|| self.file.sync_data())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fault: a hub that had as many connections as it may have files open ended at the next segment, as if its disk had failed.
    #[test]
    fn a_process_that_may_open_no_more_files_has_no_room_for_one() {
        let kind = |error: i32| for_want_of_room(io::Error::from_raw_os_error(error)).kind();
        assert_eq!([23, 24].map(kind), [io::ErrorKind::StorageFull; 2], "ENFILE, EMFILE");
        assert_eq!(kind(2), io::ErrorKind::NotFound);
    }

    /// The fault: the file was cut and made longer again. A crash in between left one that is cut, which is damage; and on a full disk
    /// its space went to whoever asked first.
    #[test]
    fn what_is_wiped_is_zeros_and_keeps_its_length_and_its_space() {
        let dir = tempfile::tempdir().unwrap();
        let files = Directory::take(dir.path()).unwrap();
        let mut file = files.create("a", 256 << 10).unwrap();
        file.write(0, &vec![7; 100_000]).unwrap();
        file.sync().unwrap();
        let blocks = || fs::metadata(dir.path().join("a")).unwrap().blocks();
        let before = blocks();
        let bytes = 256 << 10;
        let by_writing = |_: &mut Box<dyn FileAt>| {
            let file = OpenOptions::new().read(true).write(true).open(dir.path().join("a")).unwrap();
            write_zeros(&file, 10_001, bytes).unwrap();
        };
        let as_files_do = |file: &mut Box<dyn FileAt>| file.wipe(10_001, bytes).unwrap();
        for wipe in [&as_files_do as &dyn Fn(&mut Box<dyn FileAt>), &by_writing] {
            file.write(50_000, &vec![7; 50_000]).unwrap();
            wipe(&mut file);
            file.sync().unwrap();
            let there = files.read("a", u64::MAX).unwrap();
            assert_eq!(there.len() as u64, bytes);
            assert!(there[..10_001].iter().all(|byte| *byte == 7));
            assert!(there[10_001..].iter().all(|byte| *byte == 0));
            assert!(blocks() >= before, "{} of {before} blocks are left", blocks());
        }
    }
}
