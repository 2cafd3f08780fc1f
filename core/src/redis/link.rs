//! Calls to one Redis, each within its time. Knows no keys; the connection is [`super::supervisor`]'s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation, Value};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::breaker::{Breaker, Rule};
use super::error::{LinkError, OpenError};
use super::failover::Failover;
use super::fit::{Content, Unfit};
use super::source::Source;
use super::supervisor::{ConnectionState, Live, supervise};
use crate::program::config::RedisUrl;

/// A connection that looks after itself. Ends with its last owner.
#[derive(Debug)]
pub(super) struct Link {
    redis: Arc<str>,
    /// Where another server may take over.
    failover: Option<Failover>,
    state: watch::Receiver<ConnectionState>,
    breaker: Breaker,
    budget: Duration,
    _supervisor: JoinSet<()>,
}

impl Link {
    /// Begins to connect; a server that is away is no error. Each call may take `budget`.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub(super) fn open(
        url: &RedisUrl,
        content: Content,
        budget: Duration,
        rule: Rule,
    ) -> Result<Self, OpenError> {
        let redis: Arc<str> = url.to_string().into();
        let source = Source::of(url).map_err(|source| OpenError {
            redis: redis.clone(),
            source: source.into(),
        })?;
        let failover = source.failover();
        let (sender, state) = watch::channel(ConnectionState::Connecting);
        let mut supervisor = JoinSet::new();
        supervisor.spawn(supervise(source, redis.clone(), content, sender));
        Ok(Self {
            redis,
            failover,
            state,
            breaker: Breaker::new(rule),
            budget,
            _supervisor: supervisor,
        })
    }

    /// The server, as errors and logs name it.
    pub(super) fn redis(&self) -> Arc<str> {
        self.redis.clone()
    }

    /// Runs one command.
    pub(super) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, LinkError> {
        self.call(async |mut connection| command.query_async(&mut connection).await)
            .await
    }

    /// Runs commands in one round trip; an error of one command stands in its place.
    pub(super) async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        self.call(async |mut connection| {
            let count = commands.len();
            connection.req_packed_commands(commands, 0, count).await
        })
        .await
    }

    /// Runs a script, loading it first where the server does not have it.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, LinkError> {
        self.call(async |mut connection| script.invoke_async(&mut connection).await)
            .await
    }

    /// Runs a script whose change is relied on afterwards, so that it must outlive the server; see [`Failover::keep`].
    pub(super) async fn kept_script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, LinkError> {
        self.call(async |mut connection| {
            let value = script.invoke_async(&mut connection).await?;
            if let Some(failover) = &self.failover {
                failover.keep(&mut connection).await?;
            }
            Ok(value)
        })
        .await
    }

    /// Whether the server may be used; one that is away, or says nothing within the time given, may.
    pub(super) async fn fit(&self, within: Duration) -> Result<(), Unfit> {
        match timeout(within, self.live()).await {
            Ok(Err(LinkError::Unfit(unfit))) => Err(unfit),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether the server answers within the time given.
    pub(super) async fn ping(&self, budget: Duration) -> bool {
        let ping = redis::cmd("PING");
        matches!(timeout(budget, self.command::<()>(&ping)).await, Ok(Ok(())))
    }

    /// An error this server gave, as one of the link. A server that turns out to be a replica is left for the primary.
    pub(super) fn failed(&self, source: impl Into<RedisError>) -> LinkError {
        let source = source.into();
        if self.failover.is_some() && Failover::says_replica(&source) {
            self.replace();
        }
        LinkError::Failed {
            redis: self.redis(),
            source,
        }
    }

    /// A call that took longer than it may.
    pub(super) fn silent(&self) -> LinkError {
        LinkError::Silent {
            redis: self.redis(),
            budget: self.budget,
        }
    }

    /// The link's task has ended.
    pub(super) fn closed(&self) -> LinkError {
        LinkError::Closed {
            redis: self.redis(),
        }
    }

    async fn call<T, F>(&self, call: F) -> Result<T, LinkError>
    where
        F: AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    {
        let Some(pass) = self.breaker.admit(Instant::now()) else {
            return Err(LinkError::Resting {
                redis: self.redis(),
            });
        };
        let attempt = async {
            let live = self.live().await?;
            let result = call(live.connection).await;
            result.map_err(|source| {
                if source.is_unrecoverable_error() || source.is_io_error() {
                    live.lost.notify_one();
                }
                self.failed(source)
            })
        };
        match timeout(self.budget, attempt).await {
            Ok(Ok(value)) => {
                pass.succeeded();
                Ok(value)
            }
            // Only silence costs the callers time. A server that refuses is there, and none is waited for that is not.
            Ok(Err(error)) => {
                if error.is_answer() {
                    pass.succeeded();
                }
                Err(error)
            }
            Err(_) => {
                if pass.failed(Instant::now()) {
                    self.replace();
                }
                Err(self.silent())
            }
        }
    }

    /// The connection, or why there is none; waits for an attempt that may succeed.
    async fn live(&self) -> Result<Live, LinkError> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, ConnectionState::Connecting));
        match settled.await.as_deref() {
            Ok(ConnectionState::Up(live)) => Ok(live.clone()),
            Ok(ConnectionState::Down(source)) => Err(LinkError::Unreachable {
                redis: self.redis(),
                source: source.clone(),
            }),
            Ok(ConnectionState::Unfit(unfit)) => Err(LinkError::Unfit(unfit.clone())),
            Ok(ConnectionState::Connecting) | Err(_) => Err(self.closed()),
        }
    }

    /// Has a connection that no longer answers replaced: its server may be gone without a word, or sit on old commands.
    fn replace(&self) {
        if let ConnectionState::Up(live) = &*self.state.borrow() {
            live.lost.notify_one();
        }
    }
}
