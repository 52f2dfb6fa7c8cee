//! Those who read the log over gRPC, each with nothing of the product but the contract's types.
//!
//! [`Reading`] is everything from the oldest event to the head, taken by somebody new. A [`Follower`] is one reader through all
//! lives: it comes back with its last cursor, must be resumed, and must be told of every position in turn, and of no gap.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use galaxy_push_proto::v1;
use galaxy_push_proto::v1::push_client::PushClient;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_testkit::history::{self, Hash};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use super::request::membership_key;
use super::truth::{Truth, print, seen};
use crate::frames;

/// A hub that lives says something every 5 s.
const SILENCE: Duration = Duration::from_secs(20);

/// What the hub has to read, from the oldest event on.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) epoch: String,
    /// The position before the oldest, and the last.
    pub(super) base: u64,
    pub(super) head: u64,
    /// Position, id and fingerprint of each entry.
    pub(super) entries: Vec<(u64, String, Hash)>,
    /// Of all frames with a position.
    pub(super) bytes: u64,
    /// What holds, by what it is about.
    pub(super) standing: BTreeMap<String, Hash>,
}

/// A connection to the hub.
pub(super) async fn connect(hub: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(hub.to_owned())?.connect_timeout(Duration::from_secs(5));
    Ok(endpoint.initial_stream_window_size(4 << 20).connect().await?)
}

fn subscribe(id: &str, instance: &str, attempt: u64, cursor: &str) -> v1::GatewaySubscribeRequest {
    v1::GatewaySubscribeRequest {
        gateway_client_id: id.to_owned(),
        instance_id: instance.to_owned(),
        attempt,
        cursor: cursor.to_owned(),
        features: ["standing", "session_invalidation", "membership"].map(str::to_owned).to_vec(),
        ..v1::GatewaySubscribeRequest::default()
    }
}

impl Reading {
    /// Reads everything.
    ///
    /// # Errors
    ///
    /// When the hub does not let it, or tells a gap.
    pub(super) async fn take(hub: &str, number: u64) -> anyhow::Result<Self> {
        let mut client = PushClient::new(connect(hub).await?);
        let request = subscribe(&format!("auditor-{number}"), "auditor", 1, "oldest");
        let mut stream = client.subscribe_push(request).await?.into_inner();
        let mut reading = Self::default();
        loop {
            let frame = timeout(SILENCE, stream.message()).await.context("silence")??.context("it ended")?;
            if let Some((id, print)) = seen(&frame) {
                reading.bytes += frame.encoded_len() as u64;
                reading.entries.push((seq(&frame.cursor)?, id, print));
                continue;
            }
            match frame.kind {
                Some(Kind::Welcome(welcome)) => {
                    ensure!(welcome.outcome() == v1::Outcome::Fresh, "{welcome:?} to a new reader");
                    (reading.base, reading.head) = (seq(&welcome.oldest)?, seq(&welcome.head)?);
                    reading.epoch = welcome.epoch;
                }
                Some(Kind::Standing(standing)) => reading.hold(&standing),
                Some(Kind::CaughtUp(_)) => return Ok(reading),
                Some(Kind::Gap(gap)) => bail!("the log has a gap: {gap:?}"),
                _ => {}
            }
        }
    }

    fn hold(&mut self, standing: &v1::Standing) {
        let sessions = standing.invalidations.iter().map(|each| (each.recipient.clone(), print(each)));
        let members = standing.memberships.iter().filter(|each| each.member);
        let members = members.map(|each| (membership_key(each), print(each)));
        self.standing.extend(sessions.chain(members));
    }
}

fn seq(cursor: &str) -> anyhow::Result<u64> {
    match frames::cursor(cursor) {
        history::Cursor::At(position) => Ok(position.seq),
        _ => bail!("{cursor:?} is no position"),
    }
}

/// One reader, through all lives of the hub.
#[derive(Debug)]
pub(super) struct Follower {
    truth: Arc<Mutex<Truth>>,
    cursor: String,
    at: Option<u64>,
    attempt: u64,
    /// How far it has come, for whoever waits for that.
    pub(super) progress: watch::Sender<u64>,
}

impl Follower {
    pub(super) fn new(truth: &Arc<Mutex<Truth>>) -> Self {
        let progress = watch::Sender::new(0);
        Self { truth: truth.clone(), cursor: "oldest".to_owned(), at: None, attempt: 0, progress }
    }

    /// Reads until the hub is gone: then `Ok`, wherever it was.
    ///
    /// # Errors
    ///
    /// When a promise is broken.
    pub(super) async fn follow(&mut self, hub: &str) -> anyhow::Result<()> {
        let Ok(channel) = connect(hub).await else { return Ok(()) };
        self.attempt += 1;
        let request = subscribe("follower", "follower", self.attempt, &self.cursor);
        let Ok(stream) = PushClient::new(channel).subscribe_push(request).await else { return Ok(()) };
        let mut stream = stream.into_inner();
        loop {
            match timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(frame))) => self.take(&frame)?,
                Ok(Ok(None) | Err(_)) => return Ok(()),
                Err(_) => bail!("nothing came for {SILENCE:?}"),
            }
        }
    }

    fn take(&mut self, frame: &v1::PushEvent) -> anyhow::Result<()> {
        match &frame.kind {
            Some(Kind::Welcome(welcome)) => {
                let expected =
                    if self.cursor == "oldest" { v1::Outcome::Fresh } else { v1::Outcome::Resumed };
                ensure!(
                    welcome.outcome() == expected,
                    "who came back with {} was met with {welcome:?}",
                    self.cursor
                );
                self.at = Some(self.at.map_or_else(|| seq(&frame.cursor), Ok)?);
            }
            Some(Kind::Gap(gap)) => bail!("who had {} was told a gap: {gap:?}", self.cursor),
            Some(Kind::Event(event)) if event.ephemeral => {}
            _ if seen(frame).is_some() => {
                let mut truth = self.truth.lock().unwrap_or_else(PoisonError::into_inner);
                let place = truth.delivered(&frame.cursor, frame)?;
                ensure!(
                    self.at.is_none_or(|at| at + 1 == place),
                    "after {:?} a reader was sent {place}",
                    self.at
                );
                self.at = Some(place);
                self.progress.send_replace(place);
            }
            _ => {}
        }
        if !frame.cursor.is_empty() {
            self.cursor.clone_from(&frame.cursor);
        }
        Ok(())
    }
}
