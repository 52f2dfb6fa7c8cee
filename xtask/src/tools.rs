//! Pinned tools from npm, PyPI, the Go module proxy and Debian, installed on first use so that a fresh machine needs nothing prepared.
//!
//! Called by the commands that need them. A stamp beside each installation holds the pins it was made from: while they are
//! unchanged, nothing is touched and nothing is asked of the network.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{project::Project, shell, ui};

/// Names a browser that Playwright can drive; tried in this order.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The code generators for Go, as protoc and buf look for them.
pub(crate) const GO_PLUGINS: [&str; 2] = ["protoc-gen-go", "protoc-gen-go-grpc"];

/// The installers. Each returns where the installed thing is.
#[derive(Debug)]
pub(crate) struct Tools;

impl Tools {
    /// Installs everything that `cargo xtask test` needs.
    pub(crate) fn all(project: &Project) -> Result<()> {
        Self::npm(project)?;
        Self::python(project)?;
        Self::go_plugins(project)?;
        Self::browser()?;
        Self::network()?;
        Ok(())
    }

    /// What harms the packets of a network namespace: nft, tc and ip.
    pub(crate) fn network() -> Result<()> {
        let has =
            |program: &str| find_in_path(program).is_some() || Path::new("/usr/sbin").join(program).is_file();
        if ["nft", "tc", "ip"].iter().all(|program| has(program)) {
            return Ok(());
        }
        apt_install(&["nftables", "iproute2"], "the network cannot be harmed without nft, tc and ip")
    }

    /// The `node_modules` with buf, grpc-js, the webhook payloads and playwright-core.
    pub(crate) fn npm(project: &Project) -> Result<PathBuf> {
        let home = project.output.join("tools/npm");
        let (package, lock) = (pins(project, "package.json"), pins(project, "package-lock.json"));
        install_once(&home, &[&package, &lock], || {
            ensure!(shell::is_installed("npm"), "npm is missing: install Node.js 20 or newer (node and npm)");
            ui::line("installing npm packages into target/tools/npm");
            fs::copy(&package, home.join("package.json"))?;
            fs::copy(&lock, home.join("package-lock.json"))?;
            // Not `npm ci`: buf is one optional package per platform, and `ci` refuses a lock that lacks those a registry does
            // not offer. The versions are exact all the same, and the lock's hashes are checked. No package here needs its
            // install script, so none is run.
            shell::capture(Command::new("npm").current_dir(&home).args([
                "install",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
            ]))?;
            Ok(())
        })?;
        Ok(home.join("node_modules"))
    }

    /// The Python interpreter of a virtual environment with grpcio and its tools.
    pub(crate) fn python(project: &Project) -> Result<PathBuf> {
        let home = project.output.join("tools/python");
        let requirements = pins(project, "requirements.txt");
        let interpreter = home.join("bin/python");
        install_once(&home, &[&requirements], || {
            ensure!(shell::is_installed("python3"), "python3 is missing: install Python 3.9 or newer");
            ui::line("installing Python packages into target/tools/python");
            // Debian ships Python without the part that makes virtual environments.
            if shell::capture(Command::new("python3").args(["-c", "import ensurepip"])).is_err() {
                apt_install(&["python3-venv"], "Python cannot make a virtual environment")?;
            }
            shell::capture(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
            shell::capture(
                Command::new(&interpreter)
                    .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
                    .arg(&requirements),
            )?;
            Ok(())
        })?;
        Ok(interpreter)
    }

    /// Go, in the folder of the peer in Go.
    pub(crate) fn go(project: &Project) -> Result<Command> {
        Self::go_root()?;
        let mut go = Command::new("go");
        go.current_dir(project.root.join("interop/go"));
        Ok(go)
    }

    /// The formatter that came with Go; it need not be in PATH.
    pub(crate) fn gofmt() -> Result<Command> {
        Ok(Command::new(Self::go_root()?.join("bin/gofmt")))
    }

    fn go_root() -> Result<PathBuf> {
        // `--version`, by which other programs are found, is a failure to Go.
        let root = shell::capture(Command::new("go").args(["env", "GOROOT"])).context(
            "go is missing: install Go 1.26 or newer (https://go.dev/dl/) and put its bin folder into PATH",
        )?;
        Ok(PathBuf::from(root.trim()))
    }

    /// The folder of the code generators for Go.
    pub(crate) fn go_plugins(project: &Project) -> Result<PathBuf> {
        let home = project.output.join("tools/go");
        let module = project.root.join("interop/go");
        // The module that pins them does not load without the one that is generated with them.
        Self::go_contract(project)?;
        install_once(&home, &[&module.join("go.mod"), &module.join("go.sum")], || {
            ui::line("building the code generators for Go into target/tools/go");
            let mut build = Self::go(project)?;
            build.args(["build", "-buildvcs=false", "-o"]).arg(home.join(""));
            shell::capture(build.args([
                "google.golang.org/protobuf/cmd/protoc-gen-go",
                "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
            ]))?;
            Ok(())
        })?;
        Ok(home)
    }

    /// The module that the Go code of the contract is generated into, at first without any.
    pub(crate) fn go_contract(project: &Project) -> Result<PathBuf> {
        let home = project.output.join("interop/go/contract");
        fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        let module = home.join("go.mod");
        fs::write(&module, "module galaxy/backend\n\ngo 1.26.0\n")
            .with_context(|| format!("cannot write {}", module.display()))?;
        Ok(home)
    }

    /// The path of a Chromium: `CHROMIUM`, an installed one, or the one Debian offers.
    pub(crate) fn browser() -> Result<PathBuf> {
        if let Some(chosen) = std::env::var_os("CHROMIUM") {
            let chosen = PathBuf::from(chosen);
            ensure!(chosen.is_file(), "CHROMIUM names {}, which is no file", chosen.display());
            return Ok(chosen);
        }
        if let Some(found) = BROWSERS.iter().find_map(|name| find_in_path(name)) {
            return Ok(found);
        }
        // Without a font of its own, the page would be all empty boxes.
        apt_install(&["chromium", "fonts-liberation"], "no Chromium and no Chrome is installed")?;
        find_in_path("chromium").context("chromium was installed but is not in PATH")
    }
}

fn pins(project: &Project, file: &str) -> PathBuf {
    project.root.join("xtask/tools").join(file)
}

/// Runs `install` unless the stamp in `home` already holds the contents of `pins`.
fn install_once(home: &Path, pins: &[&Path], install: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut wanted = String::new();
    for pin in pins {
        wanted += &fs::read_to_string(pin).with_context(|| format!("cannot read {}", pin.display()))?;
    }
    let stamp = home.join("installed-from");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if home.exists() {
        fs::remove_dir_all(home).with_context(|| format!("cannot remove the old {}", home.display()))?;
    }
    fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
    install()?;
    // Last, so that an installation cut short is made again.
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// Installs Debian packages when that is possible without asking anybody.
fn apt_install(packages: &[&str], why: &str) -> Result<()> {
    let packages = packages.join(" ");
    let advice = format!("{why}: on Debian, `apt-get install {packages}` mends that");
    let is_root = shell::capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root || !shell::is_installed("apt-get") {
        bail!("{advice}");
    }
    ui::line(&format!("{why}: installing {packages} with apt-get"));
    let apt = |arguments: &[&str]| {
        shell::capture(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update"]).context(advice.clone())?;
    let install = ["install", "--yes", "--no-install-recommends"];
    apt(&install.into_iter().chain(packages.split(' ')).collect::<Vec<_>>()).context(advice)?;
    Ok(())
}
