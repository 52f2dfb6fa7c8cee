//! Everything that the hub has to read, taken over gRPC by somebody new, with nothing of the product but the contract's types.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use galaxy_push_proto::v1;
use galaxy_push_proto::v1::push_client::PushClient;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_testkit::history::{self, Hash};
use prost::Message as _;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use super::prints::{print, seen};
use super::request::membership_key;
use crate::frames;

/// A hub that lives says something every 5 s.
pub(super) const SILENCE: Duration = Duration::from_secs(20);

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

pub(super) fn subscribe(id: &str, instance: &str, attempt: u64, cursor: &str) -> v1::GatewaySubscribeRequest {
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

pub(super) fn seq(cursor: &str) -> anyhow::Result<u64> {
    match frames::cursor(cursor) {
        history::Cursor::At(position) => Ok(position.seq),
        _ => bail!("{cursor:?} is no position"),
    }
}
