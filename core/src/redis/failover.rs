//! What a link does because another server may take the place of this one.
//!
//! Replication is asynchronous: a primary that is lost takes its newest changes with it. So changes that somebody relies on
//! afterwards (a job that was accepted, a message that was acked) are waited for until a replica has them too.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, ReplicaInfo, Role, ServerErrorKind};

/// Longest wait for a replica; meanwhile the server takes nothing else from this connection.
const WAIT_MILLIS: u64 = 500;
/// For so long nothing is waited for once no replica has answered: after a failover there may be none for hours.
const ALONE: Duration = Duration::from_secs(5);

/// Knows whether there is a replica that keeps up.
#[derive(Debug, Default)]
pub(super) struct Failover(Mutex<Replicas>);

#[derive(Clone, Copy, Debug, Default)]
enum Replicas {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// The last change was on one in time.
    KeepUp,
    /// None had the last change in time, or there was none; worth another look from then on.
    None(Instant),
}

impl Failover {
    /// Whether an error says that the server is a replica: it was the primary, and a failover has made another one that.
    pub(super) fn says_replica(error: &RedisError) -> bool {
        matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
    }

    /// Waits until a replica has what this connection has changed; not for long, and not where none has kept up lately.
    ///
    /// # Errors
    /// The connection broke, so nobody knows whether the changes are kept; or the user may not run `WAIT` and `ROLE`.
    pub(super) async fn keep(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let last_seen = *self.0.lock();
        match last_seen {
            Replicas::None(until) if Instant::now() < until => return Ok(()),
            Replicas::None(_) | Replicas::Unknown => {
                // A server without replicas would wait for one all the same.
                if replicas(connection).await?.is_empty() {
                    self.found_none();
                    return Ok(());
                }
            }
            Replicas::KeepUp => {}
        }
        let mut wait = redis::cmd("WAIT");
        wait.arg(1).arg(WAIT_MILLIS);
        if wait.query_async::<u64>(connection).await? > 0 {
            *self.0.lock() = Replicas::KeepUp;
        } else if replicas(connection).await?.iter().any(is_joining) {
            // Within a second it takes part: the next change is worth waiting for again.
            *self.0.lock() = Replicas::Unknown;
        } else {
            self.found_none();
        }
        Ok(())
    }

    fn found_none(&self) {
        if !matches!(*self.0.lock(), Replicas::None(_)) {
            tracing::warn!(
                "no replica of Redis keeps up: if the primary were lost now, so would be its newest records"
            );
        }
        *self.0.lock() = Replicas::None(Instant::now() + ALONE);
    }
}

/// The replicas a server sends its changes to; none where it is no primary.
async fn replicas(connection: &mut MultiplexedConnection) -> RedisResult<Vec<ReplicaInfo>> {
    let role: Role = redis::cmd("ROLE").query_async(connection).await?;
    match role {
        Role::Primary { replicas, .. } => Ok(replicas),
        _ => Ok(Vec::new()),
    }
}

/// Whether a replica has its copy, but no changes yet: Redis keeps those back until the first acknowledgement, which a replica
/// sends once a second.
fn is_joining(replica: &ReplicaInfo) -> bool {
    replica.replication_offset == 0
}
