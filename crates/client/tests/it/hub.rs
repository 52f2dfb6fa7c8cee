//! A hub that does what a script says: real HTTP/2 over an in-memory pipe.
//!
//! It shares no code with the real hub. Each dial takes the next part of the script; when there is none left, dials
//! hang, so that a test sees every dial it did not expect.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt as _, future};
use galaxy_push_client::{Builder, Io, Item, PushClient, Status};
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::v1::{self, push_event::Kind};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

/// What becomes of one dial.
#[derive(Clone)]
pub(crate) enum Dial {
    /// Nobody listens.
    Refused,
    /// No answer, ever.
    Hang,
    /// A connection on which each request is answered by the same steps.
    Serve(Vec<Step>),
    /// A connection on which the cursor of each subscribe decides the steps.
    Answer(Steps),
}

/// One step of an answer.
#[derive(Clone)]
pub(crate) enum Step {
    /// Bytes of the body, as one DATA frame.
    Send(Vec<u8>),
    Sleep(Duration),
    /// The connection breaks.
    Cut,
    /// The connection stays and is dead: no bytes, no pings.
    Freeze,
    /// The response does not even begin.
    Ignore,
    /// These headers end the stream, as trailers, or alone when they come first.
    End(HeaderMap),
    /// An answer of something that is no hub.
    Http(u16, &'static str),
}

type Steps = Arc<dyn Fn(&str) -> Vec<Step> + Send + Sync>;

#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Inner>);

#[derive(Default)]
struct Inner {
    script: Mutex<VecDeque<Dial>>,
    dials: Mutex<Vec<(Instant, String)>>,
    requests: Mutex<Vec<Bytes>>,
    authorizations: Mutex<Vec<String>>,
    paths: Mutex<Vec<String>>,
    seen: watch::Sender<usize>,
    secure: Mutex<Option<Secure>>,
    /// Clients ask first which log each host holds; a host that is not listed does not know the question.
    asked: std::sync::atomic::AtomicBool,
    heads: Mutex<HashMap<String, Vec<Step>>>,
    /// How many byte streams were opened.
    opened: std::sync::atomic::AtomicUsize,
}

/// What clients with several hubs ask.
const HEAD: &str = "/push.v1.Publisher/Head";

/// What the server does with a byte stream first.
pub(crate) type Secure =
    Arc<dyn Fn(DuplexStream) -> future::BoxFuture<'static, io::Result<Box<dyn Io>>> + Send + Sync>;

impl Hub {
    pub(crate) fn new(script: impl IntoIterator<Item = Dial>) -> Self {
        let hub = Self::default();
        hub.then(script);
        hub
    }

    pub(crate) fn then(&self, script: impl IntoIterator<Item = Dial>) {
        self.0.script.lock().unwrap().extend(script);
    }

    /// Lets every connection begin with something, such as a TLS handshake.
    pub(crate) fn secure(self, secure: Secure) -> Self {
        *self.0.secure.lock().unwrap() = Some(secure);
        self
    }

    /// A hub of several hosts, which clients ask which log they hold before they come. Connections for questions are none of
    /// the script's dials; those of the script all come about, and one that is refused breaks.
    pub(crate) fn of_several(self) -> Self {
        self.0.asked.store(true, std::sync::atomic::Ordering::Relaxed);
        self
    }

    /// What a host does from now on when it is asked which log it holds.
    pub(crate) fn says(&self, host: &str, steps: Vec<Step>) {
        self.0.heads.lock().unwrap().insert(host.to_owned(), steps);
    }

    /// A client of this hub whose every wait takes its upper bound.
    pub(crate) fn client(&self) -> Builder {
        PushClient::builder("gateway-1").hub("http://hub").connector(self.connector()).random(|| u64::MAX)
    }

    pub(crate) fn connector(
        &self,
    ) -> impl Fn(String, u16) -> future::BoxFuture<'static, io::Result<DuplexStream>> + Send + Sync + 'static
    {
        let hub = self.clone();
        move |host, _| hub.clone().dial(host).boxed()
    }

    /// When the dials came, in seconds after the first one.
    pub(crate) fn dial_times(&self) -> Vec<f64> {
        let dials = self.0.dials.lock().unwrap();
        dials.iter().map(|(at, _)| (*at - dials[0].0).as_secs_f64()).collect()
    }

    pub(crate) fn dialed_hosts(&self) -> Vec<String> {
        self.0.dials.lock().unwrap().iter().map(|(_, host)| host.clone()).collect()
    }

    /// How many byte streams were opened, those of questions included.
    pub(crate) fn opened(&self) -> usize {
        self.0.opened.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(crate) fn authorizations(&self) -> Vec<String> {
        self.0.authorizations.lock().unwrap().clone()
    }

    pub(crate) fn requests<T: Message + Default>(&self) -> Vec<T> {
        self.0.requests.lock().unwrap().iter().map(|bytes| T::decode(&bytes[5..]).unwrap()).collect()
    }

    pub(crate) fn request<T: Message + Default>(&self, number: usize) -> T {
        T::decode(&self.0.requests.lock().unwrap()[number][5..]).unwrap()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.0.paths.lock().unwrap().clone()
    }

    pub(crate) fn cursors(&self) -> Vec<String> {
        self.requests::<v1::GatewaySubscribeRequest>().into_iter().map(|request| request.cursor).collect()
    }

    /// Waits until there were so many dials.
    pub(crate) async fn dialed(&self, count: usize) {
        self.0.seen.subscribe().wait_for(|seen| *seen >= count).await.unwrap();
    }

    async fn dial(self, host: String) -> io::Result<DuplexStream> {
        if self.0.asked.load(std::sync::atomic::Ordering::Relaxed) {
            let hub = self.clone();
            return self.accept(Arc::new(move |cursor| match hub.next(host.clone()) {
                Dial::Refused => vec![Step::Cut],
                Dial::Hang => vec![Step::Ignore],
                Dial::Serve(steps) => steps,
                Dial::Answer(steps) => steps(cursor),
            }));
        }
        match self.next(host) {
            Dial::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
            Dial::Hang => future::pending().await,
            Dial::Serve(steps) => self.accept(Arc::new(move |_| steps.clone())),
            Dial::Answer(steps) => self.accept(steps),
        }
    }

    fn next(&self, host: String) -> Dial {
        self.0.dials.lock().unwrap().push((Instant::now(), host));
        let next = self.0.script.lock().unwrap().pop_front().unwrap_or(Dial::Hang);
        self.0.seen.send_modify(|seen| *seen += 1);
        next
    }

    fn accept(self, steps: Steps) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(1 << 20);
        self.0.opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let secure = self.0.secure.lock().unwrap().clone();
        tokio::spawn(async move {
            match secure {
                None => self.serve(Box::new(far), steps).await,
                // What is wrong with a handshake the client says.
                Some(secure) => {
                    if let Ok(io) = secure(far).await {
                        self.serve(io, steps).await;
                    }
                }
            }
        });
        Ok(near)
    }

    async fn serve(self, io: Box<dyn Io>, steps: Steps) {
        let (fate, mut fated) = mpsc::channel(1);
        let service = hyper::service::service_fn(move |request| {
            self.clone().answer(request, steps.clone(), fate.clone())
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(io), service);
        tokio::pin!(connection);
        tokio::select! {
            biased;
            fate = fated.recv() => if matches!(fate, Some(Step::Freeze)) { future::pending::<()>().await },
            _ = &mut connection => {}
        }
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        steps: Steps,
        fate: mpsc::Sender<Step>,
    ) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
        assert_eq!(request.headers()["content-type"], "application/grpc");
        assert_eq!(request.headers()["te"], "trailers");
        if request.uri().path() == HEAD && self.0.asked.load(std::sync::atomic::Ordering::Relaxed) {
            let told = self.0.heads.lock().unwrap().get(request.uri().host().unwrap()).cloned();
            return respond(told.unwrap_or_else(|| vec![code(tonic::Code::Unimplemented)]), fate).await;
        }
        self.0.paths.lock().unwrap().push(request.uri().path().to_owned());
        if let Some(authorization) = request.headers().get("authorization") {
            self.0.authorizations.lock().unwrap().push(authorization.to_str().unwrap().to_owned());
        }
        let request = request.into_body().collect().await.unwrap().to_bytes();
        let steps = steps(&v1::GatewaySubscribeRequest::decode(&request[5..]).unwrap_or_default().cursor);
        self.0.requests.lock().unwrap().push(request);
        respond(steps, fate).await
    }
}

async fn respond(
    steps: Vec<Step>,
    fate: mpsc::Sender<Step>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let mut response = Response::builder().header("content-type", "application/grpc");
    match steps.first() {
        Some(Step::Ignore) => future::pending().await,
        Some(Step::End(headers)) => response.headers_mut().unwrap().extend(headers.clone()),
        Some(Step::Http(status, content_type)) => {
            response = Response::builder().status(*status).header("content-type", *content_type);
        }
        _ => {}
    }
    let frames = futures_util::stream::iter(steps).then(move |step| perform(step, fate.clone()));
    Ok(response.body(BoxBody::new(StreamBody::new(frames.filter_map(future::ready)))).unwrap())
}

async fn perform(step: Step, fate: mpsc::Sender<Step>) -> Option<Result<Frame<Bytes>, Infallible>> {
    match step {
        Step::Send(bytes) => return Some(Ok(Frame::data(bytes.into()))),
        Step::End(headers) => return Some(Ok(Frame::trailers(headers))),
        Step::Sleep(duration) => sleep(duration).await,
        Step::Cut | Step::Freeze => {
            settle().await;
            let _ = fate.send(step).await;
            future::pending().await
        }
        Step::Ignore | Step::Http(..) => {}
    }
    None
}

/// Lets everything that can happen now happen. Costs a millisecond of paused time.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Position `seq` of epoch 1.
pub(crate) fn at(seq: u64) -> String {
    Cursor { epoch: Epoch(1), seq: Seq(seq) }.to_string()
}

pub(crate) fn frame(cursor: &str, kind: Kind) -> Step {
    let frame = v1::PushEvent { cursor: cursor.to_owned(), kind: Some(kind), appended_unix_ms: 0 };
    Step::Send(galaxy_push_proto::frame::encode_framed(&frame).to_vec())
}

pub(crate) fn welcome(cursor: &str) -> Step {
    frame(cursor, Kind::Welcome(v1::Welcome::default()))
}

pub(crate) fn event(seq: u64) -> Step {
    frame(&at(seq), Kind::Event(v1::Event { id: seq.to_string(), ..Default::default() }))
}

pub(crate) fn caught_up(seq: u64) -> Step {
    frame(&at(seq), Kind::CaughtUp(v1::CaughtUp {}))
}

pub(crate) fn progress(seq: u64) -> Step {
    frame(&at(seq), Kind::Progress(v1::Progress::default()))
}

pub(crate) fn seconds(seconds: u64) -> Step {
    Step::Sleep(Duration::from_secs(seconds))
}

/// Progress every 5 s, for so long.
pub(crate) fn heartbeats(at: u64, beats: usize) -> Vec<Step> {
    (0..beats).flat_map(|_| [seconds(5), progress(at)]).collect()
}

pub(crate) fn status(failure: &galaxy_push_proto::Failure) -> Step {
    let mut headers = HeaderMap::new();
    failure.status().add_header(&mut headers).unwrap();
    Step::End(headers)
}

pub(crate) fn code(code: tonic::Code) -> Step {
    status(&galaxy_push_proto::Failure::without_reason(code, "no"))
}

/// A handler that notes what it is given: `5` for an event, the kind's name for the rest.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(crate) fn handler(&self) -> impl galaxy_push_client::Handler + use<> {
        let notes = self.clone();
        move |item| {
            notes.note(&item);
            future::ready(Ok(()))
        }
    }

    pub(crate) fn note(&self, item: &Item) {
        let view = item.frame().view();
        let text = match (item, view.event()) {
            (Item::Gap(gap), _) => format!("gap:{:?}", gap.reason.unwrap()),
            (_, Some(event)) => event.id().to_owned(),
            (_, None) => format!("{:?}", view.kind()),
        };
        self.0.lock().unwrap().push(text);
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join(" ")
    }
}

/// Waits for a status, at most an hour of paused time.
pub(crate) async fn until(client: &PushClient, want: impl FnMut(&Status) -> bool) -> Status {
    let mut status = client.status();
    let found = tokio::time::timeout(Duration::from_secs(3600), status.wait_for(want)).await;
    found.unwrap_or_else(|_| panic!("never came: {:?}", client.status().borrow())).unwrap().clone()
}
