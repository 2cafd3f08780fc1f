//! The task that owns the connection to one Redis and makes it again whenever it is lost. Runs no commands.
//!
//! The crate's `ConnectionManager` is not used: it keeps the first error that is not one of I/O for ever (a password that
//! was wrong once), lets the first call after an outage fail with the outage's old error, and never replaces a connection
//! whose server has fallen silent. Here calls never wait for a server known to be away, and need no luck once it is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError, RedisResult};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::fit::{Content, Unfit, evicts, forbidden};
use super::source::Source;
use crate::program::Backoff;

/// Longest time to connect, TLS and authentication included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest first pause after a failed attempt; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between attempts: so late at most is a server that is back noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lived shorter than this counts as a failed attempt.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Commands under way at once; more wait their turn within their own time.
const IN_FLIGHT: usize = 256;

/// What there is of a connection.
#[derive(Clone, Debug)]
pub(super) enum ConnectionState {
    /// The first attempt, or the first after a loss, is under way: worth waiting for.
    Connecting,
    /// Connected.
    Up(Live),
    /// The last attempt failed, and more follow: not worth waiting for.
    Down(RedisError),
    /// The server answers but cannot hold job records; looked at again and again, not worth waiting for.
    Unfit(Unfit),
}

/// A connection, and how to say that it is of no use any more.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    pub(super) lost: Arc<Notify>,
}

/// Connects, and connects again whenever the connection is lost, until it is dropped.
pub(super) async fn supervise(
    mut source: Source,
    redis: Arc<str>,
    content: Content,
    state: watch::Sender<ConnectionState>,
) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let lost = Arc::new(Notify::new());
        let config = config(&lost);
        match connect(&mut source, &content, &config).await {
            Ok((_, Some(reason))) => {
                let unfit = Unfit {
                    redis: redis.clone(),
                    reason,
                };
                if !matches!(*state.borrow(), ConnectionState::Unfit(_)) {
                    tracing::warn!("{unfit}");
                }
                state.send_replace(ConnectionState::Unfit(unfit));
            }
            Ok((connection, None)) => {
                tracing::info!(%redis, "connected to Redis");
                let since = Instant::now();
                let live = Live {
                    connection,
                    lost: lost.clone(),
                };
                state.send_replace(ConnectionState::Up(live));
                lost.notified().await;
                tracing::warn!(%redis, "the connection to Redis is lost, making another");
                state.send_replace(ConnectionState::Connecting);
                if since.elapsed() >= SETTLED_AFTER {
                    backoff.reset();
                    continue;
                }
            }
            Err(error) => {
                if !matches!(*state.borrow(), ConnectionState::Down(_)) {
                    tracing::warn!(%redis, %error, "Redis cannot be reached; retrying");
                }
                state.send_replace(ConnectionState::Down(error));
            }
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// A connection, and why its server cannot hold records.
async fn connect(
    source: &mut Source,
    content: &Content,
    config: &AsyncConnectionConfig,
) -> RedisResult<(MultiplexedConnection, Option<String>)> {
    let mut connection = source.connect(config).await?;
    let has_replicas = source.failover().is_some();
    let asking = async {
        let evicts = match content {
            Content::Records(_) => evicts(&mut connection).await?,
            Content::Results(_) | Content::Members => None,
        };
        match evicts {
            Some(reason) => Ok(Some(reason)),
            None => forbidden(&mut connection, content, has_replicas).await,
        }
    };
    let late = |_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    let mut reason = timeout(CONNECT_TIMEOUT, asking).await.map_err(late)??;
    if matches!(content, Content::Results(_))
        && let Some(reason) = reason.take()
    {
        tracing::warn!("the Redis of cached results is of no use: {reason}");
    }
    Ok((connection, reason))
}

fn config(lost: &Arc<Notify>) -> AsyncConnectionConfig {
    let lost = lost.clone();
    let on_push = move |push: PushInfo| -> Result<(), SendError> {
        if push.kind == PushKind::Disconnection {
            lost.notify_one();
        }
        Ok(())
    };
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None) // each call brings its own
        .set_concurrency_limit(IN_FLIGHT)
        .set_pipeline_buffer_size(IN_FLIGHT)
        .set_push_sender(on_push)
}
