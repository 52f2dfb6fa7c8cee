//! A gateway as it is in the field: plain generated gRPC code that remembers the last non-empty cursor, and no more.

use std::time::Duration;

use anyhow::ensure;
use galaxy_push_proto::v1::push_client::PushClient;
use galaxy_push_proto::{Failure, v1};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Claim, Close, Cursor, Hop, Name, Open, What};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::frames::{self, StreamLog};
use crate::net;
use crate::rng::{Rng, now_us};
use crate::unknown::is_unknown;
use crate::users::{Lost, stray};

/// It gives a stream up when nothing came for this long.
const SILENCE: Duration = Duration::from_secs(15);

/// What the hub may send ahead: little, so that it notices when a gateway does not read.
pub(crate) const WINDOW_BYTES: u32 = 16 << 10;

/// What publishers may have appended at one moment: two batches of five events of 3 KiB each.
const BATCH_BYTES: u64 = 32 << 10;

/// How a plain gateway behaves.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its gateway id, and its name in the history.
    pub gateway_id: String,
    /// The hubs it connects to, any of them each time.
    pub hubs: &'static [&'static str],
    /// What it asks for; empty: everything.
    pub recipients: Vec<String>,
    /// The cursor of its first subscribe: `""` or `oldest`.
    pub start: String,
    /// It cuts its stream now and then while this time has not passed.
    pub cuts_until: Duration,
    /// How often it presents a cursor that nobody gave it, in percent, while it cuts its streams.
    pub strays_percent: u64,
    /// How often, in percent, it stops reading for a while after a frame, while it cuts its streams.
    pub pause_percent: u64,
    /// What the hub may send ahead, in bytes.
    pub ahead: u32,
    /// What an event may have beyond that, if there are large ones.
    pub large_bytes: u64,
    /// How long it pauses at most.
    pub pause_max: Duration,
    /// Whether it lists the features of standing records.
    pub standing: bool,
    /// The largest frame it takes, in bytes; 0: as the contract says.
    pub receive_bytes_max: u32,
    /// Its instance id; empty: a client from before there were any.
    pub instance: String,
    /// Whether its requests are late duplicates of another's: the attempt is always the first.
    pub late: bool,
    /// It ends here.
    pub until: Duration,
}

impl Plan {
    /// What may be on its way to it while it does not read: what the hub may send ahead, and what was handed to HTTP/2 at once
    /// when that was nearly used up, which is a batch and what came beside it.
    fn ahead_bytes(&self) -> u64 {
        u64::from(self.ahead) + self.large_bytes + BATCH_BYTES
    }
}

/// Reads until the plan ends.
///
/// # Errors
///
/// When a frame does not have the form it must have.
pub async fn run(plan: Plan, recorder: Recorder, mut rng: Rng) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut cursor = plan.start.clone();
    let mut attempt = 0;
    while started.elapsed() < plan.until {
        let unruly = started.elapsed() < plan.cuts_until;
        if unruly && rng.percent(plan.strays_percent) {
            cursor = stray(&cursor, &Lost::default(), &mut rng);
        }
        let log = StreamLog::new(&recorder, now_us);
        let hub = if plan.hubs.len() == 1 { plan.hubs[0] } else { *rng.pick(plan.hubs) };
        log.record(What::Open(Open {
            stream: log.stream,
            hop: Hop::Gateway,
            reader: plan.gateway_id.as_str().into(),
            recipients: plan.recipients.iter().map(|recipient| Name::from(recipient.as_str())).collect(),
            presented: presented(&plan, &cursor),
            standing: plan.standing,
            collapses: false,
            at: Some(hub.into()),
            continues: false,
            steady: false,
        }));
        attempt = if plan.late { 0 } else { attempt + 1 };
        if !plan.instance.is_empty() {
            let instance = plan.instance.as_str().into();
            log.record(What::Claim(Claim { stream: log.stream, instance, attempt }));
        }
        let cut = Instant::now() + rng.between(Duration::from_millis(200), Duration::from_secs(15));
        let end = started + if cut < started + plan.cuts_until { cut - started } else { plan.until };
        let calm_at = started + plan.cuts_until;
        let stream = Stream { plan: &plan, log: &log, attempt, calm_at, rng: &mut rng };
        let code: Name = match timeout_at(end, stream.read(hub, &mut cursor)).await {
            Ok(ended) => ended?,
            Err(_) => "cut".into(),
        };
        let refused = code.contains("HELD_OFF") || plan.late;
        log.record(What::Close(Close { stream: log.stream, code }));
        let (least, most) = if refused { (3_000, 6_000) } else { (0, 800) };
        sleep(rng.between(Duration::from_millis(least), Duration::from_millis(most))).await;
    }
    Ok(())
}

/// One without an instance id knows no reasons, and comes back with what it holds.
fn presented(plan: &Plan, cursor: &str) -> Cursor {
    let cursor = frames::cursor(cursor);
    if plan.instance.is_empty() { cursor.by_itself() } else { cursor }
}

/// One stream while it is open.
struct Stream<'a> {
    plan: &'a Plan,
    log: &'a StreamLog,
    attempt: u64,
    calm_at: Instant,
    rng: &'a mut Rng,
}

impl Stream<'_> {
    async fn read(self, hub: &str, cursor: &mut String) -> anyhow::Result<Name> {
        let Ok(channel) = channel(hub, self.plan.ahead).await else { return Ok("unreachable".into()) };
        let mut client = PushClient::new(channel);
        let mut stream = match timeout(SILENCE, client.subscribe_push(self.request(cursor))).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                if status.code() == tonic::Code::InvalidArgument {
                    cursor.clear();
                }
                return Ok(code(&status));
            }
            Err(_) => return Ok("silence".into()),
        };
        loop {
            let frame = match timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return Ok("OK".into()),
                Ok(Err(status)) => return Ok(code(&status)),
                Err(_) => return Ok("silence".into()),
            };
            let (bytes, most) = (frame.encoded_len(), self.plan.receive_bytes_max as usize);
            ensure!(most == 0 || bytes <= most, "{bytes} bytes to a gateway that takes {most}");
            if is_unknown(&frame) {
                self.log.record(What::UnknownFrame(self.plan.gateway_id.as_str().into()));
            } else {
                self.log.proto(&frame)?;
            }
            if !frame.cursor.is_empty() {
                cursor.clone_from(&frame.cursor);
            }
            // What it once began in the calm is not interrupted any more: everybody must reach the head.
            if Instant::now() < self.calm_at && self.rng.percent(self.plan.pause_percent) {
                let pause = self.rng.between(Duration::from_millis(10), self.plan.pause_max);
                let until = (Instant::now() + pause).min(self.calm_at);
                self.log.pause(until - Instant::now(), Some(self.plan.ahead_bytes()));
                sleep_until(until).await;
            }
        }
    }

    fn request(&self, cursor: &str) -> v1::GatewaySubscribeRequest {
        let features = ["standing", "session_invalidation", "membership"].map(str::to_owned).to_vec();
        v1::GatewaySubscribeRequest {
            gateway_client_id: self.plan.gateway_id.clone(),
            cursor: cursor.to_owned(),
            recipients: self.plan.recipients.clone(),
            features: if self.plan.standing { features } else { Vec::new() },
            max_receive_bytes: self.plan.receive_bytes_max,
            instance_id: self.plan.instance.clone(),
            attempt: if self.plan.instance.is_empty() { 0 } else { self.attempt },
            ..v1::GatewaySubscribeRequest::default()
        }
    }
}

/// One connection to the hub, over the simulated network.
///
/// # Errors
///
/// When the hub cannot be reached within 5 s.
pub(crate) async fn channel(hub: &str, ahead: u32) -> anyhow::Result<Channel> {
    channel_at(hub, net::PORT, ahead).await
}

/// As [`channel`], to another port.
///
/// # Errors
///
/// As [`channel`].
pub(crate) async fn channel_at(hub: &str, port: u16, ahead: u32) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{hub}:{port}"))?
        .initial_stream_window_size(ahead)
        .connect_timeout(Duration::from_secs(5));
    let connector = tower::service_fn(|uri: Uri| async move {
        let (host, port) = (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(net::PORT));
        net::connect(host, port).await.map(TokioIo::new)
    });
    Ok(timeout(Duration::from_secs(5), endpoint.connect_with_connector(connector)).await??)
}

/// A status in the words of the history: its code, and the reason of its details.
fn code(status: &tonic::Status) -> Name {
    let reason =
        Failure::of(status).reason.map_or_else(String::new, |reason| format!(" {}", reason.as_str()));
    format!("{:?}{reason}", status.code()).into()
}
