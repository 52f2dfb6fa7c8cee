//! Certificates and keys out of PEM, and reading no more than a bound. The only place that does.
//!
//! Called by listener and client, which open the files. It opens nothing, and checks no signature.

use std::io::{self, Read};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The most that is read of one file, in bytes: hundreds of authorities, or of keys with their certificates.
pub const PEM_BYTES_MAX: usize = 1 << 20;

/// What comes from there, up to its end: what never ends, such as `/dev/zero`, is not read on and on. Blocks until it has come.
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

/// The certificates in a text, in its order: a chain, or a collection of authorities.
///
/// # Errors
///
/// What is wrong, for people: there is none, or one that cannot be read.
pub fn certificates(source: impl Read) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read_at_most(source, PEM_BYTES_MAX).map_err(|error| error.to_string())?;
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("it holds no certificate in PEM".to_owned()) } else { Ok(chain) }
}

/// The first private key in a text.
///
/// # Errors
///
/// What is wrong, for people.
pub fn private_key(source: impl Read) -> Result<PrivateKeyDer<'static>, String> {
    let text = read_at_most(source, PEM_BYTES_MAX).map_err(|error| error.to_string())?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_refused() {
        assert_eq!(read_at_most(&b"four"[..], 4).unwrap(), b"four");
        let error = read_at_most(&b"five!"[..], 4).unwrap_err();
        assert_eq!(error.to_string(), "there are more than 4 bytes");
        assert!(certificates(io::repeat(b'-')).is_err() && private_key(io::repeat(0)).is_err());
    }

    #[test]
    fn a_text_without_a_certificate_is_none() {
        assert_eq!(certificates(&b"# nothing\n"[..]).unwrap_err(), "it holds no certificate in PEM");
        let broken = "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n";
        assert!(certificates(broken.as_bytes()).is_err());
    }
}
