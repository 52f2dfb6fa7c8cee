//! Tests of how examples are read, and that each check can fail.

use super::*;

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn reads_the_commands_of_shell_blocks_only() {
    let readme = "text\n```rust\ncargo nothing\n```\n```sh\n$ cargo run -- serve   # starts\ncurl -N \\\n  'http://h/v1/stream?a=1&b=2' | jq .\n```\ngit no\n";
    let expected = [
        Example { line: 6, words: words("cargo run -- serve") },
        Example { line: 8, words: words("curl -N http://h/v1/stream?a=1&b=2") },
        Example { line: 8, words: words("jq .") },
    ];
    assert_eq!(examples(readme), expected);
}

#[test]
fn an_unknown_project_command_or_flag_is_told() {
    assert!(check_xtask(&["test"]).is_ok());
    assert!(check_xtask(&["test", "--only", "fmt"]).is_ok());
    assert!(check_xtask(&["sim", "--seed", "7"]).is_ok());
    assert!(check_xtask(&["tset"]).is_err());
    assert!(check_xtask(&["test", "--olny"]).is_err());
}

#[test]
fn an_unknown_program_is_told() {
    let mut help = Help { binary: PathBuf::from("no-such-binary"), texts: BTreeMap::new() };
    let example = |text: &str| Example { line: 1, words: words(text) };
    assert!(check(&example("git clone x"), &mut help, "").is_ok());
    assert!(check(&example("gti clone x"), &mut help, "").is_err());
    assert!(check(&example("galaxy-push serve"), &mut help, "").is_err());
}

#[test]
fn an_unknown_flag_of_the_product_is_told() {
    let texts = BTreeMap::from([("publish".to_owned(), "  --to <TO>  --type=<T>".to_owned())]);
    let mut help = Help { binary: PathBuf::from("no-such-binary"), texts };
    assert!(check_product(&["publish", "--to", "user:42", "--type", "a.b"], &mut help).is_ok());
    assert!(check_product(&["publish", "--too", "user:42"], &mut help).is_err());
}

#[test]
fn a_path_that_no_source_serves_is_told() {
    let sources = r#".route("/v1/stream", get(stream))"#;
    assert!(check_path("http://127.0.0.1:8080/v1/stream?user=42", sources).is_ok());
    assert!(check_path("http://127.0.0.1:8080/", sources).is_ok());
    assert!(check_path("http://127.0.0.1:8080/v1/steam", sources).is_err());
}
