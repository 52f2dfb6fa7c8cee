//! The table of the bugs that were found, as it is kept in the docs. A hunt for some of them rewrites their rows only.

use std::collections::BTreeMap;

use super::bugs::Bug;

/// What a row says for a bug that a named test finds.
const BY_TEST: &str = "test";
/// What a row says where not all of the first seeds were run.
const NOT_COUNTED: &str = "–";

/// How a bug is written.
const EXAMPLE: &str = r#"```toml
promise = "gap_true"
what = "a gap counts the position that its reader held as missed."

[[change]]
crate = "galaxy-push-core"
function = "Gap::missed"
find = "the smallest piece of the function that is in it once"
with = "what stands there with the bug"
```
"#;

/// The rows, by the names of the bugs.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<String, Row>);

#[derive(Debug)]
struct Row {
    how: String,
    promise: String,
    /// How many seeds it took, or that a test finds it.
    seeds: String,
    /// Of how many of the first seeds it was named, if they were all run.
    rate: String,
    /// What was named as broken: promises, or the test.
    named: String,
}

impl Table {
    /// Reads what [`Table::write`] wrote.
    pub(super) fn read(text: &str) -> Self {
        let rows = text.lines().filter_map(|line| {
            let cells: Vec<_> = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ").collect();
            let [name, how, promise, seeds, rate, named] = cells[..] else { return None };
            let [how, promise, seeds, rate, named] = [how, promise, seeds, rate, named].map(str::to_owned);
            Some((name.trim_end_matches('`').to_owned(), Row { how, promise, seeds, rate, named }))
        });
        Self(rows.collect())
    }

    /// It was found by the simulation, with this seed first; and in how many of the first seeds, if that was counted.
    pub(super) fn found(&mut self, bug: &Bug, seed: u64, rate: Option<(u64, u64)>, named: String) {
        // What was counted before is kept: a hunt that stops at the first seed says nothing else.
        let rate = rate.map(|(shown, of)| format!("{shown} of {of}"));
        let before = || self.0.get(&bug.name).map(|row| row.rate.clone());
        let rate = rate.or_else(before).unwrap_or_else(|| NOT_COUNTED.to_owned());
        self.put(bug, seed.to_string(), rate, named);
    }

    /// It was found by its test.
    pub(super) fn failed(&mut self, bug: &Bug, test: String) {
        self.put(bug, BY_TEST.to_owned(), NOT_COUNTED.to_owned(), format!("`{test}`"));
    }

    /// It was not found.
    pub(super) fn missed(&mut self, bug: &Bug) {
        self.0.remove(&bug.name);
    }

    fn put(&mut self, bug: &Bug, seeds: String, rate: String, named: String) {
        let (how, promise) = (bug.text.what.clone(), bug.text.promise.clone());
        self.0.insert(bug.name.clone(), Row { how, promise, seeds, rate, named });
    }

    /// The document. `all` names every bug there is, in order.
    pub(super) fn write(&self, all: &[String]) -> String {
        let rows: Vec<_> = all.iter().filter_map(|name| Some((name, self.0.get(name)?))).collect();
        let mut seeds: Vec<u64> = rows.iter().filter_map(|(_, row)| row.seeds.parse().ok()).collect();
        seeds.sort_unstable();
        let (median, most) = (seeds.get(seeds.len() / 2).copied(), seeds.last().copied());
        let missing: Vec<_> =
            all.iter().filter(|name| !self.0.contains_key(*name)).map(|name| format!("`{name}`")).collect();
        let (count, by_test) = (all.len(), rows.len() - seeds.len());
        let outcome = match missing.len() {
            0 => format!("{count} bugs, all found"),
            _ => format!(
                "{count} bugs, {} found; not found, or not hunted yet: {}",
                rows.len(),
                missing.join(", ")
            ),
        };
        let rows: String = rows
            .iter()
            .map(|(name, Row { how, promise, seeds, rate, named })| {
                format!("| `{name}` | {how} | {promise} | {seeds} | {rate} | {named} |\n")
            })
            .collect();
        format!(
            "# Planted bugs\n\n\
             Written by `cargo xtask planted`, which plants each bug of `sim/planted` in a copy of the tree and runs the\n\
             simulation, seed 1, 2, 3 …, until the history checker names the promise that the bug breaks. Where no simulated\n\
             reader can meet a bug, its file names a test, which must fail with the bug and pass without it. It proves that\n\
             the checker and the simulation are not blind. A hunt for some of the bugs rewrites their rows alone; with\n\
             `--rate 100` it also counts how many of the first 100 seeds show a bug.\n\n\
             To add a bug, write `sim/planted/NUMBER-NAME.toml`:\n\n\
             {EXAMPLE}\n\
             `find` is compared by words and signs: neither line ends nor the file where the function lies count. Where no\n\
             simulated reader can meet the bug, `test = {{ package = \"…\", target = \"lib\", name = \"…\" }}` stands above the\n\
             changes; `hangs = true`, where a seed that does not end has found it. A change outside of all bodies names an\n\
             `item` in place of the function, which costs a build of its own. Then `cargo xtask planted --check-apply`, and\n\
             `cargo xtask planted NUMBER`.\n\n\
             {outcome}. {} by the simulation, with a median of {} seeds and at most {}; {by_test} by a test.\n\n\
             | bug | what is wrong | promise | first seed | of the first seeds | what names it |\n|---|---|---|---|---|---|\n{rows}",
            seeds.len(),
            median.unwrap_or_default(),
            most.unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bug(name: &str) -> Bug {
        let text = "promise = 'live'\nwhat = 'it hangs.'\nchange = []\n";
        Bug::read(format!("sim/planted/{name}.toml").as_ref(), text).unwrap()
    }

    #[test]
    fn a_hunt_for_some_rewrites_their_rows_alone() {
        let all = ["01-a", "02-b", "03-c"].map(str::to_owned);
        let mut table = Table::default();
        table.found(&bug("01-a"), 7, Some((3, 100)), "live, unique".into());
        table.failed(&bug("02-b"), "crate::test".into());
        let text = table.write(&all);
        assert!(text.contains("| `01-a` | it hangs. | live | 7 | 3 of 100 | live, unique |\n"), "{text}");
        assert!(text.contains("3 bugs, 2 found; not found, or not hunted yet: `03-c`."), "{text}");

        let mut table = Table::read(&text);
        table.missed(&bug("02-b"));
        table.found(&bug("03-c"), 9, None, "live".into());
        let text = table.write(&all);
        assert!(text.contains("| `01-a` | it hangs. | live | 7 | 3 of 100 | live, unique |\n"), "{text}");
        assert!(text.contains("| `03-c` | it hangs. | live | 9 | – | live |\n"), "{text}");
        assert!(text.contains("not hunted yet: `02-b`. 2 by the simulation"), "{text}");

        let mut table = Table::read(&text);
        table.failed(&bug("02-b"), "crate::test".into());
        let text = table.write(&all);
        assert!(
            text.contains(
                "3 bugs, all found. 2 by the simulation, with a median of 9 seeds and at most 9; 1 by"
            ),
            "{text}"
        );
        assert_eq!(Table::read(&text).write(&all), text);
        assert!(!Table::read(&text).write(&all[..2]).contains("03-c"), "its file is gone");
    }
}
