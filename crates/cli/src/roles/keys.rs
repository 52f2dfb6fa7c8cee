//! The file behind `--user-keys`, and how it is taken anew while the process runs.
//!
//! Identity providers change their keys, and whoever fetches them replaces the file: by writing it, by renaming another
//! one to its name, or by swapping a link in the middle of its path, as mounted volumes do. So it is read by its path every
//! few seconds, and its content decides. A file that is no key set changes nothing; one without keys lets nobody in.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use galaxy_push_gateway::{Keys, Skipped};
use galaxy_push_listener::{LogLimiter, read_file, warn_of_readers};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// How often the file is read. A key that was taken out is good for so long yet.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The file, and the keys that come from it.
pub(super) struct KeyFile {
    path: PathBuf,
    /// It came through a pipe (`<(…)`), as which it comes once.
    comes_once: bool,
    keys: Keys,
    state: Mutex<State>,
    problems: LogLimiter,
}

struct State {
    /// What was read last, of use or not.
    read: Vec<u8>,
    /// Whether it is in force.
    is_good: bool,
    skipped: BTreeSet<String>,
}

impl KeyFile {
    /// Reads the file for the first time.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let read = read_file(path).with_context(|| {
            format!(
                "cannot read --user-keys {}; `galaxy-push token --new-keys FILE` makes such a file",
                path.display()
            )
        })?;
        let keys = Keys::from_jwks(&read).with_context(|| format!("--user-keys {}", path.display()))?;
        let state = State { read, is_good: true, skipped: BTreeSet::new() };
        let comes_once = !path.is_file();
        let (path, state) = (path.to_owned(), Mutex::new(state));
        let file = Self { path, comes_once, keys, state, problems: LogLimiter::default() };
        file.tell(&mut file.lock());
        Ok(file)
    }

    /// The keys; clones are replaced, too, when the file changes.
    pub(super) fn keys(&self) -> Keys {
        self.keys.clone()
    }

    /// Whether the set is more than public keys.
    pub(super) fn holds_secrets(&self) -> bool {
        holds_secrets(&self.lock().read)
    }

    /// Looks at the file now and then, until what is returned is dropped.
    pub(super) fn watch(self: &Arc<Self>) -> AbortOnDropHandle<()> {
        let file = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                sleep(LOOK_EVERY).await;
                let file = file.clone();
                let _ = spawn_blocking(move || file.look()).await; // a panic in there changes nothing
            }
        }))
    }

    /// Reads the file, and takes its keys if they are others. Whether the keys in force are those of the file. Blocks while
    /// it reads.
    pub(super) fn look(&self) -> bool {
        if self.comes_once {
            return true;
        }
        let mut state = self.lock();
        let taken = match read_again(&self.path) {
            Ok(read) if read == state.read && state.is_good => return true,
            Ok(read) => {
                state.read = read;
                self.keys.replace(&state.read).map_err(anyhow::Error::from)
            }
            Err(error) => Err(error.into()),
        };
        state.is_good = taken.is_ok();
        match taken {
            Ok(()) => {
                tracing::info!(file = %self.path.display(), keys = ?self.names(), "took new user keys");
                self.tell(&mut state);
            }
            Err(error) => {
                if let Some(left_out) = self.problems.count("user keys") {
                    let error = format!("{error:#}");
                    tracing::warn!(file = %self.path.display(), error, left_out,
                        "the user keys cannot be taken anew; those before stay");
                }
            }
        }
        state.is_good
    }

    /// Says what is to be known of a set that was taken: which keys are skipped, each once until it is not.
    fn tell(&self, state: &mut State) {
        if holds_secrets(&state.read) {
            warn_of_readers(&self.path);
        }
        let skipped = self.keys.skipped();
        for each in skipped.iter().filter(|each| !state.skipped.contains(&each.to_string())) {
            let Skipped { key, why, is_fault, .. } = each;
            if *is_fault {
                tracing::warn!(key, why, "a key of --user-keys cannot be used: tokens of it are refused");
            } else {
                tracing::info!(key, why, "a key of --user-keys is not for tokens, and skipped");
            }
        }
        state.skipped = skipped.iter().map(Skipped::to_string).collect();
        if self.keys.ids().is_empty() {
            let skipped: Vec<_> = skipped.iter().map(|each| &each.key).collect();
            tracing::warn!(file = %self.path.display(), ?skipped,
                "--user-keys holds no key that tokens can be checked with: nobody is let in");
        }
    }

    /// The ids of the keys in force.
    fn names(&self) -> Vec<String> {
        self.keys.ids().into_iter().map(|id| id.unwrap_or_else(|| "(no id)".to_owned())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file once more, and nothing but a file: a pipe in its place would not answer.
fn read_again(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file any more, but a folder, a pipe or a device"));
    }
    read_file(path)
}

/// Whether a key set is more than public keys.
fn holds_secrets(jwks: &[u8]) -> bool {
    let jwks = galaxy_push_proto::json::without_bom(jwks);
    let set: serde_json::Value = serde_json::from_slice(jwks).unwrap_or_default();
    let keys = set["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    keys.iter().any(|key| key.get("k").is_some() || key.get("d").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str =
        r#"{"keys":[{"kty":"oct","kid":"a","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;

    /// The fault: a path that had become a folder or a pipe was said to be taken anew, and nobody learned of it.
    #[test]
    fn a_path_that_is_no_file_any_more_is_said_and_the_keys_stay() {
        let folder = std::env::temp_dir().join(format!("galaxy-push-keys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("keys.json");
        std::fs::write(&path, KEYS).unwrap();
        let file = KeyFile::open(&path).unwrap();
        assert!(file.look());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(!file.look(), "a folder");
        std::fs::remove_dir(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(!file.look(), "a pipe, which nobody writes");
        assert_eq!(file.names(), ["a"]);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, KEYS).unwrap();
        assert!(file.look(), "it is back");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
