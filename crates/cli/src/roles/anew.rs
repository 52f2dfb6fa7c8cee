//! What a process reads anew at SIGHUP: users' keys, certificates and the credentials of the hub's peers.
//!
//! Keys and certificates are looked at now and then without being asked; credentials only then. Whatever cannot be used
//! changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use galaxy_push_hub::Hub;
use galaxy_push_listener::Tls;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use super::credentials;
use super::keys::KeyFile;
use crate::args::HubArgs;

/// The files of one process.
#[derive(Default)]
pub(super) struct Anew {
    keys: Option<Arc<KeyFile>>,
    certificates: Vec<(&'static str, Arc<Tls>)>,
    credentials: Option<Credentials>,
    _watch: Option<AbortOnDropHandle<()>>,
}

/// The file behind `--hub-credentials`, and whose it is.
struct Credentials {
    path: PathBuf,
    by_certificate: bool,
    hub: Hub,
}

impl Anew {
    /// Looks at users' keys from now on.
    pub(super) fn keys(&mut self, keys: Option<Arc<KeyFile>>) {
        self._watch = keys.as_ref().map(KeyFile::watch);
        self.keys = keys;
    }

    /// Whether the keys are such as tokens can be signed with.
    pub(super) fn signs(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.holds_secrets())
    }

    pub(super) fn certificate(&mut self, of: &'static str, tls: Option<&Arc<Tls>>) {
        self.certificates.extend(tls.map(|tls| (of, tls.clone())));
    }

    pub(super) fn credentials(&mut self, args: &HubArgs, hub: &Hub) {
        self.credentials = args.hub_credentials.clone().map(|path| Credentials {
            path,
            by_certificate: args.hub_peer_ca.is_some(),
            hub: hub.clone(),
        });
    }

    /// Reads everything anew, and says in one line what is in force from now on and what is not.
    pub(super) async fn take(&self) {
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        let mut note =
            |what: &str, good: bool| if good { &mut taken } else { &mut refused }.push(what.to_owned());
        if let Some(keys) = self.keys.clone() {
            note("user keys", spawn_blocking(move || keys.look()).await.unwrap_or(false));
        }
        for (of, tls) in &self.certificates {
            let tls = tls.clone();
            note(of, spawn_blocking(move || tls.take_anew()).await.unwrap_or(false));
        }
        if let Some(Credentials { path, by_certificate, hub }) = &self.credentials {
            let (path, by_certificate) = (path.clone(), *by_certificate);
            let read = spawn_blocking(move || credentials::read(&path, by_certificate)).await;
            let read = read.map_err(anyhow::Error::from).flatten();
            note("credentials", read.is_ok());
            match read {
                Ok(access) => hub.set_access(access),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the credentials cannot be taken anew; those before stay");
                }
            }
        }
        let (taken, refused) = (taken.join(", "), refused.join(", "));
        match (taken.is_empty(), refused.is_empty()) {
            (true, true) => tracing::info!("SIGHUP: this process has no file that is read anew"),
            (_, true) => tracing::info!(taken, "SIGHUP: files were read anew"),
            _ => tracing::warn!(
                taken,
                refused,
                "SIGHUP: files were read anew, and what some hold cannot be used"
            ),
        }
    }
}
