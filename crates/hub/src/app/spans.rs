//! The hub's step in the traces of the events it takes: one span per event, from the request to the answer of the store.
//!
//! Only events that carry a trace have one. Without a tracer nothing is looked at. `app/publish.rs` begins and ends them; a
//! span that is dropped unended belongs to a publish that was cancelled.

use galaxy_push_core::trace::{Operation, Span, TRACEPARENT, TraceParent, Tracing};
use galaxy_push_proto::{Failure, v1};
use galaxy_push_store::Appended;

/// The spans of one batch, by the index of their event.
pub(crate) struct Spans(Vec<(usize, Box<dyn Span>)>);

impl Spans {
    /// Begins a span for each event that carries a trace.
    pub(crate) fn begin(tracing: &Tracing, events: &[v1::Event]) -> Self {
        if !tracing.is_on() {
            return Self(Vec::new());
        }
        let begun = events.iter().enumerate().filter_map(|(index, event)| {
            let parent = TraceParent::parse(event.attributes.get(TRACEPARENT)?)?;
            Some((index, tracing.begin(Operation::Append, Some(parent), &event.id, &event.r#type)?))
        });
        Self(begun.collect())
    }

    /// Ends them with the position of each event, or with why the batch was refused.
    pub(crate) fn end(self, outcome: &Result<Vec<Appended>, Failure>) {
        for (index, span) in self.0 {
            match outcome {
                Ok(appended) => {
                    let cursor = appended.get(index).and_then(|each| each.cursor);
                    span.end(Ok(&cursor.map(|cursor| cursor.to_string()).unwrap_or_default()));
                }
                Err(failure) => span.end(Err(&failure.message)),
            }
        }
    }
}
