//! A Rust service that mounts the hub in its own tonic server and publishes in-process, without a network in between.
//!
//! `cargo run -p galaxy-push-hub --example embed`

use galaxy_push_hub::{Config, Hub};
use galaxy_push_proto::v1::push_client::PushClient;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{Event, GatewaySubscribeRequest};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("a gateway received: {}", run().await?);
    Ok(())
}

/// Serves a hub, publishes one event, and returns its data as a gateway receives it.
pub(crate) async fn run() -> Result<String, Box<dyn std::error::Error>> {
    // The hub beside whatever else this server serves. For gateways that stall, see the listener crate's limits.
    let hub = Hub::in_memory(Config::default(), galaxy_push_listener::ambient())?;
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
    let address = incoming.local_addr()?;
    let server = Server::builder()
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(10)))
        .add_service(hub.push_service())
        .add_service(hub.publisher_service())
        .serve_with_incoming(incoming);
    let server = tokio::spawn(server);

    // In-process: a call, not a request. It returns once the event has its position.
    let order = Event {
        to: vec!["user:42".to_owned()],
        id: "order-7".to_owned(),
        source: "/orders".to_owned(),
        r#type: "order.shipped".to_owned(),
        data: r#"{"order":7}"#.into(),
        ..Event::default()
    };
    hub.publish(vec![order]).await?;

    // A gateway, here by hand; a real one uses `PushClient` of the client crate.
    let mut gateway = PushClient::new(Endpoint::from_shared(format!("http://{address}"))?.connect().await?);
    let request = GatewaySubscribeRequest {
        gateway_client_id: "gateway-1".to_owned(),
        cursor: "oldest".to_owned(),
        ..GatewaySubscribeRequest::default()
    };
    let mut frames = gateway.subscribe_push(request).await?.into_inner();
    while let Some(frame) = frames.message().await? {
        if let Some(Kind::Event(event)) = frame.kind {
            server.abort();
            return Ok(String::from_utf8(event.data.to_vec())?);
        }
    }
    Err("the stream ended without an event".into())
}
