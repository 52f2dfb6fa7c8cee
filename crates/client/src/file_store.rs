//! A cursor in a file, replaced as a whole and fsynced.
//!
//! One line of text, so that a person can read it and write it: a cursor, or `oldest`. One client writes one file.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::{JoinHandle, spawn_blocking};

use crate::{CursorStore, StoreError};

/// Far more than a cursor has. What is longer is no cursor, and the hub need not see all of it to say so.
const READ_MAX: u64 = 4096;

/// Keeps a cursor in a file.
///
/// Saving writes `<file>.new`, fsyncs it, renames it over the file and fsyncs the directory, in that order, so a crash of
/// the process or the machine leaves the old cursor or the new one, whole. A file that is not there is an empty store;
/// a directory that is not there is an error, because it may be a volume that is not mounted.
///
/// The work is done on tokio's blocking threads.
///
/// ```
/// use galaxy_push_client::{CursorStore, FileCursorStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), galaxy_push_client::StoreError> {
/// let path = std::env::temp_dir().join(format!("galaxy-push-doc-{}.cursor", std::process::id()));
/// let mut store = FileCursorStore::new(&path);
/// assert_eq!(store.load().await?, None, "no file: an empty store");
/// store.save("oldest").await?;
/// assert_eq!(std::fs::read_to_string(&path)?, "oldest\n");
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileCursorStore {
    file: Arc<CursorFile>,
    saves: u64,
    /// The save that is being written, perhaps for somebody who has given it up: on a disk that hangs no second one begins.
    writing: Option<JoinHandle<io::Result<()>>>,
    /// The load that is under way, likewise: whoever loads again is told what that one reads.
    loading: Option<JoinHandle<io::Result<Option<String>>>>,
}

#[derive(Debug)]
struct CursorFile {
    path: PathBuf,
    /// The number of the newest save that was written. Held while writing: a save that was given up may still be at it,
    /// and must not undo a newer one.
    written: Mutex<u64>,
}

impl FileCursorStore {
    /// Keeps the cursor in this file. Neither opens nor makes it yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            file: Arc::new(CursorFile { path: path.into(), written: Mutex::new(0) }),
            saves: 0,
            writing: None,
            loading: None,
        }
    }
}

impl CursorStore for FileCursorStore {
    async fn load(&mut self) -> Result<Option<String>, StoreError> {
        let file = self.file.clone();
        let loading = self.loading.get_or_insert_with(|| spawn_blocking(move || file.load()));
        let loaded = loading.await;
        self.loading = None;
        loaded?.map_err(|error| self.file.explain(&error))
    }

    async fn save(&mut self, cursor: &str) -> Result<(), StoreError> {
        if let Some(given_up) = &mut self.writing {
            let _ = given_up.await; // whoever asked for that one was told that it failed
        }
        self.saves += 1;
        let (file, number, cursor) = (self.file.clone(), self.saves, cursor.to_owned());
        let writing = self.writing.insert(spawn_blocking(move || file.save(number, &cursor)));
        let written = writing.await;
        self.writing = None;
        written?.map_err(|error| self.file.explain(&error))
    }
}

impl CursorFile {
    fn load(&self) -> io::Result<Option<String>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory(&self.path).is_dir() => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(READ_MAX).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).trim_ascii().to_owned()))
    }

    fn save(&self, number: u64, cursor: &str) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if number < *written {
            return Ok(());
        }
        let mut new = self.path.as_os_str().to_owned();
        new.push(".new");
        let mut file = File::create(&new)?;
        file.write_all(format!("{cursor}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        // Without this a crash of the machine may undo the rename. Elsewhere directories cannot be opened.
        #[cfg(unix)]
        File::open(directory(&self.path))?.sync_all()?;
        *written = number;
        Ok(())
    }

    fn explain(&self, error: &io::Error) -> StoreError {
        format!("{}: {error}", self.path.display()).into()
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// The fault: each save on a disk that hangs took a thread for good, until nothing else of the process found one.
    #[tokio::test]
    #[expect(
        clippy::await_holding_lock,
        reason = "the thread that writes waits for it: so does a disk that hangs"
    )]
    async fn a_disk_that_hangs_has_one_thread_however_often_a_save_is_given_up() {
        let path = std::env::temp_dir().join(format!("galaxy-push-hanging-save-{}", std::process::id()));
        let mut store = FileCursorStore::new(&path);
        let file = store.file.clone();
        let hangs = file.written.lock().unwrap();
        for _ in 0..20 {
            assert!(timeout(Duration::from_millis(5), store.save("x")).await.is_err());
        }
        assert!(Arc::strong_count(&file) <= 3, "the store, this test and one thread");
        drop(hangs);
        store.save("y").await.unwrap();
        assert_eq!(store.load().await.unwrap().as_deref(), Some("y"));
        fs::remove_file(&path).unwrap();
    }

    /// A pipe that nobody writes to hangs its reader as a disk does.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_disk_that_hangs_has_one_thread_however_often_a_load_is_given_up() {
        let path = std::env::temp_dir().join(format!("galaxy-push-hanging-load-{}", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let mut store = FileCursorStore::new(&path);
        let file = store.file.clone();
        for _ in 0..20 {
            assert!(timeout(Duration::from_millis(5), store.load()).await.is_err());
        }
        let holders = Arc::strong_count(&file);
        let mut pipe = File::options().read(true).write(true).open(&path).unwrap();
        pipe.write_all(b"oldest\n").unwrap();
        drop(pipe); // whoever waits goes on, however many they are
        assert!(holders <= 3, "the store, this test and one thread: {holders}");
        assert_eq!(store.load().await.unwrap().as_deref(), Some("oldest"));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_late_save_does_not_undo_a_newer_one() {
        let path = std::env::temp_dir().join(format!("galaxy-push-late-save-{}", std::process::id()));
        let file = CursorFile { path, written: Mutex::new(0) };
        for (number, cursor, held) in [(2, "second", "second"), (1, "first", "second"), (3, "third", "third")]
        {
            file.save(number, cursor).unwrap();
            assert_eq!(file.load().unwrap().as_deref(), Some(held));
        }
        fs::remove_file(&file.path).unwrap();
        assert_eq!(directory(Path::new("cursor")), Path::new("."));
    }
}
