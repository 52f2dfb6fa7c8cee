//! Histories as files: NDJSON, one record a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Record;

/// A history could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system said no.
    #[error("cannot read {path}", path = .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// A line is no record. A last line without its end is a line cut short by a crash: delete it and judge again.
    #[error("{path} line {line} is not a record of a history", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Nothing to judge.
    #[error("{path} holds no *.ndjson file", path = .0.display())]
    Nothing(PathBuf),
}

/// Writes `records` to a new file.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(path: &Path, records: &[Record]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for record in records {
        serde_json::to_writer(&mut out, record)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Reads a history: a file, or all `*.ndjson` files of a directory as one history, merged by time.
///
/// Records of the same microsecond keep the order of the files' names. The files of one directory must not share stream
/// or call numbers.
///
/// # Errors
///
/// When a file cannot be read or a line of it is no record, or when a directory holds no history.
pub fn read(path: &Path) -> Result<Vec<Record>, Error> {
    if !path.is_dir() {
        return read_file(path);
    }
    let at_path = |cause| Error::Io(path.to_owned(), cause);
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(at_path)? {
        let file = entry.map_err(at_path)?.path();
        if file.extension().is_some_and(|extension| extension == "ndjson") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Error::Nothing(path.to_owned()));
    }
    files.sort();
    let mut records = Vec::new();
    for file in &files {
        records.append(&mut read_file(file)?);
    }
    if files.len() > 1 {
        records.sort_by_key(|record| record.at_us);
    }
    Ok(records)
}

fn read_file(path: &Path) -> Result<Vec<Record>, Error> {
    let at_path = |cause| Error::Io(path.to_owned(), cause);
    let mut records = Vec::new();
    for (index, line) in BufReader::new(File::open(path).map_err(at_path)?).lines().enumerate() {
        let line = line.map_err(at_path)?;
        if line.trim().is_empty() {
            continue;
        }
        let record = serde_json::from_str(&line).map_err(|source| Error::Malformed {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        records.push(record);
    }
    Ok(records)
}
