//! A scripted hub: its frames go through the client's real link into the gateway's real upstream handler.

use std::time::Duration;

use galaxy_push_core::backoff::Cause;
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_core::link::{Action, Config, Failure, Input, Link, ServerStatus};
use galaxy_push_proto::frame::encode_framed;
use galaxy_push_proto::v1::{self, PushEvent, push_event::Kind};

use crate::state::upstream::Upstream;

pub(super) struct Hub {
    link: Link,
    pub(super) upstream: Upstream,
    now: Duration,
    pub(super) head: Cursor,
    pub(super) published: u64,
    asked: String,
}

impl Hub {
    pub(super) fn new(upstream: Upstream) -> Self {
        let mut config = Config::default();
        config.start = "oldest".into();
        config.standing = true;
        let link = Link::try_new(config).unwrap();
        let mut hub = Self {
            link,
            upstream,
            now: Duration::ZERO,
            head: Cursor::start(Epoch(1)),
            published: 0,
            asked: String::new(),
        };
        assert!(matches!(hub.link.start(hub.now), Action::Dial { .. }));
        hub.subscribe();
        hub
    }

    fn step(&mut self, input: Input) -> Action {
        self.link.step(input, self.now, 0)
    }

    fn subscribe(&mut self) {
        let Action::Subscribe { cursor, .. } = self.step(Input::Connected) else { panic!("no subscribe") };
        self.asked = cursor;
        assert!(matches!(self.step(Input::Subscribed), Action::Read { .. }));
    }

    /// The cursor that the gateway presented last.
    pub(super) fn asked(&self) -> &str {
        &self.asked
    }

    /// The gateway subscribes to an empty log, and has caught up.
    pub(super) fn begin(&mut self) {
        self.welcome(v1::Outcome::Fresh, self.head);
        self.standing(&[], &[], false);
        self.caught_up();
    }

    /// One frame of the records that hold.
    pub(super) fn standing(
        &mut self,
        invalidations: &[v1::SessionInvalidation],
        memberships: &[v1::Membership],
        more: bool,
    ) {
        let (invalidations, memberships) = (invalidations.to_vec(), memberships.to_vec());
        let standing = v1::Standing { invalidations, memberships, more };
        self.frame(self.head.to_string(), Kind::Standing(standing));
    }

    /// A record in its place in the log.
    pub(super) fn record(&mut self, kind: Kind) {
        self.head = self.head.next();
        self.frame(self.head.to_string(), kind);
    }

    pub(super) fn welcome(&mut self, outcome: v1::Outcome, cursor: Cursor) {
        let head = self.head.to_string();
        let welcome = v1::Welcome { outcome: outcome.into(), head, ..v1::Welcome::default() };
        self.frame(cursor.to_string(), Kind::Welcome(welcome));
    }

    pub(super) fn caught_up(&mut self) {
        self.frame(self.head.to_string(), Kind::CaughtUp(v1::CaughtUp {}));
    }

    pub(super) fn progress(&mut self, by: u64) {
        self.head.seq = Seq(self.head.seq.0 + by);
        self.frame(self.head.to_string(), Kind::Progress(v1::Progress::default()));
    }

    /// The hub says what time it is there.
    pub(super) fn progress_at(&mut self, unix_ms: u64) {
        let (cursor, kind) = (self.head.to_string(), Some(Kind::Progress(v1::Progress::default())));
        self.send(&[PushEvent { cursor, kind, appended_unix_ms: unix_ms }]);
    }

    /// The stream breaks, and the gateway is about to subscribe again.
    pub(super) fn cut(&mut self) {
        let action = self.step(Input::Failed(Failure::Lost("cut".into())));
        let _ = Cause::Lost;
        if let Action::Wait { until } = action {
            self.now = until;
            assert!(matches!(self.step(Input::TimerFired), Action::Dial { .. }));
        }
        self.subscribe();
    }

    /// The hub refuses the gateway's cursor, and the gateway is about to ask for the oldest event.
    pub(super) fn cursor_unreadable(&mut self) {
        let status = ServerStatus::new(3, "").with_reason("CURSOR_MALFORMED");
        let mut action = self.step(Input::Failed(Failure::Status(status)));
        while action == Action::Deliver {
            let items = self.link.batch_mut().items().to_vec();
            assert_eq!(self.upstream.apply(&items), (items.len(), Ok(())));
            action = self.step(Input::Handled);
        }
        assert!(matches!(action, Action::Dial { .. }), "{action:?}");
        self.subscribe();
    }

    /// Publishes one event for these recipients and returns its cursor. Its id is `e` and its number, from 1 on.
    pub(super) fn publish(&mut self, to: &[&str]) -> String {
        self.publish_data(to, r#"{"n":1}"#)
    }

    pub(super) fn publish_data(&mut self, to: &[&str], data: &str) -> String {
        self.publish_many(&[(to, data)]);
        self.head.to_string()
    }

    /// Publishes one batch.
    pub(super) fn publish_many(&mut self, events: &[(&[&str], &str)]) {
        let frames: Vec<_> = events
            .iter()
            .map(|(to, data)| {
                self.head = self.head.next();
                let event = Kind::Event(self.event(to, data));
                PushEvent {
                    cursor: self.head.to_string(),
                    kind: Some(event),
                    appended_unix_ms: super::NOW_MS,
                }
            })
            .collect();
        self.send(&frames);
    }

    pub(super) fn publish_ephemeral(&mut self, to: &[&str]) {
        let event = Kind::Event(v1::Event { ephemeral: true, ..self.event(to, "1") });
        self.send(&[PushEvent { cursor: String::new(), kind: Some(event), appended_unix_ms: super::NOW_MS }]);
    }

    pub(super) fn publish_expiring(&mut self, to: &[&str], ttl: Duration) {
        self.head = self.head.next();
        let event = Kind::Event(v1::Event { ttl: ttl.try_into().ok(), ..self.event(to, "1") });
        let cursor = self.head.to_string();
        self.send(&[PushEvent { cursor, kind: Some(event), appended_unix_ms: super::NOW_MS }]);
    }

    pub(super) fn event(&mut self, to: &[&str], data: &str) -> v1::Event {
        self.published += 1;
        v1::Event {
            to: to.iter().map(|&one| one.to_owned()).collect(),
            id: format!("e{}", self.published),
            r#type: "turn.ready".into(),
            source: "/game".into(),
            data: data.to_owned().into(),
            attributes: [("traceparent".to_owned(), "00-secret-01".to_owned())].into(),
            ..v1::Event::default()
        }
    }

    /// The hub tells a gap up to this position and the records that hold, none, and goes on from there.
    pub(super) fn gap(&mut self, reason: v1::GapReason, to: Cursor) {
        self.gap_alone(reason, to);
        self.standing(&[], &[], false);
        self.caught_up();
    }

    /// The hub tells a gap up to this position.
    pub(super) fn gap_alone(&mut self, reason: v1::GapReason, to: Cursor) {
        let gap = v1::Gap {
            reason: reason.into(),
            from: self.head.to_string(),
            to: to.to_string(),
            count: to.since(self.head),
            ..v1::Gap::default()
        };
        self.head = to;
        self.frame(to.to_string(), Kind::Gap(gap));
    }

    /// The hub was restarted without its log: another epoch.
    pub(super) fn restart(&mut self) {
        self.cut();
        self.welcome(v1::Outcome::EpochChanged, self.head);
        self.standing(&[], &[], false);
        self.gap_alone(v1::GapReason::EpochChanged, Cursor::start(Epoch(self.head.epoch.0 + 1)));
        self.caught_up();
    }

    fn frame(&mut self, cursor: String, kind: Kind) {
        self.send(&[PushEvent { cursor, kind: Some(kind), appended_unix_ms: 0 }]);
    }

    pub(super) fn send(&mut self, frames: &[PushEvent]) {
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| encode_framed(frame).to_vec()).collect();
        let mut action = self.step(Input::Received(bytes.into()));
        while action == Action::Deliver {
            let items = self.link.batch_mut().items().to_vec();
            let (taken, result) = self.upstream.apply(&items);
            assert_eq!((taken, result), (items.len(), Ok(())));
            action = self.step(Input::Handled);
        }
        assert!(matches!(action, Action::Read { .. }), "{action:?}");
    }
}
