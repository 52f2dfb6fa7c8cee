//! The functions and items of a crate, by their names, and where in which file they lie.
//!
//! Called by `plant`. Reads the sources as `syn` does, so that a name is found wherever its file has gone. Tests are not looked at.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use syn::{Attribute, ImplItem, Item, ReturnType, Signature, TraitItem, Type, spanned::Spanned as _};

/// One file of a crate's `src`.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the tree.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) places: Vec<Place>,
}

/// Something in a file that has a name.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its modules, perhaps its type, and its own name.
    name: Vec<String>,
    /// The trait, of a method that implements one.
    of_trait: Option<String>,
    /// Whether it is a method, which is never named without its type.
    method: bool,
    /// All of it, with its attributes.
    pub(crate) whole: Range<usize>,
    /// From brace to brace, of a function.
    pub(crate) body: Option<Range<usize>>,
    /// The word that makes a function one that can be called while the code is built, with the space behind it.
    pub(crate) constant: Option<Range<usize>>,
    /// Whether what it returns is what its body makes of it; and of whatever is no function.
    opaque: bool,
}

impl Place {
    /// Whether its body may stand twice in one function: not of a `const fn`, nor where the type is what the body makes it.
    pub(crate) const fn twice(&self) -> bool {
        self.constant.is_none() && !self.opaque
    }

    /// Whether it may if it need not be called while the code is built.
    pub(crate) const fn twice_at_run_time(&self) -> bool {
        !self.opaque
    }

    /// Its name in full.
    pub(crate) fn shown(&self) -> String {
        self.forms().pop().unwrap_or_default().join("::")
    }

    /// Whether this is a name of it: all of it, or its end.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let asked: Vec<_> = name.split("::").map(str::trim).collect();
        let least = if self.method { 2 } else { 1 };
        asked.len() >= least
            && self
                .forms()
                .iter()
                .any(|form| form.ends_with(&asked.iter().map(|&part| part.to_owned()).collect::<Vec<_>>()))
    }

    /// Its own name, without any module or type.
    pub(crate) fn last(&self) -> &str {
        self.name.last().map_or("", String::as_str)
    }

    /// `module::Type::method`, and `module::<Type as Trait>::method`, if it implements one.
    fn forms(&self) -> Vec<Vec<String>> {
        let mut forms = vec![self.name.clone()];
        if let Some(of_trait) = &self.of_trait {
            let mut name = self.name.clone();
            if let Some(owner) = name.iter_mut().rev().nth(1) {
                *owner = format!("<{owner} as {of_trait}>");
            }
            forms.push(name);
        }
        forms
    }
}

/// Every file of a crate, by the crate's folder, which is relative to the tree.
pub(crate) fn files(tree: &Path, folder: &Path) -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    walk(&tree.join(folder).join("src"), &mut paths)?;
    paths.sort();
    let sources = paths.into_iter().map(|path| {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let path = path.strip_prefix(tree)?.to_path_buf();
        let inside = path.strip_prefix(folder.join("src"))?;
        Source::read(&path, &modules(inside), text)
    });
    sources.collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            walk(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

/// The modules that a file's path stands for.
fn modules(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let mut modules: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if modules.last().is_some_and(|last| ["lib", "main", "mod"].contains(&&**last)) {
        modules.pop();
    }
    modules
}

impl Source {
    /// # Errors
    ///
    /// When it does not parse.
    pub(crate) fn read(path: &Path, modules: &[String], text: String) -> Result<Self> {
        let file = syn::parse_file(&text);
        let file = file.with_context(|| format!("{} does not parse", path.display()))?;
        let mut places = Places { modules: modules.to_vec(), list: Vec::new() };
        places.items(&file.items);
        ensure!(
            places.list.iter().all(|place| text.get(place.whole.clone()).is_some()),
            "spans do not fit {}",
            path.display()
        );
        Ok(Self { path: path.to_path_buf(), text, places: places.list })
    }
}

/// Gathers the places of a file.
struct Places {
    modules: Vec<String>,
    list: Vec<Place>,
}

impl Places {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            self.item(item);
        }
    }

    fn item(&mut self, item: &Item) {
        let whole = item.span().byte_range();
        match item {
            Item::Mod(module) if !is_test(&module.attrs) => {
                let Some((_, items)) = &module.content else { return };
                self.modules.push(module.ident.to_string());
                self.items(items);
                self.modules.pop();
            }
            Item::Fn(function) => {
                self.function(None, None, &function.sig, Some(&function.block), &function.attrs, whole);
            }
            Item::Impl(block) if !is_test(&block.attrs) => {
                let owner = type_name(&block.self_ty);
                let of_trait = block
                    .trait_
                    .as_ref()
                    .and_then(|implemented| Some(implemented.0.segments.last()?.ident.to_string()));
                for item in &block.items {
                    let whole = item.span().byte_range();
                    match item {
                        ImplItem::Fn(method) => {
                            self.function(
                                Some(&owner),
                                of_trait.clone(),
                                &method.sig,
                                Some(&method.block),
                                &method.attrs,
                                whole,
                            );
                        }
                        ImplItem::Const(constant) => {
                            self.other(Some(&owner), constant.ident.to_string(), whole)
                        }
                        _ => {}
                    }
                }
            }
            Item::Trait(definition) => {
                let owner = definition.ident.to_string();
                for item in &definition.items {
                    if let TraitItem::Fn(method) = item {
                        let whole = item.span().byte_range();
                        self.function(
                            Some(&owner),
                            None,
                            &method.sig,
                            method.default.as_ref(),
                            &method.attrs,
                            whole,
                        );
                    }
                }
                self.other(None, owner, whole);
            }
            Item::Const(item) => self.other(None, item.ident.to_string(), whole),
            Item::Static(item) => self.other(None, item.ident.to_string(), whole),
            Item::Struct(item) => self.other(None, item.ident.to_string(), whole),
            Item::Enum(item) => self.other(None, item.ident.to_string(), whole),
            Item::Type(item) => self.other(None, item.ident.to_string(), whole),
            Item::Macro(item) => {
                if let Some(name) = &item.ident {
                    self.other(None, name.to_string(), whole);
                }
            }
            _ => {}
        }
    }

    fn function(
        &mut self,
        owner: Option<&str>,
        of_trait: Option<String>,
        signature: &Signature,
        body: Option<&syn::Block>,
        attributes: &[Attribute],
        whole: Range<usize>,
    ) {
        if is_test(attributes) {
            return;
        }
        let braces = body.map(|body| body.brace_token.span);
        let body = braces.map(|span| span.open().byte_range().start..span.close().byte_range().end);
        let word = signature.constness.as_ref().map(|word| word.span.byte_range());
        let constant = word.map(|word| word.start..word.end + 1);
        let opaque = returns_impl(&signature.output);
        let name = self.name(owner, signature.ident.to_string());
        self.list.push(Place { name, of_trait, method: owner.is_some(), whole, body, constant, opaque });
    }

    fn other(&mut self, owner: Option<&str>, name: String, whole: Range<usize>) {
        let name = self.name(owner, name);
        self.list.push(Place {
            name,
            of_trait: None,
            method: owner.is_some(),
            whole,
            body: None,
            constant: None,
            opaque: true,
        });
    }

    fn name(&self, owner: Option<&str>, name: String) -> Vec<String> {
        let owner = owner.map(str::to_owned);
        self.modules.iter().cloned().chain(owner).chain([name]).collect()
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// Whether what the function returns is known by its body alone.
fn returns_impl(output: &ReturnType) -> bool {
    // syn says it of the outermost type only; the word is enough, for no type is called so.
    let words = output.span().source_text().unwrap_or_default();
    words.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == "impl")
}

/// A type's name without its path and parameters.
fn type_name(of: &Type) -> String {
    match of {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default(),
        Type::Reference(reference) => type_name(&reference.elem),
        _ => String::new(),
    }
}
