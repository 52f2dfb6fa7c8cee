//! How full it is, and why a record is refused: there is no room for it, in all or in its publisher's share.

use std::sync::Arc;

use galaxy_push_core::frame::LogKind;

/// How many records are held, and how many may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Records held.
    pub held: usize,
    /// The most there may be.
    pub max: usize,
}

/// There is no room for more records of a kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct Full {
    /// The kind.
    pub kind: LogKind,
    /// The most records held of it.
    pub records_max: usize,
    /// It is only this publisher that has no room, and how many it holds.
    pub publisher: Option<(Arc<str>, usize)>,
}

impl Full {
    fn text(&self) -> String {
        let (what, how) = match self.kind {
            LogKind::SessionInvalidation => ("session invalidations", "give them an earlier end"),
            LogKind::Membership | LogKind::Event => {
                ("memberships", "end some, give them an end, or set --membership-life")
            }
        };
        let most = self.records_max;
        match &self.publisher {
            None => format!(
                "{most} {what} are held and there is room for no more: {how}, or raise --max-standing-records"
            ),
            Some((publisher, own)) => format!(
                "{publisher} holds {own} {what} and may hold no more of the {most} than it leaves to other publishers: \
                 {how}, or raise --max-standing-records"
            ),
        }
    }
}
