//! Whether the hub may be sent work: for probes over HTTP, and as `grpc.health.v1`.
//!
//! A hub is ready until it drains. A full disk or brokers out of reach are shown, but leave it ready: readers are served all
//! the same. During a drain a watcher is told NOT_SERVING and its stream ends, because the end of a connection would wait
//! for it.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use galaxy_push_listener::{Check, Health};
use galaxy_push_store::disk::Figures;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health as GrpcHealth, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::app::drain;
use crate::app::on_disk::DiskSpace;
use crate::app::shared::Shared;

/// What has a health: the server as a whole, and each service.
const SERVICES: [&str; 3] = ["", "push.v1.Push", "push.v1.Publisher"];

/// The largest request, in bytes: the name of a service. Nobody is asked who they are here, so nobody may send much.
pub(crate) const REQUEST_BYTES_MAX: usize = 1 << 10;

/// Answers the probes of the listener.
pub(crate) struct Probe(pub(crate) Arc<Shared>);

impl Health for Probe {
    fn checks(&self) -> Vec<Check> {
        let draining = self.0.is_draining();
        let detail = if draining { "shutting down" } else { "takes events and readers" };
        let hub = Check { name: "hub", ok: !draining, needed: true, detail: detail.to_owned() };
        let store = &self.0.store;
        let brokers = store.ack_meaning().map(|meaning| brokers(store.is_stale(), &meaning));
        [Some(hub), store.disk_figures().as_ref().map(disk), brokers].into_iter().flatten().collect()
    }
}

/// Whether there are brokers that take anything. Readers are served without, so a hub stays ready.
fn brokers(is_stale: bool, meaning: &str) -> Check {
    let detail = if is_stale {
        "no broker leads the log: publishes are refused, and the log may go on elsewhere".to_owned()
    } else {
        format!("acknowledged is what is {meaning}")
    };
    Check { name: "brokers", ok: !is_stale, needed: false, detail }
}

/// Whether the log has room. Readers are served without, so a hub stays ready. What is free was looked at a while ago, while whether
/// the log is full is known at once: the line says how long ago, so that the two are not taken for one moment.
fn disk(figures: &Figures) -> Check {
    let room = DiskSpace::of(figures, DiskSpace::Enough);
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let free = figures.free_bytes.map_or_else(|| "?".to_owned(), |free| (free >> 20).to_string());
    let free = format!("{free} MiB free {} s ago", figures.free_seen_ago.as_secs());
    let needed = mebibytes(figures.needed_bytes);
    let detail = match room {
        DiskSpace::Enough => format!("{free}; the log may need {needed} MiB more"),
        DiskSpace::Low => format!("{free}, and the log may need {needed} MiB more: make room"),
        DiskSpace::Full => format!("full: publishes are refused until there is room; {free}"),
    };
    Check { name: "disk", ok: room == DiskSpace::Enough, needed: false, detail }
}

/// Answers `grpc.health.v1`.
#[derive(Clone, Debug)]
pub(crate) struct Service(Arc<Shared>);

impl Service {
    /// The gRPC service, with a small limit for requests: nobody is asked who they are here.
    pub(crate) fn server(shared: Arc<Shared>) -> HealthServer<Self> {
        HealthServer::new(Self(shared)).max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// What every service of the hub answers: all of them serve, or none.
fn serving(draining: bool) -> HealthCheckResponse {
    answer(if draining { ServingStatus::NotServing } else { ServingStatus::Serving })
}

#[tonic::async_trait]
impl GrpcHealth for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !SERVICES.contains(&request.get_ref().service.as_str()) {
            return Err(Status::not_found(
                "no such service here: ask for push.v1.Push, push.v1.Publisher or \"\"",
            ));
        }
        Ok(Response::new(serving(self.0.is_draining())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !SERVICES.contains(&request.get_ref().service.as_str()) {
            // The protocol wants the stream kept open, in case the service appears; here none ever does.
            let mut draining = self.0.draining.subscribe();
            let drain = Box::pin(async move { drain::begins(&mut draining).await });
            let unknown = stream::iter([Ok(answer(ServingStatus::ServiceUnknown))]).chain(stream::pending());
            return Ok(Response::new(unknown.take_until(drain).boxed()));
        }
        // Ends with the news of a drain: a stream that went on would hold up the end of its connection.
        let changes = WatchStream::new(self.0.draining.subscribe());
        let news = stream::unfold(Some(changes), async |changes| {
            let mut changes = changes?;
            let draining = changes.next().await?;
            Some((Ok(serving(draining)), (!draining).then_some(changes)))
        });
        Ok(Response::new(news.boxed()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The fault: a log that was full beside a disk that had room, which it had five seconds before.
    #[test]
    fn the_room_on_the_disk_is_told_with_its_age() {
        let mut figures = Figures::default();
        (figures.free_bytes, figures.free_seen_ago) = (Some(80 << 20), Duration::from_millis(4_900));
        for (is_full, needed, said) in [
            (false, 2, "80 MiB free 4 s ago; the log may need 2 MiB more"),
            (false, 90, "80 MiB free 4 s ago, and the log may need 90 MiB more: make room"),
            (true, 90, "full: publishes are refused until there is room; 80 MiB free 4 s ago"),
        ] {
            (figures.is_full, figures.needed_bytes) = (is_full, needed << 20);
            assert_eq!(disk(&figures).detail, said);
        }
        figures.free_bytes = None;
        assert!(disk(&figures).detail.ends_with("? MiB free 4 s ago"));
    }
}
