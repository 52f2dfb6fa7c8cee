//! File descriptors: how many this process may have, and how many of them each listener may take.
//!
//! Whoever fills one listener takes none from another, from the stream to the hub, or from files that are read again.

use std::fmt;
use std::fs;

use galaxy_push_gateway::{PROXIED_MAX, accepts_event_stream};
use galaxy_push_listener::{
    AnonymousSlots, ConnectionSlots, Limits, Proxies, SlotCounts, SlotPolicy, is_probe,
};
use http::Method;
use http::request::Parts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the process needs besides what is open at its start: the way to the hub and questions to it, files that are read
/// again, a connection that waits for a place. A gateway also passes publishes on, in development mode.
const OWN: usize = 10;

/// A listener works with so few connections, if need be beyond the limit.
const LEAST: usize = 8;

/// How many descriptors there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptors {
    limit: usize,
    open_at_start: usize,
}

/// The connections that each listener may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) hub: usize,
    pub(super) edge: usize,
    pub(super) admin: usize,
}

/// The places of one listener, and its limits.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    pub(super) limits: Limits,
    pub(super) places: ConnectionSlots,
}

impl Descriptors {
    /// Raises the soft limit to the hard one, and says so.
    pub(super) fn raise() -> Self {
        let before = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: before.maximum, maximum: before.maximum };
        if before.current != before.maximum
            && let Err(error) = setrlimit(Resource::Nofile, raised)
        {
            tracing::warn!(%error, "the limit of file descriptors cannot be raised");
        }
        let number = |limit: Option<u64>| {
            limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
        };
        let (was, limit) = (number(before.current), number(getrlimit(Resource::Nofile).current));
        let descriptors = Self { limit, open_at_start: open().unwrap_or(16) };
        let raised_from = (was != limit).then_some(was);
        tracing::info!(limit, raised_from, open = descriptors.open_at_start, "file descriptors");
        descriptors
    }

    /// Users have 80 % at most, and a hub beside them a tenth; a hub alone has as much as users otherwise.
    pub(super) fn shares(self, has_hub: bool, has_edge: bool) -> Shares {
        let most = self.limit / 5 * 4;
        let admin = (self.limit / 50).clamp(4, 64);
        // Within one process they go through no socket.
        let own = if has_edge && !has_hub { OWN + PROXIED_MAX } else { OWN };
        let rest = self.limit.saturating_sub(self.open_at_start + own + admin);
        let hub = match (has_hub, has_edge) {
            (false, _) => 0,
            (true, true) => (self.limit / 10).max(LEAST),
            (true, false) => most.min(rest).max(LEAST),
        };
        let edge = if has_edge { most.min(rest.saturating_sub(hub)).max(LEAST) } else { 0 };
        let shares = Shares { hub, edge, admin };
        if hub + edge + admin + self.open_at_start + own > self.limit {
            tracing::warn!(
                limit = self.limit,
                ?shares,
                "too few file descriptors: raise the limit (ulimit -n)"
            );
        }
        shares
    }
}

/// The descriptors that are open, where the system says.
fn open() -> Option<usize> {
    // One of them is for the look itself.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

impl Seats {
    /// Of a listener that may have so many connections. `asks`: peers there show credentials.
    pub(super) fn new(
        name: &'static str,
        mut limits: Limits,
        connections: usize,
        asks: bool,
        proxies: Proxies,
    ) -> Self {
        let kept = (connections / 16).clamp(2, 16);
        let rest = connections.saturating_sub(kept).max(2);
        let anonymous = asks.then(|| {
            let places = (limits.connections / 10).min(rest / 4).max(1);
            AnonymousSlots { slots: places, per_address: (places / 2).max(1) }
        });
        limits.connections = limits.connections.min(rest - anonymous.map_or(0, |anonymous| anonymous.slots));
        let always = match name {
            "hub" => Some(always_at_a_hub as fn(&Parts) -> bool),
            "edge" => Some(always_at_the_edge as fn(&Parts) -> bool),
            _ => None,
        };
        let app_decides = (name == "edge").then_some(is_event_source as fn(&Parts) -> bool);
        let mut policy = SlotPolicy::default();
        (policy.anonymous, policy.reserved, policy.proxies, policy.always) =
            (anonymous, kept, proxies, always);
        policy.app_decides = app_decides;
        let places = ConnectionSlots::new(name, &limits, policy);
        let SlotCounts { authenticated: known, anonymous: strangers, reserved: kept } = places.all();
        tracing::info!(listener = name, known, strangers, kept, "places");
        Self { limits, places }
    }
}

/// What a hub answers without a place: whatever publishes, and probes. Streams need one.
fn always_at_a_hub(request: &Parts) -> bool {
    let path = request.uri.path();
    let publishes = path.strip_prefix("/push.v1.Publisher/").is_some_and(|method| method != "PublishStream");
    publishes || path.starts_with("/v1/") || is_probe(path)
}

fn always_at_the_edge(request: &Parts) -> bool {
    let path = request.uri.path();
    (request.method == Method::POST && path == "/v1/events") || is_probe(path)
}

/// Any status but 200 ends an `EventSource` for good, and the gateway has words for it after which it comes back.
fn is_event_source(request: &Parts) -> bool {
    request.method == Method::GET
        && request.uri.path() == "/v1/stream"
        && accepts_event_stream(&request.headers)
}

/// What a scrape shows of places and descriptors.
#[derive(Debug)]
pub(super) struct Scraped {
    pub(super) descriptors: Descriptors,
    pub(super) listeners: Vec<(&'static str, ConnectionSlots)>,
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut places = |name: &str, help: &str, of: fn(&ConnectionSlots) -> SlotCounts| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (listener, places) in &self.listeners {
                let SlotCounts { authenticated: known, anonymous: strangers, reserved: kept } = of(places);
                for (kind, count) in [("known", known), ("stranger", strangers), ("kept", kept)] {
                    let labels = [("listener", *listener), ("kind", kind)];
                    ConstGauge::new(count as f64).encode(family.encode_family(&labels)?)?;
                }
            }
            Ok(())
        };
        let help = "Connections, by listener and by what their peers have shown";
        places("push_places", help, ConnectionSlots::taken)?;
        places("push_places_max", "The most connections, by listener and kind", ConnectionSlots::all)?;
        let mut gauge = |name: &str, help: &str, value: usize| {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value as f64).encode(gauge)
        };
        gauge(
            "process_max_fds",
            "The most file descriptors that this process may have",
            self.descriptors.limit,
        )?;
        open().map_or(Ok(()), |open| gauge("process_open_fds", "File descriptors that are open", open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(limit: usize, has_hub: bool, has_edge: bool) -> Shares {
        Descriptors { limit, open_at_start: 14 }.shares(has_hub, has_edge)
    }

    #[test]
    fn users_have_four_fifths_at_most_and_leave_the_rest_what_it_needs() {
        assert_eq!(shares(1_000, false, true), Shares { hub: 0, edge: 800, admin: 20 });
        assert_eq!(shares(1_000, true, true), Shares { hub: 100, edge: 800, admin: 20 });
        assert_eq!(shares(1_000, true, false), Shares { hub: 800, edge: 0, admin: 20 });
        assert_eq!(shares(64, false, true), Shares { hub: 0, edge: 20, admin: 4 });
        assert_eq!(shares(64, true, true), Shares { hub: 8, edge: 28, admin: 4 });
        for limit in [48, 64, 100, 1_024, 4_096, 1 << 20] {
            let Shares { hub, edge, admin } = shares(limit, true, true);
            assert!(hub + edge + admin + 14 + OWN <= limit.max(54) && edge <= limit / 5 * 4, "{limit}");
        }
    }

    #[tokio::test]
    async fn strangers_have_places_apart_where_peers_show_credentials() {
        let seats = |asks, connections| {
            Seats::new("edge", Limits::edge(), connections, asks, Proxies::default()).places.all()
        };
        assert_eq!(seats(false, 36), SlotCounts { authenticated: 34, anonymous: 0, reserved: 2 });
        assert_eq!(seats(true, 36), SlotCounts { authenticated: 26, anonymous: 8, reserved: 2 });
        assert_eq!(
            seats(true, 800_000),
            SlotCounts { authenticated: 100_000, anonymous: 10_000, reserved: 16 }
        );
    }
}
