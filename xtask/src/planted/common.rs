//! Many bugs in one copy of the tree: each function that any of them changes has its body once for each of them, and once as it is.
//!
//! Called by `garden`. Which of the bodies runs is read from the environment when a process first asks; see [`VARIABLE`].

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{
    plant::{self, Edit, Ground, Texts},
    source::Source,
};

/// Says to a process of the copy which bug it has, by number; a process without it has none.
pub(crate) const VARIABLE: &str = "GALAXY_PLANTED";

/// What the root of each changed crate ends with, in the copy only.
const MODULE: &str = r#"
#[allow(warnings)]
mod planted_bug {
    /// The bug that this process has; none is 0.
    pub(crate) fn number() -> u32 {
        static NUMBER: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
        *NUMBER.get_or_init(|| {
            std::env::var("GALAXY_PLANTED").ok().and_then(|number| number.parse().ok()).unwrap_or(0)
        })
    }
}
"#;

/// The changed files, and which of their lines are whose.
#[derive(Debug, Default)]
pub(crate) struct Common {
    pub(crate) texts: Texts,
    lines: Vec<Lines>,
}

/// Lines that are there because of some bugs.
#[derive(Debug)]
struct Lines {
    file: PathBuf,
    from: usize,
    to: usize,
    bugs: BTreeSet<u32>,
}

impl Common {
    /// All of these, by number: each edit lies in a body that may stand twice. The words of `gone`, which lie outside of those bodies,
    /// are left out.
    pub(crate) fn of<'a>(
        ground: &Ground,
        edits: impl IntoIterator<Item = (u32, Edit<'a>)>,
        gone: &[(&Source, Range<usize>)],
    ) -> Result<Self> {
        let mut files = BTreeMap::<&Path, (&Source, Bodies<'_>)>::new();
        for (number, edit) in edits {
            let Some(body) = &edit.place.body else { continue };
            let (_, bodies) = files.entry(&edit.source.path).or_insert((edit.source, Bodies::new()));
            let body = bodies.entry((body.start, body.end)).or_default();
            body.entry(number).or_default().push(edit);
        }
        for (source, word) in gone {
            let (_, bodies) = files.entry(&source.path).or_insert((source, Bodies::new()));
            bodies.insert((word.start, word.end), BTreeMap::new());
        }
        let roots: BTreeSet<_> = files.keys().map(|path| root(path)).collect();
        let mut common = Self::default();
        for (source, bodies) in files.into_values() {
            common.file(source, bodies)?;
        }
        for root in roots {
            common.module(ground, root)?;
        }
        Ok(common)
    }

    /// Writes a file anew, and remembers whose lines are whose.
    fn file(&mut self, source: &Source, bodies: Bodies<'_>) -> Result<()> {
        let (mut made, mut at) = (String::new(), 0);
        let line = |made: &str| made.matches('\n').count() + 1;
        for ((start, end), bugs) in bodies {
            made.push_str(&source.text[at..start]);
            at = end;
            if bugs.is_empty() {
                continue;
            }
            let (first, all) = (line(&made), bugs.keys().copied().collect());
            made.push_str("{ match crate::planted_bug::number() {\n");
            for (number, mut edits) in bugs {
                let from = line(&made);
                made.push_str(&format!("{number} => "));
                made.push_str(&plant::apply(&source.text, start..end, &mut edits)?);
                self.mark(source, from..line(&made), [number].into());
                made.push('\n');
            }
            made.push_str("_ => ");
            made.push_str(&source.text[start..end]);
            made.push_str("\n} }");
            self.mark(source, first..line(&made), all);
        }
        made.push_str(&source.text[at..]);
        self.texts.insert(source.path.clone(), made);
        Ok(())
    }

    fn mark(&mut self, source: &Source, lines: Range<usize>, bugs: BTreeSet<u32>) {
        self.lines.push(Lines { file: source.path.clone(), from: lines.start, to: lines.end, bugs });
    }

    fn module(&mut self, ground: &Ground, root: PathBuf) -> Result<()> {
        let text = match self.texts.remove(&root) {
            Some(text) => text,
            None => ground.text(&root)?,
        };
        self.texts.insert(root, text + MODULE);
        Ok(())
    }

    /// The bugs that an error in this line is about: the one whose body it is, or all of the function.
    pub(crate) fn blamed(&self, file: &Path, line: usize) -> BTreeSet<u32> {
        let lines =
            self.lines.iter().filter(|lines| lines.file == file && (lines.from..=lines.to).contains(&line));
        // A bug's own body lies within its function's lines.
        lines.min_by_key(|lines| lines.to - lines.from).map(|lines| lines.bugs.clone()).unwrap_or_default()
    }
}

/// The root of the crate that this file is of.
fn root(path: &Path) -> PathBuf {
    let folder = path.ancestors().find(|folder| folder.ends_with("src"));
    folder.unwrap_or(path).join("lib.rs")
}

/// By where a body lies in its file and by bug: what is changed.
type Bodies<'a> = BTreeMap<(usize, usize), BTreeMap<u32, Vec<Edit<'a>>>>;

#[cfg(test)]
mod tests {
    use super::{super::bugs::Bug, *};

    fn bug(number: u32, with: &str) -> Bug {
        let text = format!(
            "promise = 'live'\nwhat = ''\n[[change]]\ncrate = 'c'\nfunction = 'f'\nfind = '1 + 1'\nwith = '{with}'"
        );
        Bug::read(format!("{number}-x.toml").as_ref(), &text).unwrap()
    }

    #[test]
    fn a_body_stands_once_for_each_bug_and_once_as_it_is() {
        let text = "fn e() {}\n\nfn f() -> u8 {\n    1 + 1\n}\n".to_owned();
        let source = Source::read("src/a.rs".as_ref(), &["a".into()], text).unwrap();
        let bugs = [bug(7, "2"), bug(52, "one(\\n)")];
        let mut bodies = Bodies::new();
        for bug in &bugs {
            let edit = plant::edit(std::slice::from_ref(&source), &bug.text.changes[0]).unwrap();
            let body = edit.place.body.clone().unwrap();
            bodies.entry((body.start, body.end)).or_default().entry(bug.number).or_default().push(edit);
        }
        let mut common = Common::default();
        common.file(&source, bodies).unwrap();
        let path = Path::new("src/a.rs");
        let made = &common.texts[path];
        let line = |text: &str| made.lines().position(|line| line.contains(text)).unwrap() + 1;
        assert!(
            made.starts_with(
                "fn e() {}\n\nfn f() -> u8 { match crate::planted_bug::number() {\n7 => {\n    2\n}\n52 => {"
            ),
            "{made}"
        );
        syn::parse_file(&made.replace("\\n", "")).unwrap();
        assert_eq!(common.blamed(path, line("    2")), [7].into());
        assert_eq!(common.blamed(path, line("one")), [52].into());
        assert_eq!(common.blamed(path, line("1 + 1")), [7, 52].into(), "the body as it is: any of them");
        assert_eq!(common.blamed(path, 1), [].into());
    }
}
