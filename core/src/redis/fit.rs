//! Whether a server may be used: looked at on each new connection, before any call uses it.

use std::sync::Arc;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{Arg, InfoDict, Pipeline, RedisError, RedisResult, Value};

use crate::program::config::Prefix;

/// Redis's code for a command, or a key, that the user's rules do not allow.
const NO_PERMISSION: &str = "NOPERM";

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
        Content::Records(key) if has_replicas => probe(&[RECORDS, REPLICATED].concat(), key),
        Content::Records(key) => probe(RECORDS, key),
        Content::Results(key) => probe(RESULTS, key),
        Content::Members => return Ok(None),
    };
    let answers = connection
        .req_packed_commands(&commands, 0, commands.len())
        .await?;
    for (command, answer) in commands.cmd_iter().zip(&answers) {
        if let Value::ServerError(error) = answer
            && error.code() == NO_PERMISSION
            && let Some(Arg::Simple(name)) = command.args_iter().next()
        {
            let (name, words) = (String::from_utf8_lossy(name), error.details());
            let words = words.unwrap_or(NO_PERMISSION);
            return Ok(Some(format!(
                "the user may not run `{name}` on keys of SELVAGE_PREFIX ({words}); allow the commands and keys that \
                 docs/OPERATIONS.md lists under \"Redis users\", with `ACL SETUSER`"
            )));
        }
    }
    Ok(None)
}

/// The commands of the store, its scripts and the list of processes. `HSET` alone leaves something behind, until `DEL`; from
/// `PEXPIREAT` on there is no such key.
const RECORDS: &str = "PING;TIME;SCRIPT LOAD return;EVALSHA 0000000000000000000000000000000000000000 0;\
    HSET KEY probe 0;HINCRBY KEY probe 0;PEXPIRE KEY 1000;HGET KEY none;HMGET KEY none;HDEL KEY none;ZREM KEY none;\
    HGETALL KEY;PTTL KEY;DEL KEY;EXISTS KEY;GET KEY;MGET KEY;ZCARD KEY;PEXPIREAT KEY 1;SET KEY 0 XX PX 1000;\
    ZADD KEY XX 0 none;ZRANGE KEY 0 0;ZRANGEBYSCORE KEY 0 0;ZREMRANGEBYRANK KEY 0 0;ZREMRANGEBYSCORE KEY 0 0";
/// The same where changes are waited for until a replica has them.
const REPLICATED: &str = ";WAIT 0 0;ROLE";
/// The commands of the cache.
const RESULTS: &str = "PING;GETEX KEY PX 1000;SET KEY 0 XX PX 1000";

/// Commands, separated by semicolons; `KEY` is the probe's key.
fn probe(commands: &str, key: &str) -> Pipeline {
    let mut probe = Pipeline::new();
    for command in commands.split(';') {
        let mut words = command.split(' ').map(|word| match word {
            "KEY" => key,
            word => word,
        });
        probe.cmd(words.next().unwrap_or_default());
        for word in words {
            probe.arg(word);
        }
    }
    probe
}

fn may_not(error: &RedisError) -> bool {
    error.code() == Some(NO_PERMISSION)
}
