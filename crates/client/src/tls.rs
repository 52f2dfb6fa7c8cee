//! TLS to a hub: whom to trust, and who this peer is.
//!
//! The transport asks it for each connection to an `https://` hub. Files are read again for each, so a renewed
//! certificate needs no restart and drops no stream.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use galaxy_push_core::certificate::Validity;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, InvalidMessage, RootCertStore};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;

use crate::{Connecting, Connector, Io};

/// The largest file that is read: hundreds of authorities, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// TLS to hubs: the authority that signs their certificates, and this peer's own certificate for mTLS.
///
/// A cheap clone. Files hold PEM, at most 1 MiB each. A renewed file that cannot be used, or holds a certificate that is not valid now, does
/// not take the place of a good one; the log says so at each connection.
///
/// ```no_run
/// use galaxy_push_client::{Tls, TcpConnector};
///
/// # fn run() -> Result<(), galaxy_push_client::TlsError> {
/// let public = Tls::system()?;                                   // authorities of the operating system
/// let private = Tls::trusting("hub-ca.pem")?;                    // one's own authority
/// let mutual = private.presenting("gateway-1.pem", "gateway-1.key")?;
/// let connector = mutual.over(TcpConnector);                     // for code that takes a connector only
/// # drop((public, connector));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tls {
    files: Arc<Files>,
    /// What the files held when they could last be used.
    loaded: Arc<Mutex<Loaded>>,
}

/// What the files hold.
#[derive(Clone, Debug)]
struct Loaded {
    config: Arc<ClientConfig>,
    /// From when to when this peer's own certificate is valid.
    valid: Option<Validity>,
}

#[derive(Clone, Debug)]
struct Files {
    /// `None`: those of the operating system.
    authority: Option<PathBuf>,
    /// Certificate chain and key.
    own: Option<(PathBuf, PathBuf)>,
}

/// Why a certificate cannot be used.
///
/// ```
/// use galaxy_push_client::{Tls, TlsError};
///
/// let error = Tls::trusting("/no/such/file.pem").unwrap_err();
/// assert!(matches!(error, TlsError::File { .. }) && error.to_string().contains("/no/such/file.pem"));
/// ```
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
    /// The operating system names no authority that can be used.
    #[error("the operating system has no authorities that can be used{0}: name a file of them")]
    NoAuthorities(String),
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
        Self::of(Files { authority: Some(authority.into()), own: None })
    }

    /// Trusts hubs whose certificate an authority has signed that the operating system trusts; the variables `SSL_CERT_FILE`
    /// and `SSL_CERT_DIR` name others. This is what `https://` hubs are reached by if nothing is said.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when there is none.
    pub fn system() -> Result<Self, TlsError> {
        Self::of(Files { authority: None, own: None })
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
        let loaded = files.read()?;
        if let Some(why) = loaded.fault() {
            // Used all the same: the clock may be wrong, and hubs judge for themselves.
            tracing::warn!(why, "hubs will refuse this peer's certificate: renew it");
        }
        Ok(Self { files: Arc::new(files), loaded: Arc::new(Mutex::new(loaded)) })
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

    /// What the files hold now, or what they held last if they cannot be used. A certificate that is not valid at the time
    /// may take the place of another such one, but not of a good one.
    async fn config(&self) -> Arc<ClientConfig> {
        let files = self.files.clone();
        let read = spawn_blocking(move || files.read()).await;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match read {
            Ok(Ok(read)) => match read.fault().filter(|_| loaded.fault().is_none()) {
                Some(fault) => Some(fault),
                None => {
                    *loaded = read;
                    None
                }
            },
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => None, // the runtime shuts down
        };
        if let Some(error) = error {
            tracing::error!(error, "the TLS files cannot be used; what they held before is");
        }
        loaded.config.clone()
    }
}

/// The library does not say that what came was not TLS at all, nor what is to be done where an authority is not trusted. One that was
/// made anew under its old name is such a one, too: only its signatures are not the same.
fn explain(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(
            why @ (CertificateError::UnknownIssuer | CertificateError::BadSignature),
        )) => {
            let text = format!(
                "no authority that is trusted here has signed the hub's certificate ({why:?}): name the one that has, by --hub-ca or \
                 `Tls::trusting`"
            );
            io::Error::new(error.kind(), text)
        }
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
    fn read(&self) -> Result<Loaded, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.authority {
            Some(file) => {
                for certificate in certificates(file)? {
                    roots.add(certificate)?;
                }
            }
            // Some that cannot be read are in every collection; it is the others that count.
            None => {
                let found = rustls_native_certs::load_native_certs();
                let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
                if let (0, _) = roots.add_parsable_certificates(found.certs) {
                    return Err(TlsError::NoAuthorities(why));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        let mut valid = None;
        let mut config = match &self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let read = read(key).map_err(|error| unusable(key, error))?;
                let key = PrivateKeyDer::from_pem_slice(&read).map_err(|error| unusable(key, error))?;
                let chain = certificates(certificate)?;
                valid = Validity::of_chain(&chain);
                builder.with_client_auth_cert(chain, key)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Loaded { config: Arc::new(config), valid })
    }
}

impl Loaded {
    /// Why hubs will refuse this peer's certificate at present, if they will.
    fn fault(&self) -> Option<String> {
        self.valid?.fault(UnixTime::now().as_secs().cast_signed())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = read(path).map_err(|error| unusable(path, error))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, error))?;
    if chain.is_empty() { Err(unusable(path, "it holds no certificate in PEM")) } else { Ok(chain) }
}

/// The content of a file, if it has a size that files of certificates have: what never ends is not read on and on.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        let why = format!("there are more than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(content)
}

fn unusable(path: &Path, problem: impl ToString) -> TlsError {
    TlsError::File { path: path.to_owned(), problem: problem.to_string() }
}
