//! The progress bar of a long publish, on terminals only.

use indicatif::{ProgressBar, ProgressStyle};

pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over the bytes of the input, or a spinner when nobody knows how many there are.
    pub(super) fn start(bytes_total: Option<u64>) -> Self {
        let (bar, template) = match bytes_total {
            Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {percent:>3} %  {msg}  {per_sec}  {eta} left"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        // indicatif draws to stderr, and nowhere when that is no terminal.
        Self { bar: bar.with_style(style) }
    }

    pub(super) fn advance(&mut self, acked: u64, bytes: u64) {
        self.bar.set_message(format!("{acked} acknowledged"));
        self.bar.inc(bytes);
    }

    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
