//! `cargo xtask page` and `screenshot`: the try-it page, its logic in Node and the whole of it in a real browser.
//!
//! Called from `commands` and `test`. Starts the server and the browser's driver; what is clicked and expected is in
//! `web/test/tryit.mjs`, which is told by environment: `EDGE_URL` (a fresh `galaxy-push serve`), `CHROMIUM` (the browser's path) and
//! `SCREENSHOT` (where to write a picture).

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{hub::Running, project::Project, shell, tools::Tools, ui};

/// A window small enough to overflow in a moment.
const WINDOW_EVENTS: &str = "500";

/// Tests the page's logic in Node, without a browser.
pub(crate) fn logic(project: &Project) -> Result<()> {
    let is_test =
        |file: &PathBuf| file.starts_with("web/test") && file.to_string_lossy().ends_with(".test.mjs");
    let tests: Vec<PathBuf> = project.files()?.into_iter().filter(is_test).collect();
    ensure!(!tests.is_empty(), "web/test holds no *.test.mjs");
    shell::check(
        Tools::node(project)?.current_dir(&project.root).args(["--test", "--test-reporter=dot"]).args(tests),
    )
}

/// Drives the page and checks what it shows.
pub(crate) fn drive(project: &Project) -> Result<()> {
    let picture = run(project)?;
    ui::line(&format!("a picture of it is {}", project.shown(&picture)));
    Ok(())
}

/// Drives the page and keeps the picture of it for the README.
pub(crate) fn screenshot(project: &Project) -> Result<()> {
    let kept = project.root.join("docs/tryit.png");
    let picture = run(project)?;
    fs::copy(&picture, &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    ui::line(&format!("wrote {}", project.shown(&kept)));
    Ok(())
}

/// Drives the page and returns the picture taken at the end.
fn run(project: &Project) -> Result<PathBuf> {
    let browser = Tools::browser()?;
    let binary = project.binary("galaxy-push")?;
    let folder = project.output.join("tryit");
    let (mut node, web) = Tools::node_beside_modules(project, "web", &folder)?;
    let (picture, log) = (folder.join("page.png"), folder.join("serve.log"));

    let mut arguments = vec!["serve", "--window-events", WINDOW_EVENTS];
    for listener in ["--hub-addr", "--edge-addr", "--admin-addr"] {
        arguments.extend([listener, "127.0.0.1:0"]);
    }
    let server = Running::start(&binary, &arguments, &log)?;
    shell::check(
        node.arg(web.join("test/tryit.mjs"))
            .env("EDGE_URL", server.url("edge")?)
            .env("CHROMIUM", browser)
            .env("SCREENSHOT", &picture),
    )
    .with_context(|| format!("see {} and {}", project.shown(&log), project.shown(&picture)))?;
    Ok(picture)
}
