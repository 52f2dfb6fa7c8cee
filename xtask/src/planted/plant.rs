//! Finds where a bug changes the code, and writes the changed files: of one bug alone, or of many in one copy of the tree.
//!
//! Called by `planted` and `garden`. Writes nothing: it returns the texts.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    bugs::{Bug, Change},
    find,
    source::{self, Place, Source},
};

/// The tree's crates, of which each is read when a bug first asks for it.
pub(crate) struct Ground {
    tree: PathBuf,
    crates: BTreeMap<String, Crate>,
}

#[derive(Debug)]
struct Crate {
    folder: PathBuf,
    sources: OnceCell<Vec<Source>>,
}

/// A change, found.
#[derive(Clone, Debug)]
pub(crate) struct Edit<'a> {
    pub(crate) source: &'a Source,
    pub(crate) place: &'a Place,
    /// Whether it lies within a function's body.
    pub(crate) in_body: bool,
    pub(crate) range: Range<usize>,
    pub(crate) with: &'a str,
}

/// The texts of files that are not as the tree has them.
pub(crate) type Texts = BTreeMap<PathBuf, String>;

impl Ground {
    /// Of the tree in this folder.
    pub(crate) fn of(tree: &Path) -> Result<Self> {
        let mut crates = BTreeMap::new();
        let members = fs::read_dir(tree.join("crates"))?.map(|entry| Ok(entry?.path()));
        let members = members.collect::<Result<Vec<_>>>()?;
        for member in members.into_iter().chain([tree.join("sim")]) {
            let Ok(manifest) = fs::read_to_string(member.join("Cargo.toml")) else { continue };
            let manifest: toml::Table = manifest.parse()?;
            let name = manifest.get("package").and_then(|package| package.get("name")?.as_str());
            let folder = member.strip_prefix(tree)?.to_path_buf();
            if let Some(name) = name {
                crates.insert(name.to_owned(), Crate { folder, sources: OnceCell::new() });
            }
        }
        Ok(Self { tree: tree.to_path_buf(), crates })
    }

    /// Which crate lies there.
    pub(crate) fn name(&self, folder: &Path) -> String {
        let found = self.crates.iter().find(|(_, package)| package.folder == folder);
        found.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    /// A file as the tree has it.
    pub(crate) fn text(&self, path: &Path) -> Result<String> {
        fs::read_to_string(self.tree.join(path)).with_context(|| format!("cannot read {}", path.display()))
    }

    fn package(&self, name: &str) -> Result<&Crate> {
        let names = || self.crates.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.crates.get(name).with_context(|| format!("there is no crate {name:?}; there are {}", names()))
    }

    /// Every file of this crate.
    pub(crate) fn sources(&self, name: &str) -> Result<&[Source]> {
        let package = self.package(name)?;
        if package.sources.get().is_none() {
            let _ = package.sources.set(source::files(&self.tree, &package.folder)?);
        }
        Ok(package.sources.get().map_or(&[], Vec::as_slice))
    }

    /// Where a bug's changes are.
    ///
    /// # Errors
    ///
    /// When one of them cannot be found, or in two places; the error says what to do.
    pub(crate) fn edits<'a>(&'a self, bug: &'a Bug) -> Result<Vec<Edit<'a>>> {
        let edits = bug.text.changes.iter().map(|change| edit(self.sources(&change.package)?, change));
        let edits = edits.collect::<Result<Vec<_>>>();
        edits.with_context(|| format!("{} does not apply", bug.file.display()))
    }

    /// The files with this one bug in them, as if it had been written by hand.
    ///
    /// # Errors
    ///
    /// When it does not apply, or what it makes of a file does not parse.
    pub(crate) fn alone(&self, bug: &Bug) -> Result<Texts> {
        let mut files = BTreeMap::<&Path, (&Source, Vec<Edit<'_>>)>::new();
        for edit in self.edits(bug)? {
            files.entry(&edit.source.path).or_insert((edit.source, Vec::new())).1.push(edit);
        }
        let texts = files.into_values().map(|(source, mut edits)| {
            let text = apply(&source.text, 0..source.text.len(), &mut edits)
                .with_context(|| format!("{} does not apply", bug.file.display()))?;
            if let Err(error) = syn::parse_file(&text) {
                let line = error.span().start().line;
                let near = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
                let path = source.path.display();
                bail!("with {} {path} does not parse: {error}, near `{near}`", bug.file.display());
            }
            Ok((source.path.clone(), text))
        });
        texts.collect()
    }

    /// Whether all that a bug changes may stand beside the code as it is.
    pub(crate) fn fits(&self, bug: &Bug) -> Result<bool> {
        Ok(self.edits(bug)?.iter().all(|edit| edit.in_body && edit.place.twice()))
    }
}

/// The text in `within`, with these changes.
pub(crate) fn apply(text: &str, within: Range<usize>, edits: &mut [Edit<'_>]) -> Result<String> {
    edits.sort_by_key(|edit| edit.range.start);
    let (mut made, mut at) = (String::new(), within.start);
    for edit in edits {
        ensure!(at <= edit.range.start, "two changes of {} overlap: make them one", edit.place.shown());
        made.push_str(&text[at..edit.range.start]);
        made.push_str(edit.with);
        at = edit.range.end;
    }
    made.push_str(&text[at..within.end]);
    Ok(made)
}

/// Where a change is, in the files of its crate.
pub(crate) fn edit<'a>(sources: &'a [Source], change: &'a Change) -> Result<Edit<'a>> {
    let in_body = change.function.is_some();
    let (source, place) = place(sources, change)?;
    let within = if in_body { place.body.clone() } else { Some(place.whole.clone()) };
    let within = within.with_context(|| format!("{} has no body", place.shown()))?;
    let text = &source.text[within.clone()];
    let line = |at: usize| source.text[..at].matches('\n').count() + 1;
    let looked = format!(
        "looked in {} ({}, lines {} to {})",
        place.shown(),
        source.path.display(),
        line(within.start),
        line(within.end)
    );
    match &find::occurrences(text, &change.find)[..] {
        [range] => {
            let range = within.start + range.start..within.start + range.end;
            Ok(Edit { source, place, in_body, range, with: &change.with })
        }
        [] => {
            let near = find::nearest(text, &change.find).map(|range| within.start + range.start);
            let near = near.map_or("nothing there begins like it".to_owned(), |at| {
                let number = line(at);
                let shown = source.text.lines().nth(number - 1).unwrap_or_default().trim();
                format!("line {number} begins like it: `{shown}`")
            });
            bail!(
                "`{}` is not found: {looked}; {near}. Adapt `find` and `with` to the code as it is now",
                change.find.trim()
            )
        }
        several => {
            let lines: Vec<_> =
                several.iter().map(|range| line(within.start + range.start).to_string()).collect();
            bail!(
                "`{}` is found {} times, in lines {}: {looked}. Let `find` hold more, so that one place is meant",
                change.find.trim(),
                several.len(),
                lines.join(", ")
            )
        }
    }
}

fn place<'a>(sources: &'a [Source], change: &Change) -> Result<(&'a Source, &'a Place)> {
    let asked = change.place();
    let wanted = |place: &&Place| change.item.is_some() || place.body.is_some();
    let places = || {
        let of = |source: &'a Source| source.places.iter().map(move |place| (source, place));
        sources.iter().flat_map(of).filter(|(_, place)| wanted(place))
    };
    let list = |found: &[(&Source, &Place)]| {
        let shown: Vec<_> = found
            .iter()
            .map(|(source, place)| format!("{} in {}", place.shown(), source.path.display()))
            .collect();
        shown.join(", ")
    };
    let found: Vec<_> = places().filter(|(_, place)| place.is_called(asked)).collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            let last = asked.rsplit("::").next().unwrap_or(asked);
            let like: Vec<_> = places().filter(|(_, place)| place.last() == last).collect();
            let like = match like.is_empty() {
                true => "nothing there has that last name: see where the code has gone".to_owned(),
                false => format!("there is {}", list(&like)),
            };
            bail!("{} has no {asked}; {like}", change.package)
        }
        _ => bail!(
            "{} has more than one {asked}: {}. Put a module in front, or write `<Type as Trait>::method`",
            change.package,
            list(&found)
        ),
    }
}

#[cfg(test)]
mod tests;
