//! The state machine under random histories, on memory and on Redis, against [`crate::model`].

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use selvage_core::clock::{Clock, UnixMillis};
use selvage_core::job_state::JobState;
use selvage_core::program::config::Prefix;
use selvage_core::store::suite::{assert_sound, completion};
use selvage_core::store::{
    Claim, End, JobStore, MemoryStore, Record, SUBMIT_LEASE, Seed, Submitted,
};
use selvage_core::webhook::{Delivery, Next};
use tokio::task::JoinSet;

use crate::model::{HOOKED, JOBS, KEYED, Model, Step, Which, jobs, step};
use crate::support::{
    HOUR, Raw, counts_name, deadlines_name, fresh_prefix, job_name, shared_redis, store_of,
    webhooks_name,
};

/// A store, its jobs and the model of each.
struct History {
    store: Arc<dyn JobStore>,
    /// Where records can be looked at and wiped from outside.
    redis: Option<(Raw, Prefix)>,
    /// The memory store's clock.
    clock: Option<Clock>,
    jobs: Vec<Seed>,
    models: Vec<Model>,
    /// Whose the idempotency key is, as long as its record is there.
    key_holder: Option<Which>,
    /// Which of [`KEYED`] have ever had a record: the other's message cannot be claimed, it was never sent.
    accepted: [bool; JOBS],
    /// Each record as it was first seen ended.
    ended: Vec<Option<Record>>,
    /// Unfinished jobs whose records were lost.
    lost: u64,
}

impl History {
    fn is_overdue(&self, which: Which) -> bool {
        which >= JOBS - 2 && self.jobs[which].deadline < UnixMillis::wall()
    }

    async fn run(&mut self, step: &Step) {
        match step {
            Step::Submit(which) => {
                let expected = self.submit(*which);
                let reported = match self.store.submit(&self.jobs[*which]).await.unwrap() {
                    Submitted::Recorded(Some(_)) => Submitted::Recorded(None),
                    other => other,
                };
                assert_eq!(reported, expected);
            }
            Step::Check(batch) => {
                let (seeds, expected) = self.claims(batch, Model::check);
                assert_eq!(self.store.check(&seeds).await.unwrap(), expected);
            }
            Step::Claim(batch) => {
                let (seeds, expected) = self.claims(batch, Model::claim);
                assert_eq!(self.store.claim(&seeds).await.unwrap(), expected);
            }
            Step::Release(batch) => {
                let ids: Vec<_> = batch.iter().map(|&n| self.jobs[n].id).collect();
                batch.iter().for_each(|&n| self.models[n].release());
                self.store.release(&ids).await.unwrap();
            }
            Step::Complete(ends) => self.complete(ends).await,
            Step::Cancel(which) => {
                let expected = self.models[*which].cancel();
                let reported = self.store.cancel(self.jobs[*which].id).await.unwrap();
                assert_eq!(reported, expected);
            }
            Step::Confirm(which) => {
                self.models[*which].pending = None;
                self.store.confirm(self.jobs[*which].id).await.unwrap();
            }
            Step::Withdraw(which) => {
                let takes = |model: &Model| model.pending.is_some_and(|(by, _)| by == *which);
                let job = self.models.iter().position(takes).unwrap_or(*which);
                self.models[job].withdraw(*which);
                let (id, submitter) = (self.jobs[job].id, self.jobs[*which].id);
                self.store.withdraw(id, submitter).await.unwrap();
            }
            Step::EndLeases => self.end_leases(),
            Step::Tell => {
                if self.models[HOOKED].is_webhook_due() {
                    self.models[HOOKED].delivered = true;
                    let (id, done) = (self.jobs[HOOKED].id, Delivery::default());
                    self.store
                        .complete_webhook(id, Some(&done), Next::Nothing)
                        .await
                        .unwrap();
                }
            }
            Step::Sweep => self.sweep().await,
            Step::Lose(which) => {
                if let Some((raw, prefix)) = &mut self.redis {
                    let job = &self.jobs[*which];
                    raw.run::<()>("DEL", job_name(prefix, job));
                    let id = job.id.to_string();
                    for list in [deadlines_name(prefix), webhooks_name(prefix)] {
                        raw.run::<()>("ZREM", (list, &id));
                    }
                    self.lost += u64::from(self.models[*which].is_open());
                    self.models[*which] = Model::default();
                    self.ended[*which] = None;
                }
            }
        }
    }

    fn submit(&mut self, which: Which) -> Submitted {
        let holder = self.key_holder.filter(|_| KEYED.contains(&which));
        let earlier = holder.filter(|&holder| self.models[holder].keeps_key());
        if let Some(other) = earlier.filter(|&other| other != which) {
            let (model, id) = (&mut self.models[other], self.jobs[other].id);
            let is_queued = model.state == Some(JobState::Queued);
            return match model.pending.filter(|_| is_queued) {
                None => Submitted::Existing(id),
                Some((by, false)) if by != which => Submitted::InProgress,
                Some(_) => {
                    model.pending = Some((which, false));
                    self.jobs[other] = Seed {
                        id,
                        ..self.jobs[which].clone()
                    };
                    Submitted::TakenOver(id)
                }
            };
        }
        self.accepted[which] = true;
        if self.models[which].submit() && KEYED.contains(&which) {
            self.key_holder = Some(which);
            self.models[which].pending = Some((which, false));
        }
        Submitted::Recorded(None)
    }

    fn end_leases(&mut self) {
        if let Some(clock) = &self.clock {
            clock.anchor(clock.now().after(SUBMIT_LEASE));
        }
        for which in KEYED {
            let model = &mut self.models[which];
            let Some((by, is_over)) = &mut model.pending else {
                continue;
            };
            *is_over = true;
            if let Some((raw, prefix)) = &mut self.redis {
                let pending = format!("1 {}", self.jobs[*by].id);
                let record = job_name(prefix, &self.jobs[which]);
                raw.run::<()>("HSET", (record, "pending", pending));
            }
        }
    }

    /// What is sent of a batch, and what is said of it.
    fn claims(
        &mut self,
        batch: &[Which],
        claim: fn(&mut Model, bool) -> Claim,
    ) -> (Vec<Seed>, Vec<Claim>) {
        let was_sent = |n: &Which| !KEYED.contains(n) || self.accepted[*n];
        let batch: Vec<Which> = batch.iter().copied().filter(was_sent).collect();
        let seeds = batch.iter().map(|&n| self.jobs[n].clone()).collect();
        (seeds, batch.iter().map(|&n| self.claim(n, claim)).collect())
    }

    fn claim(&mut self, which: Which, claim: fn(&mut Model, bool) -> Claim) -> Claim {
        let is_overdue = self.is_overdue(which);
        let had_none = self.models[which].state.is_none();
        let claim = claim(&mut self.models[which], is_overdue);
        // A record that is written again takes its idempotency key again where that is free.
        let writes = had_none && self.models[which].state.is_some();
        let is_free = self
            .key_holder
            .is_none_or(|n| n == which || !self.models[n].keeps_key());
        if writes && KEYED.contains(&which) && is_free {
            self.key_holder = Some(which);
        }
        claim
    }

    async fn complete(&mut self, ends: &[(Which, End)]) {
        let completions: Vec<_> = ends
            .iter()
            .map(|(which, end)| completion(self.jobs[*which].id, end.clone()))
            .collect();
        let expected: Vec<bool> = ends
            .iter()
            .map(|(which, end)| self.models[*which].complete(end))
            .collect();
        let done = self.store.complete(&completions).await.unwrap();
        assert_eq!(done, expected);
    }

    async fn sweep(&mut self) {
        let due = self.store.overdue(JOBS).await.unwrap();
        for record in due {
            let which = self.jobs.iter().position(|job| *job == record.seed);
            self.complete(&[(which.unwrap(), End::Expired)]).await;
        }
    }

    async fn check(&mut self) {
        let ids: Vec<_> = self.jobs.iter().map(|job| job.id).collect();
        let records = self.store.get(&ids).await.unwrap();
        for (which, record) in records.into_iter().enumerate() {
            let model = &self.models[which];
            assert_eq!(record.as_ref().map(|record| record.state), model.state);
            let Some(record) = record else { continue };
            assert_sound(&record);
            assert_eq!(
                (&record.seed, record.attempts),
                (&self.jobs[which], model.attempts)
            );
            if record.state.is_terminal() {
                let first_seen = self.ended[which].get_or_insert_with(|| record.clone());
                let undelivered = |record: &Record| Record {
                    delivery: None,
                    ..record.clone()
                };
                assert_eq!(
                    undelivered(first_seen),
                    undelivered(&record),
                    "a record that had ended has changed"
                );
            }
        }
        self.check_list();
        self.check_outbox().await;
        self.check_counts_and_owner().await;
        let due = self.store.overdue(JOBS).await.unwrap();
        let due: Vec<_> = due.iter().map(|record| record.seed.id).collect();
        let open = (0..JOBS).filter(|&n| self.models[n].is_open() && self.is_overdue(n));
        let expected: Vec<_> = open.map(|n| self.jobs[n].id).collect();
        assert_eq!(due, expected);
    }

    /// The webhook is due exactly once, from the job's end until it was delivered.
    async fn check_outbox(&self) {
        let due = self
            .store
            .lease_webhooks(JOBS, Duration::ZERO)
            .await
            .unwrap();
        let due: Vec<_> = due.iter().map(|record| record.seed.id).collect();
        let expected = self.models[HOOKED].is_webhook_due();
        assert_eq!(
            due,
            Vec::from_iter(expected.then_some(self.jobs[HOOKED].id))
        );
    }

    /// The unfinished jobs are counted, of lost ones no more than the store can know, and exactly the known ones are their owner's.
    async fn check_counts_and_owner(&mut self) {
        let open = (0..JOBS).filter(|&n| self.models[n].is_open()).count() as u64;
        let model = &self.jobs[0].model;
        let progress = self.store.progress(std::slice::from_ref(model)).await;
        assert_eq!(progress.unwrap()[0].unfinished(), open);
        if let Some((raw, prefix)) = &mut self.redis {
            let fields = [format!("submitted:{model}"), format!("ended:{model}")];
            let counts: [Option<u64>; 2] = raw.run("HMGET", (counts_name(prefix), &fields));
            let [submitted, ended] = counts.map(Option::unwrap_or_default);
            assert_eq!(submitted - ended, open + self.lost);
        }

        let owner = self.jobs[0].submission.owner.as_ref();
        let page = self.store.list(owner, None, 2 * JOBS, None).await.unwrap();
        let listed: Vec<_> = page.records.iter().map(|record| record.seed.id).collect();
        let known = (0..JOBS).filter(|&n| self.models[n].state.is_some());
        let mut ids: Vec<_> = known.map(|n| self.jobs[n].id).collect();
        ids.sort();
        ids.reverse();
        assert_eq!((listed, page.next), (ids, None));
    }

    /// Exactly the unfinished jobs are on the list of deadlines.
    fn check_list(&mut self) {
        if let Some((raw, prefix)) = &mut self.redis {
            let mut listed: Vec<String> = raw.run("ZRANGE", (deadlines_name(prefix), 0, -1));
            listed.sort();
            let open = (0..JOBS).filter(|&n| self.models[n].is_open());
            let mut expected: Vec<_> = open.map(|n| self.jobs[n].id.to_string()).collect();
            expected.sort();
            assert_eq!(listed, expected);
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn memory(clock: Clock) -> Arc<dyn JobStore> {
    Arc::new(MemoryStore::new(1_000, HOUR, clock))
}

async fn follows_the_model(
    store: Arc<dyn JobStore>,
    redis: Option<(Raw, Prefix)>,
    clock: Option<Clock>,
    steps: Vec<Step>,
) {
    let mut history = History {
        store,
        redis,
        clock,
        jobs: jobs(),
        models: vec![Model::default(); JOBS],
        key_holder: None,
        accepted: [false; JOBS],
        ended: vec![None; JOBS],
        lost: 0,
    };
    for step in &steps {
        history.run(step).await;
        history.check().await;
    }
}

/// Runs one task's steps; how many completions reported that they ended each job.
async fn run_blindly(store: Arc<dyn JobStore>, jobs: Arc<Vec<Seed>>, steps: Vec<Step>) -> Vec<u32> {
    let mut ended = vec![0; JOBS];
    let pick = |batch: &[Which]| {
        batch
            .iter()
            .map(|&n| jobs[n].clone())
            .collect::<Vec<Seed>>()
    };
    for step in steps {
        match step {
            Step::Submit(which) => drop(store.submit(&jobs[which]).await.unwrap()),
            Step::Check(batch) => drop(store.check(&pick(&batch)).await.unwrap()),
            Step::Claim(batch) => drop(store.claim(&pick(&batch)).await.unwrap()),
            Step::Release(batch) => {
                let ids: Vec<_> = batch.iter().map(|&n| jobs[n].id).collect();
                store.release(&ids).await.unwrap();
            }
            Step::Complete(ends) => {
                let completions: Vec<_> = ends
                    .iter()
                    .map(|(which, end)| completion(jobs[*which].id, end.clone()))
                    .collect();
                let done = store.complete(&completions).await.unwrap();
                for ((which, _), done) in ends.iter().zip(done) {
                    ended[*which] += u32::from(done);
                }
            }
            Step::Confirm(which) => store.confirm(jobs[which].id).await.unwrap(),
            Step::Cancel(which) => drop(store.cancel(jobs[which].id).await.unwrap()),
            Step::Sweep => {
                for record in store.overdue(JOBS).await.unwrap() {
                    let done = completion(record.seed.id, End::Expired);
                    let done = store.complete(&[done]).await.unwrap()[0];
                    let which = jobs.iter().position(|job| *job == record.seed).unwrap();
                    ended[which] += u32::from(done);
                }
            }
            // A withdrawn job is forgotten, and may be ended again.
            Step::Lose(_) | Step::Withdraw(_) | Step::EndLeases => {}
            Step::Tell => drop(store.lease_webhooks(JOBS, Duration::ZERO).await.unwrap()),
        }
    }
    ended
}

async fn stays_sound_under_concurrency(store: Arc<dyn JobStore>, histories: Vec<Vec<Step>>) {
    let jobs = Arc::new(jobs());
    let mut tasks = JoinSet::new();
    for steps in histories {
        tasks.spawn(run_blindly(store.clone(), jobs.clone(), steps));
    }
    let reported = tasks.join_all().await;
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let records = store.get(&ids).await.unwrap();
    let due = store.overdue(JOBS).await.unwrap();
    for (which, record) in records.iter().enumerate() {
        let ends: u32 = reported.iter().map(|reported| reported[which]).sum();
        let Some(record) = record else {
            assert_eq!(ends, 0, "an unknown job was ended");
            continue;
        };
        assert_sound(record);
        match record.state {
            JobState::Queued | JobState::Running => assert_eq!(ends, 0, "{record:?}"),
            JobState::Succeeded | JobState::Failed | JobState::Expired => {
                assert_eq!(ends, 1, "{record:?}")
            }
            // Or a cancellation did it, or the release of a job asked to stop.
            JobState::Canceled => assert!(ends <= 1, "{record:?}"),
        }
        let is_due = which >= JOBS - 2 && !record.state.is_terminal();
        assert_eq!(due.contains(record), is_due, "{record:?}");
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn memory_follows_the_model(steps in vec(step(), 1..60)) {
        runtime().block_on(async {
            let clock = Clock::default();
            follows_the_model(memory(clock.clone()), None, Some(clock), steps).await;
        });
    }

    #[test]
    fn memory_stays_sound_under_concurrency(histories in vec(vec(step(), 1..30), 2..5)) {
        runtime().block_on(stays_sound_under_concurrency(memory(Clock::default()), histories));
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn redis_follows_the_model(steps in vec(step(), 1..60)) {
        runtime().block_on(async {
            let prefix = fresh_prefix();
            let redis = (Raw::connect(&shared_redis()), prefix.clone());
            follows_the_model(store_of(&prefix), Some(redis), None, steps).await;
        });
    }

    #[test]
    fn redis_stays_sound_under_concurrency(histories in vec(vec(step(), 1..30), 2..5)) {
        runtime().block_on(async {
            stays_sound_under_concurrency(store_of(&fresh_prefix()), histories).await;
        });
    }
}
