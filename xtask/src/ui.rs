//! What the commands say: the only file that prints.
//!
//! Called by every command. Results go to standard output, complaints to standard error.

use std::time::{Duration, Instant};

/// A result, on standard output.
#[expect(clippy::print_stdout, reason = "printing is the job of a project command")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// A complaint or a remark, on standard error.
#[expect(clippy::print_stderr, reason = "printing is the job of a project command")]
pub(crate) fn complain(text: &str) {
    eprintln!("{text}");
}

/// A table with its columns aligned; the first row is the head.
pub(crate) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        line(cells.join("  ").trim_end());
    }
}

/// Measures how long a step takes.
#[derive(Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "real time is what a stopwatch of a project command shows")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The time since the start in seconds, for a table or a line.
    pub(crate) fn seconds(&self) -> String {
        format!("{:.1} s", self.elapsed().as_secs_f64())
    }
}
