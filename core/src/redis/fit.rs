//! Whether a server may be used: looked at on each new connection, before any call uses it.

use std::sync::Arc;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{Arg, InfoDict, Pipeline, RedisError, RedisResult, Value};

use crate::config::Prefix;

/// Redis's code for a command, or a key, that the user's rules do not allow.
const NO_PERMISSION: &str = "NOPERM";
/// The lifetime of a probe's key, where it cannot be deleted.
const PROBE_MILLIS: u64 = 1_000;

/// What a connection is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Job records and the list of processes. A server that evicts records, or whose user lacks a command, is not used. The
    /// probe's key.
    Records(String),
    /// Cached results. A user that lacks a command is logged. The probe's key.
    Results(String),
    /// The list of processes, on the server of the records.
    Members,
}

impl Content {
    pub(super) fn records(prefix: &Prefix) -> Self {
        Self::Records(format!("{}:probe", prefix.as_str()))
    }

    pub(super) fn results(prefix: &Prefix) -> Self {
        Self::Results(format!("{}:probe", prefix.as_str()))
    }
}

/// A Redis that answers, but cannot hold job records.
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
pub(super) async fn evicts(connection: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
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

/// Which of the commands that a connection is used for its user may not run; `None` where there is none. Each is run once on
/// the probe's key. Any other answer than "not permitted" is good.
///
/// # Errors
/// The server could not be asked.
pub(super) async fn forbidden(
    connection: &mut MultiplexedConnection,
    content: &Content,
    has_replicas: bool,
) -> RedisResult<Option<String>> {
    let commands = match content {
        Content::Records(key) => records_probe(key, has_replicas),
        Content::Results(key) => results_probe(key),
        Content::Members => return Ok(None),
    };
    let answers = connection
        .req_packed_commands(&commands, 0, commands.len())
        .await?;
    let refused = commands
        .cmd_iter()
        .zip(&answers)
        .find_map(|(command, answer)| {
            let Value::ServerError(error) = answer else {
                return None;
            };
            let Some(Arg::Simple(name)) = command.args_iter().next() else {
                return None;
            };
            (error.code() == NO_PERMISSION).then(|| {
                (
                    String::from_utf8_lossy(name).into_owned(),
                    error.details().unwrap_or(NO_PERMISSION),
                )
            })
        });
    Ok(refused.map(|(name, words)| {
        format!(
            "the user may not run `{name}` on keys of SELVAGE_PREFIX ({words}); allow the commands and keys that \
             docs/OPERATIONS.md lists under \"Redis users\", with `ACL SETUSER`"
        )
    }))
}

/// The commands of the store, its scripts and the list of processes.
fn records_probe(key: &str, has_replicas: bool) -> Pipeline {
    let mut probe = Pipeline::new();
    for name in ["PING", "TIME"] {
        probe.cmd(name);
    }
    probe.cmd("SCRIPT").arg("LOAD").arg("return 0");
    probe.cmd("EVALSHA").arg("0".repeat(40)).arg(0);
    // The one command that leaves something behind, until DEL.
    probe.cmd("HSET").arg(key).arg("probe").arg(0);
    probe.cmd("HINCRBY").arg(key).arg("probe").arg(0);
    probe.cmd("PEXPIRE").arg(key).arg(PROBE_MILLIS);
    for name in ["HGET", "HMGET", "HDEL", "ZREM"] {
        probe.cmd(name).arg(key).arg("none");
    }
    for name in ["HGETALL", "PTTL", "DEL", "EXISTS", "GET", "MGET", "ZCARD"] {
        probe.cmd(name).arg(key);
    }
    // From here on there is no such key.
    probe.cmd("PEXPIREAT").arg(key).arg(1);
    probe
        .cmd("SET")
        .arg(key)
        .arg(0)
        .arg("XX")
        .arg("PX")
        .arg(PROBE_MILLIS);
    probe.cmd("ZADD").arg(key).arg("XX").arg(0).arg("none");
    for name in [
        "ZRANGE",
        "ZRANGEBYSCORE",
        "ZREMRANGEBYRANK",
        "ZREMRANGEBYSCORE",
    ] {
        probe.cmd(name).arg(key).arg(0).arg(0);
    }
    if has_replicas {
        probe.cmd("WAIT").arg(0).arg(0);
        probe.cmd("ROLE");
    }
    probe
}

/// The commands of the cache.
fn results_probe(key: &str) -> Pipeline {
    let mut probe = Pipeline::new();
    probe.cmd("PING");
    probe.cmd("GETEX").arg(key).arg("PX").arg(PROBE_MILLIS);
    probe
        .cmd("SET")
        .arg(key)
        .arg(0)
        .arg("XX")
        .arg("PX")
        .arg(PROBE_MILLIS);
    probe
}

fn may_not(error: &RedisError) -> bool {
    error.code() == Some(NO_PERMISSION)
}
