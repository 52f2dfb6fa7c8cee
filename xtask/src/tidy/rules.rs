//! The rules, one function each, from all texts to findings.
//!
//! Called by `tidy::run` and by the tests, which show for each rule a text that breaks it. A rule that finds nothing says nothing.

use super::{Finding, Text, chains, floors, words};

/// A rule with the name its findings carry.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) check: fn(&[Text]) -> Vec<Finding>,
}

/// All rules, in the order of the report.
pub(super) const RULES: [Rule; 15] = [
    Rule { name: "file-head", check: file_head },
    Rule { name: "file-length", check: file_length },
    Rule { name: "pure-core", check: pure_core },
    Rule { name: "position-arithmetic", check: position_arithmetic },
    Rule { name: "one-retry", check: one_retry },
    Rule { name: "bounded", check: bounded },
    Rule { name: "biased-select", check: biased_select },
    Rule { name: "machine-paths", check: machine_paths },
    Rule { name: "adr-sections", check: adr_sections },
    Rule { name: "module-cycle", check: floors::module_cycle },
    Rule { name: "floors", check: floors::floors },
    Rule { name: "call-chains", check: chains::call_chains },
    Rule { name: "public-docs", check: words::public_docs },
    Rule { name: "links", check: words::links },
    Rule { name: "replaced-terms", check: words::replaced_terms },
];

/// Hard limit; 300 is the aim.
const LINES_MAX: usize = 500;

/// Dependencies that would bring I/O or a second codec into core.
const CORE_NEVER_DEPENDS_ON: [&str; 6] = ["tokio", "prost", "tonic", "futures", "axum", "hyper"];

/// What core never says: it reads no clock, waits for nothing and does no I/O.
const CORE_NEVER_SAYS: [&str; 11] = [
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net",
    "std::fs",
    "std::thread",
    "async fn",
    "async move",
    ".await",
    "Instant::now",
    "SystemTime::now",
    "tokio::",
];

/// The only file with position arithmetic.
const CURSOR: &str = "crates/core/src/cursor.rs";

/// The crates of which only one file may wait and try again.
const RETRYING_CRATES: [&str; 3] = ["crates/hub", "crates/gateway", "crates/client"];

/// Words by which waiting to try again shows in code.
const RETRY_WORDS: [&str; 2] = ["Action::Wait", ".delay("];

/// How operators and methods of arithmetic begin.
const ARITHMETIC: [&str; 8] =
    ["+", "-", "*", ".saturating_", ".checked_", ".wrapping_", ".overflowing_", ".abs_diff"];

/// Every Rust file opens with `//!`: what it is, who calls it, what it is not.
fn file_head(texts: &[Text]) -> Vec<Finding> {
    let headless = |text: &&Text| text.is_rust() && !text.content.trim_start().starts_with("//!");
    let finding =
        |text: &Text| text.finding(1, "open the file with `//!`: what it is, who calls it, what it is not");
    texts.iter().filter(headless).map(finding).collect()
}

fn file_length(texts: &[Text]) -> Vec<Finding> {
    let finding = |text: &Text| {
        let lines = text.content.lines().count();
        let message = || format!("{lines} lines: split it by idea; {LINES_MAX} is the limit, 300 the aim");
        (lines > LINES_MAX).then(|| text.finding(LINES_MAX + 1, message()))
    };
    texts.iter().filter(|text| text.is_code()).filter_map(finding).collect()
}

/// Core has no clock, no I/O, no tasks and no codec of another crate.
fn pure_core(texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for text in texts.iter().filter(|text| text.path == "crates/core/Cargo.toml") {
        for (index, line) in text.content.lines().enumerate() {
            let name = line.trim().split(['.', ' ', '=']).next().unwrap_or("");
            if CORE_NEVER_DEPENDS_ON
                .iter()
                .any(|never| name == *never || name.starts_with(&format!("{never}-")))
            {
                let message = format!("core stays pure: move what needs `{name}` to proto or outward");
                findings.push(text.finding(index + 1, message));
            }
        }
    }
    for text in texts.iter().filter(|text| text.is_under("crates/core/src") && text.is_rust()) {
        for (line, code) in text.code_lines() {
            if let Some(word) = CORE_NEVER_SAYS.iter().find(|word| code.contains(**word)) {
                findings.push(
                    text.finding(
                        line,
                        format!("core stays pure: let the caller pass in what `{word}` gives"),
                    ),
                );
            }
        }
    }
    findings
}

/// Two formulas for one position will disagree one day, so there is one place for them.
fn position_arithmetic(texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let product = texts.iter().filter(|text| text.is_product() && text.is_rust());
    for text in product.filter(|text| text.path != CURSOR && !text.is_test()) {
        for (line, code) in text.code_lines() {
            if computes_with_seq(code) || builds_seq_by_arithmetic(code) {
                findings.push(
                    text.finding(line, format!("give this computation a name in {CURSOR} and call it")),
                );
            }
        }
    }
    findings
}

fn computes_with_seq(code: &str) -> bool {
    code.match_indices("seq.0").any(|(at, word)| {
        let before =
            code[..at].trim_end_matches(|letter: char| letter.is_alphanumeric() || "_.".contains(letter));
        let after = code[at + word.len()..].trim_start();
        // `->` is an arrow, not a subtraction.
        ARITHMETIC.iter().any(|sign| after.starts_with(sign)) && !after.starts_with("->")
            || [" +", " -", " *"].iter().any(|sign| before.trim_end().ends_with(sign))
    })
}

fn builds_seq_by_arithmetic(code: &str) -> bool {
    code.match_indices("Seq(").any(|(at, word)| {
        let inner = &code[at + word.len()..];
        let mut depth = 1;
        let end = inner.find(|letter| {
            depth += i32::from(letter == '(') - i32::from(letter == ')');
            depth == 0
        });
        let inner = &inner[..end.unwrap_or(inner.len())];
        [" + ", " - ", " * ", ".saturating_", ".checked_", ".wrapping_"]
            .iter()
            .any(|sign| inner.contains(sign))
    })
}

/// Exactly one file waits and tries again; everything else returns a classified error.
fn one_retry(texts: &[Text]) -> Vec<Finding> {
    let mut waits = Vec::new();
    let ours = |text: &&Text| RETRYING_CRATES.iter().any(|folder| text.is_under(&format!("{folder}/src")));
    for text in texts.iter().filter(ours).filter(|text| text.is_rust() && !text.is_test()) {
        let says = |code: &str| RETRY_WORDS.iter().any(|word| code.contains(word));
        if let Some((line, _)) = text.code_lines().find(|(_, code)| says(code)) {
            waits.push(
                text.finding(
                    line,
                    "only one file retries: return a classified error and let the driver decide",
                ),
            );
        }
    }
    if waits.len() > 1 { waits } else { Vec::new() }
}

/// Every queue has a bound, a reason and a metric.
fn bounded(texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for text in texts.iter().filter(|text| text.is_product() && text.is_rust()) {
        for (line, code) in text.code_lines() {
            // The end of a range has no bound and is no queue.
            if code.replace("Bound::Unbounded", "").to_ascii_lowercase().contains("unbounded") {
                findings
                    .push(text.finding(line, "give the queue a bound with a name, a reason and a metric"));
            }
        }
    }
    findings
}

/// An unbiased `select!` draws random numbers, which the deterministic simulation cannot replay.
fn biased_select(texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for text in texts.iter().filter(|text| text.is_product() && text.is_rust()) {
        let mut lines = text.code_lines().filter(|(_, code)| !code.trim().is_empty()).peekable();
        while let Some((line, code)) = lines.next() {
            let Some((_, after)) = code.split_once("select! {") else { continue };
            let first = if after.trim().is_empty() {
                lines.peek().map_or("", |(_, next)| next.trim())
            } else {
                after.trim()
            };
            if !first.starts_with("biased;") {
                findings.push(text.finding(line, "begin with `biased;`, and with the branch that must win"));
            }
        }
    }
    findings
}

/// The project speaks of no machine it was built on.
fn machine_paths(texts: &[Text]) -> Vec<Finding> {
    // Written in two parts, so that this file keeps its own rule.
    let homes = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/Us", "ers/"),
        concat!("C:\\", "Users"),
    ];
    let mut findings = Vec::new();
    for text in texts.iter().filter(|text| !text.is_under("testdata") && text.path != "Cargo.lock") {
        for (index, line) in text.content.lines().enumerate() {
            // After a letter or a dot it is the middle of a relative path or of a URL.
            let starts_path = |at: usize| {
                !line[..at].ends_with(|letter: char| letter.is_alphanumeric() || "._-}~*".contains(letter))
            };
            if homes.iter().any(|home| line.match_indices(home).any(|(at, _)| starts_path(at))) {
                findings
                    .push(text.finding(index + 1, "make the path relative to the project, or an argument"));
            }
        }
    }
    findings
}

/// A decision is recorded with what led to it and what it costs.
fn adr_sections(texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_adr = |text: &&Text| {
        text.is_under("docs/adr") && text.path.ends_with(".md") && !text.path.ends_with("README.md")
    };
    for text in texts.iter().filter(is_adr) {
        for section in ["Status", "Context", "Decision", "Consequences"] {
            let opens = |line: &str| line.trim_start_matches(['#', '*', '-', ' ']).starts_with(section);
            if !text.content.lines().any(opens) {
                findings.push(text.finding(1, format!("add the section {section}")));
            }
        }
    }
    findings
}
