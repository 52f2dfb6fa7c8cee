//! A reader that is always there: it reads everything that its hub has, from the oldest on, in the hub's own process and through
//! its public service. No network is between, it never cuts its stream and is never slow. So whatever the hub has acknowledged it
//! must be given, at its place, once, in order and unchanged, and a gap is told of what a hub of this window may have lost only.

use std::time::Duration;

use galaxy_push_hub::Hub;
use galaxy_push_proto::v1;
use galaxy_push_proto::v1::push_client::PushClient;
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Close, Hop, Name, Open, What};
use tokio::time::sleep;

use crate::frames::{self, StreamLog};
use crate::rng::now_us;

/// How long it waits until it comes back.
const BACK_AFTER: Duration = Duration::from_millis(200);

/// Reads what a hub has until the hub is gone, and writes it down as that process.
///
/// # Errors
///
/// When a frame does not have the form it must have.
pub async fn run(hub: &Hub, recorder: Recorder) -> anyhow::Result<()> {
    let reader = format!("witness-{}", recorder.name());
    let mut cursor = "oldest".to_owned();
    loop {
        let log = StreamLog::new(&recorder, now_us);
        log.record(What::Open(Open {
            stream: log.stream,
            hop: Hop::Gateway,
            reader: reader.as_str().into(),
            recipients: Vec::new(),
            presented: frames::cursor(&cursor).by_itself(),
            standing: true,
            collapses: false,
            at: Some(recorder.name().clone()),
            continues: false,
            steady: false,
        }));
        let code = read(hub, &reader, &log, &mut cursor).await?;
        log.record(What::Close(Close { stream: log.stream, code }));
        sleep(BACK_AFTER).await;
    }
}

async fn read(hub: &Hub, reader: &str, log: &StreamLog, cursor: &mut String) -> anyhow::Result<Name> {
    let request = v1::GatewaySubscribeRequest {
        gateway_client_id: reader.to_owned(),
        cursor: cursor.clone(),
        features: ["standing", "session_invalidation", "membership"].map(str::to_owned).to_vec(),
        ..v1::GatewaySubscribeRequest::default()
    };
    let mut stream = match PushClient::new(hub.router()).subscribe_push(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Ok(format!("{:?}", status.code()).into()),
    };
    loop {
        match stream.message().await {
            Ok(Some(frame)) => {
                log.proto(&frame)?;
                if !frame.cursor.is_empty() {
                    cursor.clone_from(&frame.cursor);
                }
            }
            Ok(None) => return Ok("OK".into()),
            Err(status) => return Ok(format!("{:?}", status.code()).into()),
        }
    }
}
