//! A worker's life: consume until told to stop, then drain. How a worker is made is in [`crate::worker`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use selvage_core::fleet::member_id;
use selvage_core::job::Lane;
use selvage_core::outcome::Cost;
use selvage_core::queue::QueueError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::change::Changer;
use crate::consume::Intake;
use crate::elsewhere::Elsewhere;
use crate::engine::{End, Engine};
use crate::finish::Finisher;
use crate::heartbeat::Heartbeat;
use crate::held::Held;
use crate::insist::Insist;
use crate::watchdog;
use crate::worker::Worker;

/// Most messages taken from an interactive lane at once, unless told otherwise.
const MOST_PREFETCH: usize = 256;
/// The same for a batch lane, whose messages hold more jobs.
const MOST_BATCH_PREFETCH: usize = 64;
/// How long is waited for what should take no time.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The broker refuses for good.
    #[error("a lane cannot be consumed")]
    Refused(#[from] QueueError),
    /// A lane's task panicked; a worker that consumes some lanes only would go unnoticed.
    #[error("a lane's task ended by itself")]
    Lane,
}

/// Lanes that are consumed.
type Lanes = JoinSet<Result<(), QueueError>>;

impl Worker {
    /// Whether all lanes are consumed: true from soon after [`Worker::run`] began until its drain.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.consuming.subscribe()
    }

    /// Consumes both lanes of each model until `shutdown` fires, then finishes what was begun and hands back the rest.
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
        for (lane, ended) in self.ended.take().into_iter().flatten() {
            finishing.spawn(finisher.clone().work(lane, ended));
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
        let mut lanes = self.open_lanes(&intake, &stop);
        let Self {
            settings,
            consuming,
            exits,
            loader,
            ..
        } = self;
        // Who holds an exit keeps the finishers waiting.
        drop((exits, loader));
        let ended = until_told_or_refused(&mut lanes, &stop).await;
        tracing::info!("draining");
        consuming.send_replace(false);
        stop.cancel();
        let drain = Drain {
            lanes,
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

    fn insist(&self) -> Insist {
        Insist {
            errors: self.metrics.store_errors.clone(),
        }
    }

    fn finisher(&self, give_up: &CancellationToken) -> Finisher {
        Finisher {
            backends: self.backends.clone(),
            metrics: self.metrics.clone(),
            insist: self.insist(),
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
            exits: self.exits.clone(),
            metrics: self.metrics.clone(),
            insist: self.insist(),
            elsewhere: Elsewhere::new(Arc::clone(&self.backends.fleet)),
            tasks: TaskTracker::new(),
            settling: settling.clone(),
        }
    }

    fn open_lanes(&self, intake: &Arc<Intake>, stop: &CancellationToken) -> Lanes {
        let mut lanes = JoinSet::new();
        let unopened = Arc::new(AtomicUsize::new(self.models.len() * Lane::ALL.len()));
        for held in &self.models {
            for lane in Lane::ALL {
                let (unopened, consuming) = (Arc::clone(&unopened), self.consuming.clone());
                let opened = move || {
                    if unopened.fetch_sub(1, Ordering::AcqRel) == 1 {
                        tracing::info!("consuming all lanes");
                        consuming.send_replace(true);
                    }
                };
                let prefetch = self
                    .settings
                    .prefetch
                    .unwrap_or_else(|| prefetch(held, lane));
                let intake = Arc::clone(intake);
                lanes.spawn(intake.consume(Arc::clone(held), lane, prefetch, stop.clone(), opened));
            }
        }
        lanes
    }
}

/// Messages in hand: what is computed and as much again, so that a thread never waits for the broker.
fn prefetch(held: &Held, lane: Lane) -> u16 {
    let pool = Arc::clone(&held.newest().pool);
    let round = pool.sessions() * pool.max_batch();
    let messages = match lane {
        Lane::Interactive => (2 * round).min(MOST_PREFETCH),
        Lane::Batch => round.min(MOST_BATCH_PREFETCH),
    };
    u16::try_from(messages).unwrap_or(u16::MAX)
}

async fn until_told_or_refused(
    lanes: &mut Lanes,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    match stop.run_until_cancelled(lanes.join_next()).await {
        None | Some(Some(Ok(Ok(())))) => Ok(()),
        Some(Some(Ok(Err(error)))) => Err(error.into()),
        Some(Some(Err(_)) | None) => Err(RunError::Lane),
    }
}

/// What is left to be done once the worker was told to stop.
struct Drain {
    lanes: Lanes,
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
        // Until its lane is closed, what goes back could come again at once.
        let closed = async { while self.lanes.join_next().await.is_some() {} };
        timeout(LAST_MOMENT, closed).await.ok();
        // A file that is being loaded is ended with the others.
        self.changing.close();
        self.changing.wait().await;
        let pools = self.intake.engine.pools();
        for pool in &pools {
            for task in pool.close() {
                let lane = task.job.lane();
                let ended = task.ends(End::HandedBack, Cost::default());
                self.intake.exits.send(lane, vec![ended]).await;
            }
        }
        while self.lanes.join_next().await.is_some() {}
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
