//! A worker's life: consume until stopped, then drain. How a worker is made is in [`crate::consume::worker`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use selvage_core::fleet::member_id;
use selvage_core::job::Priority;
use selvage_core::outcome::Cost;
use selvage_core::queue::QueueError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::consume::change::Changer;
use crate::consume::elsewhere::Elsewhere;
use crate::consume::finish::Finisher;
use crate::consume::heartbeat::Heartbeat;
use crate::consume::hosted_model::HostedModel;
use crate::consume::intake::Intake;
use crate::consume::retry_policy::RetryPolicy;
use crate::consume::watchdog;
use crate::consume::worker::Worker;
use crate::engine::{End, Engine};

/// Most messages taken from an interactive queue at once, by default.
const MOST_PREFETCH: usize = 256;
/// The same for a batch queue, whose messages hold more jobs.
const MOST_BATCH_PREFETCH: usize = 64;
/// How long is waited for what should take no time.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Why a worker ended before it was stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The broker refuses for good.
    #[error("a queue cannot be consumed")]
    Refused(#[from] QueueError),
    /// A queue's task panicked; a worker that consumes some queues only would go unnoticed.
    #[error("a queue's task ended by itself")]
    ConsumerEnded,
}

/// Queues that are consumed.
type Queues = JoinSet<Result<(), QueueError>>;

impl Worker {
    /// Whether all queues are consumed: true from soon after [`Worker::run`] began until its drain.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.consuming.subscribe()
    }

    /// Consumes both queues of each model until `shutdown` fires, then finishes what was begun and hands back the rest.
    ///
    /// # Errors
    /// [`RunError`], once what was begun is finished.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), RunError> {
        let stop = shutdown.child_token();
        let (give_up, silence) = (CancellationToken::new(), CancellationToken::new());
        let (finishing, settling, beating) =
            (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
        let changed = Arc::<Notify>::default();
        beating.spawn(self.heartbeat(&changed).beat(silence.clone()));
        let finisher = self.finisher(&give_up);
        for (priority, ended) in self.ended.take().into_iter().flatten() {
            finishing.spawn(finisher.clone().work(priority, ended));
        }
        let intake = Arc::new(self.intake(&settling));
        let limit = self.settings.engine.inference_limit();
        let engine = intake.engine.clone();
        beating.spawn(watchdog::watch(engine, limit, silence.clone()));
        let changing = TaskTracker::new();
        if let Some((follow, changes)) = self.follow.take() {
            changing.spawn(follow.run(stop.clone()));
            let changer = self.changer(&intake.engine, changed);
            changing.spawn(changer.run(changes, stop.clone()));
        }
        let mut queues = self.open_consumers(&intake, &stop);
        let Self {
            settings,
            consuming,
            completions,
            loader,
            ..
        } = self;
        // Who holds an exit keeps the finishers waiting.
        drop((completions, loader));
        let ended = until_stopped_or_refused(&mut queues, &stop).await;
        tracing::info!("draining");
        consuming.send_replace(false);
        stop.cancel();
        let drain = Drain {
            queues,
            changing,
            intake,
            finishing,
            settling,
        };
        drain.within(settings.drain_timeout, &give_up).await;
        silence.cancel();
        beating.close();
        timeout(LAST_MOMENT, beating.wait()).await.ok();
        ended
    }

    fn changer(&self, engine: &Engine, changed: Arc<Notify>) -> Changer {
        Changer {
            loader: Arc::clone(&self.loader),
            models: self.models.clone(),
            engine: engine.clone(),
            backends: self.backends.clone(),
            metrics: self.metrics.clone(),
            changed,
            wanted: Vec::new(),
            unasked: Vec::new(),
        }
    }

    fn heartbeat(&self, changed: &Arc<Notify>) -> Heartbeat {
        Heartbeat {
            id: member_id("worker"),
            started_at: self.backends.clock.now(),
            models: self.models.clone(),
            fleet: Arc::clone(&self.backends.fleet),
            clock: self.backends.clock.clone(),
            metrics: self.metrics.clone(),
            changed: Arc::clone(changed),
        }
    }

    fn retry(&self) -> RetryPolicy {
        RetryPolicy {
            errors: self.metrics.store_errors.clone(),
        }
    }

    fn finisher(&self, give_up: &CancellationToken) -> Finisher {
        Finisher {
            backends: self.backends.clone(),
            metrics: self.metrics.clone(),
            retry: self.retry(),
            give_up: give_up.clone(),
        }
    }

    fn intake(&self, settling: &TaskTracker) -> Intake {
        let pools = self
            .models
            .iter()
            .map(|held| Arc::clone(&held.newest().pool));
        Intake {
            backends: self.backends.clone(),
            engine: Engine::new(pools.collect()),
            completions: self.completions.clone(),
            metrics: self.metrics.clone(),
            retry: self.retry(),
            elsewhere: Elsewhere::new(Arc::clone(&self.backends.fleet)),
            tasks: TaskTracker::new(),
            settling: settling.clone(),
        }
    }

    fn open_consumers(&self, intake: &Arc<Intake>, stop: &CancellationToken) -> Queues {
        let mut queues = JoinSet::new();
        let unopened = Arc::new(AtomicUsize::new(self.models.len() * Priority::ALL.len()));
        for held in &self.models {
            for priority in Priority::ALL {
                let (unopened, consuming) = (Arc::clone(&unopened), self.consuming.clone());
                let opened = move || {
                    if unopened.fetch_sub(1, Ordering::AcqRel) == 1 {
                        tracing::info!("consuming all queues");
                        consuming.send_replace(true);
                    }
                };
                let prefetch = self
                    .settings
                    .prefetch
                    .unwrap_or_else(|| prefetch(held, priority));
                let intake = Arc::clone(intake);
                queues.spawn(intake.consume(
                    Arc::clone(held),
                    priority,
                    prefetch,
                    stop.clone(),
                    opened,
                ));
            }
        }
        queues
    }
}

/// Messages in hand: what is computed and as much again, so that a thread never waits for the broker.
fn prefetch(held: &HostedModel, priority: Priority) -> u16 {
    let pool = Arc::clone(&held.newest().pool);
    let round = pool.sessions() * pool.max_batch();
    let messages = match priority {
        Priority::Interactive => (2 * round).min(MOST_PREFETCH),
        Priority::Batch => round.min(MOST_BATCH_PREFETCH),
    };
    u16::try_from(messages).unwrap_or(u16::MAX)
}

async fn until_stopped_or_refused(
    queues: &mut Queues,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    match stop.run_until_cancelled(queues.join_next()).await {
        None | Some(Some(Ok(Ok(())))) => Ok(()),
        Some(Some(Ok(Err(error)))) => Err(error.into()),
        Some(Some(Err(_)) | None) => Err(RunError::ConsumerEnded),
    }
}

/// What is left to be done once the worker was stopped.
struct Drain {
    queues: Queues,
    changing: TaskTracker,
    intake: Arc<Intake>,
    finishing: TaskTracker,
    settling: TaskTracker,
}

impl Drain {
    async fn within(self, limit: Duration, give_up: &CancellationToken) {
        let mut work = Box::pin(self.work());
        if timeout(limit, &mut work).await.is_err() {
            tracing::warn!(
                ?limit,
                "the drain took too long; what is left goes back to the broker"
            );
            give_up.cancel();
            timeout(LAST_MOMENT, work).await.ok();
        }
    }

    /// Hands back what was not begun, finishes what was, and waits for each settlement.
    async fn work(mut self) {
        // Until its queue is closed, what goes back could come again at once.
        let closed = async { while self.queues.join_next().await.is_some() {} };
        timeout(LAST_MOMENT, closed).await.ok();
        // A file that is being loaded is ended with the others.
        self.changing.close();
        self.changing.wait().await;
        let pools = self.intake.engine.pools();
        for pool in &pools {
            for task in pool.close() {
                let priority = task.job.priority();
                let ended = task.ends(End::HandedBack, Cost::default());
                self.intake.completions.send(priority, vec![ended]).await;
            }
        }
        while self.queues.join_next().await.is_some() {}
        self.intake.tasks.close();
        self.intake.tasks.wait().await;
        for pool in &pools {
            pool.stopped().await;
        }
        // With the last sender gone the finishers come to their end.
        drop(self.intake);
        self.finishing.close();
        self.finishing.wait().await;
        self.settling.close();
        self.settling.wait().await;
    }
}
