//! A TCP proxy before the broker that can cut, stall and refuse, and speak in the broker's name.

use std::net::SocketAddr;
use std::sync::Arc;

use selvage_core::program::config::AmqpUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::fleet::{url, url_with};

/// Type, channel and length of an AMQP frame; <https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf> §4.2.3.
const FRAME_HEAD: usize = 7;
const FRAME_END: u8 = 0xce;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes everything on.
    Open,
    /// Accepts and passes nothing on, in either direction.
    Stalled,
    /// Ends new connections at once.
    Refusing,
}

/// What all connections of a proxy obey.
struct Orders {
    mode: watch::Sender<Mode>,
    cut: watch::Sender<()>,
    inject: broadcast::Sender<Vec<u8>>,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    orders: Arc<Orders>,
    _stop: DropGuard,
}

impl Proxy {
    pub(crate) async fn new(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let orders = Arc::new(Orders {
            mode: watch::Sender::new(mode),
            cut: watch::Sender::new(()),
            inject: broadcast::Sender::new(4),
        });
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let accepting = accept(listener, Arc::clone(&orders), tasks.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(accepting));
        Self {
            address,
            orders,
            _stop: stop.drop_guard(),
        }
    }

    /// The broker's address by way of this proxy.
    pub(crate) fn url(&self) -> AmqpUrl {
        url_with(|url| {
            url.set_ip_host(self.address.ip()).unwrap();
            url.set_port(Some(self.address.port())).unwrap();
        })
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.orders.mode.send_replace(mode);
    }

    /// Ends all connections that exist now.
    pub(crate) fn cut(&self) {
        self.orders.cut.send_replace(());
    }

    /// Sends `connection.blocked`, as a broker does that runs out of memory, to all connections.
    pub(crate) fn say_blocked(&self) {
        self.say(60, b"\x06memory");
    }

    /// Sends `connection.unblocked`.
    pub(crate) fn say_unblocked(&self) {
        self.say(61, b"");
    }

    /// A method of class 10, connection, on channel 0.
    fn say(&self, method: u8, arguments: &[u8]) {
        let length = u8::try_from(4 + arguments.len()).unwrap();
        let mut frame = vec![1, 0, 0, 0, 0, 0, length, 0, 10, 0, method];
        frame.extend_from_slice(arguments);
        frame.push(FRAME_END);
        self.orders.inject.send(frame).unwrap();
    }
}

async fn accept(listener: TcpListener, orders: Arc<Orders>, tasks: TaskTracker) {
    while let Ok((client, _)) = listener.accept().await {
        let orders = Arc::clone(&orders);
        let mut cut = orders.cut.subscribe();
        tasks.spawn(async move {
            tokio::select! {
                _ = cut.changed() => {}
                _ = serve(client, &orders) => {}
            }
        });
    }
}

async fn serve(client: TcpStream, orders: &Orders) -> std::io::Result<()> {
    if *orders.mode.borrow() == Mode::Refusing {
        return Ok(());
    }
    let target = url();
    let target = target.parts();
    let host = (target.host_str().unwrap(), target.port().unwrap_or(5672));
    let broker = TcpStream::connect(host).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    tokio::select! {
        done = pass_bytes(from_client, to_broker, orders) => done,
        done = pass_frames(from_broker, to_client, orders) => done,
    }
}

async fn open(orders: &Orders) {
    let mut mode = orders.mode.subscribe();
    // The sender outlives every connection.
    let _ = mode.wait_for(|mode| *mode != Mode::Stalled).await;
}

async fn pass_bytes(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    orders: &Orders,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        open(orders).await;
        to.write_all(&buffer[..length]).await?;
    }
}

/// Frame by frame, so that a frame of our own never lands within another.
async fn pass_frames(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    orders: &Orders,
) -> std::io::Result<()> {
    let mut injected = orders.inject.subscribe();
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            frame = injected.recv() => to.write_all(&frame.expect("few frames")).await?,
            length = from.read(&mut chunk) => {
                let length = length?;
                if length == 0 {
                    return Ok(());
                }
                open(orders).await;
                buffer.extend_from_slice(&chunk[..length]);
                let whole = whole_frames(&buffer);
                to.write_all(&buffer[..whole]).await?;
                buffer.drain(..whole);
            }
        }
    }
}

/// How many bytes at the front are whole frames.
fn whole_frames(buffer: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(head) = buffer.get(whole..whole + FRAME_HEAD) {
        let payload = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let end = whole + FRAME_HEAD + usize::try_from(payload).unwrap() + 1;
        if end > buffer.len() {
            break;
        }
        whole = end;
    }
    whole
}
