//! Lists of an owner's jobs, and where unfinished ones stand.

use super::{
    Store, canceled, claimed, completed, completion, every_end, finished_jobs, released, seed,
    submitted, withdrawn,
};
use crate::job::{JobId, ModelName};
use crate::key_name::KeyName;
use crate::store::{Claim, End, MOST_SCANNED, Seed, State};

/// A fresh job of that owner.
fn owned(owner: Option<&str>) -> Seed {
    Seed {
        owner: owner.map(|owner| owner.parse().expect("a good name")),
        ..seed()
    }
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
    state: Option<State>,
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
        assert!(page.records.iter().all(|r| r.seed.owner.as_ref() == owner));
        ids.extend(page.records.iter().map(|record| record.seed.id));
        match page.next {
            Some(next) => before = Some(next),
            None => return ids,
        }
    }
}

async fn place(store: &Store, seed: &Seed) -> Option<u64> {
    let asked = [(seed.model.clone(), seed.id)];
    store.places(&asked).await.expect("it is up")[0]
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
        let own = jobs.iter().filter(|seed| seed.owner == owner);
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
    let owner = queued.owner.as_ref();
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
    let owner = jobs[0].owner.as_ref();
    let mut ended = Vec::new();
    for n in [2, 3, 11, MOST_SCANNED + 18] {
        assert!(completed(&store, jobs[n].id, End::Expired).await);
        ended.push(jobs[n].id);
    }
    for limit in [1, 2, 3, 4, 100] {
        let expired = listed(&store, owner, limit, Some(State::Expired)).await;
        assert_eq!(expired, ended, "{limit}");
    }
    let queued = jobs[..20].iter().map(|job| job.id);
    let queued: Vec<JobId> = queued.filter(|id| !ended.contains(id)).collect();
    assert_eq!(listed(&store, owner, 7, Some(State::Queued)).await, queued);
    let running = listed(&store, owner, 100, Some(State::Running)).await;
    assert_eq!(running.len(), MOST_SCANNED - 1);
    // What one call scans is bounded: it ends where the next begins.
    let page = store.list(owner, None, 1, Some(State::Failed)).await;
    let page = page.expect("it is up");
    assert_eq!(
        (page.records.len(), page.next),
        (0, Some(jobs[MOST_SCANNED - 1].id))
    );
    // A full page, too, ends where the next begins, and says so where none does.
    let page = store.list(owner, None, 3, Some(State::Expired)).await;
    assert_eq!(page.expect("it is up").next, Some(ended[2]));
    let last = store.list(owner, Some(ended[2]), 1, Some(State::Expired));
    assert!(last.await.expect("it is up").next.is_some());
    let none = listed(&store, owner, 100, Some(State::Failed)).await;
    assert!(none.is_empty());
}

/// Unfinished jobs of a model stand in the order of their submission, the first at 1, and move up by every end.
pub async fn unfinished_jobs_stand_in_line(store: Store) {
    let mut jobs: Vec<Seed> = (0..6).map(|_| of_model("first")).collect();
    // Not the order of ids: another gateway's clock may be behind.
    jobs.swap(0, 3);
    let other = of_model("second");
    for seed in jobs.iter().chain([&other]) {
        submitted(&store, seed).await;
        submitted(&store, seed).await;
    }
    let places = async || {
        let asked: Vec<_> = jobs.iter().map(|s| (s.model.clone(), s.id)).collect();
        store.places(&asked).await.expect("it is up")
    };
    assert_eq!(places().await, (1..=6).map(Some).collect::<Vec<_>>());
    assert_eq!(place(&store, &other).await, Some(1));
    let first: ModelName = "first".parse().expect("a good name");
    let last = async || store.last_in_line(&first).await.expect("it is up");
    assert_eq!(last().await, Some((jobs[5].id, 6)));

    // Who runs is still ahead of the others, and keeps its place when it goes back.
    assert_eq!(claimed(&store, &jobs[0]).await, Claim::Run(1));
    assert_eq!(claimed(&store, &jobs[1]).await, Claim::Run(1));
    released(&store, jobs[1].id).await;
    assert_eq!(places().await, (1..=6).map(Some).collect::<Vec<_>>());
    assert!(completed(&store, jobs[0].id, End::Expired).await);
    canceled(&store, jobs[4].id).await;
    let expected = [None, Some(1), Some(2), Some(3), None, Some(4)];
    assert_eq!(places().await, expected);
    withdrawn(&store, jobs[2].id).await;
    submitted(&store, &jobs[0]).await;
    let expected = [None, Some(1), None, Some(2), None, Some(3)];
    assert_eq!(places().await, expected);
    assert_eq!(last().await, Some((jobs[5].id, 3)));
    for n in [1, 3, 5] {
        assert!(completed(&store, jobs[n].id, End::Canceled).await);
    }
    assert_eq!((places().await, last().await), (vec![None; 6], None));
    assert_eq!(place(&store, &other).await, Some(1));
    assert!(store.places(&[]).await.expect("it is up").is_empty());
}

/// However a job ends, it leaves its line.
pub async fn every_end_leaves_the_line(store: Store) {
    for end in every_end() {
        let (job, behind) = (of_model("first"), of_model("first"));
        submitted(&store, &job).await;
        assert_eq!(claimed(&store, &behind).await, Claim::Run(1));
        assert_eq!(place(&store, &behind).await, Some(2));
        assert!(completed(&store, job.id, end.clone()).await);
        assert_eq!(place(&store, &behind).await, Some(1));
        assert!(completed(&store, behind.id, end).await);
    }
}

/// However many ask at once, each is told the places of its own jobs.
pub async fn each_caller_is_told_its_own_places(store: Store) {
    let mut jobs = Vec::new();
    for n in 0..60_u64 {
        let seed = of_model(["first", "second", "third"][n as usize % 3]);
        submitted(&store, &seed).await;
        jobs.push(((seed.model, seed.id), Some(n / 3 + 1)));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for from in 0..60 {
        let (store, own) = (
            store.clone(),
            jobs[from..60.min(from + 1 + from % 5)].to_vec(),
        );
        tasks.spawn(async move {
            let (asked, expected): (Vec<_>, Vec<_>) = own.into_iter().unzip();
            assert_eq!(store.places(&asked).await.expect("it is up"), expected);
        });
    }
    tasks.join_all().await;
}

/// A batch may be larger than what a store changes in one go.
pub async fn thousands_of_jobs_share_a_call(store: Store) {
    let jobs: Vec<Seed> = (0..5000).map(|_| of_model("first")).collect();
    let claims = store.claim(&jobs).await.expect("it is up");
    assert!(claims.iter().all(|claim| *claim == Claim::Run(1)));
    let asked: Vec<_> = jobs.iter().map(|s| (s.model.clone(), s.id)).collect();
    let places = store.places(&asked).await.expect("it is up");
    assert!(places.into_iter().eq((1..=5000).map(Some)));
    let ends = jobs.iter().map(|s| completion(s.id, End::Expired));
    let done = store.complete(&ends.collect::<Vec<_>>()).await;
    assert_eq!(done.expect("it is up"), vec![true; 5000]);
    let places = store.places(&asked).await.expect("it is up");
    assert_eq!(places, vec![None; 5000]);
    assert!(store.overdue(10).await.expect("it is up").is_empty());
}
