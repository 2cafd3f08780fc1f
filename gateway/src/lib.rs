//! The gateway: HTTP in, jobs out.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | settings |
//! | [`server`], [`descriptors`] | connections: accepting, time limits, draining, how many there can be |
//! | `routes` | the route table and its handlers: HTTP to service and back |
//! | [`access`], [`peer`] | who may ask and how often: API keys, rates, and the caller a request has become |
//! | [`browsers`] | what pages in browsers may ask: names in `Host`, origins |
//! | [`upload`], [`options`], [`prefer`], [`idempotency`], [`depth`] | reading a request |
//! | [`view`], [`error`] | writing an answer |
//! | `pages` | the pages for people and their files |
//! | [`openapi`] | what routes are described with, and the document made of it |
//! | [`oip`] | the Open Inference Protocol: reading and writing its tensors |
//! | [`predictions`] | the service: cache, computation, promise |
//! | [`inflight`], [`admission`], [`submitter`] | its parts: who shares, who may begin, how a promise is made |
//! | [`watch`], [`sweeper`], [`webhooks`] | background tasks: polls and streams, overdue records, telling |
//! | [`stats`], [`queues`] | the fleet in numbers, read in the background; estimates |
//! | [`models`], [`changes`] | which model and file a request means; a file that changes |
//! | [`dead_letters`] | messages no worker could use: taken in, listed, replayed |
//! | [`start`], [`fleet`], `embedded` | from settings to a running gateway, in either mode |

pub mod access;
pub mod admission;
pub mod browsers;
pub mod changes;
pub mod config;
pub mod dead_letters;
pub mod depth;
pub mod descriptors;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error;
pub mod fleet;
pub mod idempotency;
pub mod inflight;
pub mod lifecycle;
pub mod metrics;
pub mod models;
pub mod oip;
pub mod openapi;
pub mod options;
mod pages;
pub mod peer;
pub mod predictions;
pub mod prefer;
pub mod queues;
mod routes;
pub mod server;
pub mod start;
pub mod stats;
pub mod submit;
pub mod sweeper;
pub mod upload;
pub mod view;
pub mod watch;
pub mod webhooks;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use prometheus::Registry;
use selvage_core::cache::{Cache, MemoryCache};
use selvage_core::clock::Clock;
use selvage_core::dead_letters::DeadLetterStore;
use selvage_core::fleet::Fleet;
use selvage_core::queue::dead_letters::DeadLetterQueue;
use selvage_core::queue::{Health, Queue, Reports};
use selvage_core::store::JobStore;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub use server::serve;

use crate::access::Access;
use crate::admission::{Admission, Lists};
use crate::config::Limits;
use crate::dead_letters::{DeadLetterService, Intake};
use crate::inflight::Inflight;
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::Metrics;
use crate::models::Models;
use crate::predictions::Predictions;
use crate::queues::Queues;
use crate::stats::Stats;
use crate::submit::Submitter;
use crate::sweeper::Sweeper;
use crate::upload::BodyLimits;
use crate::watch::Watch;
use crate::webhooks::Webhooks;

/// How often flights nobody waits for any more are ended; it bounds how long a client that left keeps its place.
const EXPIRE_EVERY: Duration = Duration::from_millis(250);

/// What a gateway stands on.
#[derive(Debug)]
pub struct Backends {
    /// The way to the workers.
    pub queue: Arc<dyn Queue>,
    /// What was dead-lettered on it and is not stored yet.
    pub dead_letter_queue: Arc<dyn DeadLetterQueue>,
    /// Dead letters.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// What comes back from them.
    pub reports: Reports,
    /// Results.
    pub cache: Arc<dyn Cache>,
    /// The part of the cache that is in this process, where workers are not.
    pub local_cache: Option<MemoryCache>,
    /// Records of asynchronous jobs.
    pub store: Arc<dyn JobStore>,
    /// Who works.
    pub fleet: Arc<dyn Fleet>,
    /// The shared time.
    pub clock: Clock,
    /// Promises outlive this process.
    pub durable: bool,
}

/// A running gateway; cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<Gateway>);

/// What handlers see of a gateway.
#[derive(Debug)]
pub struct Gateway {
    /// What requests are bound by.
    pub limits: Limits,
    /// Who may ask.
    pub access: Arc<Access>,
    /// Which model a request means.
    pub models: Models,
    /// The service.
    pub predictions: Predictions,
    /// Records of asynchronous jobs.
    pub store: Arc<dyn JobStore>,
    /// Dead letters.
    pub dead_letters: DeadLetterService,
    /// What tells clients' servers of their jobs' ends.
    pub webhooks: Webhooks,
    /// Bounds of bodies.
    pub bodies: BodyLimits,
    /// Lists of jobs that are read now.
    pub lists: Lists,
    /// Where this gateway is in its life.
    pub life: Arc<Lifecycle>,
    /// What is counted.
    pub metrics: Metrics,
    /// Everything that is counted in this process.
    pub registry: Registry,
    /// The fleet in numbers.
    pub stats: Stats,
}

impl Deref for App {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.0
    }
}

impl App {
    /// Puts a gateway together and starts its background tasks; they end with [`serve`], or when its `life.stop` fires.
    ///
    /// # Errors
    /// When the registry has a gateway's metrics already.
    pub fn start(
        limits: Limits,
        access: Access,
        models: Models,
        backends: Backends,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let Backends {
            queue,
            dead_letter_queue,
            dead_letters,
            reports,
            cache,
            local_cache,
            store,
            fleet,
            clock,
            durable,
        } = backends;
        let queue = selvage_core::trace::traced(queue);
        let metrics = Metrics::register(registry)?;
        let life = Arc::new(Lifecycle::default());
        let queues = Queues::new(
            models.catalog().models(),
            (Arc::clone(&queue), Arc::clone(&store), fleet),
            clock.clone(),
            metrics.clone(),
        );
        let stats = Stats::new(clock.now());
        let submitter = Submitter::new(
            (Arc::clone(&store), Arc::clone(&queue), clock.clone()),
            limits.retention,
            life.tasks.clone(),
            metrics.clone(),
        );
        let sweeper = Sweeper {
            store: Arc::clone(&store),
            cache: Arc::clone(&cache),
            models: models.clone(),
            metrics: metrics.clone(),
        };
        let (watch, watching) = Watch::new(Arc::clone(&store), life.draining.clone());
        let intake = Intake {
            queue: dead_letter_queue,
            dead_letters: Arc::clone(&dead_letters),
            store: Arc::clone(&store),
            cache: Arc::clone(&cache),
            models: models.clone(),
            watch: watch.clone(),
            metrics: metrics.clone(),
        };
        let dead_letters = DeadLetterService::new(
            dead_letters,
            submitter.clone(),
            models.clone(),
            clock.clone(),
            limits.job_deadline,
        );
        let bodies = BodyLimits::new(limits.max_body, limits.max_buffered, life.tasks.clone());
        let predictions = Predictions {
            cache,
            local_cache,
            queue,
            clock,
            inflight: Arc::new(Inflight::default()),
            admission: Arc::new(Admission::new(limits.max_in_flight)),
            queues: Arc::new(queues),
            store: Arc::clone(&store),
            submitter,
            watch,
            life: Arc::clone(&life),
            metrics: metrics.clone(),
            durable,
        };
        let webhooks = Webhooks::new(&limits.webhooks);
        let gateway = Gateway {
            dead_letters,
            webhooks,
            limits,
            access: Arc::new(access),
            models,
            predictions,
            store,
            bodies,
            lists: Lists::default(),
            life,
            metrics,
            registry: registry.clone(),
            stats,
        };
        let app = Self(Arc::new(gateway));
        app.run(reports, watching, sweeper, intake);
        Ok(app)
    }

    /// Starts the background tasks.
    fn run(
        &self,
        reports: Reports,
        watching: impl Future<Output = ()> + Send + 'static,
        sweeper: Sweeper,
        intake: Intake,
    ) {
        let (tasks, stop) = (&self.life.tasks, &self.life.stop);
        tasks.spawn(watching);
        tasks.spawn(Arc::clone(&self.access).follow_hangups(stop.clone()));
        tasks.spawn(sweeper.run(stop.clone()));
        tasks.spawn(intake.run(stop.clone()));
        tasks.spawn(take_reports(self.clone(), reports, stop.clone()));
        tasks.spawn(expire(self.clone(), stop.clone()));
        tasks.spawn(webhooks::run(self.clone(), stop.clone()));
        tasks.spawn(stats::read(self.clone(), stop.clone()));
        tasks.spawn(stats::announce(self.clone(), stop.clone()));
    }

    /// The routes, as a service that can be called without a server.
    pub fn router(&self) -> Router {
        routes::table(self.clone())
    }

    /// Health and metrics alone, without API keys, for the operator's own listener.
    pub fn ops_router(&self) -> Router {
        routes::ops_table(self.clone())
    }
}

impl Gateway {
    /// The mode's name, for people.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        if self.predictions.durable {
            "fleet"
        } else {
            "embedded"
        }
    }

    /// Whether traffic should come here: the one truth behind every health check. Without its store a gateway still answers
    /// those who wait; without its broker it answers nothing new.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.life.phase() == Phase::Serving && self.predictions.queue.health() == Health::Up
    }
}

async fn take_reports(app: App, mut reports: Reports, stop: CancellationToken) {
    while let Some(Some(batch)) = stop.run_until_cancelled(reports.recv()).await {
        app.predictions.take(batch);
    }
}

/// Ends flights nobody waits for any more. Where replies go to another queue than before, what was on its way to the old
/// one is lost: then all flights end, and whoever waits looks into the cache and asks again.
async fn expire(app: App, stop: CancellationToken) {
    let mut ticks = interval(EXPIRE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut address = None;
    while let Some(now) = stop.run_until_cancelled(ticks.tick()).await {
        let predictions = &app.predictions;
        let current = predictions.queue.reply_address();
        let moved = current.is_some() && address.is_some() && current != address;
        address = current.or(address);
        predictions.inflight.expire((!moved).then_some(now));
    }
}
