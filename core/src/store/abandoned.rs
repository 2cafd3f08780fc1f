//! Jobs nobody waits for any more, as the memory store keeps them.

use std::collections::{BTreeSet, HashSet};

use crate::clock::UnixMillis;
use crate::job::JobId;

/// Most abandoned jobs kept; those that expire first are evicted first. One that is evicted costs a computation, nothing else.
const MOST: usize = 100_000;

/// Abandoned jobs, each until a moment.
#[derive(Debug, Default)]
pub(super) struct AbandonedJobs {
    ids: HashSet<JobId>,
    by_end: BTreeSet<(UnixMillis, JobId)>,
}

impl AbandonedJobs {
    pub(super) fn add(&mut self, id: JobId, until: UnixMillis) {
        if self.ids.insert(id) {
            self.by_end.insert((until, id));
        }
        if self.ids.len() > MOST {
            self.forget_first();
        }
    }

    pub(super) fn has(&self, id: JobId) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn forget_old(&mut self, now: UnixMillis) {
        while self.by_end.first().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, id)) = self.by_end.pop_first() {
            self.ids.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandons_are_bounded_and_end() {
        let mut abandoned = AbandonedJobs::default();
        let first = JobId::new();
        abandoned.add(first, UnixMillis(1));
        for _ in 0..MOST {
            abandoned.add(JobId::new(), UnixMillis(5));
        }
        assert!(!abandoned.has(first));
        assert_eq!((abandoned.ids.len(), abandoned.by_end.len()), (MOST, MOST));
        abandoned.forget_old(UnixMillis(5));
        assert!(abandoned.ids.is_empty() && abandoned.by_end.is_empty());
    }
}
