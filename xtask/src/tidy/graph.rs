//! Which files of a crate use which, by their `use` declarations and their paths.
//!
//! Called by the rules of `floors`. Reads tokens as `syn` does and knows no types: a method call draws no arrow. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{Attribute, Item, UseTree, spanned::Spanned as _};

use super::Text;

/// A module's path within its crate; the root is empty.
pub(super) type Module = Vec<String>;

/// The files of one crate.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    files: BTreeMap<Module, File<'a>>,
}

#[derive(Debug)]
struct File<'a> {
    text: &'a Text,
    /// Every path in the file that may name a module of the crate, with its line.
    paths: Vec<(Vec<String>, usize)>,
    /// What its `use` declarations give a name.
    names: BTreeMap<String, Vec<String>>,
    tests: BTreeSet<String>,
}

/// One file uses another.
#[derive(Clone, Debug)]
pub(super) struct Arrow<'a> {
    pub(super) from: Module,
    pub(super) to: Module,
    pub(super) text: &'a Text,
    pub(super) line: usize,
    /// The path as it is written there.
    pub(super) written: String,
}

/// The graph of each wanted crate in these texts, by the crate's folder. Each file of them is parsed.
pub(super) fn graphs(texts: &[Text], wanted: impl Fn(&str) -> bool) -> BTreeMap<&str, Graph<'_>> {
    let mut graphs: BTreeMap<&str, Graph<'_>> = BTreeMap::new();
    for text in texts.iter().filter(|text| text.is_rust() && !text.is_test()) {
        let Some((folder, inside)) = text.path.split_once("/src/").filter(|(folder, _)| wanted(folder))
        else {
            continue;
        };
        let Some(module) = module(inside) else { continue };
        let Some(file) = File::read(text) else { continue };
        graphs.entry(folder).or_default().files.insert(module, file);
    }
    for graph in graphs.values_mut() {
        graph.drop_tests();
    }
    graphs
}

/// The module that a file below `src` is. Nothing for a binary of its own, whose crate is another one.
fn module(inside: &str) -> Option<Module> {
    let mut parts: Module = inside.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    if parts.first().is_some_and(|first| first == "bin") {
        return None;
    }
    if parts.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        parts.pop();
    }
    Some(parts)
}

impl<'a> File<'a> {
    /// Nothing of a file that does not parse: the compiler says more of it.
    fn read(text: &'a Text) -> Option<Self> {
        let parsed = syn::parse_file(&text.content).ok()?;
        let mut file = Self { text, paths: Vec::new(), names: BTreeMap::new(), tests: BTreeSet::new() };
        let mut hidden = Vec::new();
        for item in &parsed.items {
            if attributes(item).iter().any(is_for_tests) {
                hidden.push(item.span().start().line..=item.span().end().line);
                if let Item::Mod(module) = item {
                    file.tests.insert(module.ident.to_string());
                }
            } else if let Item::Use(item) = item {
                names(&item.tree, &mut Vec::new(), &mut file.names);
            }
        }
        let tokens: TokenStream = text.content.parse().ok()?;
        paths(tokens, &[], &mut file.paths);
        // A word alone names no file: it is a visibility, or a variable.
        file.paths.retain(|(path, line)| path.len() > 1 && !hidden.iter().any(|lines| lines.contains(line)));
        Some(file)
    }
}

/// The attributes of an item that may be for tests alone.
fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether something is there only where `test` is set.
fn is_for_tests(attribute: &Attribute) -> bool {
    let condition = || attribute.meta.require_list().map(|list| list.tokens.to_string());
    attribute.path().is_ident("cfg")
        && condition().is_ok_and(|condition| {
            let words = || condition.split(|letter: char| !letter.is_alphanumeric());
            words().any(|word| word == "test") && !words().any(|word| word == "not" || word == "any")
        })
}

/// What a `use` declaration gives a name.
fn names(tree: &UseTree, before: &mut Vec<String>, names_found: &mut BTreeMap<String, Vec<String>>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            names(&path.tree, before, names_found);
            before.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| names(tree, before, names_found)),
        UseTree::Name(name) => {
            let path = before.iter().cloned().chain([name.ident.to_string()]).collect();
            names_found.insert(name.ident.to_string(), path);
        }
        UseTree::Rename(name) => {
            let path = before.iter().cloned().chain([name.ident.to_string()]).collect();
            names_found.insert(name.rename.to_string(), path);
        }
        UseTree::Glob(_) => {}
    }
}

/// Every path of identifiers, with what stands before it where it lies in the braces of a `use`.
fn paths(tokens: TokenStream, before: &[String], found: &mut Vec<(Vec<String>, usize)>) {
    let mut path: Vec<String> = before.to_vec();
    let mut line = 0;
    // How many colons follow the path's last identifier.
    let mut colons = 0;
    let mut end = |path: &mut Vec<String>, line: usize| {
        if path.len() > before.len() {
            found.push((std::mem::replace(path, before.to_vec()), line));
        }
    };
    let mut inner = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    end(&mut path, line);
                    line = ident.span().start().line;
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Group(group) => {
                let is_tree = colons == 2 && group.delimiter() == Delimiter::Brace;
                if is_tree {
                    inner.push((group.stream(), std::mem::replace(&mut path, before.to_vec())));
                } else {
                    end(&mut path, line);
                    inner.push((group.stream(), Vec::new()));
                }
                colons = 0;
            }
            TokenTree::Punct(punct) => {
                if punct.as_char() == '*' && colons == 2 {
                    path.push("*".to_owned());
                }
                end(&mut path, line);
                colons = 0;
            }
            TokenTree::Literal(_) => {
                end(&mut path, line);
                colons = 0;
            }
        }
    }
    end(&mut path, line);
    for (tokens, before) in inner {
        paths(tokens, &before, found);
    }
}

impl<'a> Graph<'a> {
    fn drop_tests(&mut self) {
        let tests: Vec<Module> = self
            .files
            .iter()
            .flat_map(|(module, file)| {
                file.tests.iter().map(|name| module.iter().cloned().chain([name.clone()]).collect())
            })
            .collect();
        self.files.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
    }

    /// The file of a module.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&Module, &'a Text)> {
        self.files.iter().map(|(module, file)| (module, file.text))
    }

    /// Every arrow between two files, each once.
    pub(super) fn arrows(&self) -> Vec<Arrow<'a>> {
        let mut arrows: Vec<Arrow<'a>> = Vec::new();
        for (from, file) in &self.files {
            let mut seen = BTreeSet::new();
            for (path, line) in &file.paths {
                let Some(to) = self.resolve(from, from, path, 0) else { continue };
                if to != *from && seen.insert(to.clone()) {
                    let written = path.join("::");
                    arrows.push(Arrow { from: from.clone(), to, text: file.text, line: *line, written });
                }
            }
        }
        arrows
    }

    /// The module that a path leads to, as it stands in `at`. What an ancestor of `from` only hands on is followed to
    /// where it is defined.
    fn resolve(&self, from: &Module, at: &Module, path: &[String], depth: usize) -> Option<Module> {
        let mut rest = path.iter().peekable();
        let mut module = match path.first()?.as_str() {
            "crate" => {
                rest.next();
                Module::new()
            }
            "self" | "super" => at.clone(),
            first if self.files.contains_key(&child(at, first)) => at.clone(),
            _ => return None,
        };
        while let Some(part) = rest.next_if(|part| ["self", "super"].contains(&part.as_str())) {
            if part == "super" {
                module.pop()?;
            }
        }
        while let Some(part) = rest.next_if(|part| self.files.contains_key(&child(&module, part))) {
            module.push(part.clone());
        }
        let handed_on = rest.peek().and_then(|name| self.files.get(&module)?.names.get(*name));
        if let Some(name) = handed_on
            && module != *from
            && from.starts_with(&module)
            && depth < 8
        {
            return self.resolve(from, &module, name, depth + 1);
        }
        Some(module)
    }
}

fn child(module: &Module, name: &str) -> Module {
    module.iter().cloned().chain([name.to_owned()]).collect()
}
