//! What all runs together have come to: `fuzz/ledger.json`, and the table of docs/fuzz.md that is made of it.
//!
//! Called by `fuzz`.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::output::Seen;
use crate::project::Project;

const FILE: &str = "fuzz/ledger.json";
const PAGE: &str = "docs/fuzz.md";
const BEGIN: &str = "<!-- begin: ledger -->\n";
const END: &str = "<!-- end: ledger -->\n";

/// By target.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Ledger(BTreeMap<String, Row>);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Row {
    executions: u64,
    /// Seconds by the clock, of one process.
    seconds: u64,
    edges: u64,
    /// Inputs that reach all of these.
    corpus: u64,
    /// Seconds of fuzzing since an edge was reached that none had reached before.
    since_new_edge: u64,
    finds: u64,
    kept_files: usize,
    kept_bytes: u64,
}

/// The corpus that is committed.
pub(super) struct Kept {
    pub(super) files: usize,
    pub(super) bytes: u64,
}

impl Ledger {
    pub(super) fn read(project: &Project) -> Result<Self> {
        match fs::read(project.root.join(FILE)) {
            Ok(json) => serde_json::from_slice(&json).with_context(|| format!("{FILE} is no ledger")),
            Err(_) => Ok(Self::default()),
        }
    }

    pub(super) fn seconds(&self, target: &str) -> u64 {
        self.0.get(target).map_or(0, |row| row.seconds)
    }

    pub(super) fn add(&mut self, target: &str, seen: &Seen) {
        let row = self.0.entry(target.to_owned()).or_default();
        row.executions += seen.executions;
        row.seconds += seen.seconds;
        row.since_new_edge = match seen.edges > row.edges {
            true => seen.seconds.saturating_sub(seen.new_edge_at.as_secs()),
            false => row.since_new_edge + seen.seconds,
        };
        row.edges = row.edges.max(seen.edges);
        row.corpus = seen.corpus;
        row.finds += u64::from(seen.find.is_some());
    }

    pub(super) fn kept(&mut self, target: &str, kept: Kept) {
        let row = self.0.entry(target.to_owned()).or_default();
        (row.kept_files, row.kept_bytes) = (kept.files, kept.bytes);
    }

    pub(super) fn write(&self, project: &Project) -> Result<()> {
        fs::write(project.root.join(FILE), serde_json::to_string_pretty(self)? + "\n")?;
        let page = project.root.join(PAGE);
        let text = fs::read_to_string(&page).with_context(|| format!("cannot read {PAGE}"))?;
        let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let (before, after) = parts.with_context(|| format!("{PAGE} has no place for the ledger"))?;
        fs::write(&page, format!("{before}{BEGIN}{}{END}{after}", self.table()))?;
        Ok(())
    }

    fn table(&self) -> String {
        let mut table = "| target | executions | a second | time | edges | inputs | since the last new edge | finds | kept |\n\
                         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
        for (target, row) in &self.0 {
            let each = row.executions / row.seconds.max(1);
            let Row { executions, edges, corpus, finds, kept_files, .. } = row;
            let (time, since, bytes) = (minutes(row.seconds), minutes(row.since_new_edge), row.kept_bytes);
            table += &format!(
                "| `{target}` | {executions} | {each} | {time} | {edges} | {corpus} | {since} | {finds} | {kept_files} files, {bytes} bytes |\n"
            );
        }
        table
    }
}

fn minutes(seconds: u64) -> String {
    format!("{} min {} s", seconds / 60, seconds % 60)
}
