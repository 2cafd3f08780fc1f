//! The task that owns the connection to one Redis and makes it anew whenever it is lost. Runs no commands.
//!
//! The crate's `ConnectionManager` is not used: it keeps the first error that is not one of I/O for ever (a password that
//! was wrong once), lets the first call after an outage fail with the outage's old error, and never replaces a connection
//! whose server has fallen silent. Here calls never wait for a server known to be away, and need no luck once it is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::{MultiplexedConnection, SendError};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisError, RedisResult,
};
use tokio::sync::{Notify, watch};

use crate::config::RedisUrl;

/// Longest time to connect, TLS and authentication included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer that acknowledges nothing for so long is gone (`TCP_USER_TIMEOUT`, tcp(7)).
const PEER_TIMEOUT: Duration = Duration::from_secs(5);
/// First pause after a failed attempt; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between attempts: so late at most is a server that is back noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lived shorter than this counts as a failed attempt.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Commands under way at once; more wait their turn within their own time.
const IN_FLIGHT: usize = 256;

/// What there is of a connection.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// The first attempt, or the first after a loss, is under way: worth waiting for.
    Connecting,
    /// Connected.
    Up(Live),
    /// The last attempt failed, and more follow: not worth waiting for.
    Down(RedisError),
}

/// A connection, and how to say that it is of no use any more.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    pub(super) lost: Arc<Notify>,
}

/// The client for an address.
///
/// # Errors
/// An address the crate cannot use, such as a database that is not a number.
pub(super) fn client(url: &RedisUrl) -> RedisResult<Client> {
    if url.parts().scheme() == "rediss" {
        // lapin brings in rustls with two providers, and then rustls picks none by itself but panics. An error here means
        // that another part of the process has picked one, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let info = url.parts().clone().into_connection_info()?;
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_user_timeout(PEER_TIMEOUT);
    // Only RESP3 connections tell of their end by themselves; with RESP2 the next command would have to find out.
    let redis = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_tcp_settings(tcp).set_redis_settings(redis))
}

/// Connects, and connects again whenever the connection is lost, until it is dropped.
pub(super) async fn supervise(client: Client, redis: Arc<str>, state: watch::Sender<State>) {
    let mut failures: u32 = 0;
    loop {
        let lost = Arc::new(Notify::new());
        let config = config(&lost);
        let attempt = client.get_multiplexed_async_connection_with_config(&config);
        match attempt.await {
            Ok(connection) => {
                tracing::info!(%redis, "connected to Redis");
                let since = Instant::now();
                let live = Live {
                    connection,
                    lost: lost.clone(),
                };
                state.send_replace(State::Up(live));
                lost.notified().await;
                tracing::warn!(%redis, "the connection to Redis is lost, making another");
                state.send_replace(State::Connecting);
                if since.elapsed() >= SETTLED_AFTER {
                    failures = 0;
                    continue;
                }
            }
            Err(error) => {
                if !matches!(*state.borrow(), State::Down(_)) {
                    tracing::warn!(%redis, %error, "Redis cannot be reached, trying on");
                }
                state.send_replace(State::Down(error));
            }
        }
        tokio::time::sleep(pause(failures)).await;
        failures = failures.saturating_add(1);
    }
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

/// A pause that doubles with each failure, of which up to a half is left to chance, so that processes do not come together.
fn pause(failures: u32) -> Duration {
    let longest = FIRST_PAUSE
        .saturating_mul(1 << failures.min(16))
        .min(LONGEST_PAUSE);
    longest.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        for failures in 0..100 {
            let pause = pause(failures);
            assert!(
                pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE,
                "{pause:?}"
            );
        }
        assert!(pause(50) >= LONGEST_PAUSE / 2);
    }

    #[test]
    fn an_address_the_crate_cannot_use_is_an_error() {
        let url: RedisUrl = "redis://ann:s3cret@h/not-a-number".parse().unwrap();
        assert!(!client(&url).unwrap_err().to_string().contains("s3cret"));
    }

    #[test]
    fn tls_has_a_provider_whatever_else_is_compiled_in() {
        let url: RedisUrl = "rediss://localhost:1".parse().unwrap();
        client(&url).unwrap();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
