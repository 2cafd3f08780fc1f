//! The models a worker holds, and their files: one each, or two while one takes over from the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use selvage_core::catalog::Model;
use selvage_core::clock::UnixMillis;
use selvage_core::job::{Job, ModelName, Priority};
use selvage_core::registry::Taken;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::engine::Pool;

/// Jobs in hand per queue, in full batches of all sessions: one is computed, one waits, two are being written down.
const IN_HAND: usize = 4;

/// A model this worker holds.
#[derive(Debug)]
pub(crate) struct HostedModel {
    pub(crate) name: ModelName,
    /// The newest first; never empty.
    files: RwLock<Vec<Arc<LoadedModel>>>,
    /// How far the queues have been read.
    pub(crate) taken: Progress,
}

/// One file of a model, ready to compute, and the room for its jobs.
#[derive(Debug)]
pub(crate) struct LoadedModel {
    pub(crate) model: Arc<Model>,
    pub(crate) pool: Arc<Pool>,
    interactive: Arc<Semaphore>,
    batch: Arc<Semaphore>,
    /// Most jobs of one queue in hand.
    room: u32,
}

/// When the youngest job was made that was taken from each queue, in Unix milliseconds; 0 while none was.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    interactive: AtomicU64,
    batch: AtomicU64,
}

impl Progress {
    pub(crate) fn note(&self, priority: Priority, jobs: &[Job]) {
        let youngest = jobs.iter().map(|job| job.id.made_at().0).max();
        let reached = match priority {
            Priority::Interactive => &self.interactive,
            Priority::Batch => &self.batch,
        };
        reached.fetch_max(youngest.unwrap_or_default(), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Taken {
        let read = |reached: &AtomicU64| match reached.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(UnixMillis(millis)),
        };
        Taken {
            interactive: read(&self.interactive),
            batch: read(&self.batch),
        }
    }
}

impl HostedModel {
    pub(crate) fn new(loaded: LoadedModel) -> Self {
        Self {
            name: loaded.model.name.clone(),
            files: RwLock::new(vec![Arc::new(loaded)]),
            taken: Progress::default(),
        }
    }

    /// The files, the newest first.
    pub(crate) fn files(&self) -> Vec<Arc<LoadedModel>> {
        self.files.read().clone()
    }

    /// The newest file.
    pub(crate) fn newest(&self) -> Arc<LoadedModel> {
        Arc::clone(&self.files.read()[0])
    }

    /// Adds a file, which is the newest from now on; one that is here already becomes it.
    pub(crate) fn put_first(&self, loaded: Arc<LoadedModel>) {
        let mut files = self.files.write();
        files.retain(|file| !Arc::ptr_eq(file, &loaded));
        files.insert(0, loaded);
    }

    /// Takes a file away, unless it is the only one or has jobs in hand. Whether it did.
    pub(crate) fn take_away(&self, loaded: &Arc<LoadedModel>) -> bool {
        // Under the lock: whoever finds the file closed finds it gone when it looks again.
        let mut files = self.files.write();
        let gone = files.len() > 1 && loaded.close();
        if gone {
            files.retain(|file| !Arc::ptr_eq(file, loaded));
        }
        gone
    }

    /// Waits for room for a delivery's jobs with the file they were accepted for, with the newest where it is not here.
    /// `None` once `stop` has fired.
    pub(crate) async fn room(
        &self,
        priority: Priority,
        jobs: &[Job],
        stop: &CancellationToken,
    ) -> Option<(Arc<LoadedModel>, OwnedSemaphorePermit)> {
        while !stop.is_cancelled() {
            let loaded = self.file_of(jobs);
            let room = loaded.room(priority, jobs.len());
            // A file that was closed just now has left the list: the next look finds another.
            if let Ok(room) = stop.run_until_cancelled(room).await? {
                return Some((loaded, room));
            }
        }
        None
    }

    fn file_of(&self, jobs: &[Job]) -> Arc<LoadedModel> {
        let files = self.files.read();
        let file = jobs.first().and_then(|job| {
            let mut files = files.iter();
            files.find(|file| file.model.answers(&job.key))
        });
        Arc::clone(file.unwrap_or(&files[0]))
    }
}

impl LoadedModel {
    pub(crate) fn new(model: Arc<Model>, pool: Arc<Pool>) -> Self {
        let room = IN_HAND * pool.max_batch() * pool.sessions();
        Self {
            model,
            pool,
            interactive: Arc::new(Semaphore::new(room)),
            batch: Arc::new(Semaphore::new(room)),
            room: u32::try_from(room).unwrap_or(u32::MAX),
        }
    }

    /// Waits for room for so many jobs; for more than there is room, all of it. An error where the file was closed.
    async fn room(
        &self,
        priority: Priority,
        jobs: usize,
    ) -> Result<OwnedSemaphorePermit, tokio::sync::AcquireError> {
        let room = Arc::clone(match priority {
            Priority::Interactive => &self.interactive,
            Priority::Batch => &self.batch,
        });
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        room.acquire_many_owned(jobs.min(self.room)).await
    }

    /// Takes no more jobs, unless some are in hand. Whether it is closed.
    fn close(&self) -> bool {
        let queues = [&self.interactive, &self.batch];
        let idle = queues.map(|priority| priority.try_acquire_many(self.room));
        let idle = idle.iter().all(Result::is_ok);
        if idle {
            queues.into_iter().for_each(|priority| priority.close());
        }
        idle
    }
}
