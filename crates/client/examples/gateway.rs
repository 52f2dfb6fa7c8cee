//! A gateway in fifteen lines: everything the hub sends, printed; its cursor kept in a file, so that a restart goes on
//! where this one stops.
//!
//! ```sh
//! galaxy-push hub &
//! cargo run -p galaxy-push-client --example gateway -- http://127.0.0.1:7400
//! galaxy-push publish --to user:42 --type turn.ready '{"turn":7}'
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it does")]

use galaxy_push_client::{FileCursorStore, Item, PushClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hub = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7400".to_owned());
    let store = FileCursorStore::new("gateway-1.cursor");
    let client =
        PushClient::builder("gateway-1").hub(&hub).cursor_store(store).start(async |item: Item| {
            match item {
                Item::Event(frame) => {
                    println!("{} {:?}", frame.cursor(), frame.view().event().map(|e| e.id().to_owned()))
                }
                Item::Gap(gap) => {
                    println!("missed ({}, {}]: {:?}; fetch the state anew", gap.from, gap.to, gap.reason)
                }
                _ => {} // where the stream stands
            }
            Ok(())
        })?;
    tokio::signal::ctrl_c().await?;
    println!("stopped at {}", client.shutdown().await.cursor);
    Ok(())
}
