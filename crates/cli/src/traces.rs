//! The way of traces to an OpenTelemetry collector. What a span says is the client crate's bridge.
//!
//! Only made when an endpoint is configured; without one, nothing of this runs.

use std::time::Duration;

use anyhow::Context as _;
use galaxy_push_client::Tracing;
use galaxy_push_client::opentelemetry::tracing;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::task::spawn_blocking;

/// The standard variables that name a collector for traces, the first that is set wins.
const STANDARD: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// How long the end of the process waits for the last spans to be taken.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// The traces of this process, if there is a collector for them.
pub(crate) struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Starts exporting to `endpoint`, or else where the standard variables say. Call it within the runtime.
    pub(crate) fn start(endpoint: Option<&str>, role: &str) -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let endpoint =
            endpoint.map(str::to_owned).or_else(|| STANDARD.iter().find_map(|name| variable(name)));
        let Some(endpoint) = endpoint.filter(|_| !disabled) else { return Ok(Self(None)) };
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(&endpoint).build();
        let exporter = exporter.with_context(|| format!("cannot send traces to {}", shown(&endpoint)))?;
        let name = variable("OTEL_SERVICE_NAME").unwrap_or_else(|| format!("galaxy-push-{role}"));
        let resource = Resource::builder().with_service_name(name).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        tracing::info!(endpoint = shown(&endpoint), "traces are sent to a collector");
        Ok(Self(Some(provider)))
    }

    /// What publishers, hubs and clients record their steps with.
    pub(crate) fn tracing(&self) -> Tracing {
        let tracer = |provider: &SdkTracerProvider| tracing(provider.tracer("galaxy-push"));
        self.0.as_ref().map_or_else(Tracing::default, tracer)
    }

    /// Sends what is left. A collector that does not answer holds the end up for 3 s at most.
    pub(crate) async fn end(self) {
        let Some(provider) = self.0 else { return };
        let flushed = spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_WITHIN)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last traces were not taken by the collector");
        }
    }
}

/// An endpoint as logs show it: without a user and password, and without a query, in which some carry a key.
fn shown(endpoint: &str) -> String {
    let bare = endpoint.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = bare.split_once("://") else {
        return bare.rsplit('@').next().unwrap_or_default().to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_an_endpoint_is_not_shown() {
        for (endpoint, expected) in [
            ("http://otel:4317", "http://otel:4317"),
            ("http://me:secret@otel:4317/v1?key=secret", "http://otel:4317/v1"),
            ("https://a@b@otel#secret", "https://otel"),
            ("me:secret@otel", "otel"),
        ] {
            assert_eq!(shown(endpoint), expected);
        }
    }
}
