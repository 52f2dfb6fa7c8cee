//! `completions`: a script for a shell, from the definitions of the flags.

use std::io::Write as _;

use clap_complete::Shell;

/// The generator leaves out the values of arguments that are no flags.
const FISH_SHELLS: &str = "complete -c galaxy-push -n '__fish_galaxy_push_using_subcommand completions' -f -a 'bash elvish fish powershell zsh'\n";

pub(crate) fn run(shell: Shell) -> anyhow::Result<()> {
    // Written into memory first: the generator panics when a pipe closes early.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::args::definition(), "galaxy-push", &mut script);
    if shell == Shell::Bash {
        script = one_name_for_each_command(&String::from_utf8(script)?).into_bytes();
    }
    if shell == Shell::Fish {
        script.extend_from_slice(FISH_SHELLS.as_bytes());
    }
    std::io::stdout().write_all(&script)?;
    Ok(())
}

/// The generator writes the `-` of the program's name as `__` where it finds out which command is typed, and as `__subcmd__` where
/// it lists what the command takes: nothing of any command would ever be offered.
fn one_name_for_each_command(script: &str) -> String {
    script.replace("galaxy__subcmd__push", "galaxy__push")
}
