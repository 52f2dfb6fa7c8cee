//! What hubs ask each other, past every stream: plain messages, of which nobody knows whether they arrive.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galaxy_push_store::Sink;
use galaxy_push_store::fence::{ASKED_WITHIN, PINGED_WITHIN, Question, Stream};
use galaxy_push_store::nats::HubId;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::At;
use crate::rng::now_us;

/// On their way. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Questions(Arc<Mutex<Vec<Asked>>>);

struct Asked {
    due_us: u64,
    door: HubId,
    question: Question,
    to: oneshot::Sender<Option<Stream>>,
}

impl Questions {
    /// `None`: it has no such stream, or nobody answered in time.
    pub(super) async fn ask(&self, at: &At, door: HubId, question: Question) -> Option<Stream> {
        let within = if question.pings { PINGED_WITHIN } else { ASKED_WITHIN };
        if !at.is_connected() {
            return None;
        }
        at.meets("Asked");
        let (to, answer) = oneshot::channel();
        let due_us = now_us() + micros(at.latency());
        self.change(|all| all.push(Asked { due_us, door, question, to }));
        timeout(within, answer).await.ok()?.ok()?
    }

    /// Answers what has come for this hub, in its own time, for they are its streams.
    pub(super) fn answer(&self, at: &At, door: HubId, sink: &dyn Sink) {
        let now_us = now_us();
        let come = self.change(|all| {
            // Whoever asked waits no longer.
            all.retain(|asked| !asked.to.is_closed());
            let is_due = |asked: &mut Asked| asked.door == door && asked.due_us <= now_us;
            all.extract_if(.., is_due).collect::<Vec<_>>()
        });
        // What comes while it has no connection is lost.
        for Asked { question, to, .. } in come.into_iter().filter(|_| at.is_connected()) {
            let (answer, back) = (sink.asked(&question), at.latency());
            tokio::spawn(async move {
                let answer = answer.await;
                tokio::time::sleep(back).await;
                to.send(answer)
            });
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Asked>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}
