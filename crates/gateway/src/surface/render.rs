//! What a user's connection is sent, in each form, made once per event and shared by all connections.
//!
//! Connections hand over the framed bytes of the window and get back bytes ready to send. A bounded cache keeps what was
//! rendered last; whoever asks for something that is no longer there renders it again, which takes some 20 times as long.
//! A herd that comes back from the same place reads side by side, and shares what it reads as those at the head do.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use galaxy_push_core::frame::message;
use galaxy_push_core::window::Slot;
use galaxy_push_proto::json::{self, EdgeView, View};
use galaxy_push_proto::v1::PushEvent;
use prost::Message as _;

use crate::app::metrics::Metrics;

pub(crate) mod event_stream;

use event_stream::Naming;

/// How a connection is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// The JSON form of a frame.
    Json,
    /// The protobuf form, without a prefix.
    Proto,
    /// A server-sent event named after the event's type.
    Sse,
    /// A server-sent event without a name.
    SseMessage,
}

impl Form {
    /// The transport that uses this form, as metrics call it: one of `TRANSPORTS`.
    pub(crate) const fn transport(self) -> &'static str {
        match self {
            Self::Json => "ws_json",
            Self::Proto => "ws_proto",
            Self::Sse | Self::SseMessage => "sse",
        }
    }
}

/// Renders frames, and keeps the last ones.
#[derive(Debug)]
pub(crate) struct Renderer {
    view: EdgeView,
    cache: Mutex<Cache>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Cache {
    rendered: HashMap<(Slot, Form), Bytes, foldhash::quality::RandomState>,
    /// What was rendered first is the first to go. By the age of the event, readers far behind would share nothing.
    order: VecDeque<(Slot, Form)>,
    bytes: usize,
    bytes_max: usize,
}

impl Renderer {
    pub(crate) fn new(view: EdgeView, cache_bytes: usize, metrics: Arc<Metrics>) -> Self {
        let cache =
            Cache { rendered: HashMap::default(), order: VecDeque::new(), bytes: 0, bytes_max: cache_bytes };
        Self { view, cache: Mutex::new(cache), metrics }
    }

    /// One entry of the window. `None`: its bytes are no frame.
    pub(crate) fn entry(&self, form: Form, slot: Slot, framed: &Bytes) -> Option<Bytes> {
        let cached = self.cache().rendered.get(&(slot, form)).cloned();
        if cached.is_some() {
            self.metrics.render_hits.inc();
            return cached;
        }
        // Rendered without the lock: two connections may both do it, none waits for it.
        self.metrics.render_misses.inc();
        let frame = PushEvent::decode(framed.slice(framed.len() - message(framed).len()..)).ok()?;
        let rendered = self.frame(form, &frame);
        self.metrics.render_bytes.set(self.cache().put((slot, form), rendered.clone()));
        Some(rendered)
    }

    /// A frame that concerns one connection only.
    pub(crate) fn frame(&self, form: Form, frame: &PushEvent) -> Bytes {
        match form {
            Form::Json => json::frame(frame, View::Edge(&self.view)).into(),
            Form::Proto => json::strip_for_edge(frame, &self.view).encode_to_vec().into(),
            Form::Sse => event_stream::frame(frame, &self.view, Naming::Types).into(),
            Form::SseMessage => event_stream::frame(frame, &self.view, Naming::Messages).into(),
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Keeps it if it fits, and says how many bytes are held then.
    fn put(&mut self, key: (Slot, Form), rendered: Bytes) -> i64 {
        if rendered.len() <= self.bytes_max && !self.rendered.contains_key(&key) {
            self.bytes += rendered.len();
            self.rendered.insert(key, rendered);
            self.order.push_back(key);
        }
        while self.bytes > self.bytes_max {
            let Some(first) = self.order.pop_front().and_then(|key| self.rendered.remove(&key)) else {
                break;
            };
            self.bytes -= first.len();
        }
        self.bytes as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galaxy_push_proto::frame::encode_framed;
    use galaxy_push_proto::v1::{Event, push_event::Kind};

    fn framed(data: &str) -> Bytes {
        let event = Event {
            to: vec!["user:secret".into()],
            id: "1".into(),
            r#type: "t".into(),
            source: "/s".into(),
            data: data.to_owned().into(),
            ..Event::default()
        };
        encode_framed(&PushEvent {
            cursor: "2.x.a1".into(),
            kind: Some(Kind::Event(event)),
            appended_unix_ms: 1,
        })
    }

    fn renderer(cache_bytes: usize) -> (Renderer, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        (Renderer::new(EdgeView::default(), cache_bytes, metrics.clone()), metrics)
    }

    #[test]
    fn each_form_of_an_event_is_rendered_once_and_never_names_its_recipients() {
        let (renderer, metrics) = renderer(1 << 20);
        for _ in 0..100 {
            for form in [Form::Json, Form::Proto, Form::Sse, Form::SseMessage] {
                let bytes = renderer.entry(form, Slot::default(), &framed("{}")).unwrap();
                assert!(!bytes.windows(6).any(|part| part == b"secret"), "{form:?}");
            }
        }
        assert_eq!((metrics.render_misses.get(), metrics.render_hits.get()), (4, 396));
    }

    #[test]
    fn the_cache_keeps_its_bound_and_the_newest() {
        let (renderer, metrics) = renderer(1_000);
        for number in 0..50 {
            renderer.entry(Form::Json, Slot::default().plus(number), &framed("{}")).unwrap();
            assert!(metrics.render_bytes.get() <= 1_000);
        }
        renderer.entry(Form::Json, Slot::default().plus(49), &framed("{}")).unwrap();
        renderer.entry(Form::Json, Slot::default(), &framed("{}")).unwrap();
        renderer.entry(Form::Json, Slot::default().plus(49), &framed("{}")).unwrap();
        assert_eq!((metrics.render_misses.get(), metrics.render_hits.get()), (51, 2));
        renderer
            .entry(Form::Json, Slot::default().plus(50), &framed(&format!("\"{}\"", "x".repeat(2_000))))
            .unwrap();
        assert!(metrics.render_bytes.get() <= 1_000);
    }

    #[test]
    fn a_herd_that_comes_back_shares_too() {
        let (renderer, metrics) = renderer(1_000);
        let at = |number| Slot::default().plus(number);
        for number in 1_000..1_050 {
            renderer.entry(Form::Sse, at(number), &framed("{}")).unwrap();
        }
        for number in 0..50 {
            for _user in 0..20 {
                renderer.entry(Form::Sse, at(number), &framed("{}")).unwrap();
            }
        }
        assert_eq!((metrics.render_misses.get(), metrics.render_hits.get()), (100, 950));
    }

    #[test]
    fn bytes_that_are_no_frame_are_not_rendered() {
        let (renderer, _) = renderer(1_000);
        assert_eq!(
            renderer.entry(Form::Json, Slot::default(), &Bytes::from_static(&[0, 0, 0, 0, 2, 0x12, 9])),
            None
        );
    }
}
