//! What is written for people: public items have docs, links lead somewhere, and no word comes back that the glossary replaced.
//!
//! Called by `rules`. Knows no grammar: a term is a whole word, wherever it stands.

use std::collections::BTreeSet;

use syn::{Attribute, Fields, ImplItem, Item, TraitItem, Visibility, spanned::Spanned as _};

use super::{Finding, Text};

/// The source of every term.
const GLOSSARY: &str = "docs/glossary.md";

/// Below this heading of the glossary, a table has what was replaced, by what, and where: `| was | now | where |`.
const REPLACED: &str = "## Replaced";

/// Whoever uses a library reads what its public items say.
pub(super) fn public_docs(texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let library = |text: &&Text| text.is_under("crates") && text.path.contains("/src/");
    for text in texts.iter().filter(library).filter(|text| text.is_rust() && !text.is_test()) {
        let Ok(parsed) = syn::parse_file(&text.content) else { continue };
        let mut bare = Vec::new();
        parsed.items.iter().for_each(|item| undocumented(item, &mut bare));
        let message = "say what it is and, where they matter, its units, limits and errors";
        findings.extend(bare.into_iter().map(|line| text.finding(line, message)));
    }
    findings
}

/// The lines of what is public in an item and has no docs.
fn undocumented(item: &Item, bare: &mut Vec<usize>) {
    let mut judge = |visibility: &Visibility, attributes: &[Attribute], line: usize| {
        if matches!(visibility, Visibility::Public(_)) && !is_documented(attributes) {
            bare.push(line);
        }
    };
    let line = item.span().start().line;
    match item {
        Item::Struct(item) => {
            judge(&item.vis, &item.attrs, line);
            let (Fields::Named(_) | Fields::Unnamed(_)) = &item.fields else { return };
            let named = item.fields.iter().filter(|field| field.ident.is_some());
            named.for_each(|field| judge(&field.vis, &field.attrs, field.span().start().line));
        }
        Item::Enum(item) => {
            judge(&item.vis, &item.attrs, line);
            if matches!(item.vis, Visibility::Public(_)) && !expects_none(&item.attrs) {
                let variants = item.variants.iter();
                variants.for_each(|each| judge(&item.vis, &each.attrs, each.span().start().line));
            }
        }
        Item::Fn(item) => judge(&item.vis, &item.attrs, line),
        Item::Const(item) => judge(&item.vis, &item.attrs, line),
        Item::Static(item) => judge(&item.vis, &item.attrs, line),
        Item::Type(item) => judge(&item.vis, &item.attrs, line),
        Item::Trait(item) => {
            judge(&item.vis, &item.attrs, line);
            for each in &item.items {
                if let TraitItem::Fn(method) = each {
                    judge(&item.vis, &method.attrs, method.span().start().line);
                }
            }
        }
        Item::Impl(item) if item.trait_.is_none() => {
            for each in &item.items {
                match each {
                    ImplItem::Fn(each) => judge(&each.vis, &each.attrs, each.span().start().line),
                    ImplItem::Const(each) => judge(&each.vis, &each.attrs, each.span().start().line),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn is_documented(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("doc")) || expects_none(attributes)
}

/// Whether it says why it has none: the names of its variants, for one, say all.
fn expects_none(attributes: &[Attribute]) -> bool {
    let lists = attributes.iter().filter(|attribute| attribute.path().is_ident("expect"));
    let mut tokens = lists.filter_map(|attribute| attribute.meta.require_list().ok());
    tokens.any(|list| list.tokens.to_string().contains("missing_docs"))
}

/// A link of a page leads to a file, a folder or a heading of the project.
pub(super) fn links(texts: &[Text]) -> Vec<Finding> {
    let mut known = BTreeSet::new();
    for text in texts {
        let ends = text.path.match_indices('/').map(|(at, _)| at).chain([text.path.len()]);
        known.extend(ends.map(|end| &text.path[..end]));
    }
    let mut findings = Vec::new();
    for text in texts.iter().filter(|text| text.path.ends_with(".md")) {
        for (line, link) in own_links(&text.content) {
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { text.path.clone() } else { resolved(&text.path, file) };
            // A picture is no text: git's list of files has it, and this one has not.
            let is_picture = [".png", ".svg"].iter().any(|suffix| file.ends_with(suffix));
            let page = texts.iter().find(|text| text.path == target && target.ends_with(".md"));
            let is_heading = heading.is_empty()
                || page.is_none_or(|page| anchors(&page.content).iter().any(|anchor| anchor == heading));
            let leads_somewhere = is_picture || known.contains(target.as_str()) && is_heading;
            if !leads_somewhere {
                findings.push(text.finding(line, format!("the link `{link}` leads nowhere")));
            }
        }
    }
    findings
}

/// What the headings of a page can be linked by.
fn anchors(markdown: &str) -> Vec<String> {
    let headings = markdown.lines().filter(|line| line.starts_with('#'));
    let letters = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    headings.map(letters).collect()
}

/// Where a link of this page leads, from the root.
fn resolved(page: &str, link: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The links of a Markdown text that stay within the project, each with its line.
fn own_links(markdown: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut in_block = false;
    for (number, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        for after in line.split("](").skip(1) {
            let target = after.split([')', ' ']).next().unwrap_or("");
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                links.push((number + 1, target.to_owned()));
            }
        }
    }
    links
}

/// A word that was replaced stays away from where it was.
pub(super) fn replaced_terms(texts: &[Text]) -> Vec<Finding> {
    let Some(glossary) = texts.iter().find(|text| text.path == GLOSSARY) else { return Vec::new() };
    let terms = replaced(&glossary.content);
    let mut findings = Vec::new();
    for text in texts.iter().filter(|text| text.is_rust()) {
        let of_this: Vec<_> =
            terms.iter().filter(|term| term.folders.iter().any(|folder| text.is_under(folder))).collect();
        if of_this.is_empty() {
            continue;
        }
        for (index, line) in text.content.lines().enumerate() {
            let words: BTreeSet<_> =
                line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
            for term in of_this.iter().filter(|term| words.contains(term.was)) {
                let message = format!("`{}` is called `{}`: see {GLOSSARY}", term.was, term.now);
                findings.push(text.finding(index + 1, message));
            }
        }
    }
    findings
}

/// A row of the glossary's last table.
#[derive(Debug, PartialEq, Eq)]
struct Replaced<'a> {
    was: &'a str,
    now: &'a str,
    folders: Vec<&'a str>,
}

fn replaced(glossary: &str) -> Vec<Replaced<'_>> {
    let Some((_, table)) = glossary.split_once(REPLACED) else { return Vec::new() };
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let row = |line| {
        let mut cells = str::split(line, '|').skip(1).map(|cell| cell.trim().trim_matches('`'));
        let (was, now, folders) = (cells.next()?, cells.next()?, cells.next()?);
        let folders = folders.split(',').map(|folder| folder.trim().trim_matches('`')).collect();
        Some(Replaced { was, now, folders })
    };
    rows.filter_map(row).collect()
}
