//! The Node peer. Called from `interop`; the scenes are in `interop/node`.

use anyhow::Result;

use super::{Choice, run};
use crate::{project::Project, tools::Tools};

/// Plays the scenes. The contract is loaded by the scenes' own program.
pub(super) fn play(project: &Project, choice: &Choice) -> Result<()> {
    let mut scenes = Tools::node(project)?;
    scenes
        .arg("interop/node/main.mjs")
        // Node looks for packages in the folders above a script, and these are elsewhere.
        .env("INTEROP_NODE_MODULES", Tools::npm(project)?)
        .env("PROTO", project.root.join("proto"));
    run(project, scenes, "node", choice)
}
