//! `tail`: subscribes like a gateway, under a random id, and prints what it is handed as JSON lines.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use galaxy_push_client::{HandlerError, Item, PushClient, State};
use galaxy_push_core::cursor::{Ask, OLDEST};
use galaxy_push_core::recipient::Pattern;
use galaxy_push_proto::{json, v1};
use prost::Message as _;
use tokio::sync::mpsc;

use crate::args::TailArgs;

/// Why printing is over.
enum End {
    Enough,
    Failed(anyhow::Error),
}

pub(crate) async fn run(args: TailArgs) -> anyhow::Result<()> {
    let cursor = match args.from.as_str() {
        "now" => "",
        "" => bail!("--from is empty: give now, oldest or a cursor"),
        from => from,
    };
    Ask::parse(cursor).with_context(|| format!("--from {cursor}"))?;
    for to in &args.to {
        Pattern::parse(to).with_context(|| format!("--to {to}"))?;
    }
    if args.count == Some(0) {
        return Ok(());
    }
    let (end, mut ended) = mpsc::channel(1);
    let mut printer = Printer { all: args.all_frames, left: args.count };
    let handler = move |item: Item| {
        let printed = printer.print(&item);
        let end = end.clone();
        async move {
            let Some(reason) = printed else { return Ok(()) };
            let _ = end.try_send(reason); // only the first reason counts
            std::future::pending::<Result<(), HandlerError>>().await
        }
    };
    let ambient = galaxy_push_listener::ambient();
    let client = PushClient::builder(format!("tail-{:016x}", ambient.random()))
        .hub(&args.hub.join(","))
        .cursor(cursor)
        .recipients(args.to)
        .start(handler)?;
    if cursor == OLDEST || cursor.is_empty() {
        tracing::debug!("no position to resume from");
    }
    let outcome = tokio::select! {
        biased;
        reason = ended.recv() => match reason {
            Some(End::Failed(error)) => Err(error),
            Some(End::Enough) | None => Ok(()),
        },
        _ = tokio::signal::ctrl_c() => Ok(()),
        never = report(&client) => never,
    };
    let last = client.shutdown().await;
    if !last.cursor.is_empty() {
        tracing::info!(cursor = last.cursor, "continue with --from and this cursor");
    }
    outcome
}

/// Says on stderr when the stream is not what a person at the terminal would assume.
async fn report(client: &PushClient) -> anyhow::Result<()> {
    let mut status = client.status();
    let mut shown = State::Connecting;
    loop {
        {
            let status = status.borrow_and_update();
            if status.state != shown {
                shown = status.state;
                match (&status.last_error, shown) {
                    (Some(error), State::BackingOff | State::Conflicted | State::Refused) => {
                        tracing::warn!(%error, state = %shown, "no stream; trying again");
                    }
                    (_, State::Live) => tracing::info!("live"),
                    _ => {}
                }
            }
        }
        status.changed().await?;
    }
}

struct Printer {
    all: bool,
    left: Option<u64>,
}

impl Printer {
    /// Prints an item; says when and why it was the last.
    fn print(&mut self, item: &Item) -> Option<End> {
        let data = matches!(item, Item::Event(_) | Item::SessionInvalidation(_) | Item::Membership(_));
        if !self.all && !data && !matches!(item, Item::Gap(_)) {
            return None;
        }
        if let Err(error) = print_line(item) {
            return Some(End::Failed(error));
        }
        let left = self.left.as_mut().filter(|_| matches!(item, Item::Event(_)))?;
        *left -= 1;
        (*left == 0).then_some(End::Enough)
    }
}

fn print_line(item: &Item) -> anyhow::Result<()> {
    let frame = v1::PushEvent::decode(item.frame().message())?;
    let mut line = json::frame(&frame, json::View::Full);
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()?;
    Ok(())
}
