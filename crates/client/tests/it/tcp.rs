//! The default connector, over a real socket.

use std::time::Duration;

use galaxy_push_client::{Failure, PushClient};
use tokio::net::TcpListener;

use crate::hub::{Notes, until};

#[tokio::test]
async fn dials_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = PushClient::builder("g").hub(&url).start(Notes::default().handler()).unwrap();
    let (peer, _) = tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.unwrap().unwrap();
    let mut preface = [0; 24];
    tokio::io::AsyncReadExt::read_exact(&mut { peer }, &mut preface).await.unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.shutdown().await;
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client =
        PushClient::builder("g").hub(&format!("http://{closed}")).start(Notes::default().handler()).unwrap();
    let status = until(&client, |status| status.last_error.is_some()).await;
    assert!(matches!(*status.last_error.unwrap(), Failure::Unreachable(_)));
    client.shutdown().await;
}
