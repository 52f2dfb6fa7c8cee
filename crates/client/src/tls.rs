//! TLS to a hub: whom to trust, and who this peer is.
//!
//! The transport asks it for each connection to an `https://` hub. Files are read again for each, so a renewed
//! certificate needs no restart and drops no stream.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, InvalidMessage, RootCertStore};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;

use crate::{Connecting, Connector, Io};

/// TLS to hubs: the authority that signs their certificates, and this peer's own certificate for mTLS.
#[derive(Clone, Debug)]
pub struct Tls {
    files: Arc<Files>,
    /// What the files held when they could last be used.
    config: Arc<Mutex<Arc<ClientConfig>>>,
}

#[derive(Clone, Debug)]
struct Files {
    authority: PathBuf,
    /// Certificate chain and key.
    own: Option<(PathBuf, PathBuf)>,
}

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
    /// The certificate and the key do not belong together, or use something unknown.
    #[error("the certificate and the key cannot be used together")]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    /// Trusts hubs whose certificate one of these authorities has signed, PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`] names the file that cannot be used.
    pub fn trusting(authority: impl Into<PathBuf>) -> Result<Self, TlsError> {
        Self::of(Files { authority: authority.into(), own: None })
    }

    /// Presents this certificate chain to the hub, PEM, the peer's own first, with its private key.
    ///
    /// # Errors
    ///
    /// [`TlsError`] names the file that cannot be used.
    pub fn presenting(
        self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let own = Some((certificate.into(), key.into()));
        Self::of(Files { authority: self.files.authority.clone(), own })
    }

    fn of(files: Files) -> Result<Self, TlsError> {
        let config = Arc::new(Mutex::new(files.read()?));
        Ok(Self { files: Arc::new(files), config })
    }

    /// Makes a connector of secure byte streams out of one of plain ones, for code that takes a [`Connector`] and nothing
    /// else. Every hub it is asked for is then an `https://` one.
    #[must_use]
    pub fn over(self, connector: impl Connector) -> impl Connector {
        Secured { tls: self, connector }
    }

    /// Makes a byte stream to this host a secure one. Whoever calls this sets the deadline.
    pub(crate) async fn secure(&self, host: &str, io: Box<dyn Io>) -> io::Result<Box<dyn Io>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(self.config().await);
        Ok(Box::new(connector.connect(name, io).await.map_err(explain)?))
    }

    /// What the files hold now, or what they held last if they cannot be used.
    async fn config(&self) -> Arc<ClientConfig> {
        let files = self.files.clone();
        let read = spawn_blocking(move || files.read()).await;
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(Ok(read)) => *config = read,
            Ok(Err(error)) => {
                tracing::error!(%error, "the TLS files cannot be used; what they held before is")
            }
            Err(_) => {} // the runtime shuts down
        }
        config.clone()
    }
}

/// The library does not say that what came was not TLS at all.
fn explain(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => io::Error::new(
            error.kind(),
            "what listens there does not speak TLS: write http:// for it, or give the hub a certificate",
        ),
        _ => error,
    }
}

struct Secured<C> {
    tls: Tls,
    connector: C,
}

impl<C: Connector> Connector for Secured<C> {
    fn connect(&self, host: &str, port: u16) -> Connecting {
        let (tls, host, connecting) = (self.tls.clone(), host.to_owned(), self.connector.connect(host, port));
        Box::pin(async move { tls.secure(&host, connecting.await?).await })
    }

    fn secures(&self) -> bool {
        true
    }
}

impl Files {
    fn read(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority)? {
            roots.add(certificate)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        let mut config = match &self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
                builder.with_client_auth_cert(certificates(certificate)?, key)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, error))?;
    let chain: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| unusable(path, error))?;
    if chain.is_empty() { Err(unusable(path, "it holds no certificate in PEM")) } else { Ok(chain) }
}

fn unusable(path: &Path, problem: impl ToString) -> TlsError {
    TlsError::File { path: path.to_owned(), problem: problem.to_string() }
}
