//! What readers are handed of the stream.

use std::sync::Arc;

use galaxy_push_core::cursor::Cursor;

use crate::standing::Change;
use crate::{Committed, Sink};

/// What a hub's sink is to be told, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// The log continues after this position: comes once, before anything else but records. [`Sink::begin`](crate::Sink::begin).
    Begin(Cursor),
    /// What these records change. They are in the entries or the gap behind this too, unless they come before [`Output::Begin`];
    /// whoever keeps records applies them first.
    Records(Vec<Record>),
    /// Requests, each of them whole. [`Sink::committed`](crate::Sink::committed); of what lies in the stream since before
    /// [`StateMachine::caught_up`](super::StateMachine::caught_up), [`Sink::restored`](crate::Sink::restored).
    Entries(Vec<Committed>),
    /// Messages that are lost, or requests that cannot be judged here. [`Sink::damaged`](crate::Sink::damaged).
    Gap {
        /// What is missed lies behind this position.
        from: Cursor,
        /// The last position missed.
        to: Cursor,
    },
    /// Nothing lies between what was told and this position. [`Sink::advanced`](crate::Sink::advanced).
    Upto(Cursor),
}

/// What a standing record changes, in its place in the log.
#[derive(Clone, Debug)]
pub struct Record {
    /// The position of the record. Of two changes of the same record the one with the higher position holds.
    pub cursor: Cursor,
    /// What it changes.
    pub change: Change,
    /// In whose share of the room it lies, where publishers are told apart.
    pub share: Option<Arc<str>>,
    /// When a hub took it, by its wall clock, in milliseconds since the Unix epoch.
    pub wall_unix_ms: u64,
    /// It cannot be judged here whether it counts.
    pub is_doubtful: bool,
}

impl Output {
    /// Hands it to a sink. `is_new`: it comes behind [`StateMachine::caught_up`](super::StateMachine::caught_up). What records change is not for a sink.
    pub fn tell(&self, sink: &dyn Sink, is_new: bool) {
        match self {
            Self::Begin(base) => sink.begin(*base),
            Self::Records(_) => {}
            Self::Entries(entries) if is_new => sink.committed(entries),
            Self::Entries(entries) => sink.restored(entries),
            Self::Gap { from, to } => sink.damaged(*from, *to),
            Self::Upto(to) => sink.advanced(*to),
        }
    }

    /// Adds entries to the outputs, in one piece with those before.
    pub(super) fn push_entries(outputs: &mut Vec<Self>, entries: Vec<Committed>) {
        Self::drop_upto(outputs);
        match outputs.last_mut() {
            _ if entries.is_empty() => {}
            Some(Self::Entries(before)) => before.extend(entries),
            _ => outputs.push(Self::Entries(entries)),
        }
    }

    pub(super) fn push_records(outputs: &mut Vec<Self>, records: Vec<Record>) {
        if !records.is_empty() {
            Self::drop_upto(outputs);
            outputs.push(Self::Records(records));
        }
    }

    /// Adds a gap, in one piece with the one before it.
    pub(super) fn push_gap(outputs: &mut Vec<Self>, from: Cursor, to: Cursor) {
        Self::drop_upto(outputs);
        match outputs.last_mut() {
            Some(Self::Gap { to: before, .. }) if *before == from => *before = to,
            _ => outputs.push(Self::Gap { from, to }),
        }
    }

    pub(super) fn push_upto(outputs: &mut Vec<Self>, to: Cursor) {
        Self::drop_upto(outputs);
        outputs.push(Self::Upto(to));
    }

    /// What follows lies further on.
    fn drop_upto(outputs: &mut Vec<Self>) {
        if matches!(outputs.last(), Some(Self::Upto(_))) {
            outputs.pop();
        }
    }
}
