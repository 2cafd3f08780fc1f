//! Whose job is whose, as the memory store keeps it. Who forgets a record takes it out here.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use crate::job::JobId;
use crate::key_name::KeyName;

/// Jobs by owner, each owner's in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Owners(HashMap<Option<KeyName>, BTreeSet<JobId>>);

impl Owners {
    pub(super) fn add(&mut self, owner: Option<&KeyName>, id: JobId) {
        self.0.entry(owner.cloned()).or_default().insert(id);
    }

    pub(super) fn remove(&mut self, owner: Option<&KeyName>, id: JobId) {
        let owner = owner.cloned();
        if let Some(ids) = self.0.get_mut(&owner) {
            ids.remove(&id);
            if ids.is_empty() {
                self.0.remove(&owner);
            }
        }
    }

    /// An owner's jobs older than that one, newest first.
    pub(super) fn before(
        &self,
        owner: Option<&KeyName>,
        before: Option<JobId>,
    ) -> impl Iterator<Item = JobId> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.0.get(&owner.cloned());
        let older = ids.map(|ids| ids.range((Bound::Unbounded, end)).rev());
        older.into_iter().flatten().copied()
    }
}
