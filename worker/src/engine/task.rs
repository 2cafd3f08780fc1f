//! A job on its way through the engine, and its way out.

use std::fmt::Debug;
use std::time::Instant;

use selvage_core::job::{Job, Priority};
use selvage_core::outcome::{Cost, Failure, Outcome};
use selvage_core::output::Meaning;
use tokio::sync::mpsc;

use crate::engine::delivery_guard::DeliveryGuard;
use crate::engine::running::RunningJob;
use crate::image::Prepared;

/// A job on its way through the engine.
#[derive(Debug)]
pub struct Task {
    /// The job.
    pub job: Job,
    /// Which start of the job this is, counted from 1.
    pub attempt: u32,
    /// Who may be near it.
    pub isolation: Isolation,
    /// Present once a thread has begun a job that has a record, and its attempt was counted where that was possible: the
    /// next try of a failed inference counts no other.
    pub running: Option<RunningJob>,
    /// When its delivery arrived at this worker.
    pub arrived: Instant,
    /// Its share in the delivery.
    pub delivery_guard: DeliveryGuard,
    /// What the values of its model mean.
    pub meaning: Meaning,
}

/// A decoded job.
#[derive(Debug)]
pub(super) struct DecodedJob {
    pub(super) task: Task,
    pub(super) image: Prepared,
    pub(super) cost: Cost,
}

impl DecodedJob {
    pub(super) const fn priority(&self) -> Priority {
        self.task.job.priority()
    }

    pub(super) fn fails(self, failure: Failure) -> Completed {
        let end = End::Outcome(Outcome::Failed(failure));
        self.task.ends(end, self.cost)
    }
}

/// Who may be near a job. One that was started before may have taken its worker down.
#[derive(Debug)]
pub enum Isolation {
    /// Anyone.
    Together,
    /// No other job in the same batch or in the same thread's hands.
    Alone,
    /// No other job in the whole process: it is the last start, and nobody else's fault may use it up.
    Exclusive(Box<dyn Debug + Send + Sync>),
}

/// A job that has left the engine, or never entered it.
#[derive(Debug)]
pub struct Completed {
    /// The job.
    pub task: Task,
    /// How it left.
    pub end: End,
    /// What it cost.
    pub cost: Cost,
    /// When it left.
    pub left: Instant,
}

/// How a job left.
#[derive(Debug, PartialEq)]
pub enum End {
    /// With its end.
    Outcome(Outcome),
    /// With its end, out of the cache.
    Cached(Outcome),
    /// As it came: it was not run.
    HandedBack,
}

impl Task {
    /// The job's way out; whoever waited for this job to leave may go on.
    #[must_use]
    pub fn ends(mut self, end: End, cost: Cost) -> Completed {
        self.isolation = Isolation::Together;
        Completed {
            task: self,
            end,
            cost,
            left: Instant::now(),
        }
    }
}

/// Counts the attempts of jobs that have a record, when a thread begins them.
pub trait CountAttempts: Debug + Send + Sync {
    /// The tasks that are to be run, and those that end instead. The message of a job that has ended meanwhile, or that another
    /// message of is running here, is acknowledged.
    fn begin(&self, tasks: Vec<Task>) -> (Vec<Task>, Vec<Completed>);
}

/// Where jobs go that have ended: one way per queue, so that asynchronous work which waits for its store never delays an answer
/// somebody waits for.
#[derive(Clone, Debug)]
pub struct Completions {
    /// Jobs somebody waits for.
    pub interactive: mpsc::Sender<Vec<Completed>>,
    /// Asynchronous jobs.
    pub batch: mpsc::Sender<Vec<Completed>>,
}

impl Completions {
    /// Sends jobs out from a thread of the engine. There is room for every job that can be in a worker's hands.
    pub(super) fn send_blocking(&self, ended: Vec<Completed>) {
        let (batch, interactive): (Vec<_>, Vec<_>) = ended
            .into_iter()
            .partition(|ended| ended.task.job.priority() == Priority::Batch);
        for ended in [interactive, batch] {
            if let Some(exit) = self.exit(&ended) {
                note(exit.blocking_send(ended).is_ok());
            }
        }
    }

    /// Sends jobs of one queue out.
    pub async fn send(&self, ended: Vec<Completed>) {
        if let Some(exit) = self.exit(&ended) {
            note(exit.send(ended).await.is_ok());
        }
    }

    fn exit(&self, ended: &[Completed]) -> Option<&mpsc::Sender<Vec<Completed>>> {
        let first = ended.first()?;
        Some(match first.task.job.priority() {
            Priority::Interactive => &self.interactive,
            Priority::Batch => &self.batch,
        })
    }
}

/// Past its drain a worker finishes no jobs. The delivery guards requeue them.
fn note(is_sent: bool) {
    if !is_sent {
        tracing::debug!("jobs ended after the drain");
    }
}
