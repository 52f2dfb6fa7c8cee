//! The generated server, with a script of what it does with each request.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{self, BoxFuture};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use galaxy_push_client::{PublishStream, Publisher, PublisherBuilder};
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::Reason;
use galaxy_push_proto::v1::publisher_server::{self, PublisherServer};
use galaxy_push_proto::v1::{self, PublishRequest, PublishResponse, PublishResult};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::hub::settle;

/// What the hub does with one request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Accept,
    /// Appended as new to the log of this epoch.
    AppendTo(u128),
    /// Each event has this code.
    Results(Code),
    /// Each event has the code and the reason of this one.
    Refuse(Reason),
    /// It says nothing, and reads on.
    Silence,
    /// It appends and answers only after so long.
    Slow(u64),
    End(Status),
    /// Appended, and the connection breaks before the answer.
    AcceptAndCut,
}

/// A log that appends each id once, behind a server that follows a script and then accepts.
#[derive(Clone, Default)]
pub(super) struct Server(pub(super) Arc<Inner>);

#[derive(Default)]
pub(super) struct Inner {
    pub(super) script: Mutex<VecDeque<Reply>>,
    pub(super) log: Mutex<Vec<String>>,
    /// When each request came, in seconds after the first, with the ids in it.
    pub(super) seen: Mutex<Vec<(Instant, String)>>,
    pub(super) dials: Mutex<Vec<String>>,
    pub(super) cut: Mutex<Vec<tokio::task::AbortHandle>>,
}

impl Server {
    pub(super) fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        let server = Self::default();
        server.0.script.lock().unwrap().extend(script);
        server
    }

    pub(super) fn builder(&self) -> PublisherBuilder {
        let server = self.clone();
        let connect = move |host: String, _| -> BoxFuture<'static, io::Result<DuplexStream>> {
            server.0.dials.lock().unwrap().push(host);
            let (near, far) = tokio::io::duplex(1 << 16);
            let service = TowerToHyperService::new(PublisherServer::new(server.clone()));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(far), service);
            let task = tokio::spawn(async move { drop(connection.await) });
            server.0.cut.lock().unwrap().push(task.abort_handle());
            future::ready(Ok(near)).boxed()
        };
        Publisher::builder().hub("http://a,http://b").connector(connect).random(|| u64::MAX)
    }

    pub(super) fn stream(&self) -> PublishStream {
        self.builder().build().unwrap().stream()
    }

    pub(super) fn log(&self) -> String {
        self.0.log.lock().unwrap().join(" ")
    }

    pub(super) fn seen(&self) -> Vec<(u64, String)> {
        let seen = self.0.seen.lock().unwrap();
        seen.iter().map(|(at, ids)| ((*at - seen[0].0).as_millis() as u64, ids.clone())).collect()
    }

    fn append(&self, request: &PublishRequest) -> PublishResponse {
        let mut log = self.0.log.lock().unwrap();
        let results = request.events.iter().map(|event| {
            let known = log.iter().position(|id| *id == event.id);
            let position = known.unwrap_or_else(|| {
                log.push(event.id.clone());
                log.len() - 1
            });
            let cursor = format!("1.{position}");
            PublishResult { id: event.id.clone(), cursor, duplicate: known.is_some(), ..Default::default() }
        });
        PublishResponse { results: results.collect(), request_id: request.request_id }
    }

    async fn reply(&self, request: PublishRequest) -> Option<Result<PublishResponse, Status>> {
        let ids: Vec<_> = request.events.iter().map(|event| event.id.as_str()).collect();
        self.0.seen.lock().unwrap().push((Instant::now(), ids.join(" ")));
        let reply = self.0.script.lock().unwrap().pop_front().unwrap_or(Reply::Accept);
        match reply {
            Reply::Accept => Some(Ok(self.append(&request))),
            Reply::Slow(seconds) => {
                sleep(Duration::from_secs(seconds)).await;
                Some(Ok(self.append(&request)))
            }
            Reply::AppendTo(epoch) => {
                let cursor = Cursor { epoch: Epoch(epoch), seq: Seq(1) }.to_string();
                let result =
                    |id: &str| PublishResult { id: id.into(), cursor: cursor.clone(), ..Default::default() };
                let results = ids.into_iter().map(result).collect();
                Some(Ok(PublishResponse { results, request_id: request.request_id }))
            }
            Reply::Results(code) => {
                let result =
                    |id: &str| PublishResult { id: id.into(), code: code.into(), ..Default::default() };
                let results = ids.into_iter().map(result).collect();
                Some(Ok(PublishResponse { results, request_id: request.request_id }))
            }
            Reply::Refuse(reason) => {
                let (code, text) = (galaxy_push_proto::Failure::new(reason, "").code.into(), reason.as_str());
                let result = |id: &str| PublishResult {
                    id: id.into(),
                    code,
                    reason: text.into(),
                    ..Default::default()
                };
                let results = ids.into_iter().map(result).collect();
                Some(Ok(PublishResponse { results, request_id: request.request_id }))
            }
            Reply::Silence => None,
            Reply::End(status) => Some(Err(status)),
            Reply::AcceptAndCut => {
                self.append(&request);
                settle().await; // earlier answers arrive
                self.0.cut.lock().unwrap().drain(..).for_each(|task| task.abort());
                future::pending().await
            }
        }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<PublishResponse, Status>> + Send>>;

#[tonic::async_trait]
impl publisher_server::Publisher for Server {
    type PublishStreamStream = Answers;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let (server, mut requests) = (self.clone(), request.into_inner());
        let (answer, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                if let Some(reply) = server.reply(request).await {
                    let ends = reply.is_err();
                    if answer.send(reply).await.is_err() || ends {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(tokio_stream::wrappers::ReceiverStream::new(answers).boxed()))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let reply = self.reply(request.into_inner()).await.expect("a script without silence")?;
        // A request by itself is answered by a status, where one on a stream has results.
        match reply.results.iter().find(|result| !result.reason.is_empty()) {
            Some(result) => {
                let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == result.reason).unwrap();
                Err(galaxy_push_proto::Failure::new(reason, "events[0]: no").status())
            }
            None => Ok(Response::new(reply)),
        }
    }

    async fn invalidate(
        &self,
        _: Request<v1::InvalidateRequest>,
    ) -> Result<Response<v1::RecordResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn set_membership(
        &self,
        _: Request<v1::SetMembershipRequest>,
    ) -> Result<Response<v1::RecordResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn head(&self, _: Request<v1::HeadRequest>) -> Result<Response<v1::HeadResponse>, Status> {
        Err(Status::unimplemented("no"))
    }
}

pub(super) fn event(id: &str) -> v1::Event {
    v1::Event { id: id.into(), ..Default::default() }
}
