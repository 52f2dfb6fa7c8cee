//! What is found wherever it has gone, and what the errors say of the rest.

use super::*;

/// A crate of these files.
fn sources(files: &[(&str, &str)]) -> Vec<Source> {
    let read = |(module, text): &(&str, &str)| {
        Source::read(
            format!("crates/c/src/{module}.rs").as_ref(),
            &[(*module).to_owned()],
            (*text).to_owned(),
        )
    };
    files.iter().map(read).collect::<Result<_>>().unwrap()
}

fn change(function: &str, find: &str) -> Change {
    let function = Some(function.to_owned());
    Change { package: "c".into(), function, item: None, find: find.into(), with: "with".into() }
}

/// The file with the change.
fn changed(sources: &[Source], change: &Change) -> Result<String> {
    let edit = edit(sources, change)?;
    let text = &edit.source.text;
    apply(text, 0..text.len(), &mut [edit])
}

fn refused(sources: &[Source], change: &Change) -> String {
    changed(sources, change).unwrap_err().to_string()
}

const SCAN: &str =
    "struct Scan;\nimpl Scan {\n    fn judge(&self) { self.a(1, 2); self.b() }\n    fn b(&self) {}\n}\n";

#[test]
fn a_function_is_found_wherever_it_has_gone_and_however_it_is_written() {
    let asked = change("Scan::judge", "self.a(1, 2)");
    assert!(changed(&sources(&[("scan", SCAN)]), &asked).unwrap().contains("{ with; self.b() }"));
    let moved = "// Above.\n\nimpl<T> super::Scan<T> {\n  async fn judge(&self) {\n    self.a(\n      1, // one\n      2,\n    );\n  }\n}";
    let others = sources(&[("other", "fn judge() { a(1, 2) }"), ("judged", moved)]);
    assert!(changed(&others, &asked).unwrap().contains("{\n    with;\n  }"));
}

#[test]
fn a_name_must_mean_one_function() {
    let two = sources(&[("one", SCAN), ("two", SCAN)]);
    let told = refused(&two, &change("Scan::judge", "self.b()"));
    assert!(told.contains("one::Scan::judge in crates/c/src/one.rs, two::Scan::judge in"), "{told}");
    assert!(changed(&two, &change("two::Scan::judge", "self.b()")).is_ok());
    let told = refused(&two, &change("Scans::judge", "self.b()"));
    assert!(told.contains("c has no Scans::judge; there is one::Scan::judge"), "{told}");
    let told = refused(&two, &change("judge", "self.b()"));
    assert!(told.contains("c has no judge"), "a method has its type: {told}");
    let traits = "struct A; impl X for A { fn f(&self) { 1 } } impl Y for A { fn f(&self) { 2 } }";
    let traits = sources(&[("a", traits)]);
    assert!(refused(&traits, &change("A::f", "1")).contains("a::<A as X>::f"));
    assert!(changed(&traits, &change("<A as Y>::f", "2")).is_ok());
}

#[test]
fn what_is_sought_must_be_there_once() {
    let sources = sources(&[("scan", "fn f() {\n    a();\n    b(1);\n    a();\n}\nfn g() { c() }")]);
    let told = refused(&sources, &change("f", "a()"));
    assert!(
        told.contains(
            "is found 2 times, in lines 2, 4: looked in scan::f (crates/c/src/scan.rs, lines 1 to 5)"
        ),
        "{told}"
    );
    let told = refused(&sources, &change("f", "b(2)"));
    assert!(told.contains("is not found") && told.contains("line 3 begins like it: `b(1);`"), "{told}");
    let told = refused(&sources, &change("f", "c()"));
    assert!(told.contains("nothing there begins like it"), "another function is not looked at: {told}");
}

#[test]
fn an_item_is_changed_as_a_whole_and_a_test_never() {
    let sources = sources(&[("a", "const MAX: u8 = 5;\n#[cfg(test)]\nmod tests { fn f() { 5 } }")]);
    let of = |item: &str, find: &str| Change { function: None, item: Some(item.into()), ..change("", find) };
    assert!(changed(&sources, &of("MAX", "5")).unwrap().starts_with("const MAX: u8 = with;"));
    assert!(refused(&sources, &of("f", "5")).contains("c has no f"));
    assert!(!edit(&sources, &of("MAX", "5")).unwrap().place.twice());
}

#[test]
fn two_changes_of_one_function_may_not_overlap() {
    let sources = sources(&[("a", "fn f() { a(b(1)) }")]);
    let edits = |finds: [&str; 2]| -> Result<String> {
        let changes = finds.map(|find| change("f", find));
        let mut edits = changes.iter().map(|change| edit(&sources, change)).collect::<Result<Vec<_>>>()?;
        apply(&sources[0].text, 0..sources[0].text.len(), &mut edits)
    };
    assert_eq!(edits(["1", "a"]).unwrap(), "fn f() { with(b(with)) }");
    assert!(edits(["b(1)", "1"]).unwrap_err().to_string().contains("overlap"));
}
