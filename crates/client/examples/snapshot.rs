//! How to join a snapshot and the stream without a hole: first the cursor of the head, then the snapshot, then the stream
//! from that cursor.
//!
//! Whatever happens between the first two steps is in the snapshot and comes again as an event, so events must be
//! applied in a way that a repeat does not hurt: here by keeping the newest per id. The same again after each gap.
//!
//! ```sh
//! cargo run -p galaxy-push-client --example snapshot -- http://127.0.0.1:7400
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it does")]

use std::collections::BTreeMap;

use galaxy_push_client::{Item, Publisher, PushClient};

/// Stands for your database: what is true now, by id.
async fn snapshot() -> BTreeMap<String, String> {
    BTreeMap::new()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hub = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7400".to_owned());
    let head = Publisher::builder().hub(&hub).build()?.head().await?;
    let mut state = snapshot().await;
    println!("{} entries as of {}", state.len(), head.cursor);

    let mut stream = PushClient::builder("snapshot-example").hub(&hub).cursor(head.cursor).stream()?;
    while let Some(delivery) = stream.next().await {
        match delivery.item() {
            Item::Event(frame) => {
                if let Some(event) = frame.view().event() {
                    state.insert(event.id().to_owned(), String::from_utf8_lossy(event.data()).into_owned());
                    println!("{} entries as of {}", state.len(), frame.cursor());
                }
            }
            Item::Gap(_) => state = snapshot().await,
            _ => {}
        }
        delivery.ack();
    }
    Ok(())
}
