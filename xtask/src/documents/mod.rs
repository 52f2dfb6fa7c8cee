//! `cargo xtask docs`: what the commands of the README name exists.
//!
//! Called from `commands` and `test`. Reads the shell examples of the README (every ```sh, ```bash or ```console block) and holds them
//! against the real command lines. `tidy` follows the links. Runs none of the examples: it asks the
//! binary for its help only.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use clap::CommandFactory;

use crate::{arguments::Arguments, project::Project, shell, ui};

/// Programs of the reader's own machine that an example may use.
const EVERYDAY: [&str; 11] =
    ["git", "cd", "npm", "curl", "jq", "kill", "cat", "buf", "grpcurl", "docker", "apt-get"];

/// One command of an example.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    line: usize,
    words: Vec<String>,
}

/// Checks README.md.
///
/// # Errors
///
/// When something named does not exist; each case has been printed with its file and line.
pub(crate) fn run(project: &Project) -> Result<()> {
    let readme =
        fs::read_to_string(project.root.join("README.md")).context("the project needs a README.md")?;
    let examples = examples(&readme);
    ensure!(!examples.is_empty(), "README.md has no shell example: show the quick start in a ```sh block");
    let files = project.files()?;
    let mut help = Help { binary: project.binary("galaxy-push")?, texts: BTreeMap::new() };
    let sources = source_text(project, &files)?;
    let mut complaints = Vec::new();
    for example in &examples {
        if let Err(error) = check(example, &mut help, &sources) {
            complaints.push(format!("README.md:{}: {error:#}", example.line));
        }
    }
    let ci = fs::read_to_string(project.root.join(".ci/run")).unwrap_or_default();
    if !(ci.contains("cargo xtask test") && readme.contains("cargo xtask test")) {
        complaints.push("README.md and .ci/run must both name `cargo xtask test`".to_owned());
    }
    for complaint in &complaints {
        ui::line(complaint);
    }
    ensure!(complaints.is_empty(), "{} places in the docs name what does not exist", complaints.len());
    ui::line(&format!("{} commands of the README exist", examples.len()));
    Ok(())
}

/// The commands in the shell blocks of a Markdown text, with continued lines joined.
fn examples(markdown: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut in_shell = false;
    let mut in_other = false;
    let mut joined = String::new();
    for (number, line) in markdown.lines().enumerate() {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            let opens = !in_shell && !in_other;
            in_shell = opens && matches!(fence.trim(), "sh" | "bash" | "console" | "shell");
            in_other = opens && !in_shell;
            continue;
        }
        if !in_shell {
            continue;
        }
        let line = line.trim();
        joined.push_str(line.strip_prefix("$ ").unwrap_or(line));
        if joined.ends_with('\\') {
            joined.pop();
            continue;
        }
        let command = std::mem::take(&mut joined);
        for part in split(&command) {
            examples.push(Example { line: number + 1, words: part });
        }
    }
    examples
}

/// Splits a command line into commands (at `|`, `;`, `&&` and `&`) of words, minding quotes; a comment ends it.
fn split(command: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word = String::new();
    let mut quote = None;
    for letter in command.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => word.push(letter),
            (None, '\'' | '"') => quote = Some(letter),
            (None, '#') if word.is_empty() => break,
            (None, ' ' | '|' | ';' | '&') => {
                if let Some(last) = commands.last_mut().filter(|_| !word.is_empty()) {
                    last.push(std::mem::take(&mut word));
                }
                if letter != ' ' {
                    commands.push(Vec::new());
                }
            }
            (None, _) => word.push(letter),
        }
    }
    if let Some(last) = commands.last_mut().filter(|_| !word.is_empty()) {
        last.push(word);
    }
    commands.retain(|words| !words.is_empty());
    commands
}

fn check(example: &Example, help: &mut Help, sources: &str) -> Result<()> {
    let words: Vec<&str> = example.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["cargo", "xtask", rest @ ..] => check_xtask(rest),
        ["cargo", "run", rest @ ..] => {
            let product = rest.iter().position(|word| *word == "--").map_or(&[][..], |at| &rest[at + 1..]);
            check_product(product, help)
        }
        ["cargo", "install" | "build" | "test" | "add", ..] => Ok(()),
        [program, rest @ ..] if program.rsplit('/').next() == Some("galaxy-push") => {
            check_product(rest, help)
        }
        ["curl", rest @ ..] => rest.iter().try_for_each(|word| check_path(word, sources)),
        [program, ..] => {
            ensure!(
                EVERYDAY.contains(program),
                "`{program}` is no command of this project or of every machine"
            );
            Ok(())
        }
        [] => Ok(()),
    }
}

/// Whether `cargo xtask` knows the command and its flags.
fn check_xtask(words: &[&str]) -> Result<()> {
    let Some((name, rest)) = words.split_first() else { return Ok(()) };
    let arguments = Arguments::command();
    let command = arguments
        .find_subcommand(name)
        .with_context(|| format!("there is no `cargo xtask {name}`: see `cargo xtask help`"))?;
    let takes_anything = command.get_positionals().any(|positional| positional.is_allow_hyphen_values_set());
    for flag in rest.iter().filter_map(|word| word.strip_prefix("--")).filter(|flag| !flag.is_empty()) {
        let flag = flag.split('=').next().unwrap_or(flag);
        let known = command.get_arguments().any(|argument| argument.get_long() == Some(flag));
        ensure!(known || takes_anything, "`cargo xtask {name}` has no flag --{flag}");
    }
    Ok(())
}

/// Whether `galaxy-push` knows the command and its flags.
fn check_product(words: &[&str], help: &mut Help) -> Result<()> {
    let path: Vec<&str> = words.iter().take_while(|word| is_command_word(word)).copied().collect();
    let text = help.of(&path)?.to_owned();
    for flag in words.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
        let flag = flag.split('=').next().unwrap_or(flag);
        let known =
            text.split(|letter: char| !(letter.is_alphanumeric() || letter == '-')).any(|word| word == flag);
        ensure!(known, "`galaxy-push {}` has no flag {flag}", path.join(" "));
    }
    Ok(())
}

/// Commands are plain lower-case words; values in examples are not, or follow a flag.
fn is_command_word(word: &str) -> bool {
    !word.is_empty()
        && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-')
        && !word.starts_with('-')
}

/// Whether the path of a URL of ours is served: some source names it.
fn check_path(word: &str, sources: &str) -> Result<()> {
    let Some((_, rest)) = word.split_once("://") else { return Ok(()) };
    let Some((_, path)) = rest.split_once('/') else { return Ok(()) };
    let path = path.split(['?', '#']).next().unwrap_or(path);
    ensure!(path.is_empty() || sources.contains(&format!("\"/{path}\"")), "no source serves \"/{path}\"");
    Ok(())
}

/// What `galaxy-push … --help` says, asked once per command.
struct Help {
    binary: PathBuf,
    texts: BTreeMap<String, String>,
}

impl Help {
    fn of(&mut self, path: &[&str]) -> Result<&str> {
        let key = path.join(" ");
        if !self.texts.contains_key(&key) {
            let text = shell::capture(Command::new(&self.binary).args(path).arg("--help"))
                .with_context(|| format!("there is no `galaxy-push {key}`"))?;
            self.texts.insert(key.clone(), text);
        }
        Ok(&self.texts[&key])
    }
}

fn source_text(project: &Project, files: &[PathBuf]) -> Result<String> {
    let mut text = String::new();
    let sources = files.iter().filter(|file| file.starts_with("crates"));
    for file in sources.filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        text += &fs::read_to_string(project.root.join(file))?;
    }
    Ok(text)
}
