//! Keys: none without a TTL, none of another prefix.

use selvage_core::cache::Cache;
use selvage_core::cache::suite::{key, scores};
use selvage_core::clock::UnixMillis;
use selvage_core::job_state::JobState;
use selvage_core::program::config::Prefix;
use selvage_core::registry::suite::{a_worker, gateway};
use selvage_core::registry::{Member, Members};
use selvage_core::store::suite::{
    completion, every_end, failure, hooked, keyed, overdue_seed, seed,
};
use selvage_core::store::{Cancel, End};
use selvage_core::webhook::{Delivery, KEPT_FOR, Next};

use crate::support::{
    HOUR, Raw, cache_of, counts_name, deadlines_name, fleet_of, fresh_prefix, job_name,
    shared_redis, store_of, webhooks_name,
};

#[tokio::test]
async fn another_prefix_is_another_world() {
    let (here, there) = (fresh_prefix(), fresh_prefix());
    let job = overdue_seed();
    store_of(&here).submit(&job).await.unwrap();
    cache_of(&here).put(&[(key(1), scores(1))]).await.unwrap();
    fleet_of(&here).announce(&a_worker("a")).await.unwrap();
    assert_eq!(store_of(&there).get(&[job.id]).await.unwrap(), [None]);
    assert_eq!(store_of(&there).overdue(10).await.unwrap(), []);
    assert_eq!(cache_of(&there).get(&[key(1)]).await.unwrap(), [None]);
    assert_eq!(
        fleet_of(&there).members().await.unwrap(),
        Members::default()
    );
}

/// Every operation with every outcome, so that every kind of key there is has been written.
async fn mixed_run(prefix: &Prefix) {
    let (store, cache, fleet) = (store_of(prefix), cache_of(prefix), fleet_of(prefix));
    for end in every_end() {
        for _ in 0..3 {
            let (queued, started) = (seed(), seed());
            store.submit(&queued).await.unwrap();
            store.claim(std::slice::from_ref(&started)).await.unwrap();
            store
                .complete(&[
                    completion(queued.id, end.clone()),
                    completion(started.id, end.clone()),
                ])
                .await
                .unwrap();
        }
    }
    let reported = hooked(&[JobState::Expired]);
    store.submit(&reported).await.unwrap();
    store
        .complete(&[completion(reported.id, End::Expired)])
        .await
        .unwrap();
    store.submit(&keyed(b"key", b"request")).await.unwrap();
    let (waiting, running, stopping, released, canceled, due) =
        (seed(), seed(), seed(), seed(), seed(), overdue_seed());
    for job in [&waiting, &canceled, &due] {
        store.submit(job).await.unwrap();
    }
    store
        .claim(&[running, stopping.clone(), released.clone()])
        .await
        .unwrap();
    assert_eq!(store.cancel(stopping.id).await.unwrap(), Cancel::Requested);
    assert_eq!(store.cancel(canceled.id).await.unwrap(), Cancel::Canceled);
    store.release(&[released.id]).await.unwrap();
    store.overdue(10).await.unwrap();
    let until = UnixMillis::wall().after(HOUR);
    store.abandon(waiting.id, until).await.unwrap();
    cache
        .put(&[(key(1), scores(1)), (key(2), scores(2))])
        .await
        .unwrap();
    cache.get(&[key(1), key(3)]).await.unwrap();
    fleet.announce(&a_worker("a")).await.unwrap();
    fleet.announce(&a_worker("b")).await.unwrap();
    let gateway = Member::Gateway(gateway("c"));
    fleet.announce(&gateway).await.unwrap();
    fleet.leave("b").await.unwrap();
}

#[tokio::test]
async fn every_key_has_a_ttl() {
    let prefix = fresh_prefix();
    mixed_run(&prefix).await;
    let mut raw = Raw::connect(&shared_redis());
    let keys = raw.keys(&prefix);
    assert_eq!(
        keys.len(),
        24 + 6 + 2 + 2 + 1 + 2 + 2 + 1 + 2 + 2,
        "{keys:?}"
    );
    for key in keys {
        let ttl: i64 = raw.run("PTTL", &key);
        let longest = if key.contains(":worker") || key.contains(":gateway") {
            6_000
        } else if key.contains(":job:") || key.ends_with(":webhooks") {
            i64::try_from(KEPT_FOR.as_millis()).unwrap()
        } else {
            3 * 3_600_000
        };
        assert!(ttl > 0 && ttl <= longest, "{key}: {ttl}");
    }
}

#[tokio::test]
async fn the_list_of_deadlines_outlives_its_last_record() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let (late, soon) = (seed(), overdue_seed());
    store.submit(&late).await.unwrap();
    store.submit(&soon).await.unwrap();
    let list: i64 = raw.run("PEXPIRETIME", deadlines_name(&prefix));
    let record: i64 = raw.run("PEXPIRETIME", job_name(&prefix, &late));
    assert!(list >= record, "{list} {record}");
}

#[tokio::test]
async fn a_finished_record_stays_for_the_retention() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let job = overdue_seed();
    store.submit(&job).await.unwrap();
    store
        .complete(&[completion(job.id, End::Failed(failure()))])
        .await
        .unwrap();
    let record = store.get(&[job.id]).await.unwrap().remove(0).unwrap();
    let gone_at: u64 = raw.run("PEXPIRETIME", job_name(&prefix, &job));
    assert_eq!(record.expires_at.0, gone_at);
    assert_eq!(record.expires_at, record.finished_at.unwrap().after(HOUR));
}

#[tokio::test]
async fn a_record_is_kept_until_its_webhook_has_ended_or_for_a_day_and_an_hour() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let job = hooked(&[JobState::Canceled]);
    store.submit(&job).await.unwrap();
    store.cancel(job.id).await.unwrap();
    let record = store.get(&[job.id]).await.unwrap().remove(0).unwrap();
    assert_eq!(record.expires_at, record.finished_at.unwrap().after(HOUR));
    let gone_at: u64 = raw.run("PEXPIRETIME", job_name(&prefix, &job));
    assert_eq!(record.finished_at.unwrap().after(KEPT_FOR).0, gone_at);
    let list: u64 = raw.run("PEXPIRETIME", webhooks_name(&prefix));
    assert!(list >= gone_at, "{list} {gone_at}");
    store
        .complete_webhook(job.id, Some(&Delivery::default()), Next::Nothing)
        .await
        .unwrap();
    let gone_at: u64 = raw.run("PEXPIRETIME", job_name(&prefix, &job));
    assert_eq!(record.expires_at.0, gone_at);
}

#[tokio::test]
async fn lost_records_are_not_counted_for_ever() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let jobs: Vec<_> = (0..40).map(|_| overdue_seed()).collect();
    for job in &jobs {
        store.submit(job).await.unwrap();
    }
    for job in &jobs[..39] {
        raw.run::<()>("DEL", job_name(&prefix, job));
    }
    // The sweeper notices it.
    let due = store.overdue(100).await.unwrap();
    assert_eq!((due.len(), due[0].number), (1, Some(40)));
    let progress = store
        .progress(std::slice::from_ref(&jobs[0].model))
        .await
        .unwrap()[0];
    assert_eq!(progress.unfinished(), 1);
    assert_eq!(progress.position(40), 1);
    let owner = jobs[0].submission.owner.as_ref();
    let list = store.list(owner, None, 100, None).await.unwrap();
    assert_eq!((list.records.len(), list.next), (1, None));
    let listed: u64 = raw.run("ZCARD", format!("{}:owner:acme", prefix.as_str()));
    assert_eq!(listed, 1);
}

#[tokio::test]
async fn a_record_of_an_earlier_version_is_not_counted() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let (old, new) = (seed(), seed());
    store.submit(&old).await.unwrap();
    raw.run::<()>("HDEL", (job_name(&prefix, &old), "number"));
    raw.run::<()>("DEL", counts_name(&prefix));
    store.submit(&new).await.unwrap();
    store.cancel(old.id).await.unwrap();
    let records = store.get(&[old.id, new.id]).await.unwrap();
    let numbers: Vec<_> = records.iter().flatten().map(|r| r.number).collect();
    assert_eq!(numbers, [None, Some(1)]);
    let progress = store
        .progress(std::slice::from_ref(&new.model))
        .await
        .unwrap()[0];
    assert_eq!((progress.submitted, progress.ended), (1, 0));
}

#[tokio::test]
async fn lists_are_bounded() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let owned = format!("{}:owner:acme", prefix.as_str());
    for n in 0..10_005 {
        raw.run::<()>("ZADD", (&owned, 0, format!("00000000-{n}")));
    }
    let job = seed();
    store.submit(&job).await.unwrap();
    assert_eq!(raw.run::<u64>("ZCARD", &owned), 10_000);
    let newest: Vec<String> = raw.run("ZRANGE", (&owned, -1, -1));
    assert_eq!(newest, [job.id.to_string()]);
}
