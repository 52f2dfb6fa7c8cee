//! The Node peer. Called from `interop`; the scenes are in `interop/node`.

use std::process::Command;

use anyhow::{Result, ensure};

use super::{Choice, run};
use crate::{project::Project, shell, tools::Tools};

/// Plays the scenes. The contract is loaded by the scenes' own program.
pub(super) fn play(project: &Project, choice: &Choice) -> Result<()> {
    ensure!(shell::is_installed("node"), "node is missing: install Node.js 20 or newer");
    let mut scenes = Command::new("node");
    scenes
        .arg("interop/node/main.mjs")
        // Node looks for packages in the folders above a script, and these are elsewhere.
        .env("INTEROP_NODE_MODULES", Tools::npm(project)?)
        .env("PROTO", project.root.join("proto"));
    run(project, scenes, "node", choice)
}
