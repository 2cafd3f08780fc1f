//! Counts an attempt of each job that has a record, when a thread of the engine begins it. Decoding belongs to the attempt: a
//! picture can end its worker's process there too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use selvage_core::outcome::Cost;
use selvage_core::store::{Claim, Seed, WorkerStore};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::consume::claim::{self, Verdict};
use crate::engine::running::RunningJobs;
use crate::engine::{Completed, CountAttempts, Task};

/// How long a thread waits for the store. Past it the jobs are run uncounted: other jobs wait for the thread.
const LIMIT: Duration = Duration::from_millis(250);
/// The pause after a ping that was not answered.
const PAUSE: Duration = Duration::from_secs(1);

/// The store, for threads that are not the runtime's.
#[derive(Debug)]
pub struct Starts {
    store: Arc<dyn WorkerStore>,
    runtime: Handle,
    line: Arc<Line>,
    running: RunningJobs,
}

#[derive(Debug, Default)]
struct Line {
    /// The last call failed or timed out; no thread waits for the store until it answers a ping.
    is_down: AtomicBool,
    /// A ping is on its way.
    is_pinged: AtomicBool,
}

impl Starts {
    /// Counts in this store, on the current runtime.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn new(store: Arc<dyn WorkerStore>) -> Self {
        Self {
            store,
            runtime: Handle::current(),
            line: Arc::default(),
            running: RunningJobs::default(),
        }
    }

    /// Per job what its record says; nothing where the store does not answer.
    fn claims(&self, seeds: &[Seed]) -> Vec<Claim> {
        if seeds.is_empty() {
            return Vec::new();
        }
        if self.line.is_down.load(Ordering::Acquire) {
            self.ping();
            return Vec::new();
        }
        let claims = async { timeout(LIMIT, self.store.claim(seeds)).await };
        match self.runtime.block_on(claims) {
            Ok(Ok(claims)) => return claims,
            Ok(Err(error)) => {
                tracing::debug!(error = %error.0, "attempts were not counted: the job store failed");
            }
            Err(_late) => tracing::debug!("attempts were not counted: the job store is silent"),
        }
        self.line.is_down.store(true, Ordering::Release);
        self.ping();
        Vec::new()
    }

    /// Asks once whether the store is back, unless somebody does; ends by itself.
    fn ping(&self) {
        if self.line.is_pinged.swap(true, Ordering::AcqRel) {
            return;
        }
        let (store, line) = (Arc::clone(&self.store), Arc::clone(&self.line));
        self.runtime.spawn(async move {
            if timeout(PAUSE, store.ping()).await == Ok(true) {
                line.is_down.store(false, Ordering::Release);
            } else {
                sleep(PAUSE).await;
            }
            line.is_pinged.store(false, Ordering::Release);
        });
    }
}

impl CountAttempts for Starts {
    fn begin(&self, tasks: Vec<Task>) -> (Vec<Task>, Vec<Completed>) {
        let (mut run, mut ended) = (Vec::with_capacity(tasks.len()), Vec::new());
        let (mut fresh, mut seeds) = (Vec::new(), Vec::new());
        for mut task in tasks {
            match Seed::of(&task.job) {
                Some(seed) if task.running.is_none() => match self.running.begin(task.job.id) {
                    None => task.delivery_guard.done(),
                    Some(running) => {
                        task.running = Some(running);
                        seeds.push(seed);
                        fresh.push(task);
                    }
                },
                Some(_) | None => run.push(task),
            }
        }
        let mut claims = self.claims(&seeds).into_iter();
        for mut task in fresh {
            match claims.next().map(|claim| claim::submitted(claim, None)) {
                None => run.push(task),
                Some(Verdict::Run(attempt)) => {
                    task.attempt = attempt;
                    run.push(task);
                }
                Some(Verdict::End(end)) => ended.push(task.ends(end, Cost::default())),
                Some(Verdict::Settled(_)) => task.delivery_guard.done(),
            }
        }
        (run, ended)
    }
}
