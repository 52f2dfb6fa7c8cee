//! The Go peer. Called from `interop`; the scenes are in `interop/go`.
//!
//! Its contract is generated here and committed nowhere, so that it cannot differ from the proto: buf drives the two plugins,
//! which `interop/go/go.mod` pins like any other dependency. The result is a module of its own, under the import path that the
//! proto's `go_package` promises to teams.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Choice, run};
use crate::{
    project::Project,
    shell,
    tools::{GO_PLUGINS, Tools},
};

/// Generates, checks, builds and plays.
pub(super) fn play(project: &Project, choice: &Choice) -> Result<()> {
    generate(project, &Tools::go_plugins(project)?)?;
    check_format(project, &project.root.join("interop/go"))?;
    shell::check(Tools::go(project)?.args(["vet", "./..."]))?;
    run(project, Command::new(build(project)?), "go", choice)
}

/// The program, which is an old gateway, too, that follows hubs until it is killed.
pub(crate) fn gateway(project: &Project) -> Result<PathBuf> {
    generate(project, &Tools::go_plugins(project)?)?;
    build(project)
}

fn build(project: &Project) -> Result<PathBuf> {
    let scenes = project.output.join("interop/go/scenes");
    // The commit is of no interest in a test, and asking git for it fails where there is none.
    shell::check(Tools::go(project)?.args(["build", "-buildvcs=false", "-o"]).arg(&scenes).arg("."))?;
    Ok(scenes)
}

/// Whether every file of a module is as gofmt writes it.
pub(super) fn check_format(project: &Project, module: &Path) -> Result<()> {
    let unformatted = shell::capture(Tools::gofmt(project)?.arg("-l").arg(module))?;
    ensure!(unformatted.is_empty(), "run `gofmt -w` on these files:\n{}", unformatted.trim_end());
    Ok(())
}

/// Writes the Go code of the proto into the module that `interop/go/go.mod` expects.
fn generate(project: &Project, plugins: &Path) -> Result<()> {
    let contract = Tools::go_contract(project)?;
    // What a renamed proto left behind.
    let stale = contract.join("proto");
    if stale.exists() {
        fs::remove_dir_all(&stale).with_context(|| format!("cannot remove {}", stale.display()))?;
    }
    let plugin =
        |name: &&str| json!({ "local": plugins.join(name), "out": contract, "opt": "module=galaxy/backend" });
    let template = json!({ "version": "v2", "plugins": GO_PLUGINS.iter().map(plugin).collect::<Vec<_>>() });
    let template = template.to_string();
    shell::check(Tools::buf(project)?.args(["generate", "proto", "--template", template.as_str()]))
}
