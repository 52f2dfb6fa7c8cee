//! What a run of many events came to.

use galaxy_push_client::Published;
use galaxy_push_core::cursor::{Cursor, Epoch};

/// The events that a hub acknowledged.
#[derive(Default)]
pub(super) struct Acked {
    pub(super) total: u64,
    duplicates: u64,
    /// Those that may be in another log, too.
    other_log: u64,
    /// The log of the last ones, and how many are in it.
    log: Option<(Epoch, u64)>,
    /// The log before that, and how many are in none but earlier ones.
    earlier: Option<(Epoch, u64)>,
}

impl Acked {
    pub(super) fn add(&mut self, published: &[Published]) {
        self.total += published.len() as u64;
        self.duplicates += published.iter().filter(|event| event.duplicate).count() as u64;
        self.other_log += published.iter().filter(|event| event.other_log).count() as u64;
        for event in published {
            // An ephemeral event has no position, and is in no log.
            if let Ok(Cursor { epoch, .. }) = Cursor::parse(&event.cursor) {
                self.enter(epoch);
            }
        }
    }

    fn enter(&mut self, epoch: Epoch) {
        match &mut self.log {
            Some((log, count)) if *log == epoch => *count += 1,
            log => {
                if let Some((left, count)) = log.replace((epoch, 1)) {
                    let before = self.earlier.map_or(0, |(_, count)| count);
                    self.earlier = Some((left, before + count));
                }
            }
        }
    }

    /// For people, on lines of their own.
    pub(super) fn summary(&self) -> String {
        let events = if self.total == 1 { "event" } else { "events" };
        let mut summary = match self.duplicates {
            0 => format!("{} {events} acknowledged\n", self.total),
            before => format!("{} {events} acknowledged, {before} published before\n", self.total),
        };
        if self.other_log > 0 {
            summary += &other_log(&format!("{} of them", self.other_log));
            summary.push('\n');
        }
        if let Some((epoch, count)) = self.earlier {
            summary += &format!(
                "warning: {count} of them were acknowledged by an earlier log (epoch {epoch}), which ended meanwhile: readers that \
                 had not taken them get a gap\n"
            );
        }
        summary
    }
}

/// What is said of events that were perhaps published twice.
pub(super) fn other_log(what: &str) -> String {
    format!(
        "warning: {what} may be in two logs: an earlier try got no answer, and the hub that has answered now holds another \
         log, or it is not known which one the other held. Readers may be handed it twice"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_with_an_earlier_log_is_counted() {
        let mut acked = Acked { total: 6, ..Acked::default() };
        for epoch in [1, 1, 1, 2, 3, 3] {
            acked.enter(Epoch(epoch));
        }
        let earlier = format!("4 of them were acknowledged by an earlier log (epoch {})", Epoch(2));
        assert!(acked.summary().contains(&earlier), "{}", acked.summary());
        let mut acked = Acked { total: 2, ..Acked::default() };
        [1, 1].into_iter().for_each(|epoch| acked.enter(Epoch(epoch)));
        assert_eq!(acked.summary(), "2 events acknowledged\n");
    }
}
