//! What libFuzzer says while it runs, in numbers.
//!
//! Called by `fuzz`. The lines are those of <https://llvm.org/docs/LibFuzzer.html#output>.

use std::{
    fmt,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;

use crate::ui::Stopwatch;

/// What one slice has come to.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) executions: u64,
    pub(super) seconds: u64,
    /// Edges of the code that were reached.
    pub(super) edges: u64,
    /// Inputs of the grown corpus.
    pub(super) corpus: u64,
    /// When the last edge was reached that none had reached before.
    pub(super) new_edge_at: Duration,
    /// The input of what was found.
    pub(super) find: Option<PathBuf>,
}

impl Seen {
    /// Reads to the end, and keeps all of it in a log.
    pub(super) fn read(told: impl Read, mut log: File) -> Result<Self> {
        let (mut seen, stopwatch) = (Self::default(), Stopwatch::start());
        for line in BufReader::new(told).split(b'\n') {
            let line = line?;
            log.write_all(&line)?;
            log.write_all(b"\n")?;
            seen.line(&String::from_utf8_lossy(&line), stopwatch.elapsed());
        }
        seen.seconds = stopwatch.elapsed().as_secs();
        Ok(seen)
    }

    fn line(&mut self, line: &str, at: Duration) {
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.find = Some(PathBuf::from(path.trim()));
        }
        if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = number.trim().parse().unwrap_or(self.executions);
        }
        let Some(status) = line.strip_prefix('#') else { return };
        let after = |name: &str| -> Option<u64> {
            status.split_once(name)?.1.trim_start().split([' ', '/']).next()?.parse().ok()
        };
        let executed = status.split(['\t', ' ', ':']).next().and_then(|number| number.parse().ok());
        self.executions = self.executions.max(executed.unwrap_or(0));
        self.corpus = after("corp:").unwrap_or(self.corpus);
        let Some(edges) = after("cov:") else { return };
        // What the corpus reaches is known before anything is tried.
        if edges > self.edges && !status.contains("INITED") {
            self.new_edge_at = at;
        }
        self.edges = self.edges.max(edges);
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { executions, seconds, edges, corpus, .. } = self;
        let new = self.new_edge_at.as_secs();
        write!(
            f,
            "{executions} executions in {seconds} s, {edges} edges, the last new one after {new} s, {corpus} inputs"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_run() {
        let mut seen = Seen::default();
        let at = Duration::from_secs;
        seen.line("#84\tINITED cov: 571 ft: 1303 corp: 60/3210b exec/s: 0 rss: 55Mb", at(1));
        assert_eq!((seen.edges, seen.new_edge_at), (571, at(0)));
        seen.line(
            "#2048\tNEW    cov: 580 ft: 1310 corp: 61/3300b lim: 80 exec/s: 1024 rss: 55Mb L: 8/90",
            at(2),
        );
        seen.line(
            "#4096\tREDUCE cov: 580 ft: 1310 corp: 61/3290b lim: 80 exec/s: 1024 rss: 55Mb L: 8/90",
            at(4),
        );
        assert_eq!((seen.executions, seen.edges, seen.corpus, seen.new_edge_at), (4096, 580, 61, at(2)));
        seen.line("artifact_prefix='x/'; Test unit written to x/crash-0a", at(5));
        assert_eq!(seen.find, Some(PathBuf::from("x/crash-0a")));
        seen.line("stat::number_of_executed_units: 5000", at(5));
        assert_eq!(seen.executions, 5000);
    }
}
