//! **Cursor safe**: whoever sends back the last cursor it saw loses nothing and gets nothing twice.
//!
//! `Welcome` echoes, and `Standing` repeats the frame before it; an event has its own position (an ephemeral one: none); `CaughtUp`, `FellBehind`,
//! `Subscribed` and `Goodbye` carry the last position passed, never the head; a `Gap` carries its `to`, and begins no earlier than
//! where its reader stands, whoever it is that missed something.

use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::{Cursor, Event, Gap, Welcome, What};

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let fault = match step.what {
        What::Welcome(frame) => welcome(step, frame),
        What::Standing(frame) => {
            let listing = step.state.listing.as_ref();
            let other = listing.is_some_and(|listing| *listing.cursor != frame.cursor);
            other.then(|| "the cursor of Standing is not that of the Welcome or Gap before it".into())
        }
        What::Event(frame) => event(step, frame),
        What::Gap(frame) => gap(step, frame),
        What::Progress(frame) => {
            let none = step.index.at(&frame.cursor).is_none();
            none.then(|| "the cursor of Progress is no position".into())
        }
        What::CaughtUp(frame) | What::FellBehind(frame) => passed(step, &frame.cursor),
        What::Goodbye(frame) if step.state.welcome.is_none() => alone(step, &frame.cursor),
        What::Goodbye(frame) => passed(step, &frame.cursor),
        What::Subscribed(frame) => passed(step, &frame.cursor),
        _ => None,
    };
    if let Some(fault) = fault {
        findings.on_stream(Promise::CursorSafe, step.stream, step.line, fault);
    }
}

fn welcome(step: &Step<'_, '_>, frame: &Welcome) -> Option<String> {
    if frame.epoch != frame.head.epoch {
        return Some(format!("Welcome names epoch {} and the head {}", frame.epoch, frame.head));
    }
    let presented = &step.stream.open.presented;
    if *presented == Cursor::Garbage && frame.cursor == Cursor::Empty {
        return None; // it cannot be echoed everywhere
    }
    let wanted = match presented {
        Cursor::Empty => &Cursor::At(frame.head.clone()),
        Cursor::Oldest => &Cursor::At(frame.oldest.clone()),
        // Echoed, or left out, so that the reader keeps it.
        Cursor::Unreadable if frame.cursor == Cursor::Empty => &Cursor::Empty,
        Cursor::Unreadable => &Cursor::Garbage,
        Cursor::At(_) | Cursor::Foreign | Cursor::Garbage => presented,
    };
    (frame.cursor != *wanted).then(|| format!("the cursor of Welcome must be {}", show(wanted)))
}

fn event(step: &Step<'_, '_>, frame: &Event) -> Option<String> {
    let Some(pos) = step.event() else {
        return (!frame.ephemeral).then(|| "an event that is not ephemeral has no cursor".into());
    };
    if frame.ephemeral {
        return Some("an ephemeral event has a cursor: it cannot be resumed from".into());
    }
    let stretch = step.stretch_of(pos)?;
    let told = stretch.mark.filter(|&mark| pos.seq <= mark)?;
    let known = stretch.has(pos.seq)
        || pos.seq <= stretch.start
        || stretch.delivered.last().is_some_and(|&last| pos.seq < last)
        || stretch.gap.is_some_and(|gap| pos.seq <= gap)
        || stretch.progress.is_some_and(|progress| pos.seq <= progress);
    let here = step.index.show(pos);
    (!known).then(|| {
        format!("{here} came after a frame whose cursor was {told}: resuming there would have lost it")
    })
}

fn gap(step: &Step<'_, '_>, frame: &Gap) -> Option<String> {
    if step.index.at(&frame.to).is_none() {
        return Some("a gap leads to no position".into());
    }
    if frame.cursor != frame.to {
        return Some(format!("the cursor of the gap is {}, but must be its `to`", show(&frame.cursor)));
    }
    let Some(stretch) = &step.state.stretch else {
        let presented = &step.stream.open.presented;
        let presented = if *presented == Cursor::Unreadable { &Cursor::Empty } else { presented };
        let echoes = frame.from == *presented;
        return (!echoes)
            .then(|| format!("the gap begins at {}, not at the cursor presented", show(&frame.from)));
    };
    let held = stretch.passed;
    let Some(from) = step.index.at(&frame.from).filter(|from| from.epoch == stretch.epoch) else {
        return Some(format!("the gap begins at {}, the reader stands at {held}", show(&frame.from)));
    };
    let early = from.seq < held;
    early.then(|| format!("the gap begins at {}, but the reader stands at {held}", from.seq))
}

/// A goodbye without a welcome: nothing was said, so its reader comes back with what it presented.
fn alone(step: &Step<'_, '_>, cursor: &Cursor) -> Option<String> {
    let presented = &step.stream.open.presented;
    let safe = cursor == presented || *cursor == Cursor::Empty;
    (!safe).then(|| format!("nothing was said yet: the cursor must be {}, or none", show(presented)))
}

/// The cursor must be the last position passed.
fn passed(step: &Step<'_, '_>, cursor: &Cursor) -> Option<String> {
    let Some(stretch) = step.state.stretch.as_ref().filter(|_| !step.state.gap_due) else {
        let welcome = step.state.welcome?;
        let echoes = *cursor == welcome.cursor;
        return (!echoes)
            .then(|| format!("nothing was passed yet: the cursor must be {}", show(&welcome.cursor)));
    };
    let held = stretch.passed;
    let Some(pos) = step.index.at(cursor) else {
        return Some(format!("the cursor is {}, the last position passed is {held}", show(cursor)));
    };
    if pos.epoch != stretch.epoch {
        return None; // judged as not ordered
    }
    if pos.seq < held {
        return Some(format!("the cursor is {}, but {held} was passed already", pos.seq));
    }
    let lost = step.owed(stretch, pos.seq).next()?;
    let (seq, id) = (lost.seq, &lost.line.id);
    Some(format!("the cursor is {}, but {seq} ({id:?}) was not delivered: resuming there loses it", pos.seq))
}

fn show(cursor: &Cursor) -> String {
    match cursor {
        Cursor::Empty => "empty".into(),
        Cursor::Oldest => "oldest".into(),
        Cursor::At(position) => position.to_string(),
        Cursor::Foreign => "one of an unknown version".into(),
        Cursor::Garbage => "garbage".into(),
        Cursor::Unreadable => "garbage of a reader that cannot act".into(),
    }
}
