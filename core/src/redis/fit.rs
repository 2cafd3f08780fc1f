//! Whether a server may hold job records: looked at on each new connection, before any call uses it.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{InfoDict, RedisError, RedisResult};

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Job records. A server that evicts them is not used.
    Records,
    /// What may be lost at any time: cached results, the list of processes.
    Passing,
}

/// A Redis that answers, but would lose job records.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{redis} cannot hold job records: {reason}")]
pub struct Unfit {
    pub(super) redis: Arc<str>,
    pub(super) reason: String,
}

/// Why the server would lose records; `None` where it keeps them.
///
/// # Errors
/// The server could not be asked.
pub(super) async fn unfit(connection: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    let found: InfoDict = match info.query_async(connection).await {
        Ok(found) => found,
        Err(error) if may_not(&error) => {
            let reason = "the user may not run INFO, which tells whether it evicts them; allow it with `ACL SETUSER … +info`";
            return Ok(Some(reason.to_owned()));
        }
        Err(error) => return Err(error),
    };
    let bounded = found.get::<u64>("maxmemory").is_some_and(|bytes| bytes > 0);
    let policy: Option<String> = found.get("maxmemory_policy");
    Ok(policy
        .filter(|policy| bounded && policy != "noeviction")
        .map(|policy| {
            format!(
                "its maxmemory-policy is `{policy}`, so it evicts them when it is full; set it to `noeviction` and name another \
                 Redis for cached results in SELVAGE_CACHE_URL"
            )
        }))
}

fn may_not(error: &RedisError) -> bool {
    error.code() == Some("NOPERM")
}
