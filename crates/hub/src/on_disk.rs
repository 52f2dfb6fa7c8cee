//! A hub over a disk store: opens it, says what was found, and counts what it does.
//!
//! Called by [`Hub::on_disk`](crate::Hub::on_disk). What is kept how is the store's business.

use std::path::Path;
use std::sync::Arc;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Epoch;
use galaxy_push_store::disk::{OnDeath, Options, Recovered};
use galaxy_push_store::{DiskStore, Error, Maker, Refused};
use tokio::time::Instant;

use crate::Config;

/// Opens the log in this folder.
pub(crate) fn maker(config: &Config, folder: &Path, ambient: &Ambient, on_death: OnDeath) -> Maker {
    let mut options = Options::of(config.window);
    options.records_max = config.standing_records_max;
    options.on_death = Some(on_death);
    // For a log that is new: otherwise what the folder says holds.
    let (epoch, salt) = (Epoch(ambient.random_128()), ambient.random());
    let folder = folder.to_owned();
    Box::new(move |sink| {
        let begun = Instant::now();
        let store = DiskStore::open(&folder, options, epoch, salt, sink).map_err(|error| {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            Error::from(Refused::Unavailable(text))
        })?;
        say(&folder, store.recovered(), begun);
        Ok(Arc::new(store))
    })
}

fn say(folder: &Path, recovered: &Recovered, begun: Instant) {
    for damage in &recovered.damage {
        tracing::error!(
            folder = %folder.display(), %damage,
            "the log on the disk is damaged: readers that had not come that far are told a gap"
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
