//! `tail`: subscribes like a gateway, under a random id, and prints what it is handed as JSON lines.
//!
//! What passes is waited for. A refusal does not pass while somebody looks on, so it ends it.

use std::future::pending;
use std::io::Write as _;

use anyhow::anyhow;
use galaxy_push_client::{Failure, HandlerError, Item, PushClient, State};
use galaxy_push_proto::{feature, json, v1};
use prost::Message as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::args::TailArgs;
use crate::peer::Peer;

/// Why printing is over.
enum End {
    Enough,
    Failed(anyhow::Error),
}

pub(crate) async fn run(args: TailArgs) -> anyhow::Result<()> {
    let (end, mut ended) = mpsc::channel(1);
    let mut printer = Printer { all: args.all_frames, left: args.count };
    let handler = move |item: Item| {
        let printed = printer.print(&item);
        let end = end.clone();
        async move {
            let Some(reason) = printed else { return Ok(()) };
            let _ = end.try_send(reason); // only the first reason counts
            pending::<Result<(), HandlerError>>().await
        }
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let ambient = galaxy_push_listener::ambient();
    let mut features = vec![feature::SESSION_INVALIDATION, feature::MEMBERSHIP];
    features.extend(args.all_frames.then_some(feature::STANDING));
    let builder = PushClient::builder(format!("tail-{:016x}", ambient.random()));
    let client = Peer::of(&args.peer, &args.hub)?
        .client(builder)
        .hub(&args.hub.join(","))
        .cursor(args.from)
        .recipients(args.to)
        .features(features)
        .start(handler)?;
    let outcome = tokio::select! {
        biased;
        reason = ended.recv() => match reason {
            Some(End::Failed(error)) => Err(error),
            Some(End::Enough) | None => Ok(()),
        },
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
        refused = report(&client) => refused,
        () = reader_gone() => Ok(()),
    };
    client.shutdown().await;
    outcome
}

/// Waits until nobody can read what is printed any more, as behind `tail | head -1`: otherwise the next line would tell, which
/// may be hours away. A file is never given up so.
async fn reader_gone() {
    let (gone, told) = oneshot::channel();
    // It waits for as long as the process lives.
    std::thread::spawn(move || {
        let out = std::io::stdout();
        loop {
            // No events are asked for: what comes is that the other end is closed, or an error.
            match poll(&mut [PollFd::new(&out, PollFlags::empty())], None) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return gone.send(()).unwrap_or_default(), // nobody waits any more
                Err(_) => return,                                  // the next line tells
            }
        }
    });
    if told.await.is_err() {
        pending().await
    }
}

/// Says on stderr when there is no stream, once for each reason, and when there is one again. Returns when a hub refuses.
async fn report(client: &PushClient) -> anyhow::Result<()> {
    let mut status = client.status();
    let mut told = String::new();
    loop {
        let line = {
            let status = status.borrow_and_update();
            match (&status.last_error, status.state) {
                (Some(error), State::Refused) => return Err(refused(error)),
                (Some(error), State::BackingOff | State::Conflicted) => {
                    let error = error.to_string();
                    (error != told).then(|| {
                        let line = format!("no stream: {error}; still trying\n");
                        told = error;
                        line
                    })
                }
                (_, State::Live) if !std::mem::take(&mut told).is_empty() => Some("live again\n".to_owned()),
                _ => None,
            }
        };
        if let Some(line) = line {
            // Nobody may be there to read it, which is no reason to end.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        status.changed().await?;
    }
}

/// A refusal, and what to do.
fn refused(failure: &Failure) -> anyhow::Error {
    const INVALID_ARGUMENT: i32 = 3;
    const PERMISSION_DENIED: i32 = 7;
    const UNAUTHENTICATED: i32 = 16;
    let code = match failure {
        Failure::Status(status) => status.code,
        _ => 0,
    };
    let tip = match code {
        UNAUTHENTICATED => "say who this is: --hub-token-file, or --hub-cert and --hub-key",
        PERMISSION_DENIED => {
            "only gateways and operators read a log: give the token or certificate of one, and with --to ask for no more than \
             its recipients"
        }
        INVALID_ARGUMENT => "the hub does not take --from or --to so",
        _ => "--hub is the hub listener, on port 7400 unless `hub-addr` says otherwise",
    };
    anyhow!("{failure}\n\n  tip: {tip}")
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
