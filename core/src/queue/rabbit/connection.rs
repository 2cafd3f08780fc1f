//! Keeps one connection alive: dials, sets up, watches, and begins again. lapin's own recovery stays off.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lapin::{Channel, Connection, Event};
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::dial::{SocketGuard, dial};
use super::error::RabbitError;
use crate::program::Backoff;
use crate::program::config::{AmqpUrl, AmqpUrls};
use crate::queue::Health;

/// Longest wait for a channel to open: milliseconds even on a busy broker, so more means that nobody is there.
const OPEN_CHANNEL: Duration = Duration::from_secs(3);
/// Longest wait for the broker's good-bye.
const CLOSE: Duration = Duration::from_secs(2);
/// How often a connection is looked at that has reported nothing.
const LOOK: Duration = Duration::from_secs(1);
/// A connection that held this long was a good one: the next attempt starts without delay again.
const GOOD: Duration = Duration::from_secs(5);

/// One live connection.
pub(super) struct Live {
    connection: Connection,
    socket_guard: Arc<SocketGuard>,
    given_up: CancellationToken,
}

impl Live {
    /// A fresh channel. A broker that does not open one in time has lost this connection.
    pub(super) async fn channel(&self) -> Result<Channel, RabbitError> {
        match timeout(OPEN_CHANNEL, self.connection.create_channel()).await {
            Ok(channel) => Ok(channel?),
            Err(_) => {
                self.give_up();
                Err(RabbitError::Slow("opening a channel", OPEN_CHANNEL))
            }
        }
    }

    /// Has the supervisor drop this connection and make another.
    pub(super) fn give_up(&self) {
        self.given_up.cancel();
    }

    /// Resolves once the connection has been given up or replaced.
    pub(super) async fn gone(&self) {
        self.given_up.cancelled().await;
    }

    fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    async fn close(&self) {
        let goodbye = async {
            self.connection.close(200, "OK".into()).await.ok();
            // lapin answers before its own state says so, and logs an error if the socket is cut meanwhile.
            while self.connection.status().closing() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        // Whatever comes of it, the socket is cut afterwards.
        let _ = timeout(CLOSE, goodbye).await;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.socket_guard.cut();
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
enum ConnectionState {
    Up(Arc<Live>),
    Blocked,
    Down(RabbitError),
    Closed,
}

impl ConnectionState {
    /// Why there is no connection to use.
    fn reason(&self) -> RabbitError {
        match self {
            Self::Blocked => RabbitError::Blocked,
            Self::Down(last_error) => last_error.clone(),
            Self::Up(_) | Self::Closed => RabbitError::Closed,
        }
    }
}

/// Everybody's view of a supervised connection.
#[derive(Clone, Debug)]
pub(super) struct Link(watch::Receiver<ConnectionState>);

impl Link {
    pub(super) fn health(&self) -> Health {
        match *self.0.borrow() {
            ConnectionState::Up(_) => Health::Up,
            ConnectionState::Blocked => Health::Blocked,
            ConnectionState::Down(_) | ConnectionState::Closed => Health::Down,
        }
    }

    /// The connection, if it can be used at this moment.
    pub(super) fn now(&self) -> Result<Arc<Live>, RabbitError> {
        match &*self.0.borrow() {
            ConnectionState::Up(live) if live.is_connected() => Ok(Arc::clone(live)),
            // Lost a moment ago; the supervisor will say so in the next.
            ConnectionState::Up(_) => Err(RabbitError::NotConnected),
            down => Err(down.reason()),
        }
    }

    /// The connection, waited for; fails only once the link is closed, or where the broker refuses us for good.
    pub(super) async fn usable_or_refused(&self) -> Result<Arc<Live>, RabbitError> {
        self.wait(|last_error| last_error.refusal().is_some()).await
    }

    /// The connection, waited for; fails only once the link is closed.
    pub(super) async fn usable(&self) -> Result<Arc<Live>, RabbitError> {
        self.wait(|_| false).await
    }

    async fn wait(
        &self,
        is_final: impl Fn(&RabbitError) -> bool,
    ) -> Result<Arc<Live>, RabbitError> {
        let mut states = self.0.clone();
        let settled = states.wait_for(|state| match state {
            ConnectionState::Up(live) => live.is_connected(),
            ConnectionState::Down(last_error) => is_final(last_error),
            ConnectionState::Blocked => false,
            ConnectionState::Closed => true,
        });
        match settled.await.as_deref() {
            Ok(ConnectionState::Up(live)) => Ok(Arc::clone(live)),
            Ok(down) => Err(down.reason()),
            Err(_) => Err(RabbitError::Closed),
        }
    }

    /// Resolves with the reason as soon as the link is no longer up.
    pub(super) async fn not_usable(&self) -> RabbitError {
        let mut states = self.0.clone();
        let down = states.wait_for(|state| !matches!(state, ConnectionState::Up(_)));
        let reason = down.await.map(|down| down.reason());
        reason.unwrap_or(RabbitError::Closed)
    }
}

/// What a connection needs before anybody may use it.
#[async_trait]
pub(super) trait SetUp: Send + Sync {
    async fn set_up(&self, live: &Arc<Live>) -> Result<(), RabbitError>;
}

/// The owner of one connection.
pub(super) struct Supervisor {
    pub(super) urls: AmqpUrls,
    /// What the connection is for, in logs and in the broker's list of connections.
    pub(super) name: String,
    pub(super) set_up: Box<dyn SetUp>,
    pub(super) lost: prometheus::IntCounter,
    pub(super) stop: CancellationToken,
}

impl Supervisor {
    /// The link, and the task that keeps it up until `stop` fires.
    pub(super) fn link(self) -> (Link, impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = watch::channel(ConnectionState::Down(RabbitError::NotConnected));
        (Link(receiver), self.run(sender))
    }

    async fn run(self, state: watch::Sender<ConnectionState>) {
        let stop = self.stop.clone();
        let keeping = self.keep_up(&state);
        let stopped = stop.run_until_cancelled(keeping).await.is_none();
        debug_assert!(stopped, "only the stop token ends the loop");
        if let ConnectionState::Up(live) = state.send_replace(ConnectionState::Closed) {
            live.close().await;
            live.give_up();
        }
    }

    async fn keep_up(&self, state: &watch::Sender<ConnectionState>) {
        let mut backoff = Backoff::for_broker();
        // A fleet that starts does not begin with the same node.
        let mut turn = rand::random_range(0..self.urls.nodes().len());
        loop {
            let started = Instant::now();
            let last_error = match self.connect(&mut turn).await {
                Ok((live, events)) => {
                    let last_error = watch_over(live, events, state).await;
                    self.lost.inc();
                    last_error
                }
                Err(last_error) => last_error,
            };
            if started.elapsed() > GOOD {
                backoff.reset();
            }
            let pause = backoff.pause();
            tracing::warn!(
                broker = %self.urls, connection = %self.name, error = %last_error, retry_in_ms = pause.as_millis(),
                "no connection to RabbitMQ"
            );
            state.send_replace(ConnectionState::Down(last_error));
            sleep(pause).await;
        }
    }

    /// Connects to the first node that lets us in, beginning with the one whose turn it is; each is tried once.
    async fn connect(
        &self,
        turn: &mut usize,
    ) -> Result<(Arc<Live>, BoxStream<'static, Event>), RabbitError> {
        let nodes = self.urls.nodes();
        let mut last = RabbitError::NotConnected;
        for _ in nodes {
            let node = &nodes[*turn % nodes.len()];
            *turn += 1;
            match self.connect_to(node).await {
                Ok(connected) => {
                    tracing::info!(broker = %node, connection = %self.name, "connected to RabbitMQ");
                    return Ok(connected);
                }
                // What one node of a cluster refuses for good, all refuse.
                Err(last_error) if last_error.refusal().is_some() => return Err(last_error),
                Err(last_error) => last = last_error,
            }
        }
        Err(last)
    }

    async fn connect_to(
        &self,
        node: &AmqpUrl,
    ) -> Result<(Arc<Live>, BoxStream<'static, Event>), RabbitError> {
        let (connection, socket_guard) = dial(node, &self.name).await?;
        let events = connection.events_listener().boxed();
        let live = Arc::new(Live {
            connection,
            socket_guard,
            given_up: CancellationToken::new(),
        });
        self.set_up.set_up(&live).await?;
        Ok((live, events))
    }
}

/// Publishes the connection's state until it is lost; the reason.
async fn watch_over(
    live: Arc<Live>,
    mut events: BoxStream<'static, Event>,
    state: &watch::Sender<ConnectionState>,
) -> RabbitError {
    let mut look = interval(LOOK);
    state.send_replace(ConnectionState::Up(Arc::clone(&live)));
    let mut last_error = RabbitError::GivenUp;
    while !live.given_up.is_cancelled() && live.is_connected() {
        tokio::select! {
            () = live.given_up.cancelled() => {}
            _ = look.tick() => {}
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(%reason, "RabbitMQ has stopped taking messages");
                    state.send_replace(ConnectionState::Blocked);
                }
                Some(Event::ConnectionUnblocked) => {
                    tracing::info!("RabbitMQ takes messages again");
                    state.send_replace(ConnectionState::Up(Arc::clone(&live)));
                }
                // A channel's error arrives here too; whether the connection is gone, its status says.
                Some(Event::Error(error)) if !live.is_connected() => last_error = error.into(),
                Some(_) => {}
                None => break,
            },
        }
    }
    live.give_up();
    live.socket_guard.cut();
    last_error
}
