//! A TCP proxy before a Redis that can swallow what its connections of the moment still have to say, or say it late.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use selvage_core::program::config::RedisUrl;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::server;

/// Forwards connections to one address. Ends with its owner.
pub(crate) struct Proxy {
    address: SocketAddr,
    /// Each change makes the connections of that moment stuck.
    stuck: Arc<watch::Sender<()>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts one before that Redis.
    pub(crate) async fn before(redis: &RedisUrl) -> Self {
        Self::late(redis, Duration::ZERO).await
    }

    /// Starts one that passes on everything by so much later.
    pub(crate) async fn late(redis: &RedisUrl, delay: Duration) -> Self {
        let port = server(redis).port().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stuck = Arc::new(watch::Sender::new(()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, port, delay, stuck.clone()));
        Self {
            address,
            stuck,
            _tasks: tasks,
        }
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its address.
    pub(crate) fn url(&self) -> RedisUrl {
        format!("redis://{}", self.address).parse().unwrap()
    }

    /// From now on the connections there are stay open and carry nothing; new ones work.
    pub(crate) fn get_stuck(&self) {
        self.stuck.send_replace(());
    }
}

async fn accept(listener: TcpListener, port: u16, delay: Duration, stuck: Arc<watch::Sender<()>>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        connections.spawn(forward(client, port, delay, stuck.subscribe()));
    }
}

async fn forward(
    mut client: TcpStream,
    port: u16,
    delay: Duration,
    mut stuck: watch::Receiver<()>,
) {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    tokio::select! {
        () = pass(from_client, to_server, delay) => {}
        () = pass(from_server, to_client, delay) => {}
        _ = stuck.changed() => std::future::pending().await,
    }
}

/// Passes bytes on until either side ends, which ends both.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: Duration) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        // The delay is what the proxy is for, not a wait for something.
        sleep(delay).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}
