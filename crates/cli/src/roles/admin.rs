//! The admin listener: metrics and probes.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use galaxy_push_gateway::Gateway;
use galaxy_push_hub::Hub;
use galaxy_push_listener::{Check, probes};
use http::{HeaderMap, StatusCode, header};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Process;
use super::process::ProcessMetrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The checks of every role in this process.
pub(super) struct Health(Vec<Arc<dyn galaxy_push_listener::Health>>);

impl Health {
    pub(super) fn of(process: &Process) -> Arc<Self> {
        let hub = process.hub.iter().map(Hub::health);
        let gateway = process.gateway.iter().map(Gateway::health);
        Arc::new(Self(hub.chain(gateway).collect()))
    }
}

impl galaxy_push_listener::Health for Health {
    fn checks(&self) -> Vec<Check> {
        self.0.iter().flat_map(|health| health.checks()).collect()
    }
}

pub(super) fn router(mut registry: Registry, health: Arc<dyn galaxy_push_listener::Health>) -> Router {
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    let info: prometheus_client::metrics::family::Family<Vec<(String, String)>, Gauge> = Default::default();
    info.get_or_create(&build.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()).set(1);
    registry.register("push_build_info", "The version that runs", info);
    registry.register_collector(Box::new(ProcessMetrics));
    let registry = Arc::new(registry);
    Router::new()
        .route("/metrics", get(move |headers: HeaderMap| async move { metrics(&registry, &headers) }))
        .route("/", get(|| async { "Galaxy Push, admin listener: /metrics, /livez, /readyz?verbose\n" }))
        .merge(probes(health))
}

fn metrics(registry: &Registry, headers: &HeaderMap) -> Response {
    let mut text = String::new();
    if encode(&mut text, registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let weight = |media_type: &str| {
        let accept = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
        galaxy_push_proto::accepted(accept, media_type)
    };
    let open_metrics = weight("application/openmetrics-text");
    let (kind, text) = if open_metrics > 0 && open_metrics >= weight("text/plain") {
        (OPEN_METRICS, text)
    } else {
        (PLAIN_TEXT, plain(&text))
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// The older text format, which `promtool` and people expect: a counter is described under the name of its samples,
/// and nothing marks the end.
fn plain(open_metrics: &str) -> String {
    let mut counters = std::collections::BTreeSet::new();
    for line in open_metrics.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter")) {
            counters.insert(name);
        }
    }
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let described = ["# HELP ", "# TYPE "].iter().find_map(|kind| Some((kind, line.strip_prefix(kind)?)));
        match described.and_then(|(kind, rest)| Some((kind, rest.split_once(' ')?))) {
            Some((kind, (name, rest))) if counters.contains(name) => {
                text.extend([kind, name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_counters_as_their_samples() {
        let open = "# HELP push_x Things.\n# TYPE push_x counter\n# UNIT push_x seconds\npush_x_total 1\n# HELP push_y y\n# TYPE push_y gauge\npush_y 2\n# EOF\n";
        let expected = "# HELP push_x_total Things.\n# TYPE push_x_total counter\npush_x_total 1\n# HELP push_y y\n# TYPE push_y gauge\npush_y 2\n";
        assert_eq!(plain(open), expected);
    }
}
