//! A Redis that is away, silent, killed, restarted, or cuts connections.

use std::future::Future;
use std::net::TcpListener;

use selvage_core::cache::Cache;
use selvage_core::cache::suite::{key, scores};
use selvage_core::program::config::RedisUrl;
use selvage_core::redis::{RedisCache, RedisFleet, RedisStore};
use selvage_core::registry::Fleet;
use selvage_core::store::suite::{answer, completion, seed};
use selvage_core::store::{Claim, End, JobStore, WorkerStore as _};
use tokio::time::timeout;

use crate::private::PrivateRedis;
use crate::proxy::Proxy;
use crate::support::{HOUR, NONE, PATIENCE, chain, eventually, fresh_prefix};

/// What an error says once the breaker is open.
const RESTING: &str = "is not asked for a moment";
/// What an error says when no connection could be made.
const UNREACHABLE: &str = "cannot be reached";

fn url_of(listener: &TcpListener) -> RedisUrl {
    let address = listener.local_addr().unwrap();
    format!("redis://ann:s3cret@{address}").parse().unwrap()
}

/// The address of a port nobody listens on.
fn closed_port() -> RedisUrl {
    url_of(&TcpListener::bind("127.0.0.1:0").unwrap())
}

async fn cache_error(cache: &RedisCache) -> Option<String> {
    let error = timeout(PATIENCE, cache.get(&[key(1)]))
        .await
        .unwrap()
        .err()?;
    Some(chain(&error))
}

async fn in_time<T>(call: impl Future<Output = T>) -> T {
    timeout(PATIENCE, call).await.expect("no call hangs")
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_error_at_once_everywhere() {
    let (url, prefix) = (closed_port(), fresh_prefix());
    let cache = RedisCache::new(&url, &prefix, HOUR).unwrap();
    let store = RedisStore::new(&url, &prefix, HOUR).unwrap();
    let fleet = RedisFleet::new(&url, &prefix).unwrap();
    let error = eventually("the refusal is known", || async {
        cache_error(&cache)
            .await
            .filter(|text| text.contains(UNREACHABLE))
    })
    .await;
    assert!(error.to_lowercase().contains("refused"), "{error}");
    for _ in 0..20 {
        in_time(cache.put(&[(key(1), scores(1))]))
            .await
            .unwrap_err();
        in_time(store.submit(&seed())).await.unwrap_err();
        in_time(store.get(&[seed().id])).await.unwrap_err();
        in_time(store.overdue(1)).await.unwrap_err();
        in_time(fleet.time()).await.unwrap_err();
        in_time(fleet.members()).await.unwrap_err();
        assert!(!in_time(store.ping()).await);
        assert!(!in_time(cache.ping()).await);
    }
    let store_error = in_time(store.submit(&seed())).await.unwrap_err();
    for text in [
        error,
        chain(&store_error),
        format!("{store_error:?} {cache:?} {store:?} {fleet:?}"),
    ] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_opens_the_breaker() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = url_of(&silent);
    // On a very busy machine three calls may take so long that the silence is taken for an outage first: then once more.
    let cache = eventually("calls are refused without waiting", || async {
        let cache = RedisCache::new(&url, &fresh_prefix(), HOUR).unwrap();
        let mut refused = false;
        for _ in 0..4 {
            let error = cache_error(&cache).await.expect("nobody answers");
            refused |= error.contains(RESTING);
        }
        refused.then_some(cache)
    })
    .await;
    eventually("the silence is taken for an outage", || async {
        let error = cache_error(&cache).await.expect("nobody answers");
        error.contains(UNREACHABLE).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stopped_redis_is_left_alone_and_served_from_when_it_goes_on() {
    let redis = PrivateRedis::start();
    let cache = RedisCache::new(&redis.url(), &fresh_prefix(), HOUR).unwrap();
    let store = RedisStore::new(&redis.url(), &fresh_prefix(), HOUR).unwrap();
    let job = seed();
    store.submit(&job).await.unwrap();
    eventually("the entry is kept", || async {
        cache.put(&[(key(1), scores(1))]).await.ok()
    })
    .await;

    redis.signal("STOP");
    eventually("calls are refused without waiting", || async {
        let error = cache_error(&cache).await?;
        (error.contains(RESTING) || error.contains(UNREACHABLE)).then_some(())
    })
    .await;
    let error = in_time(store.submit(&seed())).await.unwrap_err();
    assert!(
        chain(&error).contains("did not answer"),
        "{}",
        chain(&error)
    );
    assert!(!in_time(store.ping()).await);

    redis.signal("CONT");
    let found = eventually("the cache answers", || async {
        cache.get(&[key(1)]).await.ok()
    })
    .await;
    assert_eq!(found[0].as_ref().unwrap().scores, scores(1));
    let found = eventually("the store answers", || async {
        store.get(&[job.id]).await.ok()
    })
    .await;
    assert_eq!(found[0].as_ref().unwrap().seed, job);
    assert!(store.ping().await);
}

#[tokio::test]
async fn answers_that_come_too_late_are_not_taken_for_later_ones() {
    let redis = PrivateRedis::start();
    let cache = RedisCache::new(&redis.url(), &fresh_prefix(), HOUR).unwrap();
    let entries: Vec<_> = (0..20).map(|n| (key(n), scores(n))).collect();
    eventually("the entries are kept", || async {
        cache.put(&entries).await.ok()
    })
    .await;
    for round in 0..3 {
        redis.signal("STOP");
        eventually("calls fail", || async { cache_error(&cache).await }).await;
        redis.signal("CONT");
        for n in (0..20).cycle().skip(round).take(200) {
            if let Ok(found) = in_time(cache.get(&[key(n)])).await {
                assert_eq!(found[0].as_ref().unwrap().scores, scores(n));
            }
        }
    }
}

#[tokio::test]
async fn a_restarted_redis_is_used_again_without_a_failed_call() {
    let mut redis = PrivateRedis::start();
    let store = RedisStore::new(&redis.url(), &fresh_prefix(), HOUR).unwrap();
    let job = seed();
    store.submit(&job).await.unwrap();
    redis.kill();
    let error = eventually("the loss shows", || async {
        store.submit(&seed()).await.err()
    })
    .await;
    assert!(chain(&error).contains("127.0.0.1"), "{}", chain(&error));
    redis.restart();
    let mut raw = redis.raw();
    eventually("the store has connected by itself", || {
        let clients: String = raw.run("CLIENT LIST", NONE);
        std::future::ready((clients.lines().count() > 1).then_some(()))
    })
    .await;
    let claims = eventually("the store answers", || async {
        // The handshake may still be under way, and the last known state be "away".
        store.claim(std::slice::from_ref(&job)).await.ok()
    })
    .await;
    assert_eq!(
        claims,
        [Claim::Run(1)],
        "a restart without a disk loses records, not jobs"
    );
    let done = completion(job.id, End::Succeeded(answer()));
    assert_eq!(store.complete(&[done]).await.unwrap(), [true]);
}

#[tokio::test]
async fn an_idle_connection_that_was_cut_is_replaced_before_it_is_needed() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    let store = RedisStore::new(&redis.url(), &fresh_prefix(), HOUR).unwrap();
    store.submit(&seed()).await.unwrap();
    let ids = |raw: &mut crate::support::Raw| -> Vec<String> {
        let clients: String = raw.run("CLIENT LIST", ("TYPE", "normal"));
        let id = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        clients.lines().map(id).collect()
    };
    let before = ids(&mut raw);
    raw.run::<()>("CLIENT KILL", ("TYPE", "normal", "SKIPME", "yes"));
    eventually("another connection is there", || {
        let now = ids(&mut raw);
        std::future::ready(now.iter().any(|id| !before.contains(id)).then_some(()))
    })
    .await;
    // A handshake that is still under way is waited for, so no call fails.
    store.submit(&seed()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_others_connection_alone() {
    let redis = PrivateRedis::start();
    let store = RedisStore::new(&redis.url(), &fresh_prefix(), HOUR).unwrap();
    let jobs: Vec<_> = (0..200).map(|_| seed()).collect();
    for (n, job) in jobs.iter().enumerate() {
        let submit = store.submit(job);
        if n % 2 == 0 {
            // Begun and dropped, as when a client closes its connection.
            tokio::select! {
                biased;
                _ = submit => {}
                () = std::future::ready(()) => {}
            }
        } else {
            submit.await.unwrap();
        }
    }
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let found = store.get(&ids).await.unwrap();
    assert!(found.iter().skip(1).step_by(2).all(Option::is_some));
}

#[tokio::test]
async fn a_tls_address_with_no_tls_behind_it_is_an_error() {
    let redis = PrivateRedis::start();
    let url = redis.url().to_string().replace("redis://", "rediss://");
    let store = RedisStore::new(&url.parse().unwrap(), &fresh_prefix(), HOUR).unwrap();
    let error = in_time(store.submit(&seed())).await.unwrap_err();
    assert!(chain(&error).contains("rediss://"), "{}", chain(&error));
}

#[tokio::test]
async fn a_connection_that_is_stuck_is_replaced() {
    let redis = PrivateRedis::start();
    let proxy = Proxy::before(&redis.url()).await;
    let cache = RedisCache::new(&proxy.url(), &fresh_prefix(), HOUR).unwrap();
    let store = RedisStore::new(&proxy.url(), &fresh_prefix(), HOUR).unwrap();
    let job = seed();
    store.submit(&job).await.unwrap();
    eventually("the entry is kept", || async {
        cache.put(&[(key(1), scores(1))]).await.ok()
    })
    .await;
    proxy.get_stuck();
    cache_error(&cache).await.expect("nothing comes through");
    let found = eventually("the cache answers", || async {
        cache.get(&[key(1)]).await.ok()
    })
    .await;
    assert_eq!(found[0].as_ref().unwrap().scores, scores(1));
    let found = eventually("the store answers", || async {
        store.get(&[job.id]).await.ok()
    })
    .await;
    assert_eq!(found[0].as_ref().unwrap().seed, job);
}
