//! TLS and mTLS to a hub, with certificates made on the spot.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use galaxy_push_client::{
    BuildError, Connecting, Connector, Io, Publisher, PushClient, State, Tls, TlsError,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::hub::{Dial, Hub, Notes, Secure, Step, at, caught_up, until, welcome};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this name, and its key.
fn issue(authority: &Authority, name: &str) -> (String, String) {
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let (from, until) = (params.not_before.year(), params.not_after.year());
    issue_for(authority, name, from..until)
}

/// One that is valid from the beginning of one year to that of another.
fn issue_for(authority: &Authority, name: &str, years: Range<i32>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.not_before, params.not_after) =
        (date_time_ymd(years.start, 1, 1), date_time_ymd(years.end, 1, 1));
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A server that presents this certificate, and wants one of the authority's from its peer.
fn server(authority: &Authority, (certificate, key): &(String, String)) -> Secure {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Arc::new(move |io| {
        let accepting = acceptor.accept(io);
        async move { Ok(Box::new(accepting.await?) as Box<dyn Io>) }.boxed()
    })
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("galaxy-push-client-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn present(&self, authority: &Authority, (certificate, key): &(String, String)) -> Tls {
        let tls = Tls::trusting(self.write("authority.pem", &authority.pem())).unwrap();
        tls.presenting(self.write("certificate.pem", certificate), self.write("key.pem", key)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn live() -> Dial {
    Dial::Serve(vec![welcome(&at(5)), caught_up(5), Step::Sleep(Duration::MAX)])
}

fn client(hub: &Hub, tls: Tls) -> PushClient {
    let builder = PushClient::builder("g").hub("https://hub").connector(hub.connector()).random(|| u64::MAX);
    builder.tls(tls).start(Notes::default().handler()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn both_sides_prove_themselves() {
    let (authority, folder) = (authority(), Folder::new("both"));
    let tls = folder.present(&authority, &issue(&authority, "gateway-1"));
    let hub = Hub::new([live()]).secure(server(&authority, &issue(&authority, "hub")));
    until(&client(&hub, tls), |status| status.state == State::Live).await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_cannot_prove_itself_and_a_gateway_that_cannot_are_not_talked_to() {
    let (own, foreign, folder) = (authority(), authority(), Folder::new("wrong"));
    let tls = folder.present(&own, &issue(&own, "gateway-1"));
    for wrong in [server(&own, &issue(&own, "another-name")), server(&own, &issue(&foreign, "hub"))] {
        let hub = Hub::new([live()]).secure(wrong);
        let status = until(&client(&hub, tls.clone()), |status| status.last_error.is_some()).await;
        assert!(status.last_error.unwrap().to_string().contains("certificate"));
    }
    let nobody = Tls::trusting(folder.write("authority.pem", &own.pem())).unwrap();
    let hub = Hub::new([live()]).secure(server(&own, &issue(&own, "hub")));
    until(&client(&hub, nobody), |status| status.last_error.is_some()).await;
}

/// An authority that was made anew has the name of the one before, and its signatures are then bad ones. What is to be done is
/// the same.
#[tokio::test(start_paused = true)]
async fn whoever_meets_an_authority_that_is_not_trusted_is_told_what_to_do() {
    let (own, again, folder) = (authority(), authority(), Folder::new("untrusted"));
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "another authority");
    let other = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    for (foreign, here, there) in
        [(&other, "UnknownIssuer", "UnknownCA"), (&again, "BadSignature", "DecryptError")]
    {
        let tls = folder.present(&own, &issue(&own, "gateway-1"));
        let hub = Hub::new([live()]).secure(server(&own, &issue(foreign, "hub")));
        let said = until(&client(&hub, tls), |status| status.last_error.is_some()).await.last_error.unwrap();
        let todo = "name the one that has, by --hub-ca or `Tls::trusting`";
        let expected =
            format!("no authority that is trusted here has signed the hub's certificate ({here}): {todo}");
        assert!(said.to_string().ends_with(&expected), "{said}");
        let tls = folder.present(&own, &issue(foreign, "gateway-1"));
        let hub = Hub::new([live()]).secure(server(&own, &issue(&own, "hub")));
        let said = until(&client(&hub, tls), |status| status.last_error.is_some()).await.last_error.unwrap();
        let expected =
            format!("peer presents ({there}): its --hub-peer-ca must hold the authority that has signed it");
        assert!(said.to_string().ends_with(&expected), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
    let (old, new, folder) = (authority(), authority(), Folder::new("renewed"));
    let tls = folder.present(&old, &issue(&old, "gateway-1"));
    let hub = Hub::new([Dial::Serve(vec![welcome(&at(5)), Step::Cut]), live()]);
    let hub = hub.secure(server(&old, &issue(&old, "hub")));
    folder.write("certificate.pem", "rubbish");
    let client = client(&hub, tls);
    until(&client, |status| status.counters.streams == 1).await;
    let (certificate, key) = issue(&new, "gateway-1");
    folder.write("certificate.pem", &certificate);
    folder.write("key.pem", &key);
    folder.write("authority.pem", &new.pem());
    let hub = hub.secure(server(&new, &issue(&new, "hub")));
    until(&client, |status| status.state == State::Live).await;
    assert_eq!(hub.dial_times().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_valid_at_the_time_does_not_replace_a_good_one() {
    let (authority, folder) = (authority(), Folder::new("expired"));
    for years in [2000..2001, 3000..3001] {
        let tls = folder.present(&authority, &issue(&authority, "gateway-1"));
        let hub = Hub::new([live()]).secure(server(&authority, &issue(&authority, "hub")));
        folder.present(&authority, &issue_for(&authority, "gateway-1", years));
        until(&client(&hub, tls), |status| status.state == State::Live).await;
        assert_eq!(hub.dial_times().len(), 1, "the hub was shown the good one");
    }
    // One that was not valid to begin with is replaced by anything.
    let tls = folder.present(&authority, &issue_for(&authority, "gateway-1", 2000..2001));
    let hub = Hub::new([live()]).secure(server(&authority, &issue(&authority, "hub")));
    folder.present(&authority, &issue(&authority, "gateway-1"));
    until(&client(&hub, tls), |status| status.state == State::Live).await;
}

#[tokio::test(start_paused = true)]
async fn a_renewed_certificate_is_taken_whatever_has_expired_that_no_hub_needs() {
    let (old, new, folder) = (authority(), authority(), Folder::new("superfluous"));
    let tls = folder.present(&old, &issue(&old, "gateway-1"));
    let mut params = CertificateParams::new(vec!["another".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "another");
    (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
    let expired = params.signed_by(&KeyPair::generate().unwrap(), &old).unwrap();
    let (renewed, key) = issue(&new, "gateway-1");
    folder.write("authority.pem", &new.pem());
    folder.write("certificate.pem", &(renewed + &expired.pem()));
    folder.write("key.pem", &key);
    let hub = Hub::new([live()]).secure(server(&new, &issue(&new, "hub")));
    until(&client(&hub, tls), |status| status.state == State::Live).await;
    assert_eq!(hub.dial_times().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_are_refused() {
    let folder = Folder::new("settings");
    let missing = Tls::trusting(folder.0.join("missing.pem")).unwrap_err();
    assert!(matches!(&missing, TlsError::File { path, .. } if path.ends_with("missing.pem")), "{missing}");
    let empty = Tls::trusting(folder.write("empty.pem", "")).unwrap_err();
    assert!(empty.to_string().contains("no certificate"), "{empty}");
    // Without a word it is the operating system whose authorities count, and it may have none.
    let system = Publisher::builder().hub("https://hub").build();
    assert!(matches!(&system, Ok(_) | Err(BuildError::Tls(TlsError::NoAuthorities(_)))), "{system:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connector_may_bring_its_own_tls() {
    struct Own(Hub);
    impl Connector for Own {
        fn connect(&self, host: &str, port: u16) -> Connecting {
            let connecting = (self.0.connector())(host.to_owned(), port);
            Box::pin(async move { Ok(Box::new(connecting.await?) as Box<dyn Io>) })
        }

        fn secures(&self) -> bool {
            true
        }
    }
    let hub = Hub::new([live()]);
    let builder = PushClient::builder("g").hub("https://hub").connector(Own(hub)).random(|| 0);
    until(&builder.start(Notes::default().handler()).unwrap(), |status| status.state == State::Live).await;
}
