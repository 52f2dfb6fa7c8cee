//! What a hub says of its log on the disk when it starts, and when the disk is full.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Epoch;
use galaxy_push_core::window::Bounds;
use galaxy_push_hub::{Config, Hub};
use galaxy_push_store::disk::Options;
use galaxy_push_store::disk::simulated::Disk;
use galaxy_push_store::{DiskStore, Maker};
use tokio::time::sleep;

use crate::warnings::Warnings;
use crate::world::{START_UNIX_MS, ambient, event};

/// One life of a hub, which publishes so many events. The wall clock stands so many seconds from where it stood first. What it
/// said that holds this text, and its epoch.
fn said(folder: &Path, wall_s: i64, events: usize, text: &str) -> (Vec<String>, String) {
    let (warnings, _guard) = Warnings::listen_to_infos();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let epoch = runtime.block_on(async {
        let random = AtomicU64::new(1);
        let ambient = Ambient::new(
            move || START_UNIX_MS.saturating_add_signed(wall_s * 1_000),
            move || random.fetch_add(1, Ordering::Relaxed),
        );
        let hub = Hub::on_disk(Config::default(), folder, ambient, Arc::new(|_| {})).unwrap();
        for number in 0..events {
            hub.publish(vec![event(&number.to_string())]).await.unwrap();
        }
        hub.head().cursor.epoch.to_string()
    });
    (warnings.take(text), epoch)
}

#[test]
fn a_log_that_is_begun_is_told_from_one_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let place = format!("folder={}", folder.path().display());
    let (begun, epoch) = said(folder.path(), 0, 1, &place);
    let is_logged = |line: &str, epoch: &str| line.starts_with("a new log was begun") && line.contains(epoch);
    assert!(matches!(&begun[..], [line] if is_logged(line, &epoch)), "{begun:?}");
    let (goes_on, same) = said(folder.path(), 0, 1, &place);
    assert_eq!(same, epoch);
    assert!(goes_on.iter().any(|line| line.contains("was read from the disk")), "{goes_on:?}");
    assert!(!goes_on.iter().any(|line| line.contains("a new log")), "{goes_on:?}");
}

/// That the wall clock is ahead of the log is no fault: the hub was away.
#[test]
fn a_log_that_is_stamped_ahead_of_the_wall_clock_is_one_warning() {
    const WEEKEND_S: i64 = 3 * 24 * 3_600;
    let folder = tempfile::tempdir().unwrap();
    let said = |wall_s, events| said(folder.path(), wall_s, events, "stamped ahead of the wall clock").0;
    assert_eq!(said(0, 1), [""; 0], "a new log");
    assert_eq!(said(-30, 0), [""; 0], "clocks may differ");
    let ahead = said(-3_600, 0);
    // The time that the first life took before it published counts as well.
    let is_logged = |line: &str| (3_600..3_660).any(|ahead_s| line.contains(&format!("ahead_s={ahead_s}")));
    assert!(matches!(&ahead[..], [line] if is_logged(line)), "{ahead:?}");
    assert_eq!(said(WEEKEND_S, 0), [""; 0]);
}

/// How a full disk gets room again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum DiskSpace {
    /// Somebody takes away what lies beside the log, and the next publish is taken.
    Made,
    /// Nobody does anything, and nobody publishes: what fills it is too old by and by.
    Aged,
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_is_one_line_and_so_is_its_end() {
    for room in [DiskSpace::Made, DiskSpace::Aged] {
        let (lines, _guard) = Warnings::listen_to_infos();
        let disk = Disk::default();
        let window = Bounds { age: Duration::from_secs(150), ..Bounds::default() };
        let mut options = Options::of(window);
        options.segment_bytes = 8 << 10;
        let of_hub = disk.clone();
        let maker: Maker = Box::new(move |sink| {
            Ok(Arc::new(DiskStore::open_simulated(&of_hub, options, Epoch(7), 1, sink).unwrap()))
        });
        let hub = Hub::new(Config::default().window(window), maker, ambient()).unwrap();
        let mut number = 0;
        let mut publish = async || {
            number += 1;
            hub.publish(vec![event(&number.to_string())]).await
        };
        for _ in 0..200 {
            publish().await.unwrap();
        }
        disk.fill(false);
        while publish().await.is_ok() {}
        sleep(Duration::from_secs(20)).await;
        publish().await.unwrap_err();
        sleep(Duration::from_secs(20)).await;
        let full = lines.take("the disk is full: publishes are refused");
        assert!(matches!(&full[..], [line] if line.contains("free=0")), "{room:?}: {full:?}");
        assert_eq!(lines.take("no longer full"), [""; 0], "{room:?}");
        if room == DiskSpace::Made {
            disk.free();
            publish().await.unwrap();
        } else {
            sleep(Duration::from_secs(120)).await;
        }
        sleep(Duration::from_secs(20)).await;
        let over = lines.take("the disk is no longer full: publishes are taken again");
        assert_eq!(over.len(), 1, "{room:?}: {over:?}");
        publish().await.unwrap();
        sleep(Duration::from_secs(20)).await;
        assert_eq!(lines.take("the disk is full: publishes are refused"), [""; 0], "{room:?}");
        assert_eq!(lines.take("no longer full"), [""; 0], "{room:?}");
    }
}
