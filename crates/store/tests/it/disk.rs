//! The disk store on a real disk: what every store promises, and what a durable one does beyond that.

use std::sync::Arc;

use galaxy_push_core::cursor::Epoch;
use galaxy_push_store::disk::Options;
use galaxy_push_store::{DiskStore, Error, Sink, Store, conformance};
use tempfile::TempDir;

fn open(dir: &TempDir, sink: Arc<dyn Sink>) -> Result<Arc<dyn Store>, Error> {
    // Another epoch each time: it is for a new log only.
    let epoch = Epoch(std::ptr::from_ref(&*sink).cast::<u8>().addr() as u128);
    let mut options = Options::default();
    options.segment_bytes = 8 << 10;
    Ok(Arc::new(DiskStore::open(dir.path(), options, epoch, 7, sink).unwrap()))
}

#[tokio::test]
async fn conforms() {
    let dirs = std::sync::Mutex::new(Vec::new());
    conformance::check(|sink| {
        let dir = TempDir::new().unwrap();
        let store = open(&dir, sink);
        dirs.lock().unwrap().push(dir);
        store
    })
    .await;
}

#[tokio::test]
async fn lives_on() {
    conformance::check_durable(|| TempDir::new().unwrap(), open).await;
}
