//! Puts a gateway together and starts its background tasks.

use std::sync::Arc;

use prometheus::Registry;
use selvage_core::queue::Reports;
use selvage_core::queue::dead_letters::DeadLetterQueue;

use crate::background::{dead_letter_intake, replies, sampler, sweeper, webhooks};
use crate::http::access::Access;
use crate::http::app::{App, AppParts};
use crate::http::limits::Limits;
use crate::http::upload::BodyLimits;
use crate::http::view::webhook_body;
use crate::service::admission::{Admission, Lists};
use crate::service::dead_letters::DeadLetterService;
use crate::service::gateway::{Backends, Gateway};
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
        let metrics = Metrics::register(registry)?;
        metrics.begin();
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
        let (watch, watching) = Watch::new(Arc::clone(&store), life.draining.clone());
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
        let webhooks = Webhooks::new(&limits.webhooks, webhook_body);
        let gateway = Gateway {
            dead_letters,
            webhooks,
            models,
            predictions,
            store,
            lists: Lists::default(),
            life,
            metrics,
            registry: registry.clone(),
            stats,
        };
        let app = Self(Arc::new(AppParts {
            gateway: Arc::new(gateway),
            limits,
            access: Arc::new(access),
            bodies,
        }));
        app.run(reports, dead_letter_queue, watching);
        Ok(app)
    }

    /// Starts the background tasks.
    fn run(
        &self,
        reports: Reports,
        dead_letters: Arc<dyn DeadLetterQueue>,
        watching: impl Future<Output = ()> + Send + 'static,
    ) {
        let (tasks, stop) = (&self.life.tasks, &self.life.stop);
        let gateway = || Arc::clone(&self.gateway);
        tasks.spawn(watching);
        tasks.spawn(Arc::clone(&self.access).follow_hangups(stop.clone()));
        tasks.spawn(sweeper::run(gateway(), stop.clone()));
        tasks.spawn(dead_letter_intake::run(
            gateway(),
            dead_letters,
            stop.clone(),
        ));
        tasks.spawn(replies::take(gateway(), reports, stop.clone()));
        tasks.spawn(replies::expire(gateway(), stop.clone()));
        tasks.spawn(webhooks::run(gateway(), stop.clone()));
        tasks.spawn(sampler::read(gateway(), stop.clone()));
        tasks.spawn(sampler::announce(gateway(), stop.clone()));
    }
}
