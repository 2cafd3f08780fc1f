//! Records in this process's memory, bounded in number. They end with the process; no network here.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use super::entry::Entry;
use super::{
    Cancel, Claim, Completion, JobState, JobStore, MOST_SCANNED, Page, Progress, Record,
    SUBMIT_LEASE, Seed, StoreError, StoreFull, Submitted, WebhookOutbox, WorkerStore,
};
use crate::clock::{Clock, UnixMillis};
use crate::job::{JobId, ModelName};
use crate::key::Digest;
use crate::key_name::KeyName;
use crate::webhook::{Delivery, KEPT_FOR, Next};

/// Most abandoned jobs that are noted. One that is not noted costs a computation, nothing else.
const MAX_ABANDONED: usize = 100_000;

/// Records in a map, for one process and its tests.
#[derive(Debug)]
pub struct MemoryStore {
    records: Mutex<Records>,
    capacity: usize,
    retention: Duration,
    clock: Clock,
}

/// No record may make room for another.
#[derive(Debug, thiserror::Error)]
#[error("all {0} records are of unfinished jobs or have a webhook to send")]
struct Full(usize);

/// The entries and three orders of them: each id is in exactly one, by whether its job and then its webhook has ended.
/// Idempotency keys live and end with their entries.
#[derive(Debug, Default)]
struct Records {
    entries: HashMap<JobId, Entry>,
    unfinished: BTreeSet<(UnixMillis, JobId)>,
    finished: BTreeSet<(UnixMillis, JobId)>,
    /// Finished jobs with a webhook to send. They make no room for others.
    notifying: BTreeSet<(UnixMillis, JobId)>,
    keys: HashMap<Digest, JobId>,
    /// When each undelivered webhook is due.
    lease_webhooks: HashMap<JobId, UnixMillis>,
    /// Jobs nobody waits for any more, each until a moment.
    abandoned: HashMap<JobId, UnixMillis>,
    /// Jobs by owner, each owner's in the order of their ids.
    owners: BTreeSet<(Option<KeyName>, JobId)>,
    progress: HashMap<ModelName, Progress>,
}

impl MemoryStore {
    /// A store of at most `capacity` records, which keeps finished ones for `retention`.
    ///
    /// Where a new record finds it full, the record that finished first makes room, unless its webhook is still to be sent.
    #[must_use]
    pub fn new(capacity: usize, retention: Duration, clock: Clock) -> Self {
        Self {
            records: Mutex::default(),
            capacity,
            retention,
            clock,
        }
    }

    fn claims(
        &self,
        seeds: &[Seed],
        claim: impl Fn(&mut Entry, UnixMillis) -> Claim,
    ) -> Result<Vec<Claim>, StoreError> {
        let (mut records, now) = self.lock();
        let claim = |seed: &Seed| {
            if !records.entries.contains_key(&seed.id) && seed.deadline <= now {
                return Ok(Claim::Overdue);
            }
            let entry = records.entry(seed, self.capacity, self.retention)?;
            Ok(claim(entry, now))
        };
        seeds.iter().map(claim).collect()
    }

    /// Jobs that have not ended.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        let (records, _) = self.lock();
        records.unfinished.len()
    }

    /// The records, without those whose time is over, and the time now.
    fn lock(&self) -> (MutexGuard<'_, Records>, UnixMillis) {
        let now = self.clock.now();
        // A panic cannot leave a change half done: each ends before anything that could panic begins.
        let mut records = self.records.lock();
        records.forget_old(now, self.retention);
        (records, now)
    }
}

impl Records {
    fn forget_old(&mut self, now: UnixMillis, retention: Duration) {
        while let Some(id) =
            pop_expired(&mut self.finished, now).or_else(|| pop_expired(&mut self.notifying, now))
        {
            self.remove(id);
        }
        while let Some(&(deadline, id)) = self.unfinished.first()
            && deadline.after(retention) <= now
        {
            self.unfinished.pop_first();
            self.remove(id);
        }
    }

    fn remove(&mut self, id: JobId) {
        self.lease_webhooks.remove(&id);
        let Some(Entry { record, .. }) = self.entries.remove(&id) else {
            return;
        };
        if !record.state.is_terminal() {
            self.progress(&record.seed.model).submitted -= 1;
        }
        self.owners.remove(&(record.seed.submission.owner, id));
        if let Some(idempotency) = record.seed.submission.idempotency {
            // It may be another job's by now.
            if self.keys.get(&idempotency.key) == Some(&id) {
                self.keys.remove(&idempotency.key);
            }
        }
    }

    /// The job that has that idempotency key. One that expired unconfirmed does not keep it.
    fn holder(&self, key: &Digest) -> Option<&Entry> {
        let entry = self.entries.get(self.keys.get(key)?)?;
        (!entry.expired_unconfirmed()).then_some(entry)
    }

    /// Writes an entry, unless another job has the same idempotency key.
    fn submit(
        &mut self,
        seed: &Seed,
        now: UnixMillis,
        (capacity, retention): (usize, Duration),
    ) -> Result<Submitted, StoreError> {
        let mut written = seed.clone();
        let mut number = None;
        let earlier = seed.submission.idempotency.and_then(|idempotency| {
            let earlier = self.holder(&idempotency.key)?;
            (earlier.record.seed.id != seed.id).then_some((idempotency, earlier))
        });
        if let Some((idempotency, earlier)) = earlier {
            let earlier_seed = &earlier.record.seed;
            if earlier_seed
                .submission
                .idempotency
                .map(|idempotency| idempotency.fingerprint)
                != Some(idempotency.fingerprint)
            {
                return Ok(Submitted::Mismatch);
            }
            let is_queued = earlier.record.state == JobState::Queued;
            let Some((until, submitter)) = earlier.pending.filter(|_| is_queued) else {
                return Ok(Submitted::Existing(earlier_seed.id));
            };
            if until > now && submitter != seed.id {
                return Ok(Submitted::InProgress);
            }
            written.id = earlier_seed.id;
            number = earlier.record.number;
            let deadline = earlier_seed.deadline;
            self.unfinished.remove(&(deadline, written.id));
            self.remove(written.id);
        }
        let is_new = !self.entries.contains_key(&written.id);
        let entry = self.entry(&written, capacity, retention)?;
        if is_new && seed.submission.idempotency.is_some() {
            entry.pending = Some((now.after(SUBMIT_LEASE), seed.id));
        }
        // The first message of a job that is taken over may still be in the queue: its position does not rise.
        entry.record.number = number.or(entry.record.number);
        Ok(if written.id == seed.id {
            Submitted::Recorded(entry.record.number)
        } else {
            Submitted::TakenOver(written.id)
        })
    }

    fn confirm(&mut self, id: JobId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let has_expired = entry.expired_unconfirmed();
            entry.pending = None;
            if has_expired {
                self.notify(id);
            }
        }
    }

    /// Makes the webhook of an ended job due, where it has one for that state.
    fn notify(&mut self, id: JobId) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let record = &entry.record;
        let webhook = record.seed.submission.webhook.as_ref();
        let wanted = webhook.is_some_and(|webhook| webhook.events.contains(&record.state));
        if let Some(ended) = record.finished_at
            && wanted
            && !entry.expired_unconfirmed()
        {
            self.lease_webhooks.insert(id, ended);
            self.finished.remove(&(record.expires_at, id));
            self.notifying.insert((kept_for_webhook(record), id));
        }
    }

    /// The entry of this seed, made now if there is none.
    fn entry(
        &mut self,
        seed: &Seed,
        capacity: usize,
        retention: Duration,
    ) -> Result<&mut Entry, StoreError> {
        if !self.entries.contains_key(&seed.id) {
            if self.entries.len() >= capacity {
                let (_, oldest) = self
                    .finished
                    .pop_first()
                    .ok_or_else(|| StoreError(StoreFull(Full(capacity).into()).into()))?;
                self.remove(oldest);
            }
            self.unfinished.insert((seed.deadline, seed.id));
            if let Some(idempotency) = seed.submission.idempotency
                && self.holder(&idempotency.key).is_none()
            {
                self.keys.insert(idempotency.key, seed.id);
            }
            self.owners.insert((seed.submission.owner.clone(), seed.id));
            self.progress(&seed.model).submitted += 1;
        }
        let number = self.progress(&seed.model).submitted;
        let entry = self.entries.entry(seed.id);
        Ok(entry.or_insert_with(|| Entry::new(seed.clone(), number, retention)))
    }

    fn progress(&mut self, model: &ModelName) -> &mut Progress {
        self.progress.entry(model.clone()).or_default()
    }

    /// Forgets an entry that is still queued.
    fn withdraw(&mut self, id: JobId, by: JobId) {
        if let Some(entry) = self.entries.get(&id)
            && entry.record.state == JobState::Queued
            && (entry.record.seed.submission.idempotency.is_none()
                || entry.pending.is_some_and(|(_, submitter)| submitter == by))
        {
            self.unfinished.remove(&(entry.record.seed.deadline, id));
            self.remove(id);
        }
    }

    /// Changes an entry and moves it to the finished ones if the change ended it; `None` for an unknown id.
    fn change<T>(&mut self, id: JobId, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.entries.get_mut(&id)?;
        let was_finished = entry.record.state.is_terminal();
        let result = change(entry);
        if entry.record.state.is_terminal() && !was_finished {
            self.unfinished.remove(&(entry.record.seed.deadline, id));
            self.finished.insert((entry.record.expires_at, id));
            let model = entry.record.seed.model.clone();
            self.progress(&model).ended += 1;
            self.notify(id);
        }
        Some(result)
    }
}

/// Takes the first job off, if its time is over.
fn pop_expired(jobs: &mut BTreeSet<(UnixMillis, JobId)>, now: UnixMillis) -> Option<JobId> {
    jobs.first().filter(|(expires_at, _)| *expires_at <= now)?;
    jobs.pop_first().map(|(_, id)| id)
}

/// Until when the record of a job whose webhook has not ended is kept.
fn kept_for_webhook(record: &Record) -> UnixMillis {
    let ended = record.finished_at.unwrap_or(record.expires_at);
    record.expires_at.max(ended.after(KEPT_FOR))
}

#[async_trait]
impl JobStore for MemoryStore {
    async fn submit(&self, seed: &Seed) -> Result<Submitted, StoreError> {
        let (mut records, now) = self.lock();
        records.submit(seed, now, (self.capacity, self.retention))
    }

    async fn confirm(&self, id: JobId) -> Result<(), StoreError> {
        let (mut records, _) = self.lock();
        records.confirm(id);
        Ok(())
    }

    async fn withdraw(&self, id: JobId, submitter: JobId) -> Result<(), StoreError> {
        let (mut records, _) = self.lock();
        records.withdraw(id, submitter);
        Ok(())
    }

    async fn cancel(&self, id: JobId) -> Result<Cancel, StoreError> {
        let (mut records, now) = self.lock();
        let canceled = records.change(id, |entry| entry.cancel(now, self.retention));
        Ok(canceled.unwrap_or(Cancel::Unknown))
    }

    async fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Record>>, StoreError> {
        let (records, _) = self.lock();
        let record = |id| {
            records
                .entries
                .get(id)
                .map(|entry: &Entry| entry.record.clone())
        };
        Ok(ids.iter().map(record).collect())
    }

    async fn list(
        &self,
        owner: Option<&KeyName>,
        before: Option<JobId>,
        limit: usize,
        state: Option<JobState>,
    ) -> Result<Page, StoreError> {
        let (records, _) = self.lock();
        let owner = owner.cloned();
        let (first, end) = ([0; 16], before.unwrap_or(JobId::from_bytes([u8::MAX; 16])));
        let older = (owner.clone(), JobId::from_bytes(first))..(owner, end);
        let mut ids = records.owners.range(older).rev().map(|(_, id)| *id);
        let mut last = None;
        let scanned = ids.by_ref().take(MOST_SCANNED);
        let found = scanned.filter_map(|id| {
            last = Some(id);
            let record = &records.entries.get(&id)?.record;
            let is_wanted = state.is_none_or(|state| state == record.state);
            is_wanted.then(|| record.clone())
        });
        let records = found.take(limit).collect();
        let next = last.filter(|_| ids.next().is_some());
        Ok(Page { records, next })
    }

    async fn progress(&self, models: &[ModelName]) -> Result<Vec<Progress>, StoreError> {
        let (mut records, _) = self.lock();
        Ok(models
            .iter()
            .map(|model| *records.progress(model))
            .collect())
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<Record>, StoreError> {
        let (records, now) = self.lock();
        let due = records
            .unfinished
            .iter()
            .take_while(|(deadline, _)| *deadline <= now);
        let record = |(_, id): &(UnixMillis, JobId)| records.entries.get(id);
        let entries = due.take(limit).filter_map(record);
        Ok(entries.map(|entry| entry.record.clone()).collect())
    }

    async fn abandon(&self, id: JobId, until: UnixMillis) -> Result<(), StoreError> {
        let (mut records, now) = self.lock();
        let abandoned = &mut records.abandoned;
        if abandoned.len() >= MAX_ABANDONED {
            abandoned.retain(|_, until| *until > now);
        }
        if abandoned.len() < MAX_ABANDONED {
            abandoned.insert(id, until);
        }
        Ok(())
    }
}

#[async_trait]
impl WorkerStore for MemoryStore {
    async fn check(&self, seeds: &[Seed]) -> Result<Vec<Claim>, StoreError> {
        self.claims(seeds, Entry::check)
    }

    async fn claim(&self, seeds: &[Seed]) -> Result<Vec<Claim>, StoreError> {
        self.claims(seeds, Entry::claim)
    }

    async fn release(&self, ids: &[JobId]) -> Result<(), StoreError> {
        let (mut records, now) = self.lock();
        for &id in ids {
            records.change(id, |entry| entry.release(now, self.retention));
        }
        Ok(())
    }

    async fn complete(&self, completions: &[Completion]) -> Result<Vec<bool>, StoreError> {
        let (mut records, now) = self.lock();
        let complete = |completion: &Completion| {
            let change = |entry: &mut Entry| entry.complete(completion, now, self.retention);
            records.change(completion.id, change).unwrap_or(false)
        };
        Ok(completions.iter().map(complete).collect())
    }

    async fn abandoned(&self, ids: &[JobId]) -> Result<Vec<bool>, StoreError> {
        let (records, now) = self.lock();
        let is_abandoned = |id| records.abandoned.get(id).is_some_and(|until| *until > now);
        Ok(ids.iter().map(is_abandoned).collect())
    }

    async fn ping(&self) -> bool {
        true
    }
}

#[async_trait]
impl WebhookOutbox for MemoryStore {
    async fn lease_webhooks(
        &self,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<Record>, StoreError> {
        let (mut records, now) = self.lock();
        let due = records
            .lease_webhooks
            .iter()
            .filter(|(_, due)| **due <= now);
        let ids: Vec<JobId> = due.map(|(id, _)| *id).take(limit).collect();
        for id in &ids {
            records.lease_webhooks.insert(*id, now.after(lease));
        }
        let record = |id: &JobId| records.entries.get(id).map(|entry| entry.record.clone());
        Ok(ids.iter().filter_map(record).collect())
    }

    async fn complete_webhook(
        &self,
        id: JobId,
        delivery: Option<&Delivery>,
        next: Next,
    ) -> Result<(), StoreError> {
        let (mut records, now) = self.lock();
        if let (Some(entry), Some(delivery)) = (records.entries.get_mut(&id), delivery) {
            entry.record.delivery = Some(delivery.clone());
        }
        match next {
            Next::After(delay) if records.entries.contains_key(&id) => {
                records.lease_webhooks.insert(id, now.after(delay));
            }
            Next::After(_) | Next::Nothing => {
                let was_due = records.lease_webhooks.remove(&id).is_some();
                let record = records.entries.get(&id).filter(|_| was_due);
                if let Some(Entry { record, .. }) = record {
                    let (kept_until, expires_at) = (kept_for_webhook(record), record.expires_at);
                    records.notifying.remove(&(kept_until, id));
                    records.finished.insert((expires_at, id));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
