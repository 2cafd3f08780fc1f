//! Lists of an owner's jobs, and each model's counts of jobs.

use super::{
    Store, canceled, claimed, completed, completion, every_end, finished_jobs, overdue_seed,
    record, released, running, seed, submitted, withdrawn,
};
use crate::job::JobId;
use crate::job_state::JobState;
use crate::key_name::KeyName;
use crate::store::{Cancel, Claim, End, MOST_SCANNED, Progress, Seed};

/// A fresh job of that owner.
fn owned(owner: Option<&str>) -> Seed {
    let mut seed = seed();
    seed.submission.owner = owner.map(|owner| owner.parse().expect("a good name"));
    seed
}

/// A fresh job of that model.
fn of_model(model: &str) -> Seed {
    Seed {
        model: model.parse().expect("a good name"),
        ..seed()
    }
}

/// All of an owner's jobs, or those in that state, read in pages of that size.
async fn listed(
    store: &Store,
    owner: Option<&KeyName>,
    limit: usize,
    state: Option<JobState>,
) -> Vec<JobId> {
    let (mut ids, mut before) = (Vec::new(), None);
    loop {
        let page = store.list(owner, before, limit, state).await;
        let page = page.expect("it is up");
        assert!(page.records.len() <= limit);
        assert!(
            page.records
                .iter()
                .all(|r| state.is_none_or(|s| s == r.state))
        );
        assert!(
            page.records
                .iter()
                .all(|r| r.seed.submission.owner.as_ref() == owner)
        );
        ids.extend(page.records.iter().map(|record| record.seed.id));
        match page.next {
            Some(next) => before = Some(next),
            None => return ids,
        }
    }
}

/// The counts of that job's model.
async fn progress(store: &Store, seed: &Seed) -> Progress {
    let counts = store.progress(std::slice::from_ref(&seed.model)).await;
    counts.expect("it is up")[0]
}

/// The estimated queue position of each job.
async fn positions(store: &Store, jobs: &[Seed]) -> Vec<u64> {
    let mut positions = Vec::new();
    for job in jobs {
        let number = record(store, job.id).await.number.expect("it has one");
        positions.push(progress(store, job).await.position(number));
    }
    positions
}

/// Each owner, and nobody, has a list of its own: newest first, whole whatever the size of its pages.
pub async fn jobs_are_listed_by_owner_newest_first(store: Store) {
    let owners = [Some("ann"), Some("bob"), None];
    let mut jobs = Vec::new();
    for n in 0..30 {
        let seed = owned(owners[n % 3]);
        submitted(&store, &seed).await;
        jobs.push(seed);
    }
    for owner in owners {
        let owner: Option<KeyName> = owner.map(|owner| owner.parse().expect("a good name"));
        let own = jobs.iter().filter(|seed| seed.submission.owner == owner);
        let mut expected: Vec<JobId> = own.map(|seed| seed.id).collect();
        expected.sort();
        expected.reverse();
        for limit in [1, 3, 10, 11, 100] {
            assert_eq!(
                listed(&store, owner.as_ref(), limit, None).await,
                expected,
                "{limit}"
            );
        }
    }
    let nobody = "nobody".parse().expect("a good name");
    assert!(listed(&store, Some(&nobody), 10, None).await.is_empty());
}

/// A job stays listed in every state, is listed once, and a withdrawn one is not.
pub async fn a_job_is_listed_as_long_as_its_record_is_there(store: Store) {
    let mut expected: Vec<JobId> = finished_jobs(&store)
        .await
        .iter()
        .map(|(s, _)| s.id)
        .collect();
    let (queued, rewritten, gone) = (seed(), seed(), seed());
    for seed in [&queued, &queued, &gone] {
        submitted(&store, seed).await;
    }
    // A wiped store learns of it from its message.
    assert_eq!(claimed(&store, &rewritten).await, Claim::Run(1));
    withdrawn(&store, gone.id).await;
    expected.extend([queued.id, rewritten.id]);
    expected.sort();
    expected.reverse();
    let owner = queued.submission.owner.as_ref();
    assert_eq!(listed(&store, owner, 3, None).await, expected);
}

/// A list of one state has the jobs that are in it, in pages of any size, and is whole where few of many are.
pub async fn a_list_can_be_of_one_state(store: Store) {
    let mut jobs: Vec<Seed> = (0..MOST_SCANNED + 20).map(|_| seed()).collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.id));
    for job in &jobs[..20] {
        submitted(&store, job).await;
    }
    store.claim(&jobs[20..]).await.expect("it is up");
    let owner = jobs[0].submission.owner.as_ref();
    let mut ended = Vec::new();
    for n in [2, 3, 11, MOST_SCANNED + 18] {
        assert!(completed(&store, jobs[n].id, End::Expired).await);
        ended.push(jobs[n].id);
    }
    for limit in [1, 2, 3, 4, 100] {
        let expired = listed(&store, owner, limit, Some(JobState::Expired)).await;
        assert_eq!(expired, ended, "{limit}");
    }
    let queued = jobs[..20].iter().map(|job| job.id);
    let queued: Vec<JobId> = queued.filter(|id| !ended.contains(id)).collect();
    assert_eq!(
        listed(&store, owner, 7, Some(JobState::Queued)).await,
        queued
    );
    let running = listed(&store, owner, 100, Some(JobState::Running)).await;
    assert_eq!(running.len(), MOST_SCANNED - 1);
    // What one call scans is bounded: it ends where the next begins.
    let page = store.list(owner, None, 1, Some(JobState::Failed)).await;
    let page = page.expect("it is up");
    assert_eq!(
        (page.records.len(), page.next),
        (0, Some(jobs[MOST_SCANNED - 1].id))
    );
    // A full page, too, ends where the next begins, and says so where none does.
    let page = store.list(owner, None, 3, Some(JobState::Expired)).await;
    assert_eq!(page.expect("it is up").next, Some(ended[2]));
    let last = store.list(owner, Some(ended[2]), 1, Some(JobState::Expired));
    assert!(last.await.expect("it is up").next.is_some());
    let none = listed(&store, owner, 100, Some(JobState::Failed)).await;
    assert!(none.is_empty());
}

/// Jobs are numbered by model in the order of their submission, and their positions fall as jobs end, to 1 and no further.
pub async fn positions_fall_as_earlier_jobs_end(store: Store) {
    let mut jobs: Vec<Seed> = (0..4).map(|_| of_model("first")).collect();
    // Not the order of ids: another gateway's clock may be behind.
    jobs.swap(0, 3);
    let other = of_model("second");
    for seed in jobs.iter().chain([&other]) {
        submitted(&store, seed).await;
        submitted(&store, seed).await;
    }
    assert_eq!(positions(&store, &jobs).await, [1, 2, 3, 4]);
    // Running jobs are ahead of the others, and a released one keeps its number.
    assert_eq!(claimed(&store, &jobs[0]).await, Claim::Run(1));
    assert_eq!(claimed(&store, &jobs[1]).await, Claim::Run(1));
    released(&store, jobs[1].id).await;
    assert_eq!(positions(&store, &jobs).await, [1, 2, 3, 4]);
    assert!(completed(&store, jobs[0].id, End::Expired).await);
    assert_eq!(positions(&store, &jobs[1..]).await, [1, 2, 3]);
    // The estimate knows how many jobs have ended, not which.
    canceled(&store, jobs[3].id).await;
    assert_eq!(positions(&store, &jobs[1..3]).await, [1, 1]);
    assert_eq!(positions(&store, std::slice::from_ref(&other)).await, [1]);
    let models = [
        other.model.clone(),
        jobs[0].model.clone(),
        "third".parse().expect("a good name"),
    ];
    let counts = store.progress(&models).await.expect("it is up");
    let counted = |submitted, ended| Progress { submitted, ended };
    assert_eq!(counts, [counted(1, 0), counted(4, 2), Progress::default()]);
    assert!(store.progress(&[]).await.expect("it is up").is_empty());
}

/// However a job ends, and however often it is said, it is counted once. A withdrawn job leaves no trace in the counts.
pub async fn every_job_is_counted_once(store: Store) {
    let mut expected = Progress::default();
    for end in every_end() {
        let (queued, started) = (overdue_seed(), running(&store).await);
        submitted(&store, &queued).await;
        expected.submitted += 2;
        assert_eq!(progress(&store, &queued).await, expected);
        let ends = [queued.id, started.id, queued.id].map(|id| completion(id, end.clone()));
        for _ in 0..2 {
            store.complete(&ends).await.expect("it is up");
        }
        canceled(&store, queued.id).await;
        withdrawn(&store, queued.id).await;
        submitted(&store, &queued).await;
        assert_eq!(claimed(&store, &queued).await, Claim::Finished);
        expected.ended += 2;
        assert_eq!(progress(&store, &queued).await, expected);
    }
    let (canceled_job, stopped, withdrawn_job) = (seed(), running(&store).await, seed());
    for job in [&canceled_job, &withdrawn_job] {
        submitted(&store, job).await;
    }
    for _ in 0..2 {
        assert_eq!(canceled(&store, canceled_job.id).await, Cancel::Canceled);
        canceled(&store, stopped.id).await;
        released(&store, stopped.id).await;
        withdrawn(&store, withdrawn_job.id).await;
    }
    expected.submitted += 2;
    expected.ended += 2;
    assert_eq!(progress(&store, &canceled_job).await, expected);
}

/// A batch may be larger than what a store changes in one go.
pub async fn thousands_of_jobs_share_a_call(store: Store) {
    let jobs: Vec<Seed> = (0..5000).map(|_| of_model("first")).collect();
    let claims = store.claim(&jobs).await.expect("it is up");
    assert!(claims.iter().all(|claim| *claim == Claim::Run(1)));
    let ids: Vec<_> = jobs.iter().map(|seed| seed.id).collect();
    let records = store.get(&ids).await.expect("it is up");
    let numbers = records.iter().map(|found| found.as_ref()?.number);
    assert!(numbers.eq((1..=5000).map(Some)));
    let ends = jobs.iter().map(|s| completion(s.id, End::Expired));
    let done = store.complete(&ends.collect::<Vec<_>>()).await;
    assert_eq!(done.expect("it is up"), vec![true; 5000]);
    let (submitted, ended) = (5000, 5000);
    assert_eq!(
        progress(&store, &jobs[0]).await,
        Progress { submitted, ended }
    );
    assert!(store.overdue(10).await.expect("it is up").is_empty());
}
