//! What the hub says of standing records, turned into changes of access.
//!
//! Part of [`Upstream`](super::Upstream). It knows whether the records are complete, and when this gateway has to resync with
//! the log; [`standing`](crate::state::standing) says what that is for.
//!
//! # Resync
//!
//! A stream that does not resume, and a gap, leave a hole in what is known. A resync closes it:
//!
//! ```text
//! hub sends      Gap              Standing × n         old records, events     CaughtUp
//! here           delivery pauses  snapshot collected   applied, not delivered  delivery resumes
//! resync_needed  true                                                          false
//! snapshot_due   true             false at the last
//! ```
//!
//! Until the first resync is done nobody is admitted. If it does not come, nobody is served: it fails closed.

use galaxy_push_client::{Frame, Gap, Outcome};
use galaxy_push_core::frame::Kind;
use galaxy_push_core::window::GapReason;
use galaxy_push_proto::v1::{self, Membership, SessionInvalidation};
use prost::Message as _;

use crate::state::edge::Change;
use crate::state::routes::AccessChange;
use crate::state::standing::Invalidation;

/// The most memberships taken from `Standing`. A hub holds fewer.
const MEMBERSHIPS_MAX: usize = 1 << 20;

/// Where the gateway is with the standing records.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// The memberships of a `Standing` of which more frames are to come. At most [`MEMBERSHIPS_MAX`].
    snapshot: Vec<Membership>,
    /// `Standing` is to come, or more of its frames are.
    snapshot_due: bool,
    /// It was complete once: this hub knows standing records.
    had_snapshot: bool,
    /// The gap that belongs to the outcome, which no `Standing` of its own follows, is still to come.
    opening_gap: bool,
    /// Delivery is paused until the log was read to its end.
    resync_needed: bool,
    /// A resync was completed, and [`Records::just_resynced`] has not said so yet.
    resynced: bool,
    /// `CaughtUp` is to come: until then `Progress` says no more than how far a hub that filters has looked.
    catching_up: bool,
}

impl Records {
    /// A stream began. One that does not resume needs a resync: this gateway missed something, or had nothing yet.
    pub(super) fn welcome(&mut self, outcome: Option<Outcome>, changes: &mut Vec<Change<'_>>) {
        let resumed = outcome == Some(Outcome::Resumed);
        self.snapshot = Vec::new();
        self.catching_up = true;
        self.snapshot_due = !resumed;
        self.opening_gap = !resumed && outcome != Some(Outcome::Fresh);
        changes.push(Change::Access(AccessChange::BeginReplay));
        if !resumed {
            self.need_resync(changes);
        }
    }

    pub(super) fn gap(&mut self, gap: &Gap, changes: &mut Vec<Change<'_>>) {
        // `Standing` stands before an opening gap, and an event too large for this gateway hides no record.
        if std::mem::take(&mut self.opening_gap) || gap.reason == Some(GapReason::TooLarge) {
            return;
        }
        self.snapshot = Vec::new();
        // A reader that the window has lapped is behind: the hub says `CaughtUp` once more when it no longer is.
        self.catching_up |= gap.reason == Some(GapReason::Lapped);
        self.snapshot_due = true;
        self.need_resync(changes);
    }

    pub(super) fn standing(&mut self, frame: &Frame, changes: &mut Vec<Change<'_>>) {
        let Ok(standing) = v1::Standing::decode(frame.view().body()) else { return unreadable("Standing") };
        // What takes away counts at once.
        changes.extend(standing.invalidations.iter().map(invalidation));
        self.snapshot.extend(standing.memberships);
        if self.snapshot.len() > MEMBERSHIPS_MAX {
            tracing::error!(
                most = MEMBERSHIPS_MAX,
                "the hub sends too many memberships: the rest is not granted"
            );
            self.snapshot.truncate(MEMBERSHIPS_MAX);
        }
        if !standing.more {
            changes.push(Change::Access(AccessChange::AllMemberships(std::mem::take(&mut self.snapshot))));
            (self.snapshot_due, self.had_snapshot) = (false, true);
        }
    }

    /// A record in its place in the log. It counts even where the window has that place already: the records may have
    /// been incomplete when it was passed.
    pub(super) fn record(&mut self, frame: &Frame, changes: &mut Vec<Change<'_>>) {
        let view = frame.view();
        match view.kind() {
            Kind::Membership => match Membership::decode(view.body()) {
                Ok(record) => changes.push(Change::Access(AccessChange::Membership(record))),
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
        if self.snapshot_due && self.had_snapshot {
            // Fail closed: nobody belongs to a topic by a record that may have been taken back.
            tracing::error!(
                "the hub sent no standing records after a gap: nobody is granted a topic by membership"
            );
            changes.push(Change::Access(AccessChange::AllMemberships(Vec::new())));
            self.snapshot_due = false;
        }
        self.catching_up = false;
        if !self.resync_needed {
            // Delivery may be paused all the same, if something has expired since the stream began.
            changes.push(Change::Access(AccessChange::ResumeDelivery));
        }
        self.at_end(changes);
        if self.resync_needed {
            tracing::warn!(
                "the hub sends no standing records, without which nobody is admitted: upgrade the hub"
            );
        }
    }

    /// As [`caught_up`](Self::caught_up), for `Progress`: to a live reader the hub says so when it has nothing more to send.
    pub(super) fn at_end(&mut self, changes: &mut Vec<Change<'_>>) {
        if self.resync_needed && !self.snapshot_due && !self.catching_up {
            changes.push(Change::Access(AccessChange::ResumeDelivery));
            (self.resync_needed, self.resynced) = (false, true);
        }
    }

    /// Whether a resync was completed since the last call. Once the changes are applied, users are served.
    pub(super) fn just_resynced(&mut self) -> bool {
        std::mem::take(&mut self.resynced)
    }

    /// Pauses delivery until the log was read to its end.
    fn need_resync(&mut self, changes: &mut Vec<Change<'_>>) {
        (self.resync_needed, self.resynced) = (true, false);
        changes.push(Change::Access(AccessChange::PauseDelivery));
    }
}

fn invalidation<'a>(record: &SessionInvalidation) -> Change<'a> {
    Change::Access(AccessChange::Invalidation(Invalidation::of(record)))
}

/// The client checks frames, but not what is in a record.
fn unreadable(kind: &str) {
    tracing::error!(kind, "the hub sent a standing record that cannot be read: it is left out");
}
