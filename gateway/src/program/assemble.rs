//! Puts a gateway together and starts its background tasks.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use prometheus::Registry;
use selvage_core::queue::Reports;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::background::dead_letter_intake::Intake;
use crate::background::sweeper::Sweeper;
use crate::background::{sampler, webhooks};
use crate::http::access::Access;
use crate::http::routes;
use crate::http::upload::BodyLimits;
use crate::program::config::Limits;
use crate::service::admission::{Admission, Lists};
use crate::service::dead_letters::DeadLetterService;
use crate::service::gateway::{App, Backends, Gateway};
use crate::service::inflight::Inflight;
use crate::service::lifecycle::Lifecycle;
use crate::service::metrics::Metrics;
use crate::service::models::Models;
use crate::service::predictions::Predictions;
use crate::service::queues::Queues;
use crate::service::stats::Stats;
use crate::service::submit::Submitter;
use crate::service::watch::Watch;
use crate::service::webhooks::Webhooks;

/// How often flights nobody waits for any more are ended; it bounds how long a client that left keeps its place.
const EXPIRE_EVERY: Duration = Duration::from_millis(250);

impl App {
    /// Puts a gateway together and starts its background tasks; they end with [`crate::serve`], or when its `life.stop` fires.
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
        tasks.spawn(sampler::read(self.clone(), stop.clone()));
        tasks.spawn(sampler::announce(self.clone(), stop.clone()));
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
