//! An exporter that says when the collector takes no traces, and when it takes them again. Called by the library's own
//! thread, one batch after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// How many batches in a row the collector did not take.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures(Arc<AtomicU64>);

/// Sends to one collector.
#[derive(Debug)]
pub(super) struct Told<E> {
    exporter: E,
    endpoint: String,
    failures: Failures,
    /// Spans that no collector has had since it was last well.
    lost: AtomicU64,
}

impl Failures {
    pub(super) fn is_none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl<E> Told<E> {
    /// `endpoint` is shown in the log.
    pub(super) fn new(exporter: E, endpoint: String, failures: Failures) -> Self {
        Self { exporter, endpoint, failures, lost: AtomicU64::new(0) }
    }

    fn taken(&self) {
        let failures = self.failures.0.swap(0, Ordering::Relaxed);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if failures > 0 {
            tracing::info!(endpoint = self.endpoint, failures, lost, "the collector takes traces again");
        }
    }

    /// The first, second, fourth failure and so on is told.
    fn failed(&self, spans: u64, error: &OTelSdkError) {
        let failures = self.failures.0.fetch_add(1, Ordering::Relaxed) + 1;
        let lost = self.lost.fetch_add(spans, Ordering::Relaxed) + spans;
        if failures.is_power_of_two() {
            let error = match error {
                OTelSdkError::InternalFailure(why) => why.clone(),
                error => error.to_string(),
            };
            tracing::warn!(
                endpoint = self.endpoint,
                error,
                failures,
                lost,
                "the collector does not take traces; these spans are lost"
            );
        }
    }
}

impl<E: SpanExporter> SpanExporter for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let outcome = self.exporter.export(batch).await;
        match &outcome {
            Ok(()) => self.taken(),
            Err(error) => self.failed(spans, error),
        }
        outcome
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
