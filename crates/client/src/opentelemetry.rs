//! A [`Tracing`] whose spans go to OpenTelemetry. Feature `opentelemetry`.
//!
//! Knows the API alone: which SDK records the spans, and where they are sent, is the application's choice. Attributes are those
//! of the messaging conventions. Never a payload, never a recipient.
//!
//! ```no_run
//! use galaxy_push_client::{Item, PushClient, opentelemetry::tracing};
//!
//! # fn start() -> Result<(), Box<dyn std::error::Error>> {
//! let tracer = opentelemetry::global::tracer("my-service");
//! let builder = PushClient::builder("gateway-1").hub("http://127.0.0.1:7400").tracing(tracing(tracer));
//! let client = builder.start(async |_: Item| Ok(()))?; // a span for each event that carries a trace
//! # drop(client);
//! # Ok(())
//! # }
//! ```
//!
//! The hub and the gateway take the same [`Tracing`].

use std::fmt;

use galaxy_push_core::trace::{self, Operation, Step, TraceParent, Tracing};
use opentelemetry::trace::{
    Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer,
};
use opentelemetry::{Context, KeyValue};

/// Sends the spans of events to this tracer.
///
/// See the module's head for an example.
pub fn tracing<T>(tracer: T) -> Tracing
where
    T: Tracer + fmt::Debug + Send + Sync + 'static,
    T::Span: fmt::Debug + Send + 'static,
{
    Tracing::to(Bridge(tracer))
}

#[derive(Debug)]
struct Bridge<T>(T);

#[derive(Debug)]
struct Recorded<S>(S);

impl<T> trace::Tracer for Bridge<T>
where
    T: Tracer + fmt::Debug + Send + Sync,
    T::Span: fmt::Debug + Send + 'static,
{
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

impl<S: Span + fmt::Debug + Send> trace::Span for Recorded<S> {
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
