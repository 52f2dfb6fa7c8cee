//! The project's own commands: `cargo xtask help`. `cargo xtask test` is what continuous integration runs.
//!
//! Called by people and by `.ci/run`. Not part of the product: it may call the product's binaries, never its crates.

mod arguments;
mod bench;
mod brokers;
mod chaos;
mod commands;
mod completions;
mod crashes;
mod documents;
mod fuzz;
mod hub;
mod interop;
mod long;
mod metrics;
mod mutants;
mod page;
mod planted;
mod project;
mod shell;
mod skips;
mod test;
mod threads;
mod tidy;
mod tools;
mod ui;
mod webhooks;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::run(arguments::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
