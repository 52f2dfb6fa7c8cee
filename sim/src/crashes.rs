//! The disk store's proofs from outside: the binary itself, on real files, killed, with system calls that fail, and on a disk
//! that is full. `cargo xtask kill-long` runs them.
//!
//! What each life of the hub has is judged by what publishers were acknowledged and by a reading of the whole log
//! (`truth`), never by what the hub says of itself.

pub mod follower;
pub mod full;
pub mod inject;
pub mod kills;
mod life;
mod load;
mod prints;
mod reading;
mod request;
mod truth;

use std::path::Path;

use anyhow::Context as _;

/// An empty folder.
fn empty(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
