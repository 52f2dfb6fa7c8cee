//! People's own libraries, and the proxies in front of them. Called from `interop`; the scenes are in `interop/users`.

use std::{env, path::PathBuf};

use anyhow::Result;

use super::{Choice, run};
use crate::{project::Project, shell, tools::Tools};

/// Builds the reader in Go, and plays.
pub(super) fn play(project: &Project, choice: &Choice) -> Result<()> {
    let folder = project.output.join("interop/users");
    let go_reader = build_go_reader(project, folder.join("go-reader"))?;
    let proxies = Tools::proxies(project)?;
    let (mut scenes, view) = Tools::node_beside_modules(project, "interop", &folder)?;
    scenes
        .arg(view.join("users/main.mjs"))
        .arg("--python")
        .arg(Tools::python(project)?)
        .arg("--go-reader")
        .arg(go_reader)
        .arg("--browser")
        .arg(Tools::browser()?)
        .arg("--modules")
        .arg(Tools::npm(project)?)
        .arg("--nginx")
        .arg(proxies.nginx)
        .arg("--haproxy")
        .arg(proxies.haproxy)
        .arg("--libraries")
        .arg(env::join_paths(proxies.libraries)?);
    run(project, scenes, "users", choice)
}

fn build_go_reader(project: &Project, program: PathBuf) -> Result<PathBuf> {
    let module = project.root.join("interop/users/readers/go");
    super::go::check_format(project, &module)?;
    shell::check(Tools::go(project)?.current_dir(&module).args(["vet", "./..."]))?;
    shell::check(
        Tools::go(project)?
            .current_dir(&module)
            .args(["build", "-buildvcs=false", "-o"])
            .arg(&program)
            .arg("."),
    )?;
    Ok(program)
}
