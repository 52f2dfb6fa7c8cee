//! The recipe for whoever keeps state that events change: ask for the head, *then* read the state, then subscribe with
//! that cursor.
//!
//! An event published while the state was read may be in both; applied by version it does no harm. In the other order,
//! one could be in neither.

use std::sync::{Arc, Mutex};

use galaxy_push_hub::Config;
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{Event, HeadRequest};

use crate::world::{World, event};

/// What the publisher owns: a number that each event raises.
#[derive(Clone, Default)]
struct State(Arc<Mutex<u64>>);

impl State {
    /// Changes the state, then says so: as a backend does, with time between the two.
    async fn raise(&self, world: &World) {
        let version = {
            let mut version = self.0.lock().unwrap();
            *version += 1;
            *version
        };
        tokio::task::yield_now().await;
        let data = version.to_string().into_bytes();
        world.publish_all(vec![Event { data: data.into(), ..event(&version.to_string()) }]).await;
    }

    fn read(&self) -> u64 {
        *self.0.lock().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_then_state_then_stream_misses_nothing() {
    const VERSIONS: u64 = 200;
    for round in 0..20 {
        let (world, state) = (Arc::new(World::new(Config::default())), State::default());
        let publisher = {
            let (world, state) = (world.clone(), state.clone());
            tokio::spawn(async move {
                for _ in 0..VERSIONS {
                    state.raise(&world).await;
                }
            })
        };
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        let mut client = PublisherClient::new(world.connection());
        let head = client.head(HeadRequest::default()).await.unwrap().into_inner();
        let mut copy = state.read();
        let mut reading = world.read("gw", &head.cursor).await;
        while copy < VERSIONS {
            let frame = reading.frame().await.unwrap().unwrap();
            if let Some(Kind::Event(event)) = frame.kind {
                let version: u64 = std::str::from_utf8(&event.data).unwrap().parse().unwrap();
                assert!(version <= copy + 1, "round {round}: {version} after {copy} leaves a hole");
                copy = copy.max(version);
            }
        }
        publisher.await.unwrap();
    }
}
