//! Publishing as CloudEvents over HTTP. The JSON is written by hand, from the words of the CloudEvents specification.

use std::str::from_utf8;

use bytes::Bytes;
use galaxy_push_proto::v1;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use crate::net;

/// A connection to a hub.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

/// What became of a request.
pub(super) enum Answer {
    Results(Vec<v1::PublishResult>),
    /// The hub gave its reason: nothing of it was taken.
    Refused,
    /// Nobody knows.
    None,
}

impl Connection {
    pub(super) async fn open(hub: &str, port: u16) -> Option<Self> {
        let io = net::connect(hub.to_owned(), port).await.ok()?;
        let (sender, driver) = handshake(TokioIo::new(io)).await.ok()?;
        let driver = tokio::spawn(async move {
            let _ = driver.await; // whoever waits for an answer is told
        });
        Some(Self { sender, _driver: AbortOnDropHandle::new(driver) })
    }

    pub(super) async fn post(&mut self, events: &[v1::Event], batched: bool) -> Answer {
        let forms: Vec<_> = events.iter().map(form).collect();
        let (body, media_type) = match batched {
            true => (format!("[{}]", forms.join(", ")), "application/cloudevents-batch+json"),
            false => (forms.concat(), "application/cloudevents+json"),
        };
        let request = http::Request::post("/v1/events")
            .header("host", "localhost")
            .header("content-type", media_type)
            .body(Full::new(Bytes::from(body)));
        let Ok(request) = request else { return Answer::None };
        let Ok(response) = self.sender.send_request(request).await else { return Answer::None };
        let status = response.status();
        let Ok(body) = response.into_body().collect().await else { return Answer::None };
        let Ok(body) = serde_json::from_slice::<Value>(&body.to_bytes()) else { return Answer::None };
        if status == http::StatusCode::OK {
            return read(&body).map_or(Answer::None, Answer::Results);
        }
        if body.get("reason").and_then(Value::as_str).is_some() { Answer::Refused } else { Answer::None }
    }
}

fn read(body: &Value) -> Option<Vec<v1::PublishResult>> {
    let results = body.get("results")?.as_array()?.iter().map(|result| v1::PublishResult {
        id: result["id"].as_str().unwrap_or_default().to_owned(),
        cursor: result["cursor"].as_str().unwrap_or_default().to_owned(),
        duplicate: result["duplicate"].as_bool().unwrap_or_default(),
        ..v1::PublishResult::default()
    });
    Some(results.collect())
}

/// The JSON form of an event whose data is JSON, which goes into it as it is.
fn form(event: &v1::Event) -> String {
    let text = |text: &str| Value::from(text).to_string();
    format!(
        r#"{{"specversion":"1.0","id":{},"source":{},"type":{},"to":{},"datacontenttype":{},"data":{}}}"#,
        text(&event.id),
        text(&event.source),
        text(&event.r#type),
        text(&event.to.join(",")),
        text(&event.data_content_type),
        from_utf8(&event.data).unwrap_or("null"),
    )
}
