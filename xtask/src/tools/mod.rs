//! What the commands need from elsewhere, installed on first use so that a fresh machine needs nothing prepared but Rust and a C
//! compiler: pinned packages of npm, PyPI and the Go module proxy in `target/tools`, and programs of Debian.
//!
//! Called by the commands that need them. A stamp beside each installation holds the pins it was made from: while they are
//! unchanged, nothing is touched and nothing is asked of the network.

mod debian;
mod runtimes;
mod version;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{project::Project, shell, ui};
use runtimes::Node;

/// Names a browser that Playwright can drive; tried in this order.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The code generators for Go, as protoc and buf look for them.
pub(crate) const GO_PLUGINS: [&str; 2] = ["protoc-gen-go", "protoc-gen-go-grpc"];

/// What the pinned packages of PyPI ask for.
const PYTHON_MIN: version::Version = (3, 11);

/// What makes up mutants.
const CARGO_MUTANTS: &str = "27.1.0";

/// Two proxies, with the libraries that not every Debian has.
const PROXIES: [&str; 5] =
    ["nginx", "haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"];

/// Where the program is in its package of PyPI.
const NATS_SERVER: &str = "bin/nats-server";

/// The version of cargo-fuzz; libfuzzer-sys is pinned in fuzz/Cargo.toml.
const CARGO_FUZZ: &str = "0.13.2";

/// The shells that a command line is completed in.
pub(crate) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The installers. Each returns where the installed thing is.
#[derive(Debug)]
pub(crate) struct Tools;

impl Tools {
    /// Installs everything that `cargo xtask test` needs.
    pub(crate) fn all(project: &Project) -> Result<()> {
        Self::rust_components(project)?;
        // All of Debian's packages with one call, rather than one after the other as the parts below would.
        let has_browser = installed_browser()?.is_some();
        let names = debian::PROGRAMS.iter().map(|program| program.name);
        debian::provide(&names.filter(|name| !(has_browser && *name == "chromium")).collect::<Vec<_>>())?;
        Self::python(project)?;
        Self::npm(project)?;
        Self::go_plugins(project)?;
        Self::browser()?;
        Self::promtool(project)?;
        Self::proxies(project)?;
        Self::nats_server(project)?;
        Ok(())
    }

    /// The formatter and the linter, which a minimal toolchain lacks.
    pub(crate) fn rust_components(project: &Project) -> Result<()> {
        for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
            if shell::capture(project.cargo().args([subcommand, "--version"])).is_err() {
                ui::line(&format!("installing {component} with rustup"));
                shell::capture(Command::new("rustup").current_dir(&project.root).args([
                    "component",
                    "add",
                    component,
                ]))
                .with_context(|| {
                    format!(
                        "`cargo {subcommand}` is missing: install the component {component} of your toolchain"
                    )
                })?;
            }
        }
        Ok(())
    }

    /// What lists the files of the project.
    pub(crate) fn git() -> Result<()> {
        debian::provide(&["git"])
    }

    /// What harms processes and the packets of a network namespace.
    pub(crate) fn network() -> Result<()> {
        debian::provide(&["kill", "unshare", "prlimit", "nft", "tc", "ip"])
    }

    /// What lets system calls fail, and mounts file systems.
    pub(crate) fn crashes() -> Result<()> {
        debian::provide(&["strace", "mount", "unshare"])
    }

    /// The shells that a command line is completed in.
    pub(crate) fn shells() -> Result<()> {
        debian::provide(&SHELLS)
    }

    /// Node.js.
    pub(crate) fn node(project: &Project) -> Result<Command> {
        Ok(Node::provide(project)?.node())
    }

    /// buf, in the project's root.
    pub(crate) fn buf(project: &Project) -> Result<Command> {
        let script = Self::npm(project)?.join(".bin/buf");
        let mut buf = Self::node(project)?;
        buf.current_dir(&project.root).arg(script);
        Ok(buf)
    }

    /// The `node_modules` with buf, grpc-js, the webhook payloads, playwright-core and the libraries of users.
    pub(crate) fn npm(project: &Project) -> Result<PathBuf> {
        let home = project.output.join("tools/npm");
        let (package, lock) = (pins(project, "package.json"), pins(project, "package-lock.json"));
        install_once(&home, &texts(&[&package, &lock])?, || {
            let mut npm = Node::provide(project)?.npm();
            ui::line("installing npm packages into target/tools/npm");
            fs::copy(&package, home.join("package.json"))?;
            fs::copy(&lock, home.join("package-lock.json"))?;
            // Not `npm ci`: buf is one optional package per platform, and `ci` refuses a lock that lacks those a registry does
            // not offer. The versions are exact all the same, and the lock's hashes are checked. No package here needs its
            // install script, so none is run.
            shell::capture(npm.current_dir(&home).args([
                "install",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
            ]))?;
            Ok(())
        })?;
        Ok(home.join("node_modules"))
    }

    /// The Python interpreter of a virtual environment with grpcio, its tools and the libraries of users.
    pub(crate) fn python(project: &Project) -> Result<PathBuf> {
        let home = project.output.join("tools/python");
        let requirements = pins(project, "requirements.txt");
        let interpreter = home.join("bin/python");
        install_once(&home, &texts(&[&requirements])?, || {
            debian::provide(&["python3"])?;
            let found = version::of("python3", "--version");
            ensure!(
                found.is_some_and(|found| found >= PYTHON_MIN),
                "python3 is older than 3.11: install a newer one and put it first in PATH"
            );
            ui::line("installing Python packages into target/tools/python");
            // Debian ships Python without the part that makes virtual environments.
            if shell::capture(Command::new("python3").args(["-c", "import ensurepip"])).is_err() {
                debian::install(&["python3-venv"], "Python cannot make a virtual environment")?;
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

    /// Node.js for scripts that import packages by their names. It looks for them in the folders above a script: beside a view of
    /// the folder `scripts` it is given them, which keeps the tree free of `node_modules`. Answers with that view, too.
    pub(crate) fn node_beside_modules(
        project: &Project,
        scripts: &str,
        folder: &Path,
    ) -> Result<(Command, PathBuf)> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let view = folder.join(scripts);
        for (target, link) in
            [(Self::npm(project)?, folder.join("node_modules")), (project.root.join(scripts), view.clone())]
        {
            if fs::read_link(&link).is_ok_and(|present| present == target) {
                continue;
            }
            // A link left by a clone that has moved since.
            if link.is_symlink() {
                fs::remove_file(&link)?;
            }
            symlink(&target, &link).with_context(|| format!("cannot link {}", link.display()))?;
        }
        let mut node = Self::node(project)?;
        node.args(["--preserve-symlinks", "--preserve-symlinks-main"]).current_dir(&project.root);
        Ok((node, view))
    }

    /// Go, in the folder of the peer in Go.
    pub(crate) fn go(project: &Project) -> Result<Command> {
        let mut go = Command::new(runtimes::go_root(project)?.join("bin/go"));
        go.current_dir(project.root.join("interop/go"));
        Ok(go)
    }

    /// The formatter that came with Go; it need not be in PATH.
    pub(crate) fn gofmt(project: &Project) -> Result<Command> {
        Ok(Command::new(runtimes::go_root(project)?.join("bin/gofmt")))
    }

    /// The folder of the code generators for Go.
    pub(crate) fn go_plugins(project: &Project) -> Result<PathBuf> {
        let home = project.output.join("tools/go");
        let module = project.root.join("interop/go");
        // The module that pins them does not load without the one that is generated with them.
        Self::go_contract(project)?;
        install_once(&home, &texts(&[&module.join("go.mod"), &module.join("go.sum")])?, || {
            let mut build = Self::go(project)?;
            ui::line("building the code generators for Go into target/tools/go");
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
        if let Some(found) = installed_browser()? {
            return Ok(found);
        }
        debian::provide(&["chromium"])?;
        debian::find("chromium").context("chromium was installed but is not in PATH")
    }

    /// Prometheus's own judge of metrics: an installed one, or the one in Debian's package.
    pub(crate) fn promtool(project: &Project) -> Result<PathBuf> {
        if let Some(found) = debian::find("promtool") {
            return Ok(found);
        }
        let home = project.output.join("tools/prometheus");
        install_once(&home, "Debian's package prometheus", || {
            ui::line("unpacking Debian's prometheus into target/tools/prometheus");
            // Not installed: the package would start a Prometheus on this machine.
            debian::unpack(&["prometheus"], &home).context(
                "promtool is missing: install Debian's package prometheus, or put promtool into PATH",
            )
        })?;
        Ok(home.join("usr/bin/promtool"))
    }

    /// What makes up mutants of the code: cargo's subcommand, as its own folder of programs has it.
    pub(crate) fn cargo_mutants(project: &Project) -> Result<PathBuf> {
        let home = project.output.join("tools/mutants");
        install_once(&home, CARGO_MUTANTS, || {
            ui::line("building cargo-mutants into target/tools/mutants");
            let mut cargo = project.cargo();
            cargo.env_remove("CARGO_TARGET_DIR").args(["install", "--locked", "--quiet", "cargo-mutants"]);
            shell::capture(cargo.args(["--version", CARGO_MUTANTS, "--root"]).arg(&home))?;
            Ok(())
        })?;
        Ok(home.join("bin/cargo-mutants"))
    }

    /// A NATS server with JetStream: the pinned one of PyPI, whose package carries the program as its vendor builds it. The one in
    /// Debian is too old to sync before it acknowledges.
    pub(crate) fn nats_server(project: &Project) -> Result<PathBuf> {
        let home = project.output.join("tools/nats");
        let (pins, program) = (pins(project, "brokers.txt"), home.join("nats-server"));
        let python = Self::python(project)?;
        install_once(&home, &texts(&[&pins])?, || {
            ui::line("installing nats-server into target/tools/nats");
            let package = home.join("package");
            // The hash is the trust: whoever packs it is not who makes it.
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
            pip.args(["--only-binary=:all:", "--require-hashes", "--requirement"]).arg(&pins);
            shell::capture(pip.arg("--target").arg(&package))?;
            let inside = package.join(NATS_SERVER);
            fs::copy(&inside, &program)
                .with_context(|| format!("the package has no {}", inside.display()))?;
            Ok(())
        })?;
        Ok(program)
    }

    /// The folder of cargo-fuzz, which drives libFuzzer.
    pub(crate) fn cargo_fuzz(project: &Project) -> Result<PathBuf> {
        let home = project.output.join("tools/cargo-fuzz");
        install_once(&home, CARGO_FUZZ, || {
            ui::line("building cargo-fuzz into target/tools/cargo-fuzz");
            let mut install = project.cargo();
            install.args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"]);
            shell::capture(install.arg(&home))?;
            Ok(())
        })?;
        Ok(home.join("bin"))
    }

    /// nginx and haproxy: installed ones, or those of Debian.
    pub(crate) fn proxies(project: &Project) -> Result<Proxies> {
        if let (Some(nginx), Some(haproxy)) = (debian::find("nginx"), debian::find("haproxy")) {
            return Ok(Proxies { nginx, haproxy, libraries: Vec::new() });
        }
        let home = project.output.join("tools/proxies");
        install_once(&home, &PROXIES.join(" "), || {
            ui::line("unpacking Debian's nginx and haproxy into target/tools/proxies");
            // Not installed: the packages would start two servers on this machine.
            debian::unpack(&PROXIES, &home).context("nginx and haproxy are missing: they come from Debian")
        })?;
        let libraries =
            home.join("usr/lib").read_dir()?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let programs = home.join("usr/sbin");
        Ok(Proxies {
            nginx: programs.join("nginx"),
            haproxy: programs.join("haproxy"),
            libraries: libraries.filter(|path| path.to_string_lossy().ends_with("-linux-gnu")).collect(),
        })
    }
}

/// Two proxies as people put them in front.
#[derive(Debug)]
pub(crate) struct Proxies {
    pub(crate) nginx: PathBuf,
    pub(crate) haproxy: PathBuf,
    /// The folders of the libraries that they bring; none where they are installed.
    pub(crate) libraries: Vec<PathBuf>,
}

fn installed_browser() -> Result<Option<PathBuf>> {
    if let Some(chosen) = std::env::var_os("CHROMIUM") {
        let chosen = PathBuf::from(chosen);
        ensure!(chosen.is_file(), "CHROMIUM names {}, which is no file", chosen.display());
        return Ok(Some(chosen));
    }
    Ok(BROWSERS.iter().find_map(|name| debian::find(name)))
}

fn pins(project: &Project, file: &str) -> PathBuf {
    project.root.join("xtask/tools").join(file)
}

/// The contents of some files, one after the other.
fn texts(files: &[&Path]) -> Result<String> {
    let text =
        |file: &&Path| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
    files.iter().map(text).collect()
}

/// Runs `install` unless the stamp in `home` already says that it was made from `wanted`.
fn install_once(home: &Path, wanted: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
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
