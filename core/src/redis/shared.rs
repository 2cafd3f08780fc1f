//! Calls that callers of one moment share: to submit jobs, and to ask where they stand.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::error::LinkError;
use super::gather::Gatherer;
use super::link::Link;
use super::scripts::{Entry, Names, StoreScripts, millis};
use crate::clock::UnixMillis;
use crate::store::{SUBMIT_LEASE, StoreError};

/// Most submissions that share one script call; it then runs for about a millisecond.
const SUBMISSIONS: usize = 256;
/// Most callers that share one call for their jobs' places; each asks for a page of jobs at most.
const ASKING: usize = 64;

/// The shared calls of one store.
#[derive(Debug)]
pub(super) struct Shared {
    link: Arc<Link>,
    /// Longest time for one call, waiting for the one before included.
    budget: Duration,
    submissions: Gatherer<Entry, String, Arc<LinkError>>,
    places: Gatherer<Vec<Asked>, Vec<u64>, Arc<LinkError>>,
}

/// A job whose place is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Its model's line.
    pub(super) line: String,
    pub(super) id: String,
}

impl Shared {
    /// Calls over this link.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub(super) fn new(
        link: &Arc<Link>,
        scripts: &Arc<StoreScripts>,
        names: &Names,
        retention_ms: u64,
        budget: Duration,
    ) -> Self {
        let shared = (link.clone(), scripts.clone(), Arc::new(names.clone()));
        let over = shared.clone();
        let submissions = Gatherer::new(SUBMISSIONS, move |submissions: Vec<Entry>| {
            let (link, scripts, names) = over.clone();
            async move {
                let mut call = scripts.submit.prepare_invoke();
                call.key(&names.deadlines).arg(retention_ms);
                call.arg(millis(UnixMillis(0).after(SUBMIT_LEASE)));
                submissions.iter().for_each(|one| one.add_to(&mut call));
                link.kept_script(&call).await.map_err(Arc::new)
            }
        });
        let over = shared;
        let places = Gatherer::new(ASKING, move |callers: Vec<Vec<Asked>>| {
            let (link, scripts, names) = over.clone();
            async move {
                let mut call = scripts.places.prepare_invoke();
                for asked in callers.iter().flatten() {
                    call.key(&asked.line).arg(&asked.id);
                }
                call.key(&names.record_prefix);
                let places: Vec<u64> = link.script(&call).await.map_err(Arc::new)?;
                let mut places = places.into_iter();
                let own = |asked: &Vec<Asked>| places.by_ref().take(asked.len()).collect();
                Ok(callers.iter().map(own).collect())
            }
        });
        Self {
            link: link.clone(),
            budget,
            submissions,
            places,
        }
    }

    /// What `submit.lua` says of one job.
    pub(super) async fn submit(&self, submission: Entry) -> Result<String, StoreError> {
        self.in_time(self.submissions.submit(submission)).await
    }

    /// The jobs' places from 1 on, 0 for one that stands in no line.
    pub(super) async fn places(&self, asked: Vec<Asked>) -> Result<Vec<u64>, StoreError> {
        self.in_time(self.places.submit(asked)).await
    }

    async fn in_time<R>(
        &self,
        call: impl Future<Output = Option<Result<R, Arc<LinkError>>>>,
    ) -> Result<R, StoreError> {
        match timeout(self.budget, call).await {
            Ok(Some(Ok(said))) => Ok(said),
            Ok(Some(Err(error))) => Err(Arc::unwrap_or_clone(error).into()),
            Ok(None) => Err(self.link.closed().into()),
            Err(_) => Err(self.link.silent().into()),
        }
    }
}
