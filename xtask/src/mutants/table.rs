//! `docs/mutants.md`: how many mutants of which file the tests catch, and every one that they do not.
//!
//! Called by `mutants`. Reads nothing but the ledger.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use super::ledger::{Judged, Ledger};

const HEAD: &str = "# Mutants\n\n\
Written by `cargo xtask mutants`. [cargo-mutants](https://mutants.rs) makes up small changes of the code: another value returned, another\n\
operator, an arm of a match left out. All those of a crate are compiled into one copy of it, where the environment of a process says which\n\
one it has; then the crate's own tests run with each until one fails. One that no test notices has survived: a test is missing, or the\n\
mutant is no other code, and then the table says why. What became of each function's mutants is kept in `xtask/mutants/ledger.ndjson`, so\n\
that a run goes on where the last one stopped (`--minutes`, an hour unless told otherwise), and judges anew what has changed.\n\n\
*Endless*: the tests did not end. *Unviable*: it does not compile. *Not run*: functions whose type is what their body makes it, and\n\
`const fn` that must be called while the code is built, cannot stand in one copy with their mutants.\n\n";

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    functions: usize,
    waiting: usize,
    caught: usize,
    endless: usize,
    survived: usize,
    equivalent: usize,
    unviable: usize,
    left: usize,
}

impl Sum {
    fn add(&mut self, ledger: &Ledger, judged: &Judged) {
        let equivalent = judged.survived.iter().filter(|name| ledger.why(judged, name).is_some()).count();
        self.functions += 1;
        self.caught += judged.caught;
        self.endless += judged.endless;
        self.equivalent += equivalent;
        self.survived += judged.survived.len() - equivalent;
        self.unviable += judged.unviable;
        self.left += judged.left;
    }

    fn row(&self, name: &str) -> String {
        let Self { functions, waiting, caught, endless, survived, equivalent, unviable, left } = self;
        let ran = caught + endless + survived;
        let percent = if ran == 0 {
            "".to_owned()
        } else {
            format!("{:.1} %", 100.0 * (caught + endless) as f64 / ran as f64)
        };
        format!(
            "| {name} | {functions} | {waiting} | {caught} | {endless} | {survived} | {equivalent} | {unviable} | {left} | {percent} |\n"
        )
    }
}

/// The document. `waiting`: how many functions of each part are not judged as they are now.
pub(super) fn write(
    ledger: &Ledger,
    waiting: &BTreeMap<String, usize>,
    part: impl Fn(&Path) -> String,
) -> String {
    let mut sums: BTreeMap<String, Sum> =
        waiting.iter().map(|(part, &waiting)| (part.clone(), Sum { waiting, ..Sum::default() })).collect();
    for judged in ledger.functions() {
        sums.entry(part(&judged.file)).or_default().add(ledger, judged);
    }
    let mut text = HEAD.to_owned();
    text += "| part | functions | still to judge | caught | endless | survived | no other code | unviable | not run | of those run, noticed |\n";
    text += "|---|---|---|---|---|---|---|---|---|---|\n";
    sums.iter().for_each(|(part, sum)| text += &sum.row(&format!("`{part}`")));
    text += "\n## Survivors\n\n| function | mutant | why it is no other code |\n|---|---|---|\n";
    for judged in ledger.functions() {
        for mutant in &judged.survived {
            let why = ledger.why(judged, mutant).unwrap_or("**open**");
            let shown = mutant.replace('|', "\\|");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| `{}` | `{shown}` | {why} |", judged.function);
        }
    }
    text
}
