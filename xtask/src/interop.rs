//! `cargo xtask interop python`: a client in another language against the real hub.
//!
//! Called from `commands` and `test`. Only prepares: the scenes and their expectations are in `interop/python`.

use std::process::Command;

use anyhow::Result;

use crate::{project::Project, shell, tools::Tools};

/// Runs the scenes of the Python peer, or those whose name contains `only`.
pub(crate) fn python(project: &Project, only: Option<&str>) -> Result<()> {
    let interpreter = Tools::python(project)?;
    let binary = project.binary("galaxy-push")?;
    let mut scenes = Command::new(interpreter);
    scenes
        .current_dir(&project.root)
        .arg("interop/python/resume_test.py")
        .arg("--binary")
        .arg(binary)
        .arg("--proto")
        .arg("proto")
        .arg("--work")
        .arg(project.output.join("interop/python"))
        // The scenes' own folder stays free of what Python compiles.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(only) = only {
        scenes.args(["--only", only]);
    }
    shell::check(&mut scenes)
}
