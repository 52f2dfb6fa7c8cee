//! Where a hub keeps its log: from flags to a hub over it, which may have to be read first.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use galaxy_push_hub::{Hub, Recovery};
use galaxy_push_listener::ambient;
use tokio::sync::oneshot;

use super::listening::Places;
use super::serving::Signals;
use crate::Usage;
use crate::args::{HubArgs, Store};

/// The exit code of a process whose disk has failed (`EX_IOERR`).
const DISK_FAILED: i32 = 74;

/// The exit code of a process whose brokers have another log than it has read (`EX_TEMPFAIL`).
#[cfg(feature = "nats")]
const LOG_CHANGED: i32 = 75;

/// Where the log is kept.
pub(super) enum Kept {
    InMemory,
    OnDisk(PathBuf),
    #[cfg(feature = "nats")]
    OnNats(Box<galaxy_push_store::jetstream::Options>),
}

impl Kept {
    /// What the flags say, if they belong together.
    pub(super) fn of(args: &HubArgs) -> anyhow::Result<Self> {
        if args.store != Store::Disk && args.data_dir.is_some() {
            bail!(Usage("--data-dir is for --store disk: add that".to_owned()));
        }
        let nats = &args.nats;
        if args.store != Store::Nats && !nats.nats_url.is_empty() {
            bail!(Usage("--nats-url is for --store nats: add that".to_owned()));
        }
        match (args.store, &args.data_dir) {
            (Store::Memory, _) => Ok(Self::InMemory),
            (Store::Disk, None) => bail!(Usage("--store disk needs --data-dir FOLDER".to_owned())),
            (Store::Disk, Some(folder)) => Ok(Self::OnDisk(folder.clone())),
            (Store::Nats, _) => Self::on_nats(args),
        }
    }

    #[cfg(feature = "nats")]
    fn on_nats(args: &HubArgs) -> anyhow::Result<Self> {
        let nats = &args.nats;
        if nats.nats_url.is_empty() {
            bail!(Usage("--store nats needs --nats-url nats://HOST:PORT".to_owned()));
        }
        // What is wrong is not shown: it may hold a password.
        let names_one = |url: &String| {
            let rest = ["nats://", "tls://"].iter().find_map(|scheme| url.strip_prefix(scheme));
            rest.is_some_and(|rest| !rest.is_empty())
        };
        if !nats.nats_url.iter().all(names_one) {
            bail!(Usage(
                "--nats-url: write nats://HOST:PORT or tls://HOST:PORT, several separated by commas"
                    .to_owned()
            ));
        }
        let mut options = galaxy_push_store::jetstream::Options::new(nats.nats_url.clone(), ambient());
        options.credentials.clone_from(&nats.nats_creds);
        options.authorities.clone_from(&nats.nats_ca);
        options.replicas = usize::try_from(nats.nats_replicas).unwrap_or(usize::MAX);
        options.prefix.clone_from(&nats.nats_prefix);
        Ok(Self::OnNats(Box::new(options)))
    }

    #[cfg(not(feature = "nats"))]
    fn on_nats(_: &HubArgs) -> anyhow::Result<Self> {
        bail!(Usage("this build has no NATS: build it with the feature nats".to_owned()))
    }

    /// How far the hub is while it reads its log.
    pub(super) fn recovery(&self) -> Recovery {
        match self {
            Self::InMemory => Recovery::default(),
            Self::OnDisk(folder) => Recovery::of(folder),
            #[cfg(feature = "nats")]
            Self::OnNats(options) => Recovery::reading(format!("the stream {}-default", options.prefix)),
        }
    }

    /// Starts the hub. `None`: it was told to end before it had read its log, which no more than a crash would harm.
    pub(super) async fn start_hub(
        self,
        config: galaxy_push_hub::Config,
        recovery: Recovery,
        at: &Places,
        signals: &mut Signals,
    ) -> anyhow::Result<Option<Hub>> {
        let (hub, edge, admin) = at.urls();
        match self {
            Self::InMemory => {
                let hub = Hub::in_memory(config, ambient())?;
                tracing::info!(
                    "the store is memory: a restart forgets events, revocations (`revoke`) and memberships; a revoked token that \
                     has not expired is then good again"
                );
                Ok(Some(hub))
            }
            Self::OnDisk(folder) => {
                let shown = folder.display().to_string();
                tracing::info!(
                    folder = shown,
                    hub,
                    edge,
                    admin,
                    "opening the log; probes are answered meanwhile"
                );
                let open =
                    move || Hub::on_disk_telling(config, &folder, ambient(), Arc::new(disk_failed), recovery);
                opened(open, signals).await
            }
            #[cfg(feature = "nats")]
            Self::OnNats(options) => {
                let prefix = &options.prefix;
                tracing::info!(
                    prefix,
                    hub,
                    edge,
                    admin,
                    "opening the log on the brokers; probes are answered meanwhile"
                );
                let open = move || Hub::on_nats(config, *options, ambient(), Arc::new(log_changed), recovery);
                opened(open, signals).await
            }
        }
    }
}

async fn opened(
    open: impl FnOnce() -> Result<Hub, galaxy_push_hub::Error> + Send + 'static,
    signals: &mut Signals,
) -> anyhow::Result<Option<Hub>> {
    let (runtime, (send, opened)) = (tokio::runtime::Handle::current(), oneshot::channel());
    let open = move || {
        let _inside = runtime.enter();
        drop(send.send(open())); // nobody waits any more: the process ends
    };
    // A thread of its own: the runtime would wait for one of its own until everything was read.
    std::thread::Builder::new().name("push-store-open".to_owned()).spawn(open)?;
    tokio::select! {
        biased;
        () = signals.end() => {
            tracing::info!("ended while the log was read");
            Ok(None)
        }
        opened = opened => Ok(Some(opened??)),
    }
}

/// Nothing more can be acknowledged, and what was acknowledged is on the disk: the next process finds it.
#[expect(clippy::exit, reason = "a drain would wait for a disk that does not answer")]
fn disk_failed(reason: &str) {
    tracing::error!(
        reason,
        code = DISK_FAILED,
        "the disk has failed: the process ends; start it again on a disk that works"
    );
    std::process::exit(DISK_FAILED)
}

/// Nothing more can be acknowledged, and what readers were told does not hold: the next process begins with what there is.
#[cfg(feature = "nats")]
#[expect(clippy::exit, reason = "a drain would hand out what is another log's by now")]
fn log_changed(reason: &str) {
    tracing::error!(
        reason,
        code = LOG_CHANGED,
        "the brokers do not have the log any more that was read: the process ends; start it again"
    );
    std::process::exit(LOG_CHANGED)
}
