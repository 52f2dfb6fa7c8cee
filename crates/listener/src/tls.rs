//! TLS for a listener: its certificate, the authority that signs its peers', and what a peer's certificate calls it.
//!
//! The files are read again when they change, so a renewed certificate needs no restart: streams that are open keep the
//! connection they have, new ones get the new certificate. A file that cannot be used, and a certificate that is not valid
//! at the time, is logged and the one before stays, as long as that one is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use galaxy_push_core::certificate::Validity;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::files::read_file;
use crate::secrets::warn_of_readers;

/// How often a handshake looks whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where a listener's certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM, the listener's own first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authority whose certificates peers may present, PEM. Without it, peers present none.
    pub peer_authority: Option<PathBuf>,
}

/// A listener's TLS.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    state: Mutex<State>,
}

/// What a peer's certificate calls it: the DNS names and URIs of its subject alternative name. In the extensions of
/// every request on a connection whose peer presented a certificate that the authority has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNames(pub Arc<[String]>);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the kind it should.
    #[error("cannot use {path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The files do not belong together, or use something unknown.
    #[error("the certificate and the key cannot be used together")]
    Unusable(#[from] rustls::Error),
}

#[derive(Debug)]
struct State {
    loaded: Loaded,
    /// When the files that it comes from had changed.
    changed: Vec<Option<SystemTime>>,
    /// When the files that it was refused for had changed. They are looked at again: a certificate becomes valid by itself.
    refused: Vec<Option<SystemTime>>,
    looked: Instant,
}

/// What the files hold.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// From when to when the listener's own certificate is valid.
    valid: Option<Validity>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`] names the file that cannot be used.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let changed = files.changed();
        let loaded = load(&files)?;
        loaded.warn(&files);
        let state = State { loaded, changed, refused: Vec::new(), looked: Instant::now() };
        Ok(Self { files, state: Mutex::new(state) })
    }

    /// For the next handshake. Now and then it looks at the files first, away from the async workers.
    pub(crate) async fn acceptor(self: &Arc<Self>) -> TlsAcceptor {
        let due = {
            let mut state = self.lock();
            let due = state.looked.elapsed() >= LOOK_EVERY;
            if due {
                state.looked = Instant::now();
            }
            due
        };
        if due {
            let tls = self.clone();
            let _ = tokio::task::spawn_blocking(move || tls.look()).await; // a panic in there changes nothing
        }
        TlsAcceptor::from(self.lock().loaded.config.clone())
    }

    fn look(&self) {
        if self.files.changed() != self.lock().changed {
            self.take_anew();
        }
    }

    /// Reads the files now, whether they seem to have changed or not, and takes what they hold if it is of use. Whether it
    /// is; if not, the log says why. Blocks while it reads.
    pub fn take_anew(&self) -> bool {
        let changed = self.files.changed();
        let read = load(&self.files);
        let mut state = self.lock();
        let why = match read {
            // One that is of no use may take the place of another one, but not of a good one.
            Ok(loaded) if loaded.fault().is_none() || state.loaded.fault().is_some() => {
                tracing::info!(certificate = %self.files.certificate.display(), "took a new certificate");
                loaded.warn(&self.files);
                (state.loaded, state.changed, state.refused) = (loaded, changed, Vec::new());
                return true;
            }
            Ok(loaded) => loaded.fault().unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        if state.refused != changed {
            tracing::error!(error = why, "a changed certificate cannot be used; the one before stays");
            state.refused = changed;
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TlsFiles {
    fn changed(&self) -> Vec<Option<SystemTime>> {
        let paths = [Some(&self.certificate), Some(&self.key), self.peer_authority.as_ref()];
        let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        paths.into_iter().flatten().map(changed).collect()
    }
}

fn load(files: &TlsFiles) -> Result<Loaded, TlsError> {
    let chain = certificates(&files.certificate)?;
    let valid = Validity::of_chain(&chain);
    Ok(Loaded { config: config(files, chain)?, valid })
}

fn config(files: &TlsFiles, chain: Vec<CertificateDer<'static>>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = read_file(&files.key).map_err(|error| unusable(&files.key, error))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| unusable(&files.key, error))?;
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.peer_authority {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
            // Optional here: whether a peer needs a certificate, or a token will do, is decided by its role.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| unusable(path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if files.peer_authority.is_some() {
        // A resumed session goes by a certificate that was looked at long ago, though it has expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = read_file(path).map_err(|error| unusable(path, error))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, error))?;
    if chain.is_empty() { Err(unusable(path, "it holds no certificate in PEM")) } else { Ok(chain) }
}

fn unusable(path: &Path, problem: impl ToString) -> TlsError {
    TlsError::File { path: path.to_owned(), problem: problem.to_string() }
}

impl Loaded {
    /// Why peers will refuse the certificate at present, if they will.
    fn fault(&self) -> Option<String> {
        self.valid?.fault(UnixTime::now().as_secs().cast_signed())
    }

    /// At the start it is used all the same: the clock may be wrong, and peers judge for themselves.
    fn warn(&self, files: &TlsFiles) {
        warn_of_readers(&files.key);
        if let Some(why) = self.fault() {
            let certificate = files.certificate.display();
            tracing::warn!(%certificate, why, "peers will refuse the certificate: renew it");
        }
    }
}

/// The names in a verified certificate.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> PeerNames {
    let names = X509Certificate::from_der(certificate).ok().and_then(|(_, certificate)| {
        let names = certificate.subject_alternative_name().ok()??;
        let texts = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            _ => None,
        });
        Some(texts.collect())
    });
    PeerNames(names.unwrap_or_else(|| Arc::from([])))
}

#[cfg(test)]
pub(crate) mod tests;
