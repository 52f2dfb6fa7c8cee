//! Where things are: the project's root, its target directory, its files and its binaries.
//!
//! Called by every command. Builds nothing but the binaries it is asked for.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::shell;

/// The tree these commands work on.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    /// The folder that holds the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where cargo puts what it builds: `CARGO_TARGET_DIR`, or `target` in the root.
    pub(crate) target: PathBuf,
    /// The root's own `target`, whatever cargo uses: installed tools and what commands produce.
    pub(crate) output: PathBuf,
}

impl Project {
    pub(crate) fn locate() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the xtask package has no parent folder")?
            .to_path_buf();
        ensure!(root.join("Cargo.toml").is_file(), "{} is not the project; run from a clone", root.display());
        let output = root.join("target");
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| output.clone(), |dir| root.join(dir));
        Ok(Self { root, target, output })
    }

    /// Every file of the tree that git tracks or would track, relative to the root, sorted.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let listed = shell::capture(Command::new("git").current_dir(&self.root).args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ]))
        .context("the list of the project's files comes from git: run inside a clone, with git installed")?;
        let mut files: Vec<PathBuf> =
            listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
        // A file deleted but not yet committed is still listed as cached.
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// A path as it is shown to people: relative to the root, if it is in there.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// Cargo, in the project's root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    /// Builds everything as `cargo test` would, so that its steps share one build, and names one binary of it.
    ///
    /// Building a single package would select other features of the shared dependencies and compile them again.
    pub(crate) fn binary(&self, name: &str) -> Result<PathBuf> {
        self.build()?;
        let path = self.target.join("debug").join(name);
        ensure!(path.is_file(), "the build left no binary {}", path.display());
        Ok(path)
    }

    /// Builds every target of the workspace.
    pub(crate) fn build(&self) -> Result<()> {
        shell::check(self.cargo().args(["build", "--workspace", "--all-targets"]))
    }
}
