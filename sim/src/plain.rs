//! A gateway as it is in the field: plain generated gRPC code that remembers the last non-empty cursor, and no more.

use std::time::Duration;

use anyhow::Context as _;
use galaxy_push_proto::v1::push_client::PushClient;
use galaxy_push_proto::{Failure, json, v1};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Close, Hop, Name, Open, What};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::frames::{self, StreamLog};
use crate::net;
use crate::rng::{Rng, now_us};

/// It gives a stream up when nothing came for this long.
const SILENCE: Duration = Duration::from_secs(15);

/// What the hub may send ahead: little, so that it notices when this gateway does not read.
const WINDOW_BYTES: u32 = 16 << 10;

/// How a plain gateway behaves.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its gateway id, and its name in the history.
    pub gateway_id: String,
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
    /// It ends here.
    pub until: Duration,
}

/// Reads until the plan ends.
///
/// # Errors
///
/// When a frame does not have the form it must have.
pub async fn run(plan: Plan, hub: String, recorder: Recorder, mut rng: Rng) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut cursor = plan.start.clone();
    while started.elapsed() < plan.until {
        let unruly = started.elapsed() < plan.cuts_until;
        if unruly && rng.percent(plan.strays_percent) {
            cursor = stray(&cursor, &mut rng);
        }
        let log = StreamLog::new(&recorder, now_us);
        log.record(What::Open(Open {
            stream: log.stream,
            hop: Hop::Gateway,
            reader: plan.gateway_id.as_str().into(),
            recipients: plan.recipients.iter().map(|recipient| Name::from(recipient.as_str())).collect(),
            presented: frames::cursor(&cursor),
            standing: false,
            collapses: false,
        }));
        let cut = Instant::now() + rng.between(Duration::from_millis(200), Duration::from_secs(15));
        let end = started + if cut < started + plan.cuts_until { cut - started } else { plan.until };
        let pauses = unruly.then_some(&mut rng);
        let code: Name = match timeout_at(end, read(&plan, &hub, &log, &mut cursor, pauses)).await {
            Ok(ended) => ended?,
            Err(_) => "cut".into(),
        };
        log.record(What::Close(Close { stream: log.stream, code }));
        sleep(rng.between(Duration::ZERO, Duration::from_millis(800))).await;
    }
    Ok(())
}

/// A cursor that was not given out, or of a contract to come, or none at all.
fn stray(cursor: &str, rng: &mut Rng) -> String {
    let ahead = || {
        let (epoch, seq) = cursor.rsplit_once('.')?;
        Some(format!("{epoch}.{}", seq.parse::<u64>().ok()? + 1_000))
    };
    match rng.below(4) {
        0 => "2.of-another-contract".to_owned(),
        1 => "garbage".to_owned(),
        _ => ahead().unwrap_or_default(),
    }
}

async fn read(
    plan: &Plan,
    hub: &str,
    log: &StreamLog,
    cursor: &mut String,
    mut pauses: Option<&mut Rng>,
) -> anyhow::Result<Name> {
    let Ok(channel) = channel(hub).await else { return Ok("unreachable".into()) };
    let request = v1::GatewaySubscribeRequest {
        gateway_client_id: plan.gateway_id.clone(),
        cursor: cursor.clone(),
        recipients: plan.recipients.clone(),
        ..v1::GatewaySubscribeRequest::default()
    };
    let mut client = PushClient::new(channel);
    let mut stream = match timeout(SILENCE, client.subscribe_push(request)).await {
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
        let form = serde_json::from_slice(&json::frame(&frame, json::View::Full)).context("the JSON form")?;
        log.frame(&form)?;
        if !frame.cursor.is_empty() {
            cursor.clone_from(&frame.cursor);
        }
        if let Some(rng) = pauses.as_deref_mut()
            && rng.percent(plan.pause_percent)
        {
            sleep(rng.between(Duration::from_millis(10), Duration::from_secs(4))).await;
        }
    }
}

/// One connection to the hub, over the simulated network.
///
/// # Errors
///
/// When the hub cannot be reached within 5 s.
async fn channel(hub: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{hub}:{}", net::PORT))?
        .initial_stream_window_size(WINDOW_BYTES)
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
