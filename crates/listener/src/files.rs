//! Small files read whole: settings, keys, certificates, tokens. What never ends, such as `/dev/zero`, is not read on and on.

use std::fs::File;
use std::io;
use std::path::Path;

use galaxy_push_core::pem::{PEM_BYTES_MAX, read_at_most};

/// The content of a file, which has 1 MiB at most.
///
/// # Errors
///
/// It cannot be read, or is larger.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(File::open(path)?, PEM_BYTES_MAX)
}

/// [`read_file`], as text.
///
/// # Errors
///
/// As there, or it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_file(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_refused() {
        assert!(read_file(Path::new("/dev/zero")).is_err());
        assert!(read_text(Path::new("/dev/null")).is_ok_and(|text| text.is_empty()));
    }
}
