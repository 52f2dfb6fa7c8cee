//! A real broker for the tests of the parts. Left out, and said, where there is no nats-server.

use galaxy_push_core::ambient::Ambient;
use galaxy_push_testkit::broker::{self, Broker, Settings};

use super::Options;
use super::bucket::{Bucket, Holds};
use super::connect::Link;
use super::stream::Log;

/// A broker, and what a store has of it at its start.
pub(super) struct World {
    pub(super) options: Options,
    pub(super) link: Link,
    pub(super) log: Log,
    pub(super) bucket: Bucket,
    pub(super) _broker: Broker,
}

impl World {
    pub(super) async fn begin() -> Option<Self> {
        let broker = Broker::start(&broker::program()?, &Settings::default()).unwrap();
        let options = Options::new(vec![broker.url()], Ambient::new(|| 0, || 9));
        let link = Link::connect(&options).await.unwrap();
        let log = Log::open(&link, &options).await.unwrap();
        let bucket = Bucket::open(&link, &options, Holds::Fence).await.unwrap();
        Some(Self { options, link, log, bucket, _broker: broker })
    }
}
