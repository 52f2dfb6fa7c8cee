//! What stands between a listener and the world: TLS, who may do what, and which web pages are kept away.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use axum::Router;
use galaxy_push_hub::Access;
use galaxy_push_listener::{AllowedHosts, Tls, TlsFiles, reject_browsers};

use super::bind::At;
use super::credentials;
use crate::Usage;
use crate::args::{EdgeArgs, HubArgs, ProcessArgs};

/// The hub listener's TLS, if it has any.
pub(super) fn hub_tls(args: &HubArgs) -> anyhow::Result<Option<Arc<Tls>>> {
    let tls = tls("hub", &args.hub_tls_cert, &args.hub_tls_key, args.hub_peer_ca.clone())?;
    if args.hub_peer_ca.is_some() {
        if tls.is_none() {
            bail!(Usage("--hub-peer-ca needs TLS: give --hub-tls-cert FILE and --hub-tls-key FILE".into()));
        }
        if args.hub_credentials.is_none() {
            bail!(Usage(
                "--hub-peer-ca alone lets everybody in: give --hub-credentials FILE, which says who may do what".into()
            ));
        }
    }
    Ok(tls)
}

/// The edge's TLS, if it has any.
pub(super) fn edge_tls(args: &EdgeArgs) -> anyhow::Result<Option<Arc<Tls>>> {
    tls("edge", &args.edge_tls_cert, &args.edge_tls_key, None)
}

fn tls(
    listener: &str,
    certificate: &Option<PathBuf>,
    key: &Option<PathBuf>,
    peer_authority: Option<PathBuf>,
) -> anyhow::Result<Option<Arc<Tls>>> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            let files = TlsFiles { certificate: certificate.clone(), key: key.clone(), peer_authority };
            let flags = || format!("--{listener}-tls-cert and --{listener}-tls-key");
            Ok(Some(Arc::new(Tls::load(files).with_context(flags)?)))
        }
        (Some(_), None) => {
            bail!(Usage(format!("--{listener}-tls-cert needs --{listener}-tls-key FILE, its private key")))
        }
        (None, Some(_)) => bail!(Usage(format!(
            "--{listener}-tls-key needs --{listener}-tls-cert FILE, the certificate it belongs to"
        ))),
    }
}

/// Who may do what at the hub.
pub(super) fn access(args: &HubArgs) -> anyhow::Result<Access> {
    let encrypted = args.hub_tls_cert.is_some();
    let exposed = !args.hub_addr.ip().is_loopback();
    let Some(path) = &args.hub_credentials else {
        if exposed {
            tracing::warn!(
                hub = %args.hub_addr,
                "whoever reaches this hub can publish anything and read everything: give --hub-credentials"
            );
        }
        return Ok(Access::open());
    };
    if exposed && !encrypted {
        tracing::warn!(
            hub = %args.hub_addr,
            "tokens go over the network as they are, and everybody on the way can read them: give --hub-tls-cert"
        );
    }
    credentials::read(path, args.hub_peer_ca.is_some())
}

/// Keeps web pages away from a hub that lets everybody in. Where it knows its peers, they are what it goes by.
pub(super) fn hub_app(app: Router, at: &At, is_open: bool, process: &ProcessArgs) -> Router {
    if is_open { reject_browsers(app, hosts(at, process)) } else { app }
}

/// Keeps web pages away from the admin listener, which lets everybody in.
pub(super) fn admin_app(app: Router, at: &At, process: &ProcessArgs) -> Router {
    reject_browsers(app, hosts(at, process))
}

/// A listener that others reach is asked for under whatever name they have for it.
fn hosts(at: &At, process: &ProcessArgs) -> AllowedHosts {
    if at.is_loopback() { AllowedHosts::LocalAnd(process.allowed_hosts.clone()) } else { AllowedHosts::Any }
}
