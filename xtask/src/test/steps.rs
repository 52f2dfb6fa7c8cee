//! The steps of `cargo xtask test` and of `cargo xtask check`: what must hold, and what to do when it does not.
//!
//! Called from `test`, which runs them. Cheap ones first, so that a small slip is told early; the builds are shared.

use anyhow::Result;

use crate::{
    bench, chaos, completions, crashes, documents, fuzz, interop::Peer, metrics, page, planted,
    project::Project, shell, skips::Skips, threads, tidy, tools::Tools, webhooks,
};

/// One thing that must hold.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// What to do when it fails.
    pub(super) advice: &'static str,
    pub(super) run: fn(&Project, &mut Skips) -> Result<()>,
}

/// The steps of `cargo xtask check`, beside [`UNIT_TESTS`].
pub(super) const CHECK: [&str; 3] = ["fmt", "tidy", "clippy"];

/// The last step of `cargo xtask check`; `cargo-test` runs these tests too.
pub(super) const UNIT_TESTS: Step = Step {
    name: "unit-tests",
    what: "the tests beside the code",
    advice: "repeat the failing one with `cargo test --package PACKAGE NAME`",
    run: |project, _| shell::check(project.cargo().args(["test", "--workspace", "--lib", "--bins"])),
};

/// Cheap steps first, so that a small slip is told early; the builds are shared between steps.
pub(super) const STEPS: [Step; 28] = [
    Step {
        name: "tools",
        what: "install what the other steps need",
        advice: "the message above names what is missing; the network is needed once",
        run: |project, _| Tools::all(project),
    },
    Step {
        name: "fmt",
        what: "the code is formatted",
        advice: "run `cargo fmt --all`",
        run: |project, _| shell::check(project.cargo().args(["fmt", "--all", "--check"])),
    },
    Step {
        name: "tidy",
        what: "the habits that neither rustc nor clippy knows",
        advice: "each line above says what to do",
        run: |project, _| tidy::run(project),
    },
    Step {
        name: "proto",
        what: "buf lints the wire contract",
        advice: "mend proto/push/v1/push.proto; buf.yaml has the rules",
        run: |project, _| lint_contract(project),
    },
    Step {
        name: "planted",
        what: "the planted bugs still apply",
        advice: "adapt the bug in sim/planted to the code, then run `cargo xtask planted NUMBER`",
        run: |project, _| planted::check_apply(project, &planted::Selection::default()),
    },
    Step {
        name: "webhooks",
        what: "real payloads become events",
        advice: "compare xtask/src/webhooks with the payloads' package",
        run: |project, _| webhooks::run(project, None),
    },
    Step {
        name: "page-logic",
        what: "the logic of the try-it page, in Node",
        advice: "mend web/tryit, or web/test if what it should do has changed",
        run: |project, _| page::logic(project),
    },
    Step {
        name: "clippy",
        what: "no warnings",
        advice: "mend the warnings above; expect a lint only with its reason",
        run: |project, _| {
            let lint = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
            shell::check(project.cargo().args(lint))
        },
    },
    Step {
        name: "build",
        what: "everything compiles",
        advice: "mend the errors above",
        run: |project, _| project.build(),
    },
    Step {
        name: "bench",
        what: "the benches, which are no part of the workspace, fit the product",
        advice: "adapt bench/store or bench/users to what has changed; `cargo xtask bench-store` and `bench-users` run them",
        run: |project, _| bench::fit(project),
    },
    Step {
        name: "cargo-test",
        what: "the tests of every crate",
        advice: "repeat the failing one with `cargo test --package PACKAGE NAME`",
        run: |project, _| test_all(project),
    },
    Step {
        name: "threads",
        what: "the places where threads meet, under 2,000 schedules each way",
        advice: "repeat it with `cargo xtask threads --schedules 2000`; the schedule above replays the failure (docs/threads.md)",
        run: |project, _| threads::short(project),
    },
    Step {
        name: "fuzz",
        what: "the inputs that fuzzing has kept, through what it fuzzes",
        advice: "the message names the input; repeat it with `cargo test --package galaxy-push-fuzz-targets`",
        run: |project, _| fuzz::replay(project),
    },
    Step {
        name: "completions",
        what: "bash, zsh and fish complete commands and flags",
        advice: "repeat it with `cargo xtask completions`; xtask/completions has how each shell is asked",
        run: |project, _| completions::run(project),
    },
    Step {
        name: "metrics",
        what: "promtool and a strict parser take what every role tells Prometheus",
        advice: "repeat it with `cargo xtask metrics`; crates/cli/tests/it/metrics.rs starts the roles",
        run: |project, _| metrics::run(project),
    },
    Step {
        name: "sim",
        what: "the whole system in the simulator, 300 seeds of 60 simulated seconds, some of them twice",
        advice: "replay the seed named above with `cargo xtask sim --seed SEED`",
        run: |project, _| simulate(project),
    },
    Step {
        name: "end-to-end",
        what: "real webhooks through real processes, the hub killed on the way",
        advice: "the history and the logs are in target/end-to-end; repeat it with `cargo xtask end-to-end`",
        run: |project, _| end_to_end(project),
    },
    Step {
        name: "chaos",
        what: "real processes killed, stopped, cut off, doubled and drained, one after the other",
        advice: "the logs and the history are in target/chaos; repeat a fault with `cargo xtask chaos --only FAULT --cycles 5`",
        run: chaos::short,
    },
    Step {
        name: "failover",
        what: "a broker killed, and a hub, of two hubs over three brokers",
        advice: "the logs and the history are in target/failover; repeat a fault with `cargo xtask failover --only FAULT --cycles 5`",
        run: |project, _| chaos::failover(project, None),
    },
    Step {
        name: "crashes",
        what: "hubs with a disk store killed under load, with system calls that fail, and on a full disk",
        advice: "the log is in target/crashes; repeat a part with `cargo xtask kill-long --only PART`",
        run: crashes::short,
    },
    Step {
        name: "storm",
        what: "1,000 clients sent away, and their hub killed",
        advice: "the hub's log is in target/storm; repeat it with `cargo xtask storm`",
        run: |project, _| chaos::storm(project, &chaos::Storm::default(), false),
    },
    Step {
        name: "floods",
        what: "frames that no honest peer sends, in masses",
        advice: "the log is in target/floods; repeat it with `cargo xtask floods`",
        run: |project, _| chaos::floods(project, false),
    },
    Step {
        name: "go",
        what: "a gateway of the old kind in Go",
        advice: "repeat a scene with `cargo xtask interop go --only NAME`; interop/SCENES.md says what it must show",
        run: |project, _| Peer::go().play(project),
    },
    Step {
        name: "node",
        what: "a gateway of the old kind on Node",
        advice: "repeat a scene with `cargo xtask interop node --only NAME`; interop/SCENES.md says what it must show",
        run: |project, _| Peer::node().play(project),
    },
    Step {
        name: "python",
        what: "a gateway of the old kind in Python, and our client before a hub in Python",
        advice: "repeat a scene with `cargo xtask interop python --only NAME`; interop/SCENES.md says what it must show",
        run: |project, _| Peer::python().play(project),
    },
    Step {
        name: "users",
        what: "people's own libraries and proxies, as they are, through cuts",
        advice: "repeat a scene with `cargo xtask interop users --only NAME`; interop/SCENES.md says what it must show",
        run: |project, _| Peer::users().play(project),
    },
    Step {
        name: "page",
        what: "the try-it page in Chromium",
        advice: "repeat it with `cargo xtask page`; the server's log is target/tryit/serve.log",
        run: |project, _| page::drive(project),
    },
    Step {
        name: "docs",
        what: "what the commands of the README name exists",
        advice: "each line above says what to do",
        run: |project, _| documents::run(project),
    },
];

fn test_all(project: &Project) -> Result<()> {
    let broker = Tools::nats_server(project)?;
    shell::check(project.cargo().args(["test", "--workspace"]).env("NATS_SERVER", broker))
}

fn lint_contract(project: &Project) -> Result<()> {
    shell::check(Tools::buf(project)?.arg("lint"))
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
