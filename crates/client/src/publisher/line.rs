//! One connection to one of the hubs, and one request after the other on it.
//!
//! Used by the publisher; whether and when a request is tried again the driver's `retry` decides.

use std::marker::PhantomData;

use tokio::time::timeout;

use super::{ANSWER_MAX_BYTES, TRY_DEADLINE};
use crate::Failure;
use crate::driver::Attempt;
use crate::transport::{Connection, Dialer};

/// The connection to the hub in use, or the way to the next one.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) dialer: Dialer,
    connection: Option<Connection>,
    pub(crate) hub: usize,
}

/// One request, as often as it takes.
pub(super) struct Call<'a, R, T> {
    pub(super) line: &'a mut Line,
    pub(super) path: &'static str,
    pub(super) request: &'a R,
    pub(super) answer: PhantomData<fn() -> T>,
}

impl<R: prost::Message, T: prost::Message + Default> Attempt for Call<'_, R, T> {
    type Answer = T;

    async fn attempt(&mut self) -> Result<T, Failure> {
        let answer = timeout(TRY_DEADLINE, self.line.ask(self.path, self.request)).await;
        if self.line.connection.is_none() {
            self.line.hub = (self.line.hub + 1) % self.line.dialer.hubs().len();
        }
        answer.unwrap_or_else(|_| Err(Failure::Lost("the hub did not answer in time".to_owned())))
    }
}

impl Line {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self { dialer, connection: None, hub: 0 }
    }

    async fn ask<T: prost::Message + Default>(
        &mut self,
        path: &str,
        request: &impl prost::Message,
    ) -> Result<T, Failure> {
        // Taken out meanwhile: a request that is given up half way takes its connection with it.
        // One that the hub has closed since, because nothing was asked, is no failure of the hub's.
        let mut connection = match self.connection.take().filter(Connection::is_open) {
            Some(connection) => connection,
            None => self.dialer.dial(self.hub).await?,
        };
        let answer = connection.unary(path, request, ANSWER_MAX_BYTES).await;
        if worth_keeping(&answer) {
            self.connection = Some(connection);
        }
        answer
    }
}

/// Whoever answers is worth asking again, unless the answer is to go elsewhere.
fn worth_keeping<T>(answer: &Result<T, Failure>) -> bool {
    match answer {
        Ok(_) => true,
        Err(Failure::Status(status)) => status.code != i32::from(tonic::Code::Unavailable),
        Err(_) => false,
    }
}
