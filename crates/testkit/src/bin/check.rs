//! `galaxy-push-check`: judges saved histories again. A thin shell around the checker; it knows nothing of the product.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use galaxy_push_testkit::{check, history};

const USAGE: &str = "usage: galaxy-push-check check FILE|DIR\n\n\
    Judges a saved history: an NDJSON file, or all *.ndjson files of a directory as one history.\n\
    Exits with 0 when no promise was broken, 1 when one was, 2 when the history cannot be read.\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (text, code) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check", path] => judge(Path::new(path)),
        ["--help" | "-h" | "help"] => (USAGE.to_owned(), 0),
        _ => (USAGE.to_owned(), 2),
    };
    let written = if code == 2 {
        io::stderr().write_all(text.as_bytes())
    } else {
        io::stdout().write_all(text.as_bytes())
    };
    match written {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(2), // nobody listens
    }
}

fn judge(path: &Path) -> (String, u8) {
    match history::read(path) {
        Ok(records) => {
            let report = check(&records);
            (format!("{report}\n"), u8::from(!report.is_clean()))
        }
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            (text + "\n", 2)
        }
    }
}
