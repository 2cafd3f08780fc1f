//! The shared Redis of `make test`, backends on it, and waiting. Every test uses keys of its own and touches no others.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::env;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{FromRedisValue, ToRedisArgs};
use selvage_core::program::config::{Prefix, RedisUrl};
use selvage_core::redis::{RedisCache, RedisFleet, RedisStore};
use selvage_core::registry::Fleet;
use selvage_core::store::{JobStore, Seed};

/// How long a condition may take to come true before the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The Redis that `make test` has started.
pub(crate) fn shared_redis() -> RedisUrl {
    let url = env::var("SELVAGE_TEST_REDIS_URL").unwrap_or_else(|_| {
        panic!("SELVAGE_TEST_REDIS_URL is not set: run `make test`, which starts a private Redis for these tests")
    });
    url.parse().expect("SELVAGE_TEST_REDIS_URL is a Redis URL")
}

/// The one server at that address.
pub(crate) fn server(url: &RedisUrl) -> &url::Url {
    match url {
        RedisUrl::Server(url) => url,
        RedisUrl::Sentinels(_) => panic!("{url} is no server"),
    }
}

/// A prefix no other test uses.
pub(crate) fn fresh_prefix() -> Prefix {
    let text = format!("test-{:016x}", rand::random::<u64>());
    text.parse().expect("a good prefix")
}

/// Lifetime of cache entries and retention of records in these tests.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// The cache's time for a call: during a whole test run 50 ms are no sign of trouble.
pub(crate) const CALM: Duration = Duration::from_secs(10);

/// A cache on the shared Redis.
pub(crate) fn cache_of(prefix: &Prefix) -> RedisCache {
    RedisCache::with_budget(&shared_redis(), prefix, HOUR, CALM).unwrap()
}

/// A store on the shared Redis.
pub(crate) fn store_of(prefix: &Prefix) -> Arc<dyn JobStore> {
    Arc::new(RedisStore::new(&shared_redis(), prefix, HOUR).unwrap())
}

/// A registry on the shared Redis.
pub(crate) fn fleet_of(prefix: &Prefix) -> Arc<dyn Fleet> {
    Arc::new(RedisFleet::new(&shared_redis(), prefix).unwrap())
}

/// The key of the list of deadlines.
pub(crate) fn deadlines_name(prefix: &Prefix) -> String {
    format!("{}:deadlines", prefix.as_str())
}

/// The key of the counts of jobs.
pub(crate) fn counts_name(prefix: &Prefix) -> String {
    format!("{}:counts", prefix.as_str())
}

/// The list of webhooks that are due.
pub(crate) fn webhooks_name(prefix: &Prefix) -> String {
    format!("{}:webhooks", prefix.as_str())
}

/// The key of that job's record.
pub(crate) fn job_name(prefix: &Prefix, seed: &Seed) -> String {
    format!("{}:job:{}", prefix.as_str(), seed.id)
}

/// No arguments.
pub(crate) const NONE: &[&str] = &[];

/// A plain connection, for what the code under test must not do.
pub(crate) struct Raw(redis::Connection);

impl Raw {
    /// Connects to that Redis.
    pub(crate) fn connect(url: &RedisUrl) -> Self {
        let client = redis::Client::open(server(url).as_str()).expect("a usable URL");
        Self(client.get_connection().expect("Redis is up"))
    }

    /// Runs one command.
    pub(crate) fn run<T: FromRedisValue>(&mut self, name: &str, arguments: impl ToRedisArgs) -> T {
        self.try_run(name, arguments).expect("Redis takes it")
    }

    /// Runs one command that may be refused.
    pub(crate) fn try_run<T: FromRedisValue>(
        &mut self,
        name: &str,
        arguments: impl ToRedisArgs,
    ) -> redis::RedisResult<T> {
        let mut command = redis::Cmd::new();
        for word in name.split(' ') {
            command.arg(word);
        }
        command.arg(arguments).query(&mut self.0)
    }

    /// All keys of that prefix.
    pub(crate) fn keys(&mut self, prefix: &Prefix) -> Vec<String> {
        let (mut cursor, mut found) = (0_u64, Vec::new());
        let pattern = format!("{}:*", prefix.as_str());
        loop {
            let (next, keys): (u64, Vec<String>) =
                self.run("SCAN", (cursor, "MATCH", &pattern, "COUNT", 1000));
            found.extend(keys);
            if next == 0 {
                return found;
            }
            cursor = next;
        }
    }
}

/// Asks until the answer is `Some`.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < patience, "not within {PATIENCE:?}: {what}");
        tokio::task::yield_now().await;
    }
}

/// An error with all its sources, as a log would show it.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = sources.map(ToString::to_string).collect();
    texts.join(": ")
}
