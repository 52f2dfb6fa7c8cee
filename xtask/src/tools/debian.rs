//! Programs of the machine: which are there, and Debian's packages for those that are not.
//!
//! Called by `tools`. Installs only where nobody has to be asked: as root, or with a `sudo` that asks for no password.

use std::{
    fs, iter,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{shell, ui};

/// Folders of programs that are not in everybody's `PATH`.
const FOR_ROOT: [&str; 2] = ["/usr/sbin", "/sbin"];

/// A program that some step starts, and how Debian's packages bring it.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    packages: &'static [&'static str],
    what_for: &'static str,
}

/// Every program that the steps start and that may be missing.
pub(super) static PROGRAMS: [Program; 14] = [
    Program { name: "git", packages: &["git"], what_for: "to list the files of the project" },
    // Debian's own interpreter comes without what makes virtual environments.
    Program { name: "python3", packages: &["python3", "python3-venv"], what_for: "for the peer in Python" },
    Program { name: "kill", packages: &["procps"], what_for: "to send signals to processes" },
    Program { name: "unshare", packages: &["util-linux"], what_for: "to make network namespaces" },
    Program { name: "prlimit", packages: &["util-linux"], what_for: "to take descriptors away" },
    Program { name: "strace", packages: &["strace"], what_for: "to let system calls fail" },
    Program { name: "mount", packages: &["mount"], what_for: "to make small file systems" },
    Program { name: "nft", packages: &["nftables"], what_for: "to cut networks" },
    Program { name: "tc", packages: &["iproute2"], what_for: "to slow networks down" },
    Program { name: "ip", packages: &["iproute2"], what_for: "to set networks up" },
    Program { name: "bash", packages: &["bash"], what_for: "to complete a command line in it" },
    Program { name: "zsh", packages: &["zsh"], what_for: "to complete a command line in it" },
    Program { name: "fish", packages: &["fish"], what_for: "to complete a command line in it" },
    // Without a font of its own, a page would be all empty boxes; without DejaVu, Debian takes a monospaced one for all text.
    Program {
        name: "chromium",
        packages: &["chromium", "fonts-dejavu-core", "fonts-liberation"],
        what_for: "to drive the page",
    },
];

/// Where a program is: in `PATH`, or where root's programs are.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FOR_ROOT.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Installs what is missing of the programs named, with one call.
///
/// # Errors
///
/// When something is missing and cannot be installed; the error says which packages bring it.
pub(super) fn provide(names: &[&str]) -> Result<()> {
    let missing = missing(names, |name| find(name).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    let told: Vec<String> =
        missing.iter().map(|program| format!("{} ({})", program.name, program.what_for)).collect();
    install(&packages(&missing), &format!("missing: {}", told.join(", ")))?;
    match missing.iter().find(|program| find(program.name).is_none()) {
        None => Ok(()),
        Some(program) => bail!("{} was installed, but is not in PATH", program.packages.join(" ")),
    }
}

/// Installs Debian packages. `why` is what one reads meanwhile, and when it does not work.
pub(super) fn install(packages: &[&str], why: &str) -> Result<()> {
    let typed = format!("apt-get install {}", packages.join(" "));
    let Some(root) = as_root() else {
        bail!(
            "{why}\nAs root, `{typed}` mends that on Debian; on other systems the packages have similar names"
        );
    };
    ui::line(&format!("{why}\n{typed}"));
    let apt = |arguments: &[&str]| {
        let (program, before) = root.split_first().unwrap_or((&"apt-get", &[]));
        shell::capture(Command::new(program).args(before).args(arguments))
            .with_context(|| format!("`{typed}` did not work"))
    };
    apt(&["update"])?;
    let install = ["install", "--yes", "--no-install-recommends"];
    apt(&install.into_iter().chain(packages.iter().copied()).collect::<Vec<_>>())?;
    Ok(())
}

/// Takes packages apart into a folder without installing them: no service of theirs is started. Needs no right.
pub(super) fn unpack(packages: &[&str], folder: &Path) -> Result<()> {
    let download = || {
        let arguments = iter::once("download").chain(packages.iter().copied());
        shell::capture(Command::new("apt-get").current_dir(folder).args(arguments))
    };
    // A system that has never asked for the lists knows no package.
    if download().is_err() {
        if let Some(root) = as_root() {
            let (program, before) = root.split_first().unwrap_or((&"apt-get", &[]));
            shell::capture(Command::new(program).args(before).arg("update"))?;
        }
        download()?;
    }
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let entries = folder.read_dir()?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let archives: Vec<PathBuf> = entries.filter(is_package).collect();
    ensure!(
        archives.len() == packages.len(),
        "apt-get left {} of {} packages in {}",
        archives.len(),
        packages.len(),
        folder.display()
    );
    for archive in archives {
        shell::capture(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(folder))?;
        fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
    }
    Ok(())
}

/// How apt-get is started with root's rights, if it can be without asking.
fn as_root() -> Option<Vec<&'static str>> {
    find("apt-get")?;
    let quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    if shell::capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
        return Some(quiet.to_vec());
    }
    let sudo = ["sudo", "--non-interactive"];
    shell::capture(Command::new(sudo[0]).args([sudo[1], "true"])).ok()?;
    Some(sudo.into_iter().chain(quiet).collect())
}

fn missing(names: &[&str], is_there: impl Fn(&str) -> bool) -> Vec<&'static Program> {
    PROGRAMS.iter().filter(|program| names.contains(&program.name) && !is_there(program.name)).collect()
}

/// Each package once.
fn packages(programs: &[&Program]) -> Vec<&'static str> {
    let mut packages: Vec<_> = programs.iter().flat_map(|program| program.packages).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed_and_each_package_once() {
        let programs = missing(&["git", "tc", "ip", "zsh"], |name| name == "git");
        assert_eq!(packages(&programs), ["iproute2", "zsh"]);
        assert!(missing(&["git"], |_| true).is_empty());
    }
}
