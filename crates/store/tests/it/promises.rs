//! The table of what each store promises, in docs/semantics.md, names the checks that the suites run: each, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The checks that the suites in this file call, one a line.
fn checks(text: &str) -> impl Iterator<Item = String> {
    let called = |line: &str| {
        let (name, arguments) = line.strip_prefix("    ")?.trim_start().split_once('(')?;
        let is_check = ["&world()).await;", "&open, &place()"].iter().any(|with| arguments.starts_with(with));
        is_check.then(|| name.to_owned())
    };
    text.lines().filter_map(called).collect::<Vec<_>>().into_iter()
}

#[test]
fn the_table_of_promises_names_every_check_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let suites = ["src/conformance.rs", "src/conformance/durable.rs"].map(read);
    let run: BTreeSet<_> = suites.iter().flat_map(|text| checks(text)).collect();
    assert!(run.len() > 10, "the checks are found: {run:?}");
    let docs = read("../../docs/semantics.md");
    let (_, table) = docs.split_once("| promise | test | `memory` | `disk` |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let named: BTreeSet<_> = rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect();
    assert_eq!(named, run);
}
