//! One reader of the log over gRPC, through all lives of the hub: it comes back with its last cursor, must be resumed, and must be
//! told of every position in turn, and of no gap.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{bail, ensure};
use galaxy_push_proto::v1;
use galaxy_push_proto::v1::push_client::PushClient;
use galaxy_push_proto::v1::push_event::Kind;
use tokio::sync::watch;
use tokio::time::timeout;

use super::prints::seen;
use super::reading::{SILENCE, connect, seq, subscribe};
use super::truth::Truth;

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
