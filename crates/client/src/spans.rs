//! The client's steps in the traces of events: a publisher begins one, a handler continues the one an event carries.
//!
//! Without a tracer, the default, nothing is looked at. The context that an event carries already is never replaced: it
//! names where the event was made, which every later step is part of.

use galaxy_push_core::trace::{Operation, Span, TRACEPARENT, TraceParent, Tracing};
use galaxy_push_proto::v1::Event;

use crate::{Failure, HandlerError, Item, Published};

/// The spans of the events of one request, by their index, until its answer.
#[derive(Debug, Default)]
pub(crate) struct Sending(Vec<(usize, Box<dyn Span>)>);

impl Sending {
    /// Begins a span for each event, and lets an event without a context carry that of its span.
    pub(crate) fn begin(tracing: &Tracing, events: &mut [Event]) -> Self {
        if !tracing.is_on() {
            return Self::default();
        }
        let begun = events.iter_mut().enumerate().filter_map(|(index, event)| {
            let carried = event.attributes.get(TRACEPARENT);
            let parent = carried.and_then(|text| TraceParent::parse(text));
            let span = tracing.begin(Operation::Send, parent, &event.id, &event.r#type)?;
            if carried.is_none() {
                event.attributes.insert(TRACEPARENT.to_owned(), span.context().to_string());
            }
            Some((index, span))
        });
        Self(begun.collect())
    }

    pub(crate) fn end(self, outcome: &Result<Vec<Published>, Failure>) {
        for (index, span) in self.0 {
            match outcome.as_ref().map(|published| published.get(index)) {
                Ok(Some(Published { refusal: Some(refusal), .. })) => span.end(Err(&refusal.reason)),
                Ok(published) => span.end(Ok(published.map_or("", |event| &event.cursor))),
                Err(failure) => span.end(Err(&failure.to_string())),
            }
        }
    }
}

/// The span of a handler's dealing with an item, if the item is an event that carries a context.
pub(crate) fn processing(tracing: &Tracing, item: &Item) -> Option<Box<dyn Span>> {
    let Item::Event(frame) = item else { return None };
    if !tracing.is_on() {
        return None;
    }
    tracing.follow(Operation::Process, frame.view().event()?, frame.cursor())
}

/// Ends it by what the handler said of the item at this position.
pub(crate) fn processed(span: Box<dyn Span>, cursor: &str, outcome: &Result<(), HandlerError>) {
    match outcome {
        Ok(()) => span.end(Ok(cursor)),
        Err(error) => span.end(Err(&error.to_string())),
    }
}
