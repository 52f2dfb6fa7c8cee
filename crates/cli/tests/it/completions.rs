//! The completion script of bash, in bash. `cargo xtask test` tries those of zsh and fish too.

use std::fs;
use std::process::Command;

use crate::world::{Folder, Running};

/// Offers what the script offers for the words that follow its name, as bash asks for it.
const ASK: &str = r#"
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
function=$(complete -p galaxy-push | sed 's/.*-F \([^ ]*\).*/\1/')
"$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn bash_completes_commands_and_their_flags() {
    let folder = Folder::new("completions-bash");
    let script = folder.path("galaxy-push.bash");
    fs::write(&script, folder.stdout(&["completions", "bash"])).unwrap();
    let offered = |words: &[&str]| {
        let bash = Command::new("bash").args(["-c", ASK, "bash"]).arg(&script).args(words).output().unwrap();
        assert!(bash.stderr.is_empty(), "{}", String::from_utf8_lossy(&bash.stderr));
        String::from_utf8(bash.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(offered(&["galaxy-push", "ser"]), ["serve"]);
    assert_eq!(offered(&["galaxy-push", "serve", "--hub-ad"]), ["--hub-addr"]);
    assert_eq!(offered(&["./galaxy-push", "--log-level", "warn", "member", "r"]), ["remove"]);
    assert_eq!(offered(&["galaxy-push", "member", "add", "--hub-tok"]), ["--hub-token-file"]);
    assert_eq!(offered(&["galaxy-push", "completions", "z"]), ["zsh"]);
    assert_eq!(offered(&["galaxy-push", "tail", "--log-format", "j"]), ["json"]);
}

/// The fault: one misspelt variable, or a broken file in the folder, and every new shell complained.
#[test]
fn a_script_comes_whatever_is_set() {
    let folder = Folder::new("completions-set");
    folder.write("galaxy-push.toml", "nonsense");
    for (name, value) in
        [("UNKNOWN", "x"), ("LOG_FORMAT", "bogus"), ("LOG_LEVEL", "inof"), ("CONFIG", "/nowhere")]
    {
        let mut command = folder.command(&["completions", "bash"]);
        command.env(format!("GALAXY_PUSH_{name}"), value);
        let outcome = Running::spawn(command).end();
        assert!(
            outcome.code == Some(0) && outcome.stdout.contains("complete "),
            "{name}: {}",
            outcome.stderr
        );
    }
}
