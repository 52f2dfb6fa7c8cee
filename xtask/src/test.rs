//! `cargo xtask test`: everything continuous integration runs, in order, from a fresh clone to done.
//!
//! Called from `commands`. Each step says how long it took; the first failure ends the run and says what to do.

use anyhow::{Result, anyhow, bail};

use crate::{
    chaos, documents, interop::Peer, page, planted, project::Project, shell, tidy, tools::Tools, ui,
    ui::Stopwatch, webhooks,
};

/// One thing that must hold.
struct Step {
    name: &'static str,
    what: &'static str,
    /// What to do when it fails.
    advice: &'static str,
    run: fn(&Project) -> Result<()>,
}

/// Cheap steps first, so that a small slip is told early; the builds are shared between steps.
const STEPS: [Step; 20] = [
    Step {
        name: "tools",
        what: "install what the other steps need",
        advice: "the message above names what is missing; the network is needed once",
        run: Tools::all,
    },
    Step {
        name: "fmt",
        what: "the code is formatted",
        advice: "run `cargo fmt --all`",
        run: |project| shell::check(shell::cargo(project).args(["fmt", "--all", "--check"])),
    },
    Step {
        name: "tidy",
        what: "the habits that neither rustc nor clippy knows",
        advice: "each line above says what to do",
        run: tidy::run,
    },
    Step {
        name: "proto",
        what: "buf lints the wire contract",
        advice: "mend proto/push/v1/push.proto; buf.yaml has the rules",
        run: lint_contract,
    },
    Step {
        name: "planted",
        what: "the planted bugs still apply",
        advice: "adapt the patch in sim/planted to the code, then run `cargo xtask planted`",
        run: |project| planted::check_apply(project, None),
    },
    Step {
        name: "webhooks",
        what: "real payloads become events",
        advice: "compare xtask/src/webhooks with the payloads' package",
        run: |project| webhooks::run(project, None),
    },
    Step {
        name: "page-logic",
        what: "the logic of the try-it page, in Node",
        advice: "mend web/tryit, or web/test if what it should do has changed",
        run: page::logic,
    },
    Step {
        name: "clippy",
        what: "no warnings",
        advice: "mend the warnings above; expect a lint only with its reason",
        run: |project| {
            let lint = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
            shell::check(shell::cargo(project).args(lint))
        },
    },
    Step { name: "build", what: "everything compiles", advice: "mend the errors above", run: Project::build },
    Step {
        name: "cargo-test",
        what: "the tests of every crate",
        advice: "repeat the failing one with `cargo test --package PACKAGE NAME`",
        run: |project| shell::check(shell::cargo(project).args(["test", "--workspace"])),
    },
    Step {
        name: "sim",
        what: "the whole system in the simulator, 300 seeds of 60 simulated seconds, some of them twice",
        advice: "replay the seed named above with `cargo xtask sim --seed SEED`",
        run: simulate,
    },
    Step {
        name: "end-to-end",
        what: "real webhooks through real processes, the hub killed on the way",
        advice: "the history and the logs are in target/end-to-end; repeat it with `cargo xtask end-to-end`",
        run: end_to_end,
    },
    Step {
        name: "chaos",
        what: "real processes killed, stopped, cut off, doubled and drained, one after the other",
        advice: "the logs and the history are in target/chaos; repeat a fault with `cargo xtask chaos --only FAULT --cycles 5`",
        run: chaos::short,
    },
    Step {
        name: "storm",
        what: "1,000 clients sent away, and their hub killed",
        advice: "the hub's log is in target/storm; repeat it with `cargo xtask storm`",
        run: |project| chaos::storm(project, &chaos::Storm::default(), false),
    },
    Step {
        name: "floods",
        what: "frames that no honest peer sends, in masses",
        advice: "the log is in target/floods; repeat it with `cargo xtask floods`",
        run: |project| chaos::floods(project, false),
    },
    Step {
        name: "go",
        what: "a gateway of the old kind in Go",
        advice: "repeat a scene with `cargo xtask interop go --only NAME`; interop/SCENES.md says what it must show",
        run: |project| Peer::go().play(project),
    },
    Step {
        name: "node",
        what: "a gateway of the old kind on Node",
        advice: "repeat a scene with `cargo xtask interop node --only NAME`; interop/SCENES.md says what it must show",
        run: |project| Peer::node().play(project),
    },
    Step {
        name: "python",
        what: "a gateway of the old kind in Python, and our client before a hub in Python",
        advice: "repeat a scene with `cargo xtask interop python --only NAME`; interop/SCENES.md says what it must show",
        run: |project| Peer::python().play(project),
    },
    Step {
        name: "page",
        what: "the try-it page in Chromium",
        advice: "repeat it with `cargo xtask page`; the server's log is target/tryit/serve.log",
        run: page::drive,
    },
    Step {
        name: "docs",
        what: "what the README and the docs name exists",
        advice: "each line above says what to do",
        run: documents::run,
    },
];

/// Prints the steps.
pub(crate) fn list() {
    let rows: Vec<Vec<String>> =
        STEPS.iter().map(|step| vec![step.name.to_owned(), step.what.to_owned()]).collect();
    ui::table(&rows);
}

/// Runs the steps named in `only`, or all of them.
///
/// # Errors
///
/// At the first step that fails, with what to do about it; or when `only` names no step.
pub(crate) fn run(project: &Project, only: &[String]) -> Result<()> {
    if let Some(unknown) = only.iter().find(|name| STEPS.iter().all(|step| step.name != *name)) {
        bail!("there is no step `{unknown}`: see `cargo xtask test --list`");
    }
    let chosen: Vec<&Step> =
        STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name)).collect();
    let whole = Stopwatch::start();
    let mut report = Vec::new();
    for step in &chosen {
        ui::line(&format!("==> {}: {}", step.name, step.what));
        let stopwatch = Stopwatch::start();
        if let Err(error) = (step.run)(project) {
            ui::line(&format!("FAILED {} after {}", step.name, stopwatch.seconds()));
            return Err(anyhow!("{}: {error:#}\nwhat to do: {}", step.name, step.advice));
        }
        ui::line(&format!("ok  {}  {}", step.name, stopwatch.seconds()));
        report.push(vec!["ok".to_owned(), step.name.to_owned(), stopwatch.seconds()]);
    }
    ui::line("");
    ui::table(&report);
    ui::line(&format!("all {} steps passed in {}", chosen.len(), whole.seconds()));
    Ok(())
}

fn lint_contract(project: &Project) -> Result<()> {
    let buf = Tools::npm(project)?.join(".bin/buf");
    shell::check(std::process::Command::new(buf).current_dir(&project.root).arg("lint"))
}

/// Sends real webhooks through real processes and judges what every user received.
pub(crate) fn end_to_end(project: &Project) -> Result<()> {
    let events = project.output.join("webhooks.ndjson");
    webhooks::run(project, Some(events.clone()))?;
    let harness = project.binary("galaxy-push-end-to-end")?;
    let out = project.output.join("end-to-end");
    let mut command = std::process::Command::new(harness);
    shell::check(command.current_dir(&project.root).arg("--events").arg(events).arg("--out").arg(out))
}

fn simulate(project: &Project) -> Result<()> {
    let simulator = project.binary("galaxy-push-sim")?;
    let seeds = ["--seeds", "300", "--seconds", "60", "--twice", "8", "--progress"];
    shell::check(std::process::Command::new(simulator).current_dir(&project.root).args(seeds))
}
