//! A hub over a disk store: opens it, logs how far it is and what was found, and watches the room on the disk.
//!
//! Called by [`Hub::on_disk`](crate::Hub::on_disk). How the log is kept on the disk is the store's business; what is said
//! about it, and when, is decided here.
//!
//! ```text
//! room on the disk     Enough ── the log could fill what is free ──► Low ── a write found none ──► Full
//!                      Enough ◄── a tenth to spare again ─────────── Low ◄── something was written ──┘
//! ```

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Epoch;
use galaxy_push_store::disk::{Figures, OnDeath, OnProgress, Options, Progress, Recovered};
use galaxy_push_store::{DiskStore, Maker};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::app::config::Config;
use crate::app::recovery::Recovery;
use crate::app::recovery::not_opened;
use crate::app::shared::Shared;

/// The longest silence of the log about the progress, and the shortest.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// A log that is stamped further ahead of the wall clock than this was written, or is opened, while that clock was wrong. Clocks
/// that are kept right differ by less: a leap second, a step at boot, another machine.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// How often the free space of the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Opens the log in this folder.
pub(crate) fn maker(
    config: &Config,
    folder: &Path,
    ambient: &Ambient,
    on_death: OnDeath,
    recovery: Recovery,
) -> Maker {
    let mut options = Options::of(config.window);
    options.records_max = config.standing_records_max;
    options.on_death = Some(on_death);
    // For a log that is new: otherwise what the folder says holds.
    let (epoch, salt) = (Epoch(ambient.random_128()), ambient.random());
    let (folder, wall_unix_ms) = (folder.to_owned(), ambient.unix_ms());
    Box::new(move |sink| {
        let begun = Instant::now();
        options.on_progress = Some(telling(&folder, recovery));
        let store =
            DiskStore::open(&folder, options, epoch, salt, sink).map_err(|error| not_opened(&error))?;
        let found = store.recovered();
        match found.first {
            None => tracing::info!(folder = %folder.display(), %epoch, "a new log was begun"),
            Some(_) => say(&folder, found, wall_unix_ms, begun),
        }
        Ok(Arc::new(store))
    })
}

/// Passes the progress on, and says it in the log: when reading begins, and once a second.
fn telling(folder: &Path, recovery: Recovery) -> OnProgress {
    let (folder, told) = (folder.display().to_string(), Mutex::new(None::<Instant>));
    Arc::new(move |Progress { bytes, bytes_total, .. }| {
        recovery.set(bytes, bytes_total);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = told.is_none();
        if told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            *told = Some(Instant::now());
            if is_first {
                tracing::info!(folder, bytes = bytes_total, "reading the log from the disk");
            } else {
                let percent = bytes.saturating_mul(100) / bytes_total.max(1);
                tracing::info!(folder, bytes, bytes_total, percent, "still reading the log from the disk");
            }
        }
        ControlFlow::Continue(())
    })
}

/// What was found of a log that goes on.
fn say(folder: &Path, recovered: &Recovered, wall_unix_ms: u64, begun: Instant) {
    for damage in &recovered.damage {
        tracing::error!(
            folder = %folder.display(), %damage,
            "the log on the disk is damaged: readers that had not come that far are told a gap"
        );
    }
    for copy in &recovered.worn {
        tracing::warn!(
            folder = %folder.display(), %copy,
            "bytes on the disk have changed where nothing is lost by it: the copy was mended from the other one"
        );
    }
    let ahead = Duration::from_millis(recovered.stamped_unix_ms.saturating_sub(wall_unix_ms));
    if ahead > AHEAD_MAX {
        tracing::warn!(
            folder = %folder.display(), ahead_s = ahead.as_secs(),
            "the log is stamped ahead of the wall clock: one of the two was wrong, or is. Revocations and memberships that were \
             over by the clock of an earlier life are forgotten; events are stamped from the log's last stamp on, at each start \
             until the wall clock is past it"
        );
    }
    tracing::info!(
        folder = %folder.display(),
        events = recovered.entries,
        bytes = recovered.bytes,
        took_ms = begun.elapsed().as_millis() as u64,
        cut_off = recovered.torn,
        "the log was read from the disk"
    );
}

/// Whether the disk has room for what the log may still need by its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DiskSpace {
    #[default]
    Enough,
    /// The log could fill the disk: less is free than it may need.
    Low,
    /// There is none: publishes are refused.
    Full,
}

impl DiskSpace {
    /// How it stands by these figures. What was short is enough only with a tenth to spare: at the border nothing flaps.
    pub(crate) fn of(figures: &Figures, before: Self) -> Self {
        let spare = if before == Self::Enough { 0 } else { figures.needed_bytes / 10 };
        let wanted = figures.needed_bytes.saturating_add(spare);
        match figures.free_bytes {
            _ if figures.is_full => Self::Full,
            Some(free) if free < wanted => Self::Low,
            _ => Self::Enough,
        }
    }
}

/// Watches the room on the disk until the hub is gone, if its store keeps files: says once when it gets short, when there is none,
/// and when that is over.
pub(crate) async fn watch(shared: Weak<Shared>) {
    let mut room = DiskSpace::Enough;
    // The store has just looked when it was opened.
    let mut figures = shared.upgrade().and_then(|shared| shared.store.disk_figures());
    while let Some(seen) = figures {
        let now = DiskSpace::of(&seen, room);
        if now != room {
            tell(now, room, &seen);
        }
        room = now;
        sleep(LOOK_EVERY).await;
        // The system is asked where that holds nobody up. A hub that was dropped meanwhile is not kept by it.
        let shared = shared.clone();
        let look = spawn_blocking(move || {
            let shared = shared.upgrade()?;
            for file in shared.store.check_disk() {
                tracing::error!(
                    file,
                    "a file of the log was taken away or replaced: if the hub starts again before what lies in it has left the window, \
                     that is told as damaged; until then readers are served from memory"
                );
            }
            shared.store.disk_figures()
        });
        figures = look.await.ok().flatten();
    }
}

/// Logs that the room has changed: each change once, the way down as a warning or an error, the way up as a note.
fn tell(now: DiskSpace, before: DiskSpace, figures: &Figures) {
    let (free, needed, used) = (figures.free_bytes, figures.needed_bytes, figures.disk_bytes);
    if before == DiskSpace::Full {
        tracing::info!(free, used, "the disk is no longer full: publishes are taken again");
    }
    match now {
        DiskSpace::Low => tracing::warn!(
            free,
            needed,
            used,
            "the log could fill the disk: by its bounds it may need more bytes than are free; make room, or start with a lower --window-bytes"
        ),
        DiskSpace::Full => tracing::error!(
            free,
            used,
            "the disk is full: publishes are refused until there is room, or until events leave the window and theirs is given back; readers are served"
        ),
        DiskSpace::Enough => tracing::info!(free, needed, "the disk has room for all that the log may need"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of a store that may need 1,000 bytes more.
    fn room(free_bytes: Option<u64>, is_full: bool, before: DiskSpace) -> DiskSpace {
        let mut figures = Figures::default();
        (figures.free_bytes, figures.is_full, figures.needed_bytes) = (free_bytes, is_full, 1_000);
        DiskSpace::of(&figures, before)
    }

    #[test]
    fn the_room_is_short_before_there_is_none_and_does_not_flap() {
        assert_eq!(room(Some(1_000), false, DiskSpace::Enough), DiskSpace::Enough);
        assert_eq!(room(Some(999), false, DiskSpace::Enough), DiskSpace::Low);
        assert_eq!(room(Some(1_001), false, DiskSpace::Low), DiskSpace::Low);
        assert_eq!(room(Some(1_100), false, DiskSpace::Low), DiskSpace::Enough);
        assert_eq!(room(Some(999), true, DiskSpace::Low), DiskSpace::Full);
        assert_eq!(room(Some(9_999), true, DiskSpace::Full), DiskSpace::Full, "until something was written");
        assert_eq!(room(Some(9_999), false, DiskSpace::Full), DiskSpace::Enough);
        assert_eq!(
            room(None, false, DiskSpace::Enough),
            DiskSpace::Enough,
            "where nobody knows, nothing is said"
        );
    }
}
