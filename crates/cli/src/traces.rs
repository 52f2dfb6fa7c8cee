//! Traces for OpenTelemetry: the tracer behind `core::trace`, and the way to a collector.
//!
//! Only made when an endpoint is configured; without one, nothing of this runs. Attributes are those of the messaging
//! conventions. Never a payload, never a recipient.

use std::time::Duration;

use anyhow::Context as _;
use galaxy_push_client::Tracing;
use galaxy_push_client::trace::{self, Operation, Step, TraceParent};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
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
        let exporter = exporter.with_context(|| format!("cannot send traces to {endpoint}"))?;
        let name = variable("OTEL_SERVICE_NAME").unwrap_or_else(|| format!("galaxy-push-{role}"));
        let resource = Resource::builder().with_service_name(name).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        tracing::info!(%endpoint, "traces are sent to a collector");
        Ok(Self(Some(provider)))
    }

    /// What publishers, hubs and clients record their steps with.
    pub(crate) fn tracing(&self) -> Tracing {
        let tracer = |provider: &SdkTracerProvider| Tracing::to(Tracer(provider.tracer("galaxy-push")));
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

#[derive(Debug)]
struct Tracer(SdkTracer);

#[derive(Debug)]
struct Recorded(Span);

impl trace::Tracer for Tracer {
    fn begin(&self, step: Step<'_>) -> Option<Box<dyn trace::Span>> {
        let (name, kind, of_type) = match step.operation {
            Operation::Send => ("send", SpanKind::Producer, "send"),
            Operation::Append => ("append", SpanKind::Server, "receive"),
            Operation::Process => ("process", SpanKind::Consumer, "process"),
            _ => return None,
        };
        let mut attributes = vec![
            KeyValue::new("messaging.system", "galaxy_push"),
            KeyValue::new("messaging.destination.name", "default"),
            KeyValue::new("messaging.operation.name", name),
            KeyValue::new("messaging.operation.type", of_type),
            KeyValue::new("messaging.message.id", step.id.to_owned()),
            KeyValue::new("cloudevents.event_type", step.event_type.to_owned()),
        ];
        if !step.cursor.is_empty() {
            attributes.push(KeyValue::new("push.cursor", step.cursor.to_owned()));
        }
        let builder = self.0.span_builder(format!("{name} default")).with_kind(kind);
        let parent = step.parent.map_or_else(Context::new, remote);
        Some(Box::new(Recorded(builder.with_attributes(attributes).start_with_context(&self.0, &parent))))
    }
}

impl trace::Span for Recorded {
    fn context(&self) -> TraceParent {
        let context = self.0.span_context();
        TraceParent {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: context.trace_flags().to_u8(),
        }
    }

    fn end(mut self: Box<Self>, outcome: Result<&str, &str>) {
        match outcome {
            Ok("") => {}
            Ok(cursor) => self.0.set_attribute(KeyValue::new("push.cursor", cursor.to_owned())),
            Err(why) => self.0.set_status(Status::error(why.to_owned())),
        }
        self.0.end();
    }
}

/// The context in which a span of another process is the parent.
fn remote(parent: TraceParent) -> Context {
    let (trace, span) = (TraceId::from(parent.trace_id), SpanId::from(parent.span_id));
    let flags = TraceFlags::new(parent.flags);
    Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::default()))
}
