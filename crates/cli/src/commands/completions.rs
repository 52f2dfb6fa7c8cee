//! `completions`: a script for a shell, from the definitions of the flags.

use std::io::Write as _;

use clap_complete::Shell;

pub(crate) fn run(shell: Shell) -> anyhow::Result<()> {
    // Written into memory first: the generator panics when a pipe closes early.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::args::definition(), "galaxy-push", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
