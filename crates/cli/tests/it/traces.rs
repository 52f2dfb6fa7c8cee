//! Traces: one of them follows an event from `publish` through hub to gateway, as a collector sees it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::world::{Folder, PATIENCE, Running, Server};

/// A collector that passes on what it is sent.
struct Collector(SyncSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// What the collector was sent.
struct Collected(Receiver<ExportTraceServiceRequest>);

impl Collected {
    /// Serves on a port of its own, until the test ends.
    fn start() -> (Self, String) {
        let (sender, receiver) = sync_channel(1 << 10);
        let service = TraceServiceServer::new(Collector(sender));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
                tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
            })
        });
        (Self(receiver), url)
    }

    /// Waits for so many spans; each with its service.
    fn spans(&self, count: usize) -> Vec<(String, Span)> {
        let mut spans = Vec::new();
        while spans.len() < count {
            let request = self.0.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("only {spans:?}"));
            for resource in request.resource_spans {
                let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
                let name = attributes.into_iter().find(|attribute| attribute.key == "service.name");
                let name = format!("{:?}", name.and_then(|name| name.value));
                let of_scopes = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.extend(of_scopes.map(|span| (name.clone(), span)));
            }
        }
        spans
    }
}

fn role(folder: &Folder, args: &[&str], collector: &str) -> Server {
    let ports = ["--admin-addr", "127.0.0.1:0", "--otlp-endpoint", collector];
    Server::start(folder.command(&[args, &ports].concat()))
}

#[test]
fn one_trace_follows_an_event_from_publisher_to_gateway() {
    let folder = Folder::new("traces");
    let (collector, url) = Collected::start();
    let hub = role(&folder, &["hub", "--hub-addr", "127.0.0.1:0"], &url);
    let gateway = role(&folder, &["gateway", "--hub", &hub.hub, "--edge-addr", "127.0.0.1:0"], &url);
    let mut publish = folder.command(&[
        "publish",
        "--hub",
        &hub.hub,
        "--to",
        "user:42",
        "--type",
        "turn.ready",
        "--id",
        "7",
    ]);
    publish.env("OTEL_EXPORTER_OTLP_ENDPOINT", &url);
    assert_eq!(Running::spawn(publish).end().code, Some(0));
    let carried = folder.stdout(&["tail", "--hub", &hub.hub, "--from", "oldest", "--count", "1"]);
    let spans = collector.spans(3);
    drop((hub, gateway));
    let find = |service: &str, name: &str| {
        let found = spans.iter().find(|(of, span)| of.contains(service) && span.name == name);
        &found.unwrap_or_else(|| panic!("{name} of {service} is not in {spans:?}")).1
    };
    let sent = find("galaxy-push-publish", "send default");
    let appended = find("galaxy-push-hub", "append default");
    let processed = find("galaxy-push-gateway", "process default");
    assert!(sent.parent_span_id.is_empty());
    for span in [appended, processed] {
        assert_eq!((&span.trace_id, &span.parent_span_id), (&sent.trace_id, &sent.span_id), "{span:?}");
    }
    let hex: String = sent.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(carried.contains(&format!("\"traceparent\":\"00-{hex}-")), "{carried}");
}

#[test]
fn without_a_collector_events_are_as_they_were_sent() {
    let folder = Folder::new("untraced");
    let server = folder.serve(&[]);
    folder.stdout(&["publish", "--hub", &server.hub, "--to", "user:42", "--type", "t"]);
    let carried = folder.stdout(&["tail", "--hub", &server.hub, "--from", "oldest", "--count", "1"]);
    assert!(!carried.contains("traceparent"), "{carried}");
}
