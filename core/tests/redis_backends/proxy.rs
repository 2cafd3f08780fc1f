//! A TCP proxy before a Redis that can swallow what its connections of the moment still have to say.

use std::net::SocketAddr;
use std::sync::Arc;

use selvage_core::config::RedisUrl;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

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
        let port = redis.parts().port().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stuck = Arc::new(watch::Sender::new(()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, port, stuck.clone()));
        Self {
            address,
            stuck,
            _tasks: tasks,
        }
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

async fn accept(listener: TcpListener, port: u16, stuck: Arc<watch::Sender<()>>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        connections.spawn(forward(client, port, stuck.subscribe()));
    }
}

async fn forward(mut client: TcpStream, port: u16, mut stuck: watch::Receiver<()>) {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = stuck.changed() => std::future::pending().await,
    }
}
