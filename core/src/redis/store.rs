//! Records in Redis: which scripts run for which operation. The rules of the state machine are in `scripts/`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Script, ScriptInvocation};
use tokio::time::timeout;

use super::breaker::Rule;
use super::error::{LinkError, OpenError};
use super::fit::{Content, Unfit};
use super::gather::Gatherer;
use super::link::Link;
use super::record::{self, Damage, Unreadable};
use super::scripts::{Entry, Names, StoreScripts, millis, span_millis};
use crate::clock::UnixMillis;
use crate::job::{JobId, ModelName};
use crate::job_state::JobState;
use crate::key_name::KeyName;
use crate::program::config::{Prefix, RedisUrl};
use crate::store::{
    Cancel, Claim, Completion, JobStore, MAX_ATTEMPTS, MOST_SCANNED, Page, Progress, Record,
    SUBMIT_LEASE, Seed, StoreError, StoreFull, Submitted, WebhookOutbox, WorkerStore,
};
use crate::webhook::{Delivery, Next};

/// Longest time for one call: a record is worth some waiting, but not a client's whole patience.
const BUDGET: Duration = Duration::from_secs(2);
/// Longest time for the answer to "are you there".
const PING_BUDGET: Duration = Duration::from_millis(500);
/// Jobs of a list whose states are compared in one call. Other calls get their turns at the server between two.
const SCANNED_AT_ONCE: usize = 100;
/// Records of a list that are read in one call. To parse more would keep other tasks of this process waiting.
const READ_AT_ONCE: usize = 10;
/// Most submissions that share one script call; it then runs for about a millisecond.
const SUBMISSIONS: usize = 256;

/// Records in Redis, shared by all processes with the same prefix.
#[derive(Debug)]
pub struct RedisStore {
    link: Arc<Link>,
    names: Names,
    retention_ms: u64,
    scripts: StoreScripts,
    /// Submissions of one moment share a call.
    submissions: Gatherer<Entry, String, Arc<LinkError>>,
}

impl RedisStore {
    /// Records that are kept for `retention` after their end. Redis need not be up yet.
    ///
    /// # Errors
    /// An address that cannot be used.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(url: &RedisUrl, prefix: &Prefix, retention: Duration) -> Result<Self, OpenError> {
        let link = Arc::new(Link::open(
            url,
            Content::records(prefix),
            BUDGET,
            Rule::RECORDS,
        )?);
        let (names, scripts) = (Names::new(prefix), StoreScripts::new());
        let retention_ms = span_millis(retention);
        let over = (
            link.clone(),
            scripts.submit.clone(),
            names.deadlines.clone(),
        );
        let submissions = Gatherer::new(SUBMISSIONS, move |submissions: Vec<Entry>| {
            let (link, script, deadlines) = over.clone();
            async move {
                let mut call = script.prepare_invoke();
                call.key(deadlines).arg(retention_ms);
                call.arg(span_millis(SUBMIT_LEASE));
                submissions.iter().for_each(|one| one.add_to(&mut call));
                link.kept_script(&call).await.map_err(Arc::new)
            }
        });
        Ok(Self {
            link,
            names,
            retention_ms,
            scripts,
            submissions,
        })
    }

    /// Whether the server keeps records, as far as it can be asked within that time.
    ///
    /// # Errors
    /// [`Unfit`]: it evicts them when it is full, or its user lacks a command.
    pub async fn fit(&self, within: Duration) -> Result<(), Unfit> {
        self.link.fit(within).await
    }

    /// A call of a script that changes records: its first key is the list of deadlines, its first argument the retention.
    fn change<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(&self.names.deadlines).arg(self.retention_ms);
        call
    }

    async fn claims(&self, seeds: &[Seed], counts: bool) -> Result<Vec<Claim>, StoreError> {
        if seeds.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.change(&self.scripts.claim);
        call.arg(MAX_ATTEMPTS).arg(u8::from(counts));
        for seed in seeds {
            Entry::new(seed, &self.names)?.add_to(&mut call);
        }
        let codes: Vec<i64> = self.link.script(&call).await?;
        Ok(codes.into_iter().map(claim).collect())
    }

    /// What Redis holds under each id.
    async fn read(
        &self,
        ids: &[String],
    ) -> Result<Vec<Result<Option<Record>, Unreadable>>, LinkError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = redis::Pipeline::with_capacity(ids.len());
        for id in ids {
            commands.cmd("HGETALL").arg(self.names.record(id));
        }
        let replies = self.link.pipeline(&commands).await?;
        Ok(replies.into_iter().map(record::read).collect())
    }

    /// What `submit.lua` says of one job.
    fn submitted(&self, found: &str) -> Result<Submitted, StoreError> {
        let damaged = || self.unreadable(Unreadable::Damaged(Damage::of("once")));
        let id = |id: &str| id.parse::<JobId>().map_err(|_| damaged());
        if let Some(taken_over) = found.strip_prefix('+') {
            return Ok(Submitted::TakenOver(id(taken_over)?));
        }
        Ok(match (found, found.split_once(' ')) {
            ("", _) => Submitted::Mismatch,
            ("-", _) => Submitted::InProgress,
            (_, Some((_, number))) => Submitted::Recorded(number.parse().ok()),
            (existing, None) => Submitted::Existing(id(existing)?),
        })
    }

    /// An id as a list has it.
    fn listed(&self, id: &str) -> Result<JobId, StoreError> {
        let damaged = || Unreadable::Damaged(Damage::of("id"));
        id.parse().map_err(|_| self.unreadable(damaged()).into())
    }

    fn unreadable(&self, error: Unreadable) -> LinkError {
        match error {
            Unreadable::Refused(source) => self.link.failed(source),
            Unreadable::Damaged(damage) => LinkError::Damaged {
                redis: self.link.redis(),
                source: Arc::new(damage),
            },
        }
    }

    /// The first ids of an owner's list, newest first, of jobs in that state where one is given; and the one to go on after.
    async fn scan(
        &self,
        list: &str,
        mut before: Option<String>,
        limit: usize,
        state: Option<JobState>,
    ) -> Result<(Vec<String>, Option<String>), LinkError> {
        let mut ids = Vec::new();
        for _ in 0..MOST_SCANNED / SCANNED_AT_ONCE {
            let from = before.map_or_else(|| "+".to_owned(), |before| format!("({before}"));
            let mut call = self.scripts.scan.prepare_invoke();
            call.key(list).key(&self.names.record_prefix);
            call.arg(from).arg(SCANNED_AT_ONCE).arg(limit - ids.len());
            call.arg(state.map_or("", JobState::as_str));
            let (last, found): (Option<String>, Vec<String>) = self.link.script(&call).await?;
            before = last;
            ids.extend(found);
            if before.is_none() || ids.len() == limit {
                break;
            }
        }
        Ok((ids, before))
    }

    /// The records under ids that stand on a list; what has gone or cannot be read is taken off it.
    async fn still_there(&self, list: &str, ids: &[String]) -> Result<Vec<Record>, LinkError> {
        let (mut records, mut gone) = (Vec::new(), Vec::new());
        for (id, found) in ids.iter().zip(self.read(ids).await?) {
            match found {
                Ok(Some(record)) => records.push(record),
                Ok(None) => gone.push(id),
                Err(error) if error.is_about_the_record() => gone.push(id),
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        if !gone.is_empty() {
            let mut remove = redis::cmd("ZREM");
            remove.arg(list).arg(&gone);
            self.link.command::<()>(&remove).await?;
        }
        Ok(records)
    }

    /// Takes jobs off the list of deadlines: those in `stale` if they are no unfinished jobs, those in `damaged` at once.
    async fn tidy(&self, stale: &[String], damaged: &[String]) -> Result<(), LinkError> {
        if !damaged.is_empty() {
            let mut remove = redis::cmd("ZREM");
            remove.arg(&self.names.deadlines).arg(damaged);
            self.link.command::<()>(&remove).await?;
        }
        if !stale.is_empty() {
            let mut call = self.scripts.tidy.prepare_invoke();
            call.key(&self.names.deadlines);
            for id in stale {
                call.key(self.names.record(id)).arg(id);
            }
            self.link.script::<()>(&call).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl JobStore for RedisStore {
    async fn submit(&self, seed: &Seed) -> Result<Submitted, StoreError> {
        let submission = self.submissions.submit(Entry::new(seed, &self.names)?);
        // Waiting for the call before is part of the time.
        match timeout(BUDGET, submission).await {
            Ok(Some(Ok(found))) => self.submitted(&found),
            Ok(Some(Err(error))) => Err(Arc::unwrap_or_clone(error).into()),
            Ok(None) => Err(self.link.closed().into()),
            Err(_) => Err(self.link.silent().into()),
        }
    }

    async fn confirm(&self, id: JobId) -> Result<(), StoreError> {
        let mut call = self.change(&self.scripts.confirm);
        call.key(self.names.record(id)).arg(id.to_string());
        Ok(self.link.kept_script(&call).await?)
    }

    async fn withdraw(&self, id: JobId, submitter: JobId) -> Result<(), StoreError> {
        let mut call = self.change(&self.scripts.withdraw);
        call.key(self.names.record(id)).arg(id.to_string());
        call.arg(submitter.to_string());
        Ok(self.link.script(&call).await?)
    }

    async fn cancel(&self, id: JobId) -> Result<Cancel, StoreError> {
        let mut call = self.change(&self.scripts.cancel);
        call.key(self.names.record(id)).arg(id.to_string());
        let found: Option<String> = self.link.kept_script(&call).await?;
        Ok(match found.as_deref() {
            None => Cancel::Unknown,
            Some("canceled") => Cancel::Canceled,
            Some("requested") => Cancel::Requested,
            Some(state) => {
                let state = record::state(state).map_err(Unreadable::Damaged);
                Cancel::Finished(state.map_err(|error| self.unreadable(error))?)
            }
        })
    }

    async fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Record>>, StoreError> {
        let ids: Vec<String> = ids.iter().map(JobId::to_string).collect();
        let found = self.read(&ids).await?.into_iter();
        let records = found.map(|found| found.map_err(|error| self.unreadable(error).into()));
        records.collect()
    }

    async fn list(
        &self,
        owner: Option<&KeyName>,
        before: Option<JobId>,
        limit: usize,
        state: Option<JobState>,
    ) -> Result<Page, StoreError> {
        let (list, before) = (self.names.owned(owner), before.map(|id| id.to_string()));
        let (ids, next) = self.scan(&list, before, limit, state).await?;
        let next = next.map(|id| self.listed(&id)).transpose()?;
        let mut records = Vec::with_capacity(ids.len());
        for ids in ids.chunks(READ_AT_ONCE) {
            records.extend(self.still_there(&list, ids).await?);
        }
        records.retain(|record| state.is_none_or(|state| state == record.state));
        Ok(Page { records, next })
    }

    async fn progress(&self, models: &[ModelName]) -> Result<Vec<Progress>, StoreError> {
        if models.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = redis::Pipeline::with_capacity(2);
        let counts = read.cmd("HMGET").arg(&self.names.counts);
        for model in models {
            counts.arg(format!("submitted:{model}"));
            counts.arg(format!("ended:{model}"));
        }
        read.cmd("ZCARD").arg(&self.names.deadlines);
        let found = redis::Value::Array(self.link.pipeline(&read).await?);
        let found = found.extract_error().and_then(|found| {
            redis::from_redis_value::<(Vec<Option<u64>>, u64)>(found).map_err(Into::into)
        });
        let (counts, unfinished) = found.map_err(|error| self.link.failed(error))?;
        let progress = |counts: &[Option<u64>; 2]| {
            let [submitted, ended] = counts.map(Option::unwrap_or_default);
            // Jobs whose records were lost, or that an earlier version has ended, were not counted.
            let ended = ended.max(submitted.saturating_sub(unfinished));
            Progress { submitted, ended }
        };
        Ok(counts.as_chunks().0.iter().map(progress).collect())
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<Record>, StoreError> {
        let mut call = self.scripts.overdue.prepare_invoke();
        call.key(&self.names.deadlines).arg(limit);
        let ids: Vec<String> = self.link.script(&call).await?;
        let found = self.read(&ids).await?;
        let (mut records, mut stale, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
        for (id, found) in ids.into_iter().zip(found) {
            match found {
                Ok(Some(record)) if !record.state.is_terminal() => records.push(record),
                Ok(_) => stale.push(id),
                Err(error) if error.is_about_the_record() => {
                    let error = self.unreadable(error);
                    tracing::warn!(job.id = %id, error = &error as &dyn std::error::Error, "a record cannot be read, it is left to its TTL");
                    damaged.push(id);
                }
                Err(error) => return Err(self.unreadable(error).into()),
            }
        }
        self.tidy(&stale, &damaged).await?;
        Ok(records)
    }

    async fn abandon(&self, id: JobId, until: UnixMillis) -> Result<(), StoreError> {
        let mut note = redis::cmd("SET");
        note.arg(self.names.abandon(id)).arg(1);
        note.arg("PXAT").arg(millis(until).max(1));
        Ok(self.link.command(&note).await?)
    }
}

#[async_trait]
impl WorkerStore for RedisStore {
    async fn check(&self, seeds: &[Seed]) -> Result<Vec<Claim>, StoreError> {
        self.claims(seeds, false).await
    }

    async fn claim(&self, seeds: &[Seed]) -> Result<Vec<Claim>, StoreError> {
        self.claims(seeds, true).await
    }

    async fn release(&self, ids: &[JobId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut call = self.change(&self.scripts.release);
        for id in ids {
            call.key(self.names.record(id)).arg(id.to_string());
        }
        Ok(self.link.script(&call).await?)
    }

    async fn complete(&self, completions: &[Completion]) -> Result<Vec<bool>, StoreError> {
        if completions.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.change(&self.scripts.complete);
        for done in completions {
            call.key(self.names.record(done.id));
            call.arg(done.id.to_string()).arg(done.end.state().as_str());
            call.arg(serde_json::to_string(&done.cost)?)
                .arg(u8::from(done.cached));
            call.arg(record::answer(&done.end)?);
        }
        let done: Vec<u8> = self.link.kept_script(&call).await?;
        Ok(done.into_iter().map(|done| done == 1).collect())
    }

    async fn abandoned(&self, ids: &[JobId]) -> Result<Vec<bool>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = ids.iter().map(|id| self.names.abandon(*id)).collect();
        let mut read = redis::cmd("MGET");
        read.arg(names);
        let notes: Vec<Option<String>> = self.link.command(&read).await?;
        Ok(notes.iter().map(Option::is_some).collect())
    }

    async fn ping(&self) -> bool {
        self.link.ping(PING_BUDGET).await
    }
}

#[async_trait]
impl WebhookOutbox for RedisStore {
    async fn lease_webhooks(
        &self,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<Record>, StoreError> {
        let mut call = self.scripts.lease_webhooks.prepare_invoke();
        call.key(&self.names.webhooks).arg(limit);
        call.arg(span_millis(lease));
        let ids: Vec<String> = self.link.script(&call).await?;
        Ok(self.still_there(&self.names.webhooks, &ids).await?)
    }

    async fn complete_webhook(
        &self,
        id: JobId,
        delivery: Option<&Delivery>,
        next: Next,
    ) -> Result<(), StoreError> {
        let mut call = self.scripts.complete_webhook.prepare_invoke();
        call.key(&self.names.webhooks).key(self.names.record(id));
        let delivery = delivery.map(serde_json::to_string).transpose()?;
        call.arg(id.to_string()).arg(delivery.unwrap_or_default());
        match next {
            Next::After(delay) => call.arg(span_millis(delay)),
            Next::Nothing => call.arg(""),
        };
        Ok(self.link.script(&call).await?)
    }
}

/// What `claim.lua` says of one job.
fn claim(code: i64) -> Claim {
    match code {
        0 => Claim::Finished,
        -1 => Claim::Overdue,
        -2 => Claim::Exhausted,
        -3 => Claim::CancelRequested,
        start => Claim::Run(u32::try_from(start).unwrap_or(u32::MAX)),
    }
}

impl From<LinkError> for StoreError {
    fn from(error: LinkError) -> Self {
        if error.is_full() {
            return Self(StoreFull(error.into()).into());
        }
        Self(error.into())
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.into())
    }
}
