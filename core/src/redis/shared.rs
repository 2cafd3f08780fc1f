//! Calls to submit jobs, which callers of one moment share.

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

/// The shared calls of one store.
#[derive(Debug)]
pub(super) struct Shared {
    link: Arc<Link>,
    /// Longest time for one call, waiting for the one before included.
    budget: Duration,
    submissions: Gatherer<Entry, String, Arc<LinkError>>,
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
        let over = (link.clone(), scripts.clone(), Arc::new(names.clone()));
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
        Self {
            link: link.clone(),
            budget,
            submissions,
        }
    }

    /// What `submit.lua` says of one job.
    pub(super) async fn submit(&self, submission: Entry) -> Result<String, StoreError> {
        match timeout(self.budget, self.submissions.submit(submission)).await {
            Ok(Some(Ok(said))) => Ok(said),
            Ok(Some(Err(error))) => Err(Arc::unwrap_or_clone(error).into()),
            Ok(None) => Err(self.link.closed().into()),
            Err(_) => Err(self.link.silent().into()),
        }
    }
}
