//! The way of traces to an OpenTelemetry collector. What a span says is the client crate's bridge.
//!
//! Only made when an endpoint is configured; without one, nothing of this runs. What the standard variables say is in
//! `variables`, what becomes of what was sent in `told`.

mod told;
mod variables;

use std::time::Duration;

use anyhow::{Context as _, bail};
use galaxy_push_client::Tracing;
use galaxy_push_client::opentelemetry::tracing;
use http::Uri;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::task::spawn_blocking;

use self::told::{Failures, Told};
use self::variables::variable;
use crate::Usage;

/// How long the end of the process waits for the last spans to be taken.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// The traces of this process, if there is a collector for them.
pub(crate) struct Traces(Option<(SdkTracerProvider, Failures)>);

impl Traces {
    /// Starts exporting to `flag`, or else where the standard variables say. Those are often there for everything on a
    /// machine, so what they say wrongly is a warning, and there are no traces. Call it within the runtime.
    ///
    /// # Errors
    ///
    /// Nothing can be sent to `flag`.
    pub(crate) fn start(flag: Option<&str>, role: &str) -> anyhow::Result<Self> {
        let Some(endpoint) = flag.map(str::to_owned).or_else(variables::endpoint) else {
            return Ok(Self(None));
        };
        if let Some(variable) = variables::switched_off() {
            if flag.is_some() {
                tracing::warn!(variable, "no traces are sent: the variable switches them off");
            }
            return Ok(Self(None));
        }
        variables::warn();
        if flag.is_some() && !is_url(&endpoint) {
            bail!(Usage(format!(
                "--otlp-endpoint {} is no address of a collector: write http://HOST:PORT or https://HOST:PORT",
                shown(&endpoint)
            )));
        }
        match exporter(&endpoint) {
            Ok(exporter) => Ok(Self(Some(Self::export(exporter, &endpoint, role)))),
            Err(error) if flag.is_some() => Err(error),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "no traces are sent: the collector in the environment cannot be used");
                Ok(Self(None))
            }
        }
    }

    fn export(exporter: SpanExporter, endpoint: &str, role: &str) -> (SdkTracerProvider, Failures) {
        let failures = Failures::default();
        let exporter = Told::new(exporter, shown(endpoint), failures.clone());
        let name = variable("OTEL_SERVICE_NAME").unwrap_or_else(|| format!("galaxy-push-{role}"));
        let resource = Resource::builder().with_service_name(name).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        tracing::info!(endpoint = shown(endpoint), "traces are sent to a collector");
        (provider, failures)
    }

    /// What publishers, hubs and clients record their steps with.
    pub(crate) fn tracing(&self) -> Tracing {
        let tracer = |(provider, _): &(SdkTracerProvider, _)| tracing(provider.tracer("galaxy-push"));
        self.0.as_ref().map_or_else(Tracing::default, tracer)
    }

    /// Sends what is left. A collector that does not answer holds the end up for 3 s at most.
    pub(crate) async fn end(self) {
        let Some((provider, failures)) = self.0 else { return };
        let flushed = spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_WITHIN)).await;
        // Whatever failed before was told as it did.
        if let Ok(Err(error)) = flushed
            && failures.is_none()
        {
            tracing::warn!(%error, "the last traces were not taken by the collector");
        }
    }
}

fn exporter(endpoint: &str) -> anyhow::Result<SpanExporter> {
    let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    // One without a scheme is secured unless a variable says otherwise; the library sees to that.
    let builder = if endpoint.starts_with("http://") {
        builder
    } else {
        builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots())
    };
    builder.build().with_context(|| format!("cannot send traces to {}", shown(endpoint)))
}

fn is_url(endpoint: &str) -> bool {
    let uri = endpoint.parse::<Uri>();
    uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
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

    #[test]
    fn a_collector_has_a_scheme_and_a_host() {
        for good in ["http://otel:4317", "https://otel", "http://[::1]:4317/path", "http://a:b@otel"] {
            assert!(is_url(good), "{good}");
        }
        for bad in ["", "otel:4317", "otel", "http://", "ftp://otel", "http://o tel"] {
            assert!(!is_url(bad), "{bad}");
        }
    }
}
