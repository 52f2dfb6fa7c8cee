//! What the hub says of standing records, turned into rules for the routes.
//!
//! Part of [`Upstream`](super::Upstream). It knows whether the records are complete, and when the place in the log is lost
//! and found again; [`standing`](crate::state::standing) says what that is for.

use galaxy_push_client::{Frame, Gap, Outcome};
use galaxy_push_core::frame::Kind;
use galaxy_push_core::window::GapReason;
use galaxy_push_proto::v1::{self, Membership, SessionInvalidation};
use prost::Message as _;

use crate::state::edge::Change;
use crate::state::routes::Rule;
use crate::state::standing::Invalidation;

/// The most memberships taken from `Standing`. A hub holds fewer.
const MEMBERSHIPS_MAX: usize = 1 << 20;

/// Where the gateway is with the standing records.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// The memberships of a `Standing` that is not complete.
    coming: Vec<Membership>,
    /// `Standing` is to come, or on its way.
    awaited: bool,
    /// It was complete once.
    complete: bool,
    /// The gap that belongs to the outcome, which no `Standing` of its own follows, is still to come.
    opening_gap: bool,
    /// The place in the log is lost.
    lost: bool,
    /// It was found again, and nobody has asked yet.
    found: bool,
    /// `CaughtUp` is to come: until then `Progress` says no more than how far a hub that filters has looked.
    catching_up: bool,
}

impl Records {
    /// A stream began. Whoever is not resumed has lost its place, or had none.
    pub(super) fn welcome(&mut self, outcome: Option<Outcome>, changes: &mut Vec<Change<'_>>) {
        let resumed = outcome == Some(Outcome::Resumed);
        self.coming = Vec::new();
        self.catching_up = true;
        self.awaited = !resumed;
        self.opening_gap = !resumed && outcome != Some(Outcome::Fresh);
        if !resumed {
            self.lose(changes);
        }
    }

    pub(super) fn gap(&mut self, gap: &Gap, changes: &mut Vec<Change<'_>>) {
        // `Standing` stands before an opening gap, and an event too large for this gateway hides no record.
        if std::mem::take(&mut self.opening_gap) || gap.reason == Some(GapReason::TooLarge) {
            return;
        }
        self.coming = Vec::new();
        // Who was passed by the window has fallen behind, and is told when it has caught up.
        self.catching_up |= gap.reason == Some(GapReason::Lapped);
        self.awaited = true;
        self.lose(changes);
    }

    pub(super) fn standing(&mut self, frame: &Frame, changes: &mut Vec<Change<'_>>) {
        let Ok(standing) = v1::Standing::decode(frame.view().body()) else { return unreadable("Standing") };
        // What takes away counts at once.
        changes.extend(standing.invalidations.iter().map(invalidation));
        self.coming.extend(standing.memberships);
        if self.coming.len() > MEMBERSHIPS_MAX {
            tracing::error!(
                most = MEMBERSHIPS_MAX,
                "the hub sends too many memberships: the rest is not granted"
            );
            self.coming.truncate(MEMBERSHIPS_MAX);
        }
        if !standing.more {
            changes.push(Change::Rule(Rule::Standing(std::mem::take(&mut self.coming))));
            (self.awaited, self.complete) = (false, true);
        }
    }

    /// A record in its place in the log. It counts even where the window has that place already: the records may have
    /// been incomplete when it was passed.
    pub(super) fn record(&mut self, frame: &Frame, changes: &mut Vec<Change<'_>>) {
        let view = frame.view();
        match view.kind() {
            Kind::Membership => match Membership::decode(view.body()) {
                Ok(record) => changes.push(Change::Rule(Rule::Membership(record))),
                Err(_) => unreadable("Membership"),
            },
            _ => match SessionInvalidation::decode(view.body()) {
                Ok(record) => changes.push(invalidation(&record)),
                Err(_) => unreadable("SessionInvalidation"),
            },
        }
    }

    /// Everything that the log held was read.
    pub(super) fn caught_up(&mut self, changes: &mut Vec<Change<'_>>) {
        if self.awaited && self.complete {
            // Fail closed: nobody belongs to a topic by a record that may have been taken back.
            tracing::error!(
                "the hub sent no standing records after a gap: nobody is granted a topic by membership"
            );
            changes.push(Change::Rule(Rule::Standing(Vec::new())));
            self.awaited = false;
        }
        self.catching_up = false;
        self.at_end(changes);
        if self.lost {
            tracing::warn!(
                "the hub sends no standing records, without which nobody is admitted: upgrade the hub"
            );
        }
    }

    /// As [`caught_up`](Self::caught_up), for `Progress`: to a live reader the hub says so when it has nothing more to send.
    pub(super) fn at_end(&mut self, changes: &mut Vec<Change<'_>>) {
        if self.lost && !self.awaited && !self.catching_up {
            changes.push(Change::Rule(Rule::LetGo));
            (self.lost, self.found) = (false, true);
        }
    }

    /// Whether the place was found again since this was last asked: once the changes are applied, users are served.
    pub(super) fn settled(&mut self) -> bool {
        std::mem::take(&mut self.found)
    }

    fn lose(&mut self, changes: &mut Vec<Change<'_>>) {
        (self.lost, self.found) = (true, false);
        changes.push(Change::Rule(Rule::HoldBack));
    }
}

fn invalidation<'a>(record: &SessionInvalidation) -> Change<'a> {
    Change::Rule(Rule::Invalidation(Invalidation::of(record)))
}

/// The client checks frames, but not what is in a record.
fn unreadable(kind: &str) {
    tracing::error!(kind, "the hub sent a standing record that cannot be read: it is left out");
}
