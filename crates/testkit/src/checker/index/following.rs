//! Which logs a gateway followed, and in which of its lives.

use super::Index;
use crate::history::{Follows, Record, StreamId, What};

/// A life of a gateway.
pub(in crate::checker) struct Following {
    began_us: u64,
    /// The logs that it followed in it, in order.
    visits: Vec<Visit>,
}

/// A log that a gateway followed for a while.
pub(in crate::checker) struct Visit {
    pub(in crate::checker) epoch: u32,
    /// Where it began to.
    pub(in crate::checker) from: u64,
    /// How far it had come when it left.
    pub(in crate::checker) left: Option<u64>,
    pub(in crate::checker) began_us: u64,
}

impl<'h> Index<'h> {
    /// A process was started.
    pub(super) fn begin_life(&mut self, record: &'h Record) {
        self.followed.entry(&record.process).or_default().push(Following::since(record.at_us));
    }

    /// A gateway goes to another log, or to its first.
    pub(super) fn follow(&mut self, record: &'h Record, follows: &Follows) {
        let (left, pos) = (follows.left.as_ref().map(|left| left.seq), self.pos(&follows.position));
        let lives = self.followed.entry(&record.process).or_default();
        if lives.is_empty() {
            lives.push(Following::since(0));
        }
        let Some(life) = lives.last_mut() else { return };
        if let Some(before) = life.visits.last_mut() {
            before.left = left;
        }
        let (epoch, from, began_us) = (pos.epoch, pos.seq, record.at_us);
        life.visits.push(Visit { epoch, from, left: None, began_us });
    }

    /// The logs that a gateway has followed in its present life, at this time.
    pub(in crate::checker) fn followed(&self, gateway: &str, at_us: u64) -> &[Visit] {
        begun(self.life_at(gateway, at_us), at_us)
    }

    /// The logs that the gateway of a stream had followed by this time, in the life that serves the stream: what that sent may be read
    /// when the next one has begun. If another life began before the welcome, the present one.
    pub(in crate::checker) fn followed_for(&self, gateway: &str, stream: StreamId, at_us: u64) -> &[Visit] {
        if self.is_served_in_one_life(gateway, stream) {
            begun(self.life_of(gateway, stream), at_us)
        } else {
            self.followed(gateway, at_us)
        }
    }

    /// The logs that a gateway had followed by this time in the life that began then.
    pub(in crate::checker) fn followed_in(&self, gateway: &str, life_began_us: u64, at_us: u64) -> &[Visit] {
        let mut lives = self.followed.get(gateway).map_or(&[][..], Vec::as_slice).iter();
        let life = lives.find(|life| life.began_us == life_began_us);
        life.map_or(&[][..], |life| begun(&life.visits, at_us))
    }

    /// All logs that a gateway follows in the life in which this stream was opened: none yet, if it has begun anew and was not
    /// told where.
    pub(in crate::checker) fn life_of(&self, gateway: &str, stream: StreamId) -> &[Visit] {
        let opened_us = self.opened_us(stream);
        let mut lives = self.followed.get(gateway).map_or(&[][..], Vec::as_slice).iter();
        lives.rfind(|life| life.began_us <= opened_us).map_or(&[][..], |life| &life.visits)
    }

    /// Whether no other life of a gateway began between the request for a stream and its welcome, or at all if it has none.
    pub(in crate::checker) fn is_served_in_one_life(&self, gateway: &str, stream: StreamId) -> bool {
        let Some(stream) = self.stream(stream) else { return true };
        let welcome = stream.lines.iter().map(|&line| &self.records[line]);
        let welcomed_us = welcome.into_iter().find(|record| matches!(record.what, What::Welcome(_)));
        let until_us = welcomed_us.map_or(u64::MAX, |record| record.at_us);
        let opened_us = self.records[stream.open_line].at_us;
        let mut lives = self.followed.get(gateway).map_or(&[][..], Vec::as_slice).iter();
        !lives.any(|life| opened_us < life.began_us && life.began_us <= until_us)
    }

    fn life_at(&self, gateway: &str, at_us: u64) -> &[Visit] {
        let lives = self.followed.get(gateway).map_or(&[][..], Vec::as_slice);
        let begun = |life: &&Following| life.visits.first().is_some_and(|visit| visit.began_us <= at_us);
        lives.iter().rfind(begun).map_or(&[][..], |life| &life.visits)
    }
}

impl Following {
    const fn since(began_us: u64) -> Self {
        Self { began_us, visits: Vec::new() }
    }
}

/// Those that had begun by this time.
fn begun(visits: &[Visit], at_us: u64) -> &[Visit] {
    &visits[..visits.partition_point(|visit| visit.began_us <= at_us)]
}
