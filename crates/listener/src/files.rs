//! Small files read whole: settings, keys, certificates, tokens. What never ends, such as `/dev/zero`, is not read on and on.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The most that such a file holds: hundreds of keys with their certificates, or of authorities.
const FILE_BYTES_MAX: usize = 1 << 20;

/// The content of a file, which has 1 MiB at most.
///
/// # Errors
///
/// It cannot be read, or is larger.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(File::open(path)?, FILE_BYTES_MAX)
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

/// What comes from there, up to its end. Blocks until that has come.
///
/// # Errors
///
/// It cannot be read, or there is more than `bytes_max`.
pub fn read_at_most(source: impl Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    source.take((bytes_max as u64).saturating_add(1)).read_to_end(&mut content)?;
    if content.len() > bytes_max {
        let why = format!("there are more than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_refused() {
        assert_eq!(read_at_most(&b"four"[..], 4).unwrap(), b"four");
        let error = read_at_most(&b"five!"[..], 4).unwrap_err();
        assert_eq!(error.to_string(), "there are more than 4 bytes");
        assert!(read_file(Path::new("/dev/zero")).is_err());
        assert!(read_text(Path::new("/dev/null")).is_ok_and(|text| text.is_empty()));
    }
}
