//! `cargo xtask completions`: the completion scripts, tried in bash, zsh and fish.
//!
//! Called from `commands` and `test`. How each shell is asked what it offers for a line is in `xtask/completions`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    project::Project,
    shell,
    tools::{SHELLS, Tools},
    ui,
};

/// A shell that waits for longer is stuck.
const PATIENCE_SECONDS: &str = "60";

/// Lines as somebody types them before pressing Tab, with what must be offered, among others.
const LINES: [(&str, &[&str]); 8] = [
    ("galaxy-push ser", &["serve"]),
    ("galaxy-push ", &["serve", "hub", "gateway", "publish", "tail", "member", "completions"]),
    ("galaxy-push serve --hub-ad", &["--hub-addr"]),
    ("galaxy-push gateway --", &["--hub", "--edge-addr", "--admin-addr", "--log-level"]),
    ("galaxy-push member ", &["add", "remove"]),
    ("galaxy-push member add --h", &["--hub"]),
    ("galaxy-push completions ", &SHELLS),
    ("galaxy-push tail --log-format ", &["auto", "text", "json"]),
];

/// Asks every shell about every line.
///
/// # Errors
///
/// When a shell is missing, complains, or does not offer what it must.
pub(crate) fn run(project: &Project) -> Result<()> {
    Tools::shells()?;
    let binary = project.binary("galaxy-push")?;
    let folder = project.output.join("completions");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for name in SHELLS {
        write_script(&binary, name, &folder)?;
        for (line, wanted) in LINES {
            let offered = ask(project, name, &folder, line)?;
            let lacking = lacking(&offered, wanted);
            ensure!(
                lacking.is_empty(),
                "{name} offers for `{line}` not {}, but\n{offered}",
                lacking.join(", ")
            );
        }
        ui::line(&format!("{name} completes {} lines", LINES.len()));
    }
    Ok(())
}

/// The scripts have the names under which the shells look for them.
fn write_script(binary: &Path, name: &str, folder: &Path) -> Result<()> {
    let script = shell::capture(Command::new(binary).args(["completions", name]))?;
    let file: PathBuf =
        if name == "zsh" { "_galaxy-push".into() } else { format!("completions.{name}").into() };
    fs::write(folder.join(&file), script).with_context(|| format!("cannot write {}", file.display()))
}

/// The candidates, one a line.
fn ask(project: &Project, name: &str, folder: &Path, line: &str) -> Result<String> {
    let question = project.root.join(format!("xtask/completions/ask.{name}"));
    // Nothing of what the person at this machine has set up.
    let plain: &[&str] = match name {
        "bash" => &["--noprofile", "--norc"],
        "zsh" => &["-f"],
        _ => &["--no-config"],
    };
    let mut command = Command::new("timeout");
    command.args([PATIENCE_SECONDS, name]).args(plain).arg(question).arg(folder).arg(line);
    shell::capture(&mut command).with_context(|| format!("{name} cannot complete `{line}`"))
}

fn lacking<'a>(offered: &str, wanted: &[&'a str]) -> Vec<&'a str> {
    let offers = |word: &str| offered.lines().any(|candidate| candidate.trim() == word);
    wanted.iter().filter(|word| !offers(word)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_that_is_not_offered_is_named() {
        assert_eq!(lacking("--hub-addr\n--hub-ca\n", &["--hub", "--hub-ca"]), ["--hub"]);
    }
}
