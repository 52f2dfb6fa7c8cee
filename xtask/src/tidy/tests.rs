//! For each rule: a text that breaks it, and a text beside it that does not.

use super::{Finding, Text, rules::RULES, source::without_comment};

fn text(path: &str, content: &str) -> Text {
    Text { path: path.to_owned(), content: content.to_owned() }
}

/// The places that the rule finds, as `path:line`.
#[track_caller]
fn check(rule: &str, texts: &[(&str, &str)], expected: &[&str]) {
    let rule = RULES.iter().find(|known| known.name == rule).expect("the rule exists");
    let texts: Vec<Text> = texts.iter().map(|(path, content)| text(path, content)).collect();
    let place = |Finding { path, line, .. }: &Finding| format!("{path}:{line}");
    let found: Vec<String> = (rule.check)(&texts).iter().map(place).collect();
    assert_eq!(found, expected);
}

#[test]
fn file_head() {
    let texts = [
        ("crates/a/src/lib.rs", "// not a head\nfn a() {}"),
        ("crates/a/src/b.rs", "\n//! B.\n"),
        ("crates/a/src/generated/c.rs", "// @generated"),
        ("docs/a.md", "text"),
    ];
    check("file-head", &texts, &["crates/a/src/lib.rs:1"]);
}

#[test]
fn file_length() {
    let (long, longest) = ("x\n".repeat(501), "x\n".repeat(500));
    let texts = [
        ("a.rs", long.as_str()),
        ("b.py", &long),
        ("c.rs", &longest),
        ("d.md", &long),
        ("e/generated/f.rs", &long),
    ];
    check("file-length", &texts, &["a.rs:501", "b.py:501"]);
}

#[test]
fn pure_core() {
    let texts = [
        (
            "crates/core/Cargo.toml",
            "# no tokio here\n[dependencies]\nbytes.workspace = true\ntokio.workspace = true\nprost-types = \"1\"",
        ),
        ("crates/core/src/a.rs", "//! No tokio::task.\nuse std::time::Instant;\nasync fn a() {}\n// b.await"),
        (
            "crates/core/src/b.rs",
            "//! B.\nuse std::time::Duration;\n#[cfg(test)]\nmod tests { use std::fs; }",
        ),
        ("crates/core/src/c.rs", "//! C.\n#[cfg(test)]\nmod tests;\nasync fn c() {}"),
        ("crates/hub/src/a.rs", "async fn a() {}"),
    ];
    let expected = [
        "crates/core/Cargo.toml:4",
        "crates/core/Cargo.toml:5",
        "crates/core/src/a.rs:2",
        "crates/core/src/a.rs:3",
        "crates/core/src/c.rs:4",
    ];
    check("pure-core", &texts, &expected);
}

#[test]
fn position_arithmetic() {
    let broken = "let a = cursor.seq.0 + 1;\nlet b = Seq(held + 1);\nlet c = last - cursor.seq.0;\nlet d = seq.0.saturating_sub(1);";
    let kept = "let a = cursor.seq.next();\nlet b = Seq(number);\nprintln(seq.0);\nlet c = Seq(f(a)) + 1; // Seq(a + 1)\nfn s(seq.0) -> u64";
    let texts = [
        ("crates/hub/src/a.rs", broken),
        ("crates/hub/src/b.rs", kept),
        ("crates/core/src/cursor.rs", broken),
        ("crates/hub/src/tests.rs", broken),
    ];
    let expected =
        ["crates/hub/src/a.rs:1", "crates/hub/src/a.rs:2", "crates/hub/src/a.rs:3", "crates/hub/src/a.rs:4"];
    check("position-arithmetic", &texts, &expected);
}

#[test]
fn one_retry() {
    let driver = ("crates/client/src/driver.rs", "Action::Wait { until } => {}");
    check(
        "one-retry",
        &[driver, ("crates/hub/src/a.rs", "// no backoff.delay( here\nlet a: BackoffConfig;")],
        &[],
    );
    let both = [
        driver,
        ("crates/gateway/src/a.rs", "\nlet wait = backoff.delay(cause, None, random);"),
        ("crates/store/src/a.rs", "backoff.delay(1)"),
    ];
    check("one-retry", &both, &["crates/client/src/driver.rs:1", "crates/gateway/src/a.rs:2"]);
}

#[test]
fn bounded() {
    let texts = [
        (
            "crates/hub/src/a.rs",
            "// never unbounded\nlet (a, b) = unbounded_channel();\nlet c: UnboundedSender<u8>;",
        ),
        ("crates/hub/src/b.rs", "map.range((Bound::Unbounded, Bound::Excluded(key)))"),
        ("xtask/src/a.rs", "unbounded"),
    ];
    check("bounded", &texts, &["crates/hub/src/a.rs:2", "crates/hub/src/a.rs:3"]);
}

#[test]
fn biased_select() {
    let kept = "tokio::select! {\n    // Stop wins.\n    biased;\n    a = b => {}\n}";
    let broken = "\ntokio::select! {\n    a = b => { c }\n}\ntokio::select! { a = b => {} }";
    let texts = [("crates/hub/src/a.rs", kept), ("sim/src/b.rs", broken)];
    check("biased-select", &texts, &["sim/src/b.rs:2", "sim/src/b.rs:5"]);
}

#[test]
fn machine_paths() {
    let broken = format!("ok\nsee {}mona/x\n`{}a`", concat!("/ho", "me/"), concat!("/wo", "rk/"));
    let kept = format!("https://example.org{}a\n../team{}b", concat!("/ho", "me/"), concat!("/wo", "rk/"));
    let texts = [("docs/a.md", broken.as_str()), ("docs/b.md", &kept), ("testdata/c.json", &broken)];
    check("machine-paths", &texts, &["docs/a.md:2", "docs/a.md:3"]);
}

#[test]
fn adr_sections() {
    let texts = [
        ("docs/adr/0001-a.md", "# A\n\nStatus: accepted\n\n## Context\n\n## Decision\n\n## Consequences\n"),
        ("docs/adr/0002-b.md", "# B\n\n## Status\n\n## Decision\nThe Context is clear.\n\n## Consequences\n"),
        ("docs/adr/README.md", "The list"),
    ];
    check("adr-sections", &texts, &["docs/adr/0002-b.md:1"]);
}

#[test]
fn a_comment_ends_the_code_of_a_line() {
    assert_eq!(without_comment("let a = 1; // one"), "let a = 1; ");
    assert_eq!(without_comment(r#"let a = "http://b\"//c"; // d"#), r#"let a = "http://b\"//c"; "#);
}

#[test]
fn module_cycle() {
    let a = "//! A.\nmod c;\nuse crate::b::B;\npub use c::C;";
    let texts = [
        (
            "crates/x/src/lib.rs",
            "//! X.\nmod a;\nmod b;\nmod d;\nmod e;\npub use a::C;\n#[cfg(test)]\nmod t;\n",
        ),
        ("crates/x/src/a.rs", a),
        ("crates/x/src/a/c.rs", "//! C.\nuse super::D;\nuse crate::d::{E, F};\n"),
        ("crates/x/src/b.rs", "//! B.\nuse std::{\n    fmt,\n};\nuse crate::{\n    d::E,\n};\n"),
        ("crates/x/src/d.rs", "//! D.\nfn f() {\n    let d = super::e::d();\n}\n"),
        ("crates/x/src/e.rs", "//! E.\nfn e() -> crate::C { todo!() }\n"),
        ("crates/x/src/t.rs", "//! T.\nuse crate::a::A;\nuse crate::b::B;\n"),
    ];
    let found = [
        "crates/x/src/a.rs:3",
        "crates/x/src/a.rs:4",
        "crates/x/src/a/c.rs:2",
        "crates/x/src/a/c.rs:3",
        "crates/x/src/b.rs:6",
        "crates/x/src/d.rs:3",
        "crates/x/src/e.rs:2",
    ];
    check("module-cycle", &texts, &found);
    // A test closes none.
    let mut without = texts;
    without[5].1 = "//! E.\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n";
    // What a folder's file and what lies in the folder take from each other is none either.
    check("module-cycle", &without, &[]);
}

#[test]
fn module_cycle_within_a_folder() {
    let texts = [
        ("crates/x/src/lib.rs", "//! X.\nmod a;\n"),
        ("crates/x/src/a.rs", "//! A.\nmod b;\nmod c;\nuse b::B;\n"),
        ("crates/x/src/a/b.rs", "//! B.\nuse super::{A, c};\n"),
        ("crates/x/src/a/c.rs", "//! C.\nuse super::b::B as Other;\n"),
    ];
    check("module-cycle", &texts, &["crates/x/src/a/b.rs:2", "crates/x/src/a/c.rs:2"]);
}

#[test]
fn floors() {
    let texts = [
        ("crates/hub/src/lib.rs", "//! X.\nmod app;\nmod state;\nmod surface;\npub use surface::Router;\n"),
        ("crates/hub/src/app.rs", "//! A.\nuse crate::state::log::Log;\nuse crate::surface::Router;\n"),
        ("crates/hub/src/state.rs", "//! S.\nmod log;\n"),
        (
            "crates/hub/src/state/log.rs",
            "//! L.\nuse crate::app::App;\nuse tonic::Status;\nuse crate::http::Http;\n",
        ),
        ("crates/hub/src/surface.rs", "//! F.\nuse tonic::Status;\nuse crate::{app, state};\n"),
        ("crates/hub/src/other.rs", "//! O.\nuse crate::state::log::Log;\n"),
        // Other crates have no floors.
        ("crates/x/src/state.rs", "//! S.\nuse crate::app::App;\n"),
        ("crates/x/src/app.rs", "//! A.\n"),
        ("crates/x/src/lib.rs", "//! X.\n"),
    ];
    let found = [
        "crates/hub/src/app.rs:3",
        "crates/hub/src/other.rs:2",
        "crates/hub/src/state/log.rs:2",
        "crates/hub/src/state/log.rs:3",
    ];
    check("floors", &texts, &found);
}

#[test]
fn public_docs() {
    let texts = [
        (
            "crates/a/src/lib.rs",
            "//! A.\npub struct A {\n    pub a: u8,\n    b: u8,\n}\nimpl A {\n    pub fn c() {}\n    fn d() {}\n}\n",
        ),
        (
            "crates/a/src/b.rs",
            "//! B.\n/// B.\npub enum B {\n    C,\n    /// D.\n    D,\n}\npub(crate) fn e() {}\n",
        ),
        (
            "crates/a/src/c.rs",
            "//! C.\n#[expect(missing_docs, reason = \"names say all\")]\npub enum C {\n    D,\n}\n",
        ),
        ("sim/src/lib.rs", "//! S.\npub fn a() {}\n"),
    ];
    let found =
        ["crates/a/src/b.rs:4", "crates/a/src/lib.rs:2", "crates/a/src/lib.rs:3", "crates/a/src/lib.rs:7"];
    check("public-docs", &[texts[1], texts[0], texts[2], texts[3]], &found);
}

#[test]
fn links() {
    let page = "# Of A, and B\n[a](b.md#of-c) [b](https://example.org/b) [c](#of-a-and-b)\n```\n[d](d.md)\n```\n![e](e.png) [f](..) [g](#g)\n[h](../h.md)\n[i](b.md#i)";
    let texts =
        [("docs/a.md", page), ("docs/b.md", "## Of `c`\n"), ("README.md", "[docs](docs/) [b](docs/b.md)")];
    check("links", &texts, &["docs/a.md:6", "docs/a.md:6", "docs/a.md:7", "docs/a.md:8"]);
}

#[test]
fn replaced_terms() {
    let glossary = "# Words\n| `kept` | here | crates/a |\n## Replaced\n| was | now | where |\n|---|---|---|\n| `Letter` | `Dispatch` | `crates/a`, `sim` |\n";
    let texts = [
        ("docs/glossary.md", glossary),
        ("crates/a/src/a.rs", "//! A.\nstruct Letter;\nstruct Letters;\n// A Letter.\nfn kept() {}\n"),
        ("crates/b/src/a.rs", "//! A Letter.\n"),
        ("sim/src/a.rs", "//! A Letter.\n"),
    ];
    check("replaced-terms", &texts, &["crates/a/src/a.rs:2", "crates/a/src/a.rs:4", "sim/src/a.rs:1"]);
}

#[test]
fn call_chains() {
    let page = "1. `crates/a/src/a.rs` `A::one`: first\n2. `crates/a/src/b.rs` `two`\n3. `crates/a/src/c.rs` `three`\n4. `crates/b/src/lib.rs` `gone`\n\n1. `crates/a/src/b.rs` `two`\n1. text\n";
    let texts = [
        ("ARCHITECTURE.md", page),
        ("crates/a/src/lib.rs", "//! L.\nmod a;\nmod b;\nmod c;\n"),
        ("crates/a/src/a.rs", "//! A.\nuse crate::b::two;\nstruct A;\nimpl A {\n    fn one() {}\n}\n"),
        ("crates/a/src/b.rs", "//! B.\nfn two() {}\n"),
        ("crates/a/src/c.rs", "//! C.\nfn three() {}\n"),
        ("crates/b/src/lib.rs", "//! L.\nfn gone_away() {}\n"),
    ];
    check("call-chains", &texts, &["ARCHITECTURE.md:3", "ARCHITECTURE.md:4"]);
}
