//! A worker's life: consume until stopped, then drain. How a worker is made is in [`crate::consume::worker`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use selvage_core::job::Priority;
use selvage_core::outcome::Cost;
use selvage_core::program::StartError;
use selvage_core::queue::QueueError;
use selvage_core::registry::member_id;
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
use crate::consume::watchdog;
use crate::consume::worker::Worker;
use crate::engine::{End, Engine};

/// Most messages taken from an interactive queue at once, by default.
const MOST_PREFETCH: usize = 256;
/// The same for a batch queue, whose messages hold more jobs.
const MOST_BATCH_PREFETCH: usize = 64;
/// How long is waited for what should take no time.
const LAST_MOMENT: Duration = Duration::from_secs(2);

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
    /// Where a queue cannot be consumed any more, once what was begun is finished.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), StartError> {
        let stop = shutdown.child_token();
        let (give_up, silence) = (CancellationToken::new(), CancellationToken::new());
        let (finishing, beating) = (TaskTracker::new(), TaskTracker::new());
        let changed = Arc::<Notify>::default();
        let heartbeat = Heartbeat {
            id: member_id("worker"),
            started_at: self.backends.clock.now(),
            models: self.models.clone(),
            metrics: self.metrics.clone(),
        };
        let (backends, at_once) = (self.backends.clone(), Arc::clone(&changed));
        beating.spawn(heartbeat.beat(backends, at_once, silence.clone()));
        let finisher = Finisher {
            backends: self.backends.clone(),
            metrics: self.metrics.clone(),
            give_up: give_up.clone(),
        };
        for (priority, ended) in self.ended.take().into_iter().flatten() {
            finishing.spawn(finisher.clone().work(priority, ended));
        }
        let pools = self.models.iter();
        let pools = pools.map(|held| Arc::clone(&held.newest().pool));
        let engine = Engine::new(pools.collect());
        let intake = Arc::new(Intake {
            backends: self.backends.clone(),
            engine: engine.clone(),
            completions: self.completions.clone(),
            metrics: self.metrics.clone(),
            elsewhere: Elsewhere::new(Arc::clone(&self.backends.fleet)),
            tasks: TaskTracker::new(),
        });
        let limit = self.settings.engine.inference_limit();
        beating.spawn(watchdog::watch(engine.clone(), limit, silence.clone()));
        let changing = TaskTracker::new();
        if let Some((follow, changes)) = self.follow.take() {
            changing.spawn(follow.run(stop.clone()));
            let changer = Changer {
                loader: Arc::clone(&self.loader),
                models: self.models.clone(),
                engine,
                backends: self.backends.clone(),
                metrics: self.metrics.clone(),
                changed,
                wanted: Vec::new(),
                unasked: Vec::new(),
            };
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
        let device_lost = loader.device_lost.clone();
        // Who holds an exit keeps the finishers waiting.
        drop((completions, loader));
        let ended = until_stopped_or_refused(&mut queues, &stop);
        let ended = device_lost.run_until_cancelled(ended).await;
        let lost = || {
            Err(StartError::Internal(anyhow::anyhow!(
                "the device failed for good"
            )))
        };
        let ended = ended.unwrap_or_else(lost);
        tracing::info!("draining");
        consuming.send_replace(false);
        stop.cancel();
        let drain = Drain {
            queues,
            changing,
            intake,
            finishing,
        };
        drain.within(settings.drain_timeout, &give_up).await;
        silence.cancel();
        beating.close();
        timeout(LAST_MOMENT, beating.wait()).await.ok();
        ended
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

/// A worker that consumes some queues only would go unnoticed, so it ends with the first of them.
async fn until_stopped_or_refused(
    queues: &mut Queues,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    let error = match stop.run_until_cancelled(queues.join_next()).await {
        None | Some(Some(Ok(Ok(())))) => return Ok(()),
        Some(Some(Ok(Err(error)))) => error,
        Some(Some(Err(_)) | None) => {
            return Err(StartError::Internal(anyhow::anyhow!(
                "a queue's task ended by itself"
            )));
        }
    };
    let kind = match error {
        QueueError::Refused(_) => StartError::Refused,
        QueueError::Unavailable(_) => StartError::Internal,
    };
    Err(kind(
        anyhow::Error::new(error).context("a queue cannot be consumed"),
    ))
}

/// What is left to be done once the worker was stopped.
struct Drain {
    queues: Queues,
    changing: TaskTracker,
    intake: Arc<Intake>,
    finishing: TaskTracker,
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
                let ended = task.ends(End::HandedBack, Cost::default());
                self.intake.completions.send(vec![ended]).await;
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
    }
}
