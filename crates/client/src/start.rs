//! From settings to a running client: they are checked all at once, then the driver's task begins.
//!
//! ```text
//!  Builder ── checked ──► Driver task ◄── status, stop ──► PushClient (the handle)
//!                         │
//!                         ├ Rounds task     where there are several hubs: asks them which log they hold
//!                         └ Reporter task   where reports are asked for: tells the hub how far the handler is
//! ```
//!
//! All three tasks end with the client's stop token. What can fail fails here, before anything is spawned.

use std::sync::Arc;

use galaxy_push_core::link::{DeliveryMode, Link, Storing};
use galaxy_push_core::log_sampler::LogSampler;
use galaxy_push_core::recipient::check_id;
use galaxy_push_proto::v1::GatewayReport;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Stop;
use crate::dial_config::DialConfig;
use crate::doors::{Doors, Rounds};
use crate::driver::{Driver, HubQueries};
use crate::handler::{NoHandler, OneByOne, WithDeadline};
use crate::random::Random;
use crate::report::SplitAnnouncer;
use crate::reporter::Reporter;
use crate::stream::DeliveryChannels;
use crate::{BatchHandler, BuildError, Builder, Handler, Order, PushClient, PushStream};

/// What hubs ask for, so that control frames with their longest cursors fit.
const RECEIVE_BYTES_MIN: usize = 1 << 10;

impl Builder {
    /// Starts the client with a handler of single items.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when a setting cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use galaxy_push_client::{Item, PushClient};
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = PushClient::builder("gateway-1").hub("http://127.0.0.1:7400").start(async |item: Item| {
    ///     println!("{}", item.cursor());
    ///     Ok(())
    /// })?;
    /// # client.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start(mut self, handler: impl Handler) -> Result<PushClient, BuildError> {
        self.link.delivery_mode = DeliveryMode::Items;
        let deadline = self.handler_deadline;
        let tracing = self.tracing.clone();
        self.run(OneByOne { handler, deadline, tracing }, None)
    }

    /// Starts the client with a handler of batches.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when a setting cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use galaxy_push_client::{Batch, BatchHandler, HandlerError, PushClient};
    ///
    /// struct Bulk;
    ///
    /// impl BatchHandler for Bulk {
    ///     async fn handle(&mut self, batch: &mut Batch) -> Result<(), HandlerError> {
    ///         println!("{} items in one transaction", batch.items().len());
    ///         Ok(()) // commits all of them
    ///     }
    /// }
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = PushClient::builder("gateway-1").hub("http://127.0.0.1:7400").start_batches(Bulk)?;
    /// # client.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_batches(mut self, handler: impl BatchHandler) -> Result<PushClient, BuildError> {
        self.link.delivery_mode = DeliveryMode::Batches;
        let deadline = self.handler_deadline;
        let tracing = self.tracing.clone();
        self.run(WithDeadline { handler, deadline, tracing }, None)
    }

    /// Starts the client without a handler: items come out of the stream, many at a time if the application likes, and
    /// each is acked by itself.
    ///
    /// The cursor moves only past items that are acked, or dead letters, and so is everything before them. What is in
    /// flight survives a reconnect: it is not delivered again, and acks go on counting.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when a setting cannot work.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut stream = galaxy_push_client::PushClient::builder("gateway-1").hub("http://127.0.0.1:7400").stream()?;
    /// while let Some(delivery) = stream.next().await {
    ///     tokio::spawn(async move {
    ///         println!("{}", delivery.item().cursor());
    ///         delivery.ack(); // in any order
    ///     });
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(mut self) -> Result<PushStream, BuildError> {
        if self.in_flight_bytes == 0 {
            return Err(BuildError::ZeroInFlight);
        }
        if self.link.storing.as_ref().is_some_and(|storing| storing.order == Order::BeforeHandler) {
            return Err(BuildError::AtMostOnceStream);
        }
        self.link.delivery_mode = DeliveryMode::Stream { in_flight_bytes: self.in_flight_bytes };
        let (flight, deliveries) = DeliveryChannels::new(self.in_flight_bytes, self.tracing.clone());
        Ok(PushStream::new(deliveries, self.run(NoHandler, Some(flight))?))
    }

    fn run(
        mut self,
        handler: impl BatchHandler,
        flight: Option<DeliveryChannels>,
    ) -> Result<PushClient, BuildError> {
        let dialer = std::mem::replace(&mut self.dial_config, DialConfig::new()).dialer()?;
        self.link.hubs = dialer.hubs.len();
        self.check()?;
        if self.store.is_some() {
            self.link.storing.get_or_insert_default();
        }
        let mut random = self.random.map_or_else(Random::from_os, Ok)?;
        if self.request.instance_id.is_empty() {
            self.request.instance_id = format!("{:016x}{:016x}", random.next(), random.next());
        }
        let link = Link::try_new(self.link)?;
        let (status, shown) = watch::channel(link.status().clone());
        let (stop, started) = (CancellationToken::new(), Instant::now());
        if let Some(every) = self.report_every {
            let reporter = Reporter {
                dialer: dialer.clone(),
                report: GatewayReport {
                    gateway_client_id: self.request.gateway_client_id.clone(),
                    instance_id: self.request.instance_id.clone(),
                    ..GatewayReport::default()
                },
                every,
                connections: self.connections,
                status: shown.clone(),
                random: Random::seeded(random.next()),
                stop: stop.clone(),
            };
            tokio::spawn(reporter.run());
        }
        let gateway: Arc<str> = self.request.gateway_client_id.as_str().into();
        let names: Arc<[String]> = dialer.hubs().iter().map(|hub| hub.origin.clone()).collect();
        let doors = Doors::new(dialer.clone(), self.request.namespace.clone(), shown.clone());
        let (said, hears) = watch::channel(Vec::new());
        let round = Arc::new(Notify::new());
        if names.len() > 1 {
            let (doors, now, stop) = (doors.clone(), round.clone(), stop.clone());
            tokio::spawn(Rounds { doors, said, now, random: Random::seeded(random.next()), stop }.run());
        }
        let driver = Driver {
            link,
            dialer,
            connection: None,
            bytes_seen: 0,
            body: None,
            request: self.request,
            handler,
            flight,
            dead_letter: self.dead_letter,
            store: self.store,
            random,
            started,
            status,
            hubs: HubQueries { doors: doors.clone(), found: Vec::new(), said: hears, round },
            split_announcer: SplitAnnouncer::default(),
            gateway: gateway.clone(),
            last_announced_dial: 0,
            last_announced_error: String::new(),
            dead_letter_sampler: LogSampler::default(),
            stop: stop.clone(),
        };
        tokio::spawn(driver.run());
        Ok(PushClient {
            status: shown,
            started,
            stop: Arc::new(Stop { token: stop, gateway }),
            hubs: names,
            doors,
        })
    }

    fn check(&self) -> Result<(), BuildError> {
        let link = &self.link;
        if self.request.gateway_client_id.is_empty() {
            return Err(BuildError::NoGatewayId);
        }
        let id = &self.request.gateway_client_id;
        if let Err(why) = check_id(id) {
            return Err(BuildError::GatewayId { id: id.clone(), why: why.to_string() });
        }
        if link.max_receive_bytes < RECEIVE_BYTES_MIN {
            return Err(BuildError::ReceiveBytes { bytes: link.max_receive_bytes, min: RECEIVE_BYTES_MIN });
        }
        match (link.retry.is_limited(), &self.dead_letter) {
            (true, None) => return Err(BuildError::NoDeadLetter),
            (false, Some(_)) => return Err(BuildError::NoRetryLimit),
            _ => {}
        }
        match (&link.storing, &self.store) {
            (Some(_), None) => return Err(BuildError::NoCursorStore),
            (Some(Storing { every: 0, .. }), _) => return Err(BuildError::ZeroSaveEvery),
            _ => {}
        }
        let deadlines = [
            ("connect", Some(link.connect_deadline)),
            ("welcome", Some(link.welcome_deadline)),
            ("silence", Some(link.silence_deadline)),
            ("handler", self.handler_deadline),
            ("report", self.report_every),
        ];
        match deadlines.into_iter().find(|(_, deadline)| deadline.is_some_and(|deadline| deadline.is_zero()))
        {
            Some((name, _)) => Err(BuildError::ZeroDeadline(name)),
            None => Ok(()),
        }
    }
}
