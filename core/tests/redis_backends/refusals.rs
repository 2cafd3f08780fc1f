//! A Redis that answers, but not as one would like: full, read-only, unable to save, busy, without our scripts.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use selvage_core::cache::Cache;
use selvage_core::cache::suite::{key, scores};
use selvage_core::dead_letters::suite as dead_suite;
use selvage_core::job_state::JobState;
use selvage_core::program::config::Prefix;
use selvage_core::redis::{RedisCache, RedisDeadLetters, RedisFleet, RedisStore};
use selvage_core::registry::Fleet;
use selvage_core::registry::suite::{self as fleet_suite, a_worker};
use selvage_core::store::suite::{self, Store, answer, completion, overdue_seed, seed};
use selvage_core::store::{Cancel, Claim, End, JobStore, Seed, StoreFull, WorkerStore as _};

use crate::private::PrivateRedis;
use crate::support::{CALM, HOUR, NONE, PATIENCE, Raw, chain, eventually, fresh_prefix};

fn store_on(redis: &PrivateRedis) -> RedisStore {
    RedisStore::new(&redis.url(), &fresh_prefix(), HOUR).unwrap()
}

async fn running(store: &RedisStore) -> Seed {
    let job = seed();
    let claims = store.claim(std::slice::from_ref(&job)).await.unwrap();
    assert_eq!(claims, [Claim::Run(1)]);
    job
}

async fn completed(store: &RedisStore, job: &Seed) -> bool {
    let done = completion(job.id, End::Succeeded(answer()));
    store.complete(&[done]).await.unwrap()[0]
}

/// Every change of that job is refused for that reason, and what is there can be read.
async fn assert_refused(store: &RedisStore, job: &Seed, reason: &str) {
    let before = store.get(&[job.id]).await.unwrap();
    let done = completion(job.id, End::Succeeded(answer()));
    let errors: [Box<dyn Error>; 5] = [
        Box::new(store.submit(&seed()).await.unwrap_err()),
        Box::new(store.claim(&[seed()]).await.unwrap_err()),
        Box::new(store.release(&[job.id]).await.unwrap_err()),
        Box::new(store.complete(&[done]).await.unwrap_err()),
        Box::new(store.cancel(job.id).await.unwrap_err()),
    ];
    for error in &errors {
        let text = chain(error.as_ref());
        assert!(text.to_uppercase().contains(reason), "{text}");
        assert_eq!(StoreFull::is_in(error.as_ref()), reason == "OOM", "{text}");
    }
    assert_eq!(store.get(&[job.id]).await.unwrap(), before);
}

#[tokio::test]
async fn full_memory_refuses_changes_and_keeps_what_is_there() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    let store = store_on(&redis);
    let cache = RedisCache::with_budget(&redis.url(), &fresh_prefix(), HOUR, CALM).unwrap();
    cache.put(&[(key(1), scores(1))]).await.unwrap();
    let job = running(&store).await;
    raw.run::<()>(
        "CONFIG SET",
        ("maxmemory-policy", "noeviction", "maxmemory", 1),
    );
    assert_refused(&store, &job, "OOM").await;
    let error = cache.put(&[(key(2), scores(2))]).await.unwrap_err();
    assert!(chain(&error).to_uppercase().contains("OOM"));
    let found = cache.get(&[key(1), key(2)]).await.unwrap();
    assert_eq!((found[0].is_some(), found[1].is_none()), (true, true));
    raw.run::<()>("CONFIG SET", ("maxmemory", 0));
    assert!(completed(&store, &job).await);
    cache.put(&[(key(2), scores(2))]).await.unwrap();
}

fn evict(raw: &mut Raw, policy: &str) {
    let settings = ("maxmemory", "1gb", "maxmemory-policy", policy);
    raw.run::<()>("CONFIG SET", settings);
}

#[tokio::test]
async fn a_redis_that_evicts_takes_no_records() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    evict(&mut raw, "volatile-ttl");
    let store = store_on(&redis);
    let unfit = store.fit(PATIENCE).await.unwrap_err().to_string();
    for word in ["`volatile-ttl`", "`noeviction`", "SELVAGE_CACHE_URL"] {
        assert!(unfit.contains(word), "{unfit}");
    }
    let error = store.submit(&seed()).await.unwrap_err();
    assert!(chain(&error).contains(&unfit), "{}", chain(&error));
    assert!(!store.ping().await);
    // Results may go there, and so may records once it keeps them.
    let cache = RedisCache::with_budget(&redis.url(), &fresh_prefix(), HOUR, CALM).unwrap();
    cache.put(&[(key(1), scores(1))]).await.unwrap();
    evict(&mut raw, "noeviction");
    eventually("it takes records", || async {
        store.submit(&seed()).await.ok()
    })
    .await;
    store.fit(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_evicts_since_it_was_restarted_takes_no_records() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    let store = store_on(&redis);
    store.submit(&seed()).await.unwrap();
    evict(&mut raw, "allkeys-lru");
    raw.run::<()>("CLIENT KILL", ("TYPE", "normal", "SKIPME", "yes"));
    eventually("the store is down", || async {
        store.fit(PATIENCE).await.err()
    })
    .await;
    assert!(!store.ping().await);
    // Without a bound nothing is evicted, whatever the policy.
    raw.run::<()>("CONFIG SET", ("maxmemory", 0));
    eventually("it takes records", || async {
        store.submit(&seed()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_does_not_say_whether_it_evicts_takes_no_records() {
    let redis = PrivateRedis::start();
    let rules = ("app", "on", ">right", "~*", "+@all", "-info");
    redis.raw().run::<()>("ACL SETUSER", rules);
    let url = redis.url_as("app:right@");
    let store = RedisStore::new(&url, &fresh_prefix(), HOUR).unwrap();
    let unfit = store.fit(PATIENCE).await.unwrap_err().to_string();
    assert!(unfit.contains("INFO"), "{unfit}");
}

/// The words of the rule in `docs/OPERATIONS.md` for that user.
fn documented_rule(user: &str) -> Vec<&'static str> {
    let page = include_str!("../../../docs/OPERATIONS.md");
    let start = format!("ACL SETUSER {user} ");
    let line = page.lines().find(|line| line.starts_with(&start)).unwrap();
    line.split_whitespace().skip(2).collect()
}

fn prefix_of_the_rule() -> Prefix {
    "selvage".parse().unwrap()
}

#[tokio::test]
async fn the_documented_permissions_are_enough() {
    let redis = PrivateRedis::start();
    redis
        .raw()
        .run::<()>("ACL SETUSER", documented_rule("selvage"));
    let (url, prefix) = (redis.url_as("selvage:PASSWORD@"), prefix_of_the_rule());
    let records = RedisStore::new(&url, &prefix, HOUR).unwrap();
    records.fit(PATIENCE).await.unwrap();
    assert!(
        !redis
            .raw()
            .keys(&prefix)
            .iter()
            .any(|key| key.ends_with(":probe"))
    );
    let store: Store = Arc::new(records);
    // It wants a store without other webhooks, so it comes first.
    suite::a_webhook_is_due_again_or_never(store.clone()).await;
    suite::a_repeated_request_finds_its_first_job(store.clone()).await;
    suite::a_job_with_a_key_is_withdrawn_by_its_submitter_until_it_is_confirmed(store.clone())
        .await;
    suite::a_late_confirm_sends_the_webhook_of_an_expired_job(store.clone()).await;
    suite::a_release_ends_a_job_that_was_asked_to_stop(store.clone()).await;
    suite::jobs_are_listed_by_owner_newest_first(store.clone()).await;
    suite::positions_fall_as_earlier_jobs_end(store.clone()).await;
    suite::a_job_that_runs_past_its_deadline_is_overdue(store.clone()).await;
    suite::abandoned_jobs_are_known_by_id(store.clone()).await;
    suite::a_store_that_is_up_says_so(store).await;
    let dead_letters = RedisDeadLetters::new(&url, &prefix, dead_suite::BOUNDS).unwrap();
    let dead_letters: dead_suite::Store = Arc::new(dead_letters);
    dead_suite::removed_dead_letters_leave_room(dead_letters.clone()).await;
    dead_letters.purge().await.unwrap();
    dead_suite::dead_letters_are_listed_oldest_first_in_pages(dead_letters).await;
    let fleet = RedisFleet::new(&url, &prefix).unwrap();
    fleet_suite::a_worker_that_leaves_is_gone_at_once(Arc::new(fleet)).await;
    redis
        .raw()
        .run::<()>("ACL SETUSER", documented_rule("selvage-cache"));
    for user in ["selvage", "selvage-cache"] {
        let url = redis.url_as(&format!("{user}:PASSWORD@"));
        let cache = RedisCache::with_budget(&url, &prefix, HOUR, CALM).unwrap();
        cache.put(&[(key(1), scores(1))]).await.unwrap();
        assert!(cache.get(&[key(1)]).await.unwrap()[0].is_some());
        assert!(cache.ping().await);
    }
}

#[tokio::test]
async fn a_user_that_lacks_a_command_holds_no_records() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    let rule = documented_rule("selvage");
    let (url, prefix) = (redis.url_as("selvage:PASSWORD@"), prefix_of_the_rule());
    let of_records = |word: &&str| word.starts_with('+') && *word != "+getex";
    for allowed in rule.iter().copied().filter(of_records) {
        raw.run::<()>("ACL SETUSER", &rule);
        raw.run::<()>("ACL SETUSER", ("selvage", allowed.replacen('+', "-", 1)));
        let store = RedisStore::new(&url, &prefix, HOUR).unwrap();
        let unfit = store.fit(PATIENCE).await.unwrap_err().to_string();
        let command = allowed[1..].split('|').next().unwrap().to_uppercase();
        assert!(unfit.contains(&command), "{allowed}: {unfit}");
        assert!(!unfit.contains("PASSWORD"), "{unfit}");
    }
    raw.run::<()>("ACL SETUSER", &rule);
    let elsewhere = RedisStore::new(&url, &fresh_prefix(), HOUR).unwrap();
    let unfit = elsewhere.fit(PATIENCE).await.unwrap_err().to_string();
    assert!(unfit.contains("SELVAGE_PREFIX"), "{unfit}");
}

#[tokio::test]
async fn a_command_that_is_forbidden_later_takes_the_store_down_at_a_reconnect() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    raw.run::<()>("ACL SETUSER", documented_rule("selvage"));
    let (url, prefix) = (redis.url_as("selvage:PASSWORD@"), prefix_of_the_rule());
    let store = RedisStore::new(&url, &prefix, HOUR).unwrap();
    let cache = RedisCache::with_budget(&url, &prefix, HOUR, CALM).unwrap();
    store.submit(&seed()).await.unwrap();
    raw.run::<()>("ACL SETUSER", ("selvage", "-zadd", "-getex"));
    raw.run::<()>("CLIENT KILL", ("USER", "selvage"));
    eventually("the store is down", || async {
        store.fit(PATIENCE).await.err()
    })
    .await;
    assert!(!store.ping().await);
    // Results that cannot be had cost no answer.
    eventually("the cache is there", || async {
        cache.ping().await.then_some(())
    })
    .await;
    raw.run::<()>("ACL SETUSER", ("selvage", "+zadd"));
    eventually("it takes records", || async {
        store.submit(&seed()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_read_only_redis_refuses_changes_and_can_be_read() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    let store = store_on(&redis);
    let job = running(&store).await;
    raw.run::<()>("REPLICAOF", ("127.0.0.1", 1));
    assert_refused(&store, &job, "READONLY").await;
    let cache = RedisCache::with_budget(&redis.url(), &fresh_prefix(), HOUR, CALM).unwrap();
    cache.put(&[(key(1), scores(1))]).await.unwrap_err();
    raw.run::<()>("REPLICAOF", ("NO", "ONE"));
    assert!(completed(&store, &job).await);
}

#[tokio::test]
async fn a_redis_that_cannot_save_refuses_changes_and_can_be_read() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    let store = store_on(&redis);
    let job = running(&store).await;
    raw.run::<()>("CONFIG SET", ("save", "3600 1"));
    redis.remove_folder();
    raw.run::<()>("BGSAVE", NONE);
    eventually("the save fails", || {
        let state: String = raw.run("INFO", "persistence");
        std::future::ready(state.contains("rdb_last_bgsave_status:err").then_some(()))
    })
    .await;
    assert_refused(&store, &job, "MISCONF").await;
    raw.run::<()>("CONFIG SET", ("save", ""));
    assert!(completed(&store, &job).await);
}

#[tokio::test]
async fn a_redis_busy_with_a_script_refuses_and_serves_afterwards() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    let store = store_on(&redis);
    let job = running(&store).await;
    raw.run::<()>("CONFIG SET", ("busy-reply-threshold", 1));
    let mut other = redis.raw();
    let endless = std::thread::spawn(move || other.try_run::<()>("EVAL", ("while true do end", 0)));
    eventually("scripts are refused", || async {
        let error = store.cancel(seed().id).await.err()?;
        chain(&error).to_uppercase().contains("BUSY").then_some(())
    })
    .await;
    store.submit(&seed()).await.unwrap_err();
    store.get(&[job.id]).await.unwrap_err();
    raw.run::<()>("SCRIPT KILL", NONE);
    endless.join().unwrap().unwrap_err();
    assert!(completed(&store, &job).await);
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again_within_the_call() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    let store = store_on(&redis);
    let fleet = RedisFleet::new(&redis.url(), &fresh_prefix()).unwrap();
    let mut forget = || raw.run::<()>("SCRIPT FLUSH", NONE);
    for _ in 0..2 {
        let (job, other, due) = (seed(), seed(), overdue_seed());
        forget();
        store.submit(&job).await.unwrap();
        forget();
        let claims = store.claim(std::slice::from_ref(&job)).await.unwrap();
        assert_eq!(claims, [Claim::Run(1)]);
        forget();
        store.release(&[job.id]).await.unwrap();
        forget();
        assert_eq!(store.cancel(job.id).await.unwrap(), Cancel::Canceled);
        store.submit(&other).await.unwrap();
        forget();
        assert!(completed(&store, &other).await);
        store.submit(&due).await.unwrap();
        forget();
        let found = store.overdue(10).await.unwrap();
        assert_eq!(found[0].seed.id, due.id);
        store
            .complete(&[completion(due.id, End::Expired)])
            .await
            .unwrap();
        forget();
        fleet.announce(&a_worker("a")).await.unwrap();
    }
}

#[tokio::test]
async fn a_wiped_redis_takes_new_jobs_and_rebuilds_old_ones() {
    let redis = PrivateRedis::start();
    let store = store_on(&redis);
    let job = running(&store).await;
    redis.raw().run::<()>("FLUSHALL", NONE);
    assert_eq!(store.get(&[job.id]).await.unwrap(), [None]);
    assert!(!completed(&store, &job).await);
    let claims = store.claim(std::slice::from_ref(&job)).await.unwrap();
    assert_eq!(claims, [Claim::Run(1)]);
    assert!(completed(&store, &job).await);
    let record = store.get(&[job.id]).await.unwrap().remove(0).unwrap();
    assert_eq!(record.state, JobState::Succeeded);
}

#[tokio::test]
async fn wrong_credentials_are_an_error_without_them_and_are_tried_again() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    raw.run::<()>("CONFIG SET", ("requirepass", "right-s3cret"));
    let url = redis.url_as("default:wr0ng-s3cret@");
    let store = RedisStore::new(&url, &fresh_prefix(), HOUR).unwrap();
    let error = store.submit(&seed()).await.unwrap_err();
    for text in [chain(&error), format!("{error:?}"), format!("{store:?}")] {
        assert!(!text.contains("s3cret"), "{text}");
    }
    assert!(chain(&error).contains("WRONGPASS"), "{}", chain(&error));
    assert!(!store.ping().await);
    raw.run::<()>("CONFIG SET", ("requirepass", "wr0ng-s3cret"));
    eventually("the store is let in", || async {
        store.submit(&seed()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_refused_call_does_not_open_the_breaker() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    let cache = RedisCache::with_budget(&redis.url(), &fresh_prefix(), HOUR, CALM).unwrap();
    cache.put(&[(key(1), scores(1))]).await.unwrap();
    raw.run::<()>(
        "CONFIG SET",
        ("maxmemory-policy", "noeviction", "maxmemory", 1),
    );
    for _ in 0..10 {
        cache.put(&[(key(2), scores(2))]).await.unwrap_err();
        assert!(cache.get(&[key(1)]).await.unwrap()[0].is_some());
    }
    let ttl: Duration = cache.get(&[key(1)]).await.unwrap()[0].as_ref().unwrap().ttl;
    assert!(ttl > HOUR / 2);
}
