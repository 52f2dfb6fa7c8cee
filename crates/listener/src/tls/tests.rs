//! Handshakes with certificates made on the spot.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::*;
use crate::{Accept, Drain, Limits, serve_tls};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this name, and its key.
fn issue(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("galaxy-push-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, authority: &Authority, (certificate, key): &(String, String)) -> TlsFiles {
        let file = |name: &str, text: &str| {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        TlsFiles {
            certificate: file("certificate.pem", certificate),
            key: file("key.pem", key),
            peer_authority: Some(file("authority.pem", &authority.pem())),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct MemoryListener(mpsc::Receiver<DuplexStream>);

impl Accept for MemoryListener {
    type Io = DuplexStream;

    async fn accept(&mut self) -> std::io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(pipe) => Ok((pipe, SocketAddr::from(([127, 0, 0, 1], 9)))),
            None => std::future::pending().await,
        }
    }
}

/// How a peer that trusts this authority connects, and shows who it is.
fn client(trust: &Authority, own: Option<(String, String)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trust.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(match own {
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

/// Asks a server who it takes us for.
async fn ask(
    pipes: &mpsc::Sender<DuplexStream>,
    trust: &Authority,
    own: Option<(String, String)>,
) -> Option<String> {
    ask_as(pipes, client(trust, own)).await.map(|(_, who)| who)
}

/// The same, and whether that took a whole handshake.
async fn ask_as(
    pipes: &mpsc::Sender<DuplexStream>,
    client: Arc<ClientConfig>,
) -> Option<(HandshakeKind, String)> {
    let (near, far) = tokio::io::duplex(1 << 16);
    pipes.send(far).await.unwrap();
    let name = ServerName::try_from("hub.example").unwrap();
    let mut io = TlsConnector::from(client).connect(name, near).await.ok()?;
    io.write_all(b"GET / HTTP/1.1\r\nhost: hub.example\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.ok()?;
    let handshake = io.get_ref().1.handshake_kind()?;
    answer.rsplit("\r\n\r\n").next().map(|who| (handshake, who.to_owned()))
}

fn start(files: TlsFiles) -> mpsc::Sender<DuplexStream> {
    let who = async |names: Option<Extension<PeerNames>>| {
        Ok::<_, Infallible>(names.map_or("nobody".to_owned(), |names| names.0.0.join(",")))
    };
    let (pipes, incoming) = mpsc::channel(4);
    let tls = Arc::new(Tls::load(files).unwrap());
    let app = Router::new().route("/", get(who));
    tokio::spawn(serve_tls(MemoryListener(incoming), tls, app, Limits::hub(), Drain::default()));
    pipes
}

#[tokio::test]
async fn peers_are_named_by_their_certificates() {
    let (ours, other) = (authority(), authority());
    let folder = Folder::new("names");
    let pipes = start(folder.write(&ours, &issue(&ours, "hub.example")));
    assert_eq!(ask(&pipes, &ours, Some(issue(&ours, "gateway-1"))).await.as_deref(), Some("gateway-1"));
    assert_eq!(ask(&pipes, &ours, None).await.as_deref(), Some("nobody"));
    assert_eq!(ask(&pipes, &ours, Some(issue(&other, "gateway-1"))).await, None, "signed by somebody else");
    assert_eq!(ask(&pipes, &other, None).await, None, "the peer does not trust this hub");
}

/// A session that is resumed goes by a certificate that was looked at long ago: it may have expired, or its authority
/// may be trusted no longer.
#[tokio::test]
async fn a_peer_shows_its_certificate_each_time() {
    let ours = authority();
    let folder = Folder::new("sessions");
    let files = folder.write(&ours, &issue(&ours, "hub.example"));
    let (with, without) = (files.clone(), TlsFiles { peer_authority: None, ..files });
    let twice = async |files, own| {
        let (pipes, client) = (start(files), client(&ours, own));
        [ask_as(&pipes, client.clone()).await.unwrap().0, ask_as(&pipes, client).await.unwrap().0]
    };
    let own = Some(issue(&ours, "gateway-1"));
    assert_eq!(twice(with, own).await, [HandshakeKind::Full, HandshakeKind::Full]);
    let resumed = [HandshakeKind::Full, HandshakeKind::Resumed];
    assert_eq!(twice(without, None).await, resumed, "users show no certificate");
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_handshakes() {
    let ours = authority();
    let folder = Folder::new("drain");
    let tls = Arc::new(Tls::load(folder.write(&ours, &issue(&ours, "hub.example"))).unwrap());
    let (pipes, incoming) = mpsc::channel(4);
    let drain = Drain::default();
    let server =
        tokio::spawn(serve_tls(MemoryListener(incoming), tls, Router::new(), Limits::hub(), drain.clone()));
    let (_silent, far) = tokio::io::duplex(1 << 16);
    pipes.send(far).await.unwrap();
    tokio::task::yield_now().await;
    let start = Instant::now();
    drain.draining.cancel();
    server.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
    let (first, second) = (authority(), authority());
    let folder = Folder::new("renewal");
    let pipes = start(folder.write(&first, &issue(&first, "hub.example")));
    assert!(ask(&pipes, &first, None).await.is_some());

    let files = folder.write(&second, &issue(&second, "hub.example"));
    let later = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(5_000_000_000);
    let touch =
        |path: &Path| fs::File::options().append(true).open(path).unwrap().set_modified(later).unwrap();
    touch(&files.certificate);
    tokio::time::advance(LOOK_EVERY).await;
    assert!(ask(&pipes, &second, None).await.is_some(), "the new authority's");
    assert!(ask(&pipes, &first, None).await.is_none());

    fs::write(&files.certificate, "not a certificate").unwrap();
    tokio::time::advance(LOOK_EVERY).await;
    assert!(ask(&pipes, &second, None).await.is_some(), "the last good one stays");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let ours = authority();
    let folder = Folder::new("files");
    let good = folder.write(&ours, &issue(&ours, "hub.example"));
    let missing = TlsFiles { key: folder.0.join("nowhere.pem"), ..good.clone() };
    assert!(Tls::load(missing).unwrap_err().to_string().contains("nowhere.pem"));
    let swapped = TlsFiles { certificate: good.key.clone(), ..good.clone() };
    assert!(Tls::load(swapped).unwrap_err().to_string().contains("key.pem"));
    let (_, strange) = issue(&ours, "other.example");
    fs::write(&good.key, strange).unwrap();
    assert!(matches!(Tls::load(good), Err(TlsError::Unusable(_))));
}

/// A certificate that is valid in these years, and its key.
fn issue_for(authority: &Authority, from: i32, until: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 1, 1));
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_now_does_not_replace_a_good_one() {
    let ours = authority();
    let folder = Folder::new("validity");
    let write = |from, until, second: u64| {
        let files = folder.write(&ours, &issue_for(&ours, from, until));
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(5_000_000_000 + second);
        fs::File::options().append(true).open(&files.certificate).unwrap().set_modified(at).unwrap();
        files
    };
    let tls = Tls::load(write(2020, 2021, 0)).unwrap();
    let fault = || tls.lock().loaded.fault().unwrap_or_default();
    assert!(fault().contains("has expired (Jan  1 00:00:00 2021"), "{}", fault());
    let reload = |from, until, second| {
        write(from, until, second);
        let before = tls.lock().loaded.config.clone();
        tls.look();
        !Arc::ptr_eq(&before, &tls.lock().loaded.config)
    };
    assert!(reload(3000, 4000, 1), "nothing good is lost");
    assert!(fault().contains("is not valid yet (Jan  1 00:00:00 3000"), "{}", fault());
    assert!(reload(2020, 4000, 2));
    assert_eq!(fault(), "");
    assert!(!reload(2020, 2021, 3), "an expired one");
    assert!(!reload(3000, 4000, 4), "one that is not valid yet");
    let (expired, _) = issue_for(&ours, 2020, 2021);
    let expired = CertificateDer::from_pem_slice(expired.as_bytes()).unwrap();
    tls.lock().loaded.valid = Validity::of_chain(&[expired]);
    tls.look();
    assert!(fault().contains("not valid yet"), "what was refused is looked at again");
    assert!(reload(2020, 4000, 5));
}

/// An authority between the first one and certificates, valid in these years.
fn intermediate(root: &Authority, name: &str, key: &KeyPair, from: i32, until: i32) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 1, 1));
    CertifiedIssuer::signed_by(params, KeyPair::from_pem(&key.serialize_pem()).unwrap(), root).unwrap()
}

#[tokio::test]
async fn a_renewal_is_judged_by_what_its_peers_need() {
    let (root, folder, key) = (authority(), Folder::new("superfluous"), KeyPair::generate().unwrap());
    let good = intermediate(&root, "signer", &key, 2020, 4000);
    let expired = intermediate(&root, "signer", &key, 2020, 2021);
    let other = intermediate(&root, "another", &KeyPair::generate().unwrap(), 2020, 2021);
    let fault = |others: &[&Authority]| {
        let (own, key) = issue_for(&good, 2020, 4000);
        let chain = others.iter().fold(own, |chain, other| chain + &other.pem());
        load(&folder.write(&root, &(chain, key))).unwrap().fault()
    };
    assert_eq!(fault(&[]), None, "whoever signed it may be known to its peers");
    assert_eq!(fault(&[&good]), None);
    assert_eq!(fault(&[&good, &other]), None, "what nobody needs has expired");
    assert_eq!(fault(&[&other, &expired, &good]), None, "one of two copies has");
    assert!(fault(&[&expired]).unwrap().contains("has expired"), "nobody can check who signed it");
}

#[cfg(unix)]
#[test]
fn a_secret_that_everybody_can_read_is_told_from_one_that_is_kept() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = Folder::new("secret");
    let file = folder.0.join("key.pem");
    fs::write(&file, "secret").unwrap();
    for (mode, open) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(crate::secrets::is_for_everybody(&file), open, "{mode:o}");
    }
    assert!(!crate::secrets::is_for_everybody(&folder.0.join("nowhere")));
}
