//! The progress bar of a long publish, on terminals only.

use std::io::Write as _;

use indicatif::{ProgressBar, ProgressStyle};

#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over the bytes of the input, or a spinner when nobody knows how many there are.
    pub(super) fn start(bytes_total: Option<u64>) -> Self {
        let (bar, template) = match bytes_total {
            Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {percent:>3} %  {msg}  {eta} left"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        // indicatif draws to stderr, and nowhere when that is no terminal.
        Self { bar: bar.with_style(style) }
    }

    /// For a publish that is over before a bar could be read.
    pub(super) fn none() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    pub(super) fn advance(&self, acked: u64, bytes_read: u64) {
        self.bar.set_message(format!("{acked} acknowledged"));
        self.bar.set_position(bytes_read);
    }

    /// Writes a line to stderr, out of the bar's way.
    pub(super) fn tell(&self, line: &str) {
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{line}");
        });
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
