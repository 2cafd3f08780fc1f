//! Which model files other workers hold, by the fleet's registry.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::job::Job;
use selvage_core::registry::{ANNOUNCE_EVERY, Fleet, Members, ModelStatus};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// Longest time the registry may take to answer.
const LIMIT: Duration = Duration::from_secs(1);

/// The registry, read at most as often as workers announce themselves.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    fleet: Arc<dyn Fleet>,
    read: Mutex<Option<(Instant, Vec<ModelStatus>)>>,
}

impl Elsewhere {
    pub(crate) fn new(fleet: Arc<dyn Fleet>) -> Self {
        Self {
            fleet,
            read: Mutex::default(),
        }
    }

    /// Whether live workers hold the files that all these jobs were accepted for. A registry that does not answer lists none.
    pub(crate) async fn holds(&self, jobs: &[Job]) -> bool {
        let mut read = self.read.lock().await;
        let held = match read.take() {
            Some((at, held)) if at.elapsed() < ANNOUNCE_EVERY => (at, held),
            _ => {
                let members = timeout(LIMIT, self.fleet.members()).await;
                let members = members.ok().and_then(Result::ok);
                (
                    Instant::now(),
                    members.as_ref().map(live).unwrap_or_default(),
                )
            }
        };
        let (_, held) = read.insert(held);
        jobs.iter()
            .all(|job| held.iter().any(|file| answers(file, job)))
    }
}

/// What workers hold that were heard of just now.
fn live(members: &Members) -> Vec<ModelStatus> {
    let live = members.workers.iter();
    let live = live.filter(|worker| !members.is_silent(&worker.id));
    live.flat_map(|worker| worker.models.clone()).collect()
}

fn answers(file: &ModelStatus, job: &Job) -> bool {
    (&file.name, file.digest) == (&job.model, job.key.model)
        && file
            .preprocessing
            .is_none_or(|preprocessing| preprocessing == job.key.preprocessing)
}
