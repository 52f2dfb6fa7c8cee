//! Runs a command of `cargo xtask`.
//!
//! Called by `main`. `arguments` says which commands there are; each does its work in a file of its own.

use anyhow::Result;

use crate::{
    arguments::{Arguments, Command},
    bench, brokers, chaos, completions, crashes, documents, fuzz, long, metrics, mutants, page, planted,
    project::Project,
    shell, test, threads, tidy,
    tools::Tools,
    ui, webhooks,
};

/// Runs the command that was asked for.
///
/// # Errors
///
/// As the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let project = Project::locate()?;
    match arguments.command {
        Command::Test { list: true, .. } => test::list(),
        Command::Test { only, .. } => test::run(&project, &only)?,
        Command::Check => test::check(&project)?,
        Command::Tools => Tools::all(&project)?,
        Command::Tidy => tidy::run(&project)?,
        Command::Docs => documents::run(&project)?,
        Command::Webhooks { out } => webhooks::run(&project, out)?,
        Command::Sim { arguments } => shell::check(
            project.cargo().args(["run", "--quiet", "--package", "galaxy-push-sim", "--"]).args(arguments),
        )?,
        Command::SimLong(long) => long::run(&project, &long)?,
        Command::CrashLong(crashes) => crashes::simulated(&project, &crashes)?,
        Command::KillLong(kills) => crashes::real(&project, &kills)?,
        Command::Fuzz(wanted) => fuzz::run(&project, &wanted)?,
        Command::BenchStore(bench) => bench::store(&project, &bench)?,
        Command::BenchUsers(bench) => bench::users(&project, &bench)?,
        Command::Mutants(asked) => mutants::run(&project, &asked)?,
        Command::Brokers => brokers::run(&project)?,
        Command::EndToEnd => test::end_to_end(&project)?,
        Command::Chaos(chaos) => chaos::run(&project, &chaos)?,
        Command::Failover(failover) => chaos::failover(&project, Some(&failover))?,
        Command::Storm(storm) => chaos::storm(&project, &storm, true)?,
        Command::Floods => chaos::floods(&project, true)?,
        Command::Planted { numbers, check_apply, only, rate } => {
            let selection = planted::Selection { text: only, numbers };
            match check_apply {
                true => planted::check_apply(&project, &selection)?,
                false => planted::run(&project, &selection, rate)?,
            }
        }
        Command::Threads(threads) => threads::run(&project, &threads, &planted::by_threads(&project)?)?,
        Command::Completions => completions::run(&project)?,
        Command::Metrics => metrics::run(&project)?,
        Command::Interop { peer } => peer.play(&project)?,
        Command::Page => page::drive(&project)?,
        Command::Screenshot => page::screenshot(&project)?,
        Command::Codegen => {
            shell::check(
                project
                    .cargo()
                    .args(["test", "--package", "galaxy-push-proto", "--test", "it", "codegen"])
                    .env("UPDATE_GENERATED", "1"),
            )?;
            ui::line("the generated code is up to date; commit what changed");
        }
    }
    Ok(())
}
