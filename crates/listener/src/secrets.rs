//! Files that hold a secret: a private key, a token.

use std::path::Path;

/// Warns when everybody on this machine can read a file that holds a secret. It is used all the same: in a container
/// everybody may be this process alone.
pub fn warn_of_readers(file: &Path) {
    if is_for_everybody(file) {
        tracing::warn!(
            file = %file.display(),
            "everybody on this machine can read this secret: `chmod o-r` it (in Kubernetes, give the volume a defaultMode of 0400)"
        );
    }
}

#[cfg(unix)]
pub(crate) fn is_for_everybody(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
pub(crate) fn is_for_everybody(_: &Path) -> bool {
    false
}
