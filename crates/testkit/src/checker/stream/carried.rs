//! What a reader takes from one stream to its next: where it stands, what it was delivered, and the cursor it was given.
//!
//! A reader that presents the cursor it was given last is owed that nothing is lost and nothing comes twice across the
//! two streams. One that presents another cursor asked for what it gets, and begins anew. A client's handler (`continues`)
//! does not choose what its client presents, so it is never excused from what was lost.

use std::collections::HashMap;

use super::State;
use crate::checker::index::{Index, Pos, Stream};
use crate::history::{Cursor, GapReason, What};

/// What came from the streams before.
#[derive(Clone, Default)]
pub(in crate::checker) struct Carried {
    /// The cursor that a frame gave it last.
    pub(in crate::checker) last: Option<Cursor>,
    /// Up to here it was delivered or told everything.
    pub(in crate::checker) place: Option<Pos>,
    /// When a gap last led it into the epoch of its place, perhaps through another one.
    pub(in crate::checker) entered_us: Option<u64>,
    /// By epoch, what it was delivered there, rising.
    pub(in crate::checker) delivered: HashMap<u32, Vec<u64>>,
    /// By epoch, how far the handler of a client has come there, if it has one.
    was_at: HashMap<u32, u64>,
}

impl Carried {
    /// What a stream begins with, after the one before it.
    pub(in crate::checker) fn to(index: &Index<'_>, stream: &Stream<'_>, before: Option<&State<'_>>) -> Self {
        let presented = &stream.open.presented;
        let place = index.at(presented);
        // A client that was started again has had what its store says, to whichever log it is led.
        let was_at = place.map(|at| (at.epoch, at.seq)).into_iter().collect();
        let anew = Self { last: Some(presented.clone()), place, was_at, ..Self::default() };
        let Some(before) = before else { return anew };
        let earlier = &before.carried;
        let goes_on = place.is_some() && earlier.last.as_ref() == Some(presented);
        if stream.open.continues {
            // What its handler failed on comes again, so what it was delivered says nothing here.
            return Self { last: None, delivered: HashMap::new(), ..earlier.clone() };
        }
        if !goes_on {
            return anew;
        }
        let mut carried = earlier.clone();
        // Where it stands is all that its next server knows: what it had of another epoch may come again from there.
        carried.delivered.retain(|epoch, _| place.is_some_and(|place| place.epoch == *epoch));
        carried
    }

    /// Whether it was delivered this position.
    pub(in crate::checker) fn has(&self, pos: Pos) -> bool {
        self.delivered.get(&pos.epoch).is_some_and(|delivered| delivered.binary_search(&pos.seq).is_ok())
    }

    /// How far the handler of a client has come in this epoch, on this stream or one before.
    pub(in crate::checker) fn was_at(&self, epoch: u32) -> Option<u64> {
        self.was_at.get(&epoch).copied()
    }

    /// Takes a record in. `stands` is where the reader stands after it, if the stream knows.
    pub(in crate::checker) fn apply(
        &mut self,
        index: &Index<'_>,
        what: &What,
        stands: Option<Pos>,
        at_us: u64,
    ) {
        if let Some(cursor) = cursor_of(what) {
            self.last = Some(cursor);
        }
        if let What::Event(event) = what
            && let Some(pos) = event.position.as_ref().map(|position| index.pos(position))
        {
            let delivered = self.delivered.entry(pos.epoch).or_default();
            if let Err(place) = delivered.binary_search(&pos.seq) {
                delivered.insert(place, pos.seq);
            }
        }
        if let Some(stands) = stands {
            if let What::Gap(gap) = what
                && (gap.reason == GapReason::EpochChanged
                    || self.place.is_none_or(|place| place.epoch != stands.epoch))
            {
                self.entered_us = Some(at_us);
            }
            self.place = Some(stands);
            let farthest = self.was_at.entry(stands.epoch).or_default();
            *farthest = stands.seq.max(*farthest);
        }
    }
}

/// The cursor of a frame, if it has one.
fn cursor_of(what: &What) -> Option<Cursor> {
    let cursor = match what {
        What::Welcome(frame) => frame.cursor.clone(),
        What::Standing(frame) => frame.cursor.clone(),
        What::Event(frame) => Cursor::At(frame.position.clone()?),
        What::Gap(frame) => frame.cursor.clone(),
        What::Progress(frame) | What::CaughtUp(frame) | What::FellBehind(frame) => frame.cursor.clone(),
        What::Goodbye(frame) => frame.cursor.clone(),
        What::Subscribed(frame) => frame.cursor.clone(),
        _ => return None,
    };
    (cursor != Cursor::Empty).then_some(cursor)
}
