//! A TCP proxy that breaks connections on purpose: it stands between a program and RabbitMQ or Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the proxy does to its connections from the moment it is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Passes everything on.
    #[default]
    None,
    /// Passes everything on later, by so much and up to a half more.
    Latency(Duration),
    /// Passes nothing on, in either direction, and keeps connections open: a cable that was pulled.
    Blackhole,
    /// Swallows what the service says: requests arrive, answers do not.
    Mute,
    /// Swallows what clients say: neither requests nor acks arrive, what is on its way back does.
    Deaf,
    /// Cuts every connection after so many more bytes to the service, in the middle of a frame if it falls there.
    CutAfter(u64),
    /// Cuts every connection now and refuses new ones.
    Refuse,
}

/// A running proxy; ends with its value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    budget: Arc<AtomicU64>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Proxy {
    /// Starts a proxy before the service at `target`.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on loopback");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let (fault, faults) = watch::channel(Fault::None);
        let proxy = Self {
            address,
            fault,
            budget: Arc::new(AtomicU64::new(u64::MAX)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let line = Line {
            target,
            faults,
            budget: Arc::clone(&proxy.budget),
            stop: proxy.stop.clone(),
        };
        let tasks = proxy.tasks.clone();
        proxy.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = line.stop.cancelled() => return,
                };
                if let Ok((client, _)) = accepted {
                    tasks.spawn(line.clone().serve(client));
                }
            }
        });
        proxy
    }

    /// Where programs connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the fault for connections there are and those to come.
    pub fn set(&self, fault: Fault) {
        self.budget.store(
            if let Fault::CutAfter(bytes) = fault {
                bytes
            } else {
                u64::MAX
            },
            Ordering::SeqCst,
        );
        self.fault.send_replace(fault);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Clone, Debug)]
struct Line {
    target: SocketAddr,
    faults: watch::Receiver<Fault>,
    budget: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Line {
    async fn serve(self, client: TcpStream) {
        if *self.faults.borrow() == Fault::Refuse {
            return;
        }
        let Ok(service) = TcpStream::connect(self.target).await else {
            return;
        };
        // Without this, small frames wait for acknowledgements and every fault would look like latency.
        let _best_effort = (client.set_nodelay(true), service.set_nodelay(true));
        let ((from_client, to_client), (from_service, to_service)) =
            (client.into_split(), service.into_split());
        let stop = self.stop.clone();
        tokio::select! {
            () = self.clone().pass(from_client, to_service, true) => {}
            () = self.pass(from_service, to_client, false) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Passes bytes one way until the connection ends or a fault ends it.
    async fn pass(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, to_service: bool) {
        let mut buffer = vec![0_u8; 16 * 1024];
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                changed = self.faults.changed() => {
                    if changed.is_err() || *self.faults.borrow_and_update() == Fault::Refuse { return }
                    continue;
                }
            };
            let Ok(length @ 1..) = read else { return };
            let fault = *self.faults.borrow();
            let passed = match fault {
                Fault::None => Some(length),
                Fault::Latency(by) => {
                    let jitter = by.mul_f64(f64::from(buffer[length / 2]) / 512.0);
                    sleep(by + jitter).await;
                    Some(length)
                }
                Fault::Blackhole => None,
                Fault::Mute => to_service.then_some(length),
                Fault::Deaf => (!to_service).then_some(length),
                Fault::CutAfter(_) if to_service => Some(self.spend(length)),
                Fault::CutAfter(_) => Some(length),
                Fault::Refuse => return,
            };
            let Some(passed) = passed else { continue };
            if to.write_all(&buffer[..passed]).await.is_err() || passed < length {
                return;
            }
        }
    }

    /// Takes bytes off the budget of all connections; fewer than asked for means that the cut is here.
    fn spend(&self, length: usize) -> usize {
        let length = length as u64;
        let take = |left: u64| Some(left.saturating_sub(length));
        let left = self
            .budget
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .unwrap_or_default();
        usize::try_from(left.min(length)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// An echo service and a connection to it through a proxy.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::before(listener.local_addr().unwrap()).await;
        proxy.tasks.spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (mut read, mut write) = socket.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            }
        });
        let socket = TcpStream::connect(proxy.address()).await.unwrap();
        (proxy, socket)
    }

    async fn say(socket: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        socket.write_all(text).await?;
        let mut heard = vec![0; text.len()];
        socket.read_exact(&mut heard).await?;
        Ok(heard)
    }

    #[tokio::test]
    async fn without_a_fault_everything_passes() {
        let (_proxy, mut socket) = echo().await;
        assert_eq!(say(&mut socket, b"hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn a_cut_falls_in_the_middle_of_what_is_said() {
        let (proxy, mut socket) = echo().await;
        assert_eq!(say(&mut socket, b"hello").await.unwrap(), b"hello");
        proxy.set(Fault::CutAfter(3));
        assert!(say(&mut socket, b"hello").await.is_err());
    }

    #[tokio::test]
    async fn a_refusing_proxy_ends_what_there_is() {
        let (proxy, mut socket) = echo().await;
        assert_eq!(say(&mut socket, b"hello").await.unwrap(), b"hello");
        proxy.set(Fault::Refuse);
        assert!(say(&mut socket, b"again").await.is_err());
        proxy.set(Fault::None);
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut socket, b"hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn a_blackhole_swallows_and_keeps_the_line_open() {
        let (proxy, mut socket) = echo().await;
        proxy.set(Fault::Blackhole);
        let silent = timeout(Duration::from_millis(200), say(&mut socket, b"hello")).await;
        assert!(silent.is_err(), "neither an answer nor an end");
    }
}
