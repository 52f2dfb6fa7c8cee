//! Brokers that encrypt, and that ask who a hub is by a file of credentials.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::settings::refusal;
use super::*;

/// A broker that speaks TLS only, by a certificate for 127.0.0.1 that is its own authority, in this folder.
fn encrypting(program: &Path, folder: &TempDir) -> Broker {
    let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("broker.pem"), issued.cert.pem()).unwrap();
    fs::write(path("broker.key"), issued.signing_key.serialize_pem()).unwrap();
    let tls = format!("tls {{ cert_file: {:?}, key_file: {:?} }}", path("broker.pem"), path("broker.key"));
    Broker::start(program, &Settings::default().more(&tls)).unwrap()
}

#[tokio::test]
async fn a_broker_that_encrypts_is_believed_by_its_authority_only() {
    let Some(program) = broker::program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let broker = encrypting(&program, &folder);
    let trusting = |scheme: &str, authority: Option<&str>| {
        let url = broker.url().replace("nats://", scheme);
        let mut options = Options::new(vec![url], ambient());
        options.authorities = authority.map(|name| folder.path().join(name));
        options
    };
    for scheme in ["tls://", "nats://"] {
        let hub = Hub::open(trusting(scheme, Some("broker.pem"))).await;
        hub.appended(&[scheme]).await;
    }
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(folder.path().join("other.pem"), other.cert.pem()).unwrap();
    fs::write(folder.path().join("empty.pem"), "no certificate\n").unwrap();
    for (authority, says) in [
        (None, "certificate"),
        (Some("other.pem"), "certificate"),
        (Some("empty.pem"), "empty.pem: it holds no certificate"),
        (Some("nowhere.pem"), "nowhere.pem"),
    ] {
        let why = timeout(Duration::from_secs(10), refusal(trusting("tls://", authority)));
        let why = why.await.expect("at once: to look again is in vain");
        assert!(why.contains(says), "{authority:?}: {why}");
    }
}

/// A token as NATS has them: a JWT, signed by a key of its own kind.
fn token(by: &KeyPair, name: &str, of: &KeyPair, claims: Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let body = part(&json!({
        "jti": name, "iat": 1_700_000_000, "iss": by.public_key(), "name": name, "sub": of.public_key(), "nats": claims,
    }));
    let signature = by.sign(format!("{head}.{body}").as_bytes()).unwrap();
    format!("{head}.{body}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The text of a file of credentials, as nsc makes them.
fn credentials(account: &KeyPair, user: &KeyPair) -> String {
    let claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER \
         NKEY SEED------\n",
        token(account, "hub", user, claims),
        user.seed().unwrap()
    )
}

#[tokio::test]
async fn a_hub_says_who_it_is_by_a_file_of_credentials() {
    let Some(program) = broker::program() else { return };
    let [operator, system, product] =
        [KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account()];
    let own = json!({
        "type": "operator", "version": 2, "system_account": system.public_key(),
    });
    let unlimited = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let account = json!({ "type": "account", "version": 2, "limits": unlimited });
    // The system account may have no streams.
    let plain = json!({ "type": "account", "version": 2, "limits": { "subs": -1, "data": -1, "payload": -1, "conn": -1 } });
    let accounts = [(&system, "SYS", plain), (&product, "PUSH", account)]
        .map(|(key, name, claims)| format!("{}: {}", key.public_key(), token(&operator, name, key, claims)));
    let lines = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}\n}}",
        token(&operator, "O", &operator, own),
        system.public_key(),
        accounts.join("\n")
    );
    let broker = Broker::start(&program, &Settings::default().more(&lines)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, text: Option<String>| {
        let file = folder.path().join(name);
        text.into_iter().for_each(|text| fs::write(&file, text).unwrap());
        let mut options = options(&broker, "p");
        options.credentials = Some(file);
        options
    };
    let user = KeyPair::new_user();
    let hub = Hub::open(with("hub.creds", Some(credentials(&product, &user)))).await;
    hub.appended(&["a"]).await;
    let stranger = KeyPair::new_account();
    for (name, text, says) in [
        ("stranger.creds", Some(credentials(&stranger, &user)), "lets this hub in"),
        ("empty.creds", Some(String::new()), "empty.creds cannot be used"),
        ("nowhere.creds", None, "nowhere.creds cannot be used"),
    ] {
        let why = timeout(Duration::from_secs(10), refusal(with(name, text)));
        let why = why.await.expect("at once: to look again is in vain");
        assert!(why.contains(says), "{name}: {why}");
    }
    let why = refusal(options(&broker, "p")).await;
    assert!(why.contains("lets this hub in") && why.to_lowercase().contains("authorization"), "{why}");
}
