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
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::world::{Folder, NOBODY, Outcome, PATIENCE, Running};

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
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (Self::serve(listener, Server::builder()), url)
    }

    fn serve(listener: std::net::TcpListener, mut server: Server) -> Self {
        let (sender, receiver) = sync_channel(1 << 10);
        let service = TraceServiceServer::new(Collector(sender));
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
                server.add_service(service).serve_with_incoming(incoming).await
            })
        });
        Self(receiver)
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

fn role(folder: &Folder, args: &[&str], collector: &str) -> crate::world::Server {
    let ports = ["--admin-addr", "127.0.0.1:0", "--otlp-endpoint", collector];
    crate::world::Server::start(folder.command(&[args, &ports].concat()))
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

/// Publishes one event with these variables; how that ended.
fn publish(folder: &Folder, hub: &str, flags: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let event = ["publish", "--hub", hub, "--to", "user:42", "--type", "t"];
    let mut command = folder.command(&[&event, flags].concat());
    command.envs(variables.iter().copied());
    Running::spawn(command).end()
}

/// The fault: nothing listened at the endpoint, and no line said so.
#[test]
fn a_collector_that_is_away_is_told_and_so_is_its_return() {
    let folder = Folder::new("traces-away");
    // Bound, so that nobody else takes the port, and not listened at: connections are refused.
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, url) = (away.local_addr().unwrap(), format!("http://{}", away.local_addr().unwrap()));
    drop(away);
    let mut command = folder.command(&["hub", "--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
    command.args(["--otlp-endpoint", &url]).env("OTEL_BSP_SCHEDULE_DELAY", "20");
    let hub = crate::world::Server::start(command);
    // A hub traces what belongs to a trace.
    let traced = ["--attribute", "traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"];
    assert_eq!(publish(&folder, &hub.hub, &traced, &[]).code, Some(0));
    let line = hub.process.stderr.find("the collector does not take traces");
    assert!(line.contains("\"WARN\"") && line.contains("refused") && line.contains(&url), "{line}");

    let collector = Collected::serve(std::net::TcpListener::bind(address).unwrap(), Server::builder());
    assert_eq!(publish(&folder, &hub.hub, &traced, &[]).code, Some(0));
    collector.spans(1);
    let line = hub.process.stderr.find("takes traces again");
    assert!(line.contains("\"INFO\""), "{line}");

    let outcome = publish(&folder, &hub.hub, &["--otlp-endpoint", NOBODY], &[]);
    let told = outcome.stderr.matches("the collector does not take traces").count();
    assert!(outcome.code == Some(0) && told == 1 && outcome.stderr.contains(NOBODY), "{outcome:?}");
}

/// The fault: a collector with TLS in the environment, and no command ran at all.
#[test]
fn a_collector_may_speak_tls() {
    let folder = Folder::new("traces-tls");
    let server = folder.serve(&[]);
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    folder.write("ca.pem", key.cert.pem());
    let identity = Identity::from_pem(key.cert.pem(), key.signing_key.serialize_pem());
    let tls = Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let collector = Collected::serve(listener, tls);
    let trusted = folder.path("ca.pem");
    let trusted = ("SSL_CERT_FILE", trusted.to_str().unwrap());
    let outcome = publish(&folder, &server.hub, &[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url), trusted]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    collector.spans(1);
    let outcome = publish(&folder, &server.hub, &["--otlp-endpoint", &url], &[trusted]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    collector.spans(1);
}

/// The fault: what is in the environment for other programs kept every command from running, or was silently ignored.
#[test]
fn variables_of_others_are_followed_or_said_and_never_the_end() {
    let folder = Folder::new("traces-variables");
    let server = folder.serve(&[]);
    let (collector, url) = Collected::start();
    let (named, flag) = (("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ["--otlp-endpoint", &url]);
    for (variable, value, said) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "no address at all", "cannot be used"),
        ("OTEL_SDK_DISABLED", "true", ""),
        ("OTEL_TRACES_EXPORTER", "none", ""),
    ] {
        let outcome = publish(&folder, &server.hub, &[], &[named, (variable, value)]);
        assert_eq!(outcome.code, Some(0), "{variable}: {outcome:?}");
        assert_eq!(outcome.stderr.contains("WARN"), !said.is_empty(), "{variable}: {outcome:?}");
        assert!(
            outcome.stderr.contains(said) && !outcome.stderr.contains("ERROR"),
            "{variable}: {outcome:?}"
        );
    }
    let outcome = publish(&folder, &server.hub, &flag, &[("OTEL_TRACES_EXPORTER", "none")]);
    assert!(outcome.code == Some(0) && outcome.stderr.contains("switches them off"), "{outcome:?}");
    assert!(collector.0.try_recv().is_err(), "nothing was sent so far");
    for (variable, value, said) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "sent by grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "sent by otlp"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "sent uncompressed"),
        ("OTEL_TRACES_SAMPLER", "bogus", "parentbased_always_on"),
        ("OTEL_TRACES_SAMPLER", "always_on", ""),
    ] {
        let outcome = publish(&folder, &server.hub, &flag, &[(variable, value)]);
        assert_eq!(outcome.code, Some(0), "{variable}: {outcome:?}");
        assert_eq!(outcome.stderr.contains("WARN"), !said.is_empty(), "{variable}: {outcome:?}");
        assert!(outcome.stderr.contains(said), "{variable}: {outcome:?}");
        collector.spans(1);
    }
}
