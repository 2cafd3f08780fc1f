//! What holds when many tasks change one record at once.

use tokio::task::JoinSet;

use super::{Store, answer, completed, every_end, record, running, seed, submitted};
use crate::job_state::JobState;
use crate::store::{Cancel, Claim, End};

/// However many finish a job at once, one of them did it.
pub async fn one_of_many_completions_wins(store: Store) {
    let seed = running(&store).await;
    let mut tasks = JoinSet::new();
    for n in 0..16 {
        let (store, id) = (store.clone(), seed.id);
        let end = every_end()[n % 4].clone();
        tasks.spawn(async move {
            completed(&store, id, end.clone())
                .await
                .then(|| end.state())
        });
    }
    let done: Vec<Option<JobState>> = tasks.join_all().await;
    let winners: Vec<JobState> = done.into_iter().flatten().collect();
    assert_eq!(winners, [record(&store, seed.id).await.state]);
}

/// Whichever of an answer and a cancellation comes first, both sides see the same end.
pub async fn a_completion_and_a_cancellation_agree_on_one_end(store: Store) {
    for round in 0..32 {
        let seed = if round % 2 == 0 {
            running(&store).await
        } else {
            seed()
        };
        submitted(&store, &seed).await;
        let mut completions = JoinSet::new();
        let mut cancellations = JoinSet::new();
        for _ in 0..4 {
            let (at, id) = (store.clone(), seed.id);
            completions.spawn(async move { completed(&at, id, End::Succeeded(answer())).await });
            let at = store.clone();
            cancellations.spawn(async move { super::canceled(&at, id).await });
        }
        let completed = completions.join_all().await;
        let wins = completed.iter().filter(|&&done| done).count();
        let reported = cancellations.join_all().await;
        let end = record(&store, seed.id).await.state;
        let ended_by_cancel =
            reported.contains(&Cancel::Canceled) && !reported.contains(&Cancel::Requested);
        match end {
            JobState::Succeeded => {
                assert_eq!(wins, 1);
                assert!(
                    reported
                        .iter()
                        .all(|reported| *reported == Cancel::Finished(JobState::Succeeded)),
                    "{reported:?}"
                );
            }
            JobState::Canceled if ended_by_cancel => assert_eq!(wins, 0),
            JobState::Canceled => assert_eq!(wins, 1),
            other => unreachable!("no one ended it {other:?}"),
        }
    }
}

/// Submissions that come at once are all there, whether or not they shared a call.
pub async fn many_submissions_at_once_all_arrive(store: Store) {
    let seeds: Vec<_> = (0..500).map(|_| seed()).collect();
    let mut tasks = JoinSet::new();
    for seed in seeds.clone() {
        let store = store.clone();
        tasks.spawn(async move { submitted(&store, &seed).await });
    }
    tasks.join_all().await;
    let ids: Vec<_> = seeds.iter().map(|seed| seed.id).collect();
    let found = store.get(&ids).await.expect("it is up");
    assert!(found.iter().all(|record| {
        record
            .as_ref()
            .is_some_and(|record| record.state == JobState::Queued)
    }));
    let claims = store.claim(&seeds).await.expect("it is up");
    assert!(claims.iter().all(|claim| *claim == Claim::Run(1)));
}
