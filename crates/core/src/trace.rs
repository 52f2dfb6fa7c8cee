//! One trace that follows an event: what a step of its way says to whoever records traces.
//!
//! The context travels *in* the event, as the CloudEvents attribute `traceparent`, so it survives every hop, store and
//! replay. Publisher, hub and client call [`Tracing::begin`] for the steps they take; what a span becomes is the
//! business of the [`Tracer`] they were given. Without one, which is the default, nothing is looked at.
//!
//! This is no tracing library: the names, times and export are the tracer's. The client crate has one for OpenTelemetry.

use std::fmt;
use std::sync::Arc;

use crate::frame::EventView;

/// The attribute that carries the context of an event's creation.
pub const TRACEPARENT: &str = "traceparent";

/// The identity of a span, as W3C Trace Context writes it.
///
/// ```
/// use galaxy_push_core::trace::TraceParent;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let parent = TraceParent::parse(text).unwrap();
/// assert!(parent.is_sampled() && parent.to_string() == text);
/// assert_eq!(TraceParent::parse("00-0-0-0"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span within it; never 0.
    pub span_id: u64,
    /// The lowest bit says that the trace is recorded.
    pub flags: u8,
}

/// What is done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// A publisher sends it to a hub, until it is acknowledged.
    Send,
    /// A hub takes it into its log.
    Append,
    /// A handler deals with it.
    Process,
}

/// One step of an event's way.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Step<'a> {
    /// What is done.
    pub operation: Operation,
    /// The context that the event carries.
    pub parent: Option<TraceParent>,
    /// The event's id.
    pub id: &'a str,
    /// The event's type.
    pub event_type: &'a str,
    /// Its position; empty while it has none.
    pub cursor: &'a str,
}

/// Records spans. Called where events pass, so neither may block.
///
/// Called on the path of every event, by several tasks at once.
pub trait Tracer: fmt::Debug + Send + Sync {
    /// Begins a span of this step; `None` when it is not of interest.
    fn begin(&self, step: Step<'_>) -> Option<Box<dyn Span>>;
}

/// A span that has begun. Dropping it ends it as one that was given up.
///
/// Whoever began it ends it once: with the position that the event got, or with why the step failed.
pub trait Span: fmt::Debug + Send {
    /// Its identity, for what it causes.
    fn context(&self) -> TraceParent;

    /// Ends it: `Ok` with the event's position, which may be empty, or why it failed.
    fn end(self: Box<Self>, outcome: Result<&str, &str>);
}

/// Where spans go, if anywhere. A cheap clone.
///
/// ```
/// use galaxy_push_core::trace::{Span, Step, TraceParent, Tracer, Tracing};
///
/// /// Counts nothing and records nothing; says that no step is of interest.
/// #[derive(Debug)]
/// struct Silent;
///
/// impl Tracer for Silent {
///     fn begin(&self, _step: Step<'_>) -> Option<Box<dyn Span>> {
///         None
///     }
/// }
///
/// assert!(!Tracing::default().is_on(), "the default: spans go nowhere");
/// assert!(Tracing::to(Silent).is_on());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tracing(Option<Arc<dyn Tracer>>);

impl Tracing {
    /// Spans go to this tracer.
    pub fn to(tracer: impl Tracer + 'static) -> Self {
        Self(Some(Arc::new(tracer)))
    }

    /// Whether spans go anywhere.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a span of an event from its parts, if spans go anywhere.
    #[must_use]
    pub fn begin(
        &self,
        operation: Operation,
        parent: Option<TraceParent>,
        id: &str,
        event_type: &str,
    ) -> Option<Box<dyn Span>> {
        self.0.as_ref()?.begin(Step { operation, parent, id, event_type, cursor: "" })
    }

    /// Begins a span of an event that carries a context; of another one nobody knows where it came from.
    #[must_use]
    pub fn follow(&self, operation: Operation, event: EventView<'_>, cursor: &str) -> Option<Box<dyn Span>> {
        let tracer = self.0.as_ref()?;
        let parent = Some(TraceParent::parse(event.attribute(TRACEPARENT)?)?);
        tracer.begin(Step { operation, parent, id: event.id(), event_type: event.event_type(), cursor })
    }
}

/// Two are equal when spans go to the same place.
impl PartialEq for Tracing {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for Tracing {}

impl TraceParent {
    /// Reads `00-<trace id>-<span id>-<flags>`, and of later versions what they have in common with it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let version = hex(fields.next()?, 2).filter(|version| *version != 0xff)?;
        let trace_id = hex(fields.next()?, 32).filter(|id| *id != 0)?;
        let span_id = hex(fields.next()?, 16).and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0)?;
        let flags = hex(fields.next()?, 2).and_then(|flags| u8::try_from(flags).ok())?;
        (version > 0 || fields.next().is_none()).then_some(Self { trace_id, span_id, flags })
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// So many lower-case hexadecimal digits.
fn hex(digits: &str, count: usize) -> Option<u128> {
    let good =
        digits.len() == count && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if good { u128::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIFIED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_what_the_specification_writes() {
        let parent = TraceParent::parse(SPECIFIED).unwrap();
        assert_eq!((parent.span_id, parent.is_sampled()), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(parent.to_string(), SPECIFIED);
        assert_eq!(TraceParent::parse(&SPECIFIED.replacen("00-", "cc-", 1)), Some(parent), "a later version");
        assert!(TraceParent::parse(&format!("cc{}-more", &SPECIFIED[2..])).is_some());
    }

    #[test]
    fn refuses_the_rest() {
        for bad in [
            "",
            "00",
            &SPECIFIED.replacen("00-", "ff-", 1),
            &SPECIFIED.to_uppercase(),
            &SPECIFIED.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &SPECIFIED.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &SPECIFIED[..54],
            &format!("{SPECIFIED}-more"),
            &SPECIFIED.replace("4b", "+b"),
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn off_looks_at_nothing() {
        let off = Tracing::default();
        assert!(!off.is_on() && off == Tracing::default());
        assert!(off.begin(Operation::Send, None, "1", "t").is_none());
    }
}
