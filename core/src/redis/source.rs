//! Where the server of a link is found: at its address, or by asking sentinels which one is the primary.

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError,
    RedisResult, TlsMode,
};
use tokio::time::timeout;
use url::Url;

use super::failover::Failover;
use crate::program::config::{RedisUrl, Sentinels};

/// A peer that acknowledges nothing for so long is gone (`TCP_USER_TIMEOUT`, tcp(7)).
const PEER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time to find the primary. A sentinel that is silent costs up to 2 s, and three are asked at once.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Makes connections to one Redis.
pub(super) enum Source {
    /// It is always the same server.
    Server(Box<Client>),
    /// It is another one after a failover.
    Sentinels(Box<Primary>),
}

/// The primary of a service, whichever server that is.
pub(super) struct Primary {
    sentinels: Sentinel,
    service: String,
    server: SentinelNodeConnectionInfo,
}

impl Source {
    /// The source at an address. Nothing is connected.
    ///
    /// # Errors
    /// An address the crate cannot use, such as a database that is not a number.
    pub(super) fn of(url: &RedisUrl) -> RedisResult<Self> {
        // lapin brings in rustls with two providers, and then rustls picks none by itself but panics. An error here means
        // that another part of the process has picked one, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match url {
            RedisUrl::Server(url) => Client::open(connection_info(url)?)
                .map(Box::new)
                .map(Self::Server),
            RedisUrl::Sentinels(sentinels) => {
                Primary::of(sentinels).map(Box::new).map(Self::Sentinels)
            }
        }
    }

    /// What a link has to see to where another server may take over.
    pub(super) fn failover(&self) -> Option<Failover> {
        match self {
            Self::Server(_) => None,
            Self::Sentinels(_) => Some(Failover::default()),
        }
    }

    /// Connects and logs in.
    pub(super) async fn connect(
        &mut self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        match self {
            Self::Server(client) => {
                client
                    .get_multiplexed_async_connection_with_config(config)
                    .await
            }
            Self::Sentinels(primary) => {
                let client = primary.find().await?;
                client
                    .get_multiplexed_async_connection_with_config(config)
                    .await
            }
        }
    }
}

impl Primary {
    fn of(sentinels: &Sentinels) -> RedisResult<Self> {
        let server = connection_info(sentinels.server())?;
        let mut node = SentinelNodeConnectionInfo::default()
            .set_redis_connection_info(server.redis_settings().clone())
            .set_tcp_settings(tcp());
        if sentinels.server().scheme() == "rediss" {
            node = node.set_tls_mode(TlsMode::Secure);
        }
        let nodes = sentinels.nodes().iter().map(connection_info);
        Ok(Self {
            sentinels: Sentinel::build(nodes.collect::<RedisResult<Vec<_>>>()?)?,
            service: sentinels.service().to_owned(),
            server: node,
        })
    }

    /// Asks the sentinels again, and the server they name whether it sees itself as the primary.
    async fn find(&mut self) -> RedisResult<Client> {
        let asking = self
            .sentinels
            .async_master_for(&self.service, Some(&self.server));
        let late = || RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        timeout(LOOK_UP, asking).await.map_err(|_| late())?
    }
}

fn connection_info(url: &Url) -> RedisResult<ConnectionInfo> {
    let info = url.clone().into_connection_info()?;
    // Only RESP3 connections tell of their end by themselves; with RESP2 the next command would have to find out.
    let redis = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_tcp_settings(tcp()).set_redis_settings(redis))
}

fn tcp() -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_user_timeout(PEER_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_the_crate_cannot_use_is_an_error() {
        for text in [
            "redis://ann:s3cret@h/not-a-number",
            "redis+sentinel://ann:s3cret@h/main/not-a-number",
        ] {
            let error = Source::of(&text.parse().unwrap()).err().unwrap();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn tls_has_a_provider_whatever_else_is_compiled_in() {
        for text in ["rediss://localhost:1", "rediss+sentinel://localhost:1/main"] {
            Source::of(&text.parse().unwrap()).unwrap();
        }
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
