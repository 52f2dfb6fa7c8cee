//! A service that keeps its hub's log in a folder: what it has published is there when it starts again.
//!
//! `cargo run -p galaxy-push-hub --example on_disk`, twice

use std::path::{Path, PathBuf};
use std::sync::Arc;

use galaxy_push_hub::{Config, Hub};
use galaxy_push_proto::v1::Event;
use tokio::task::spawn_blocking;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join("galaxy-push-on-disk");
    let (before, after) = run(&folder).await?;
    println!("{} held {before} events, and now {after}; run it again", folder.display());
    Ok(())
}

/// Opens the log in the folder, publishes one event, and returns how many events the log held before and after.
pub(crate) async fn run(folder: &Path) -> Result<(usize, usize), Box<dyn std::error::Error>> {
    let hub = open(folder.to_owned()).await?;
    let before = hub.log_dump().len();
    // An id of its own each time. The same id within two minutes is a repeat, also after a restart.
    let order = Event {
        to: vec!["user:42".to_owned()],
        id: format!("order-{}", galaxy_push_listener::ambient().random_128()),
        source: "/orders".to_owned(),
        r#type: "order.shipped".to_owned(),
        data: r#"{"order":7}"#.into(),
        ..Event::default()
    };
    // Returns once the event is on the disk.
    hub.publish(vec![order]).await?;
    Ok((before, hub.log_dump().len()))
}

async fn open(folder: PathBuf) -> Result<Hub, Box<dyn std::error::Error>> {
    // After this nothing is acknowledged any more, and what was is on the disk: end the process and start it anew.
    let failed = Arc::new(|_what: &str| std::process::abort());
    // It reads the log, which takes a while for a large one: so not on a thread that others need.
    let open = move || Hub::on_disk(Config::default(), &folder, galaxy_push_listener::ambient(), failed);
    Ok(spawn_blocking(open).await??)
}
