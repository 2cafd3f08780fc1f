//! Time limits of one connection that hyper does not have: the first byte, a head that has begun, a client that does
//! not read. A body has its own limits, in `upload`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Longest time from the first byte of a request's head to its last, and from the connection to its first byte.
const HEAD: Duration = Duration::from_secs(10);
/// Longest time in which a client takes not a single byte of an answer.
const WRITE: Duration = Duration::from_secs(30);

/// Says whether a request is being answered; shared between a connection and its service.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    busy: AtomicBool,
    /// Requests whose head was complete; it may wrap, only changes are looked at.
    begun: AtomicU32,
}

/// A request is being answered as long as this lives.
#[derive(Debug)]
pub(super) struct Busy(Guard);

impl Guard {
    /// Marks a request as being answered.
    pub(super) fn busy(&self) -> Busy {
        self.0.busy.store(true, Ordering::Relaxed);
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.busy.store(false, Ordering::Relaxed);
    }
}

/// A stream whose reads and writes fail when its client is too slow.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    guard: Guard,
    /// When the head must be complete; `None` between requests and while one is answered.
    head_by: Option<Instant>,
    /// Requests that had begun when it was last looked.
    seen: u32,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    /// A fresh connection: its first byte is due.
    pub(super) fn new(stream: S, guard: Guard) -> Self {
        Self {
            stream,
            guard,
            head_by: Some(Instant::now() + HEAD),
            seen: 0,
            reading: None,
            writing: None,
        }
    }

    /// Fails once the head is overdue; else wakes when it would be.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(head_by) = self.head_by else {
            self.reading = None;
            return Poll::Pending;
        };
        let timer = self
            .reading
            .get_or_insert_with(|| Box::pin(sleep_until(head_by)));
        if timer.deadline() != head_by {
            timer.as_mut().reset(head_by);
        }
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Err(too_slow("the request's head took too long")))
    }

    /// Fails once the client has taken nothing for too long.
    fn poll_stalled<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let timer = self
            .writing
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + WRITE)));
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Err(too_slow("the client does not read")))
    }
}

fn too_slow(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let begun = self.guard.0.begun.load(Ordering::Relaxed);
        if begun != self.seen {
            self.seen = begun;
            self.head_by = None;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = buffer.filled().len() > before;
        if came && self.head_by.is_none() && !self.guard.0.busy.load(Ordering::Relaxed) {
            self.head_by = Some(Instant::now() + HEAD);
        }
        match read {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => self.poll_head(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                self.writing = None;
                Poll::Ready(written)
            }
            Poll::Pending => self.poll_stalled(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, bytes) {
            Poll::Ready(written) => {
                self.writing = None;
                Poll::Ready(written)
            }
            Poll::Pending => self.poll_stalled(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
        result.unwrap_err().kind()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_cut() {
        let (_client, server) = duplex(64);
        let began = Instant::now();
        let read = Guarded::new(server, Guard::default()).read_u8().await;
        assert_eq!(kind(read), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn dripping_a_head_does_not_buy_time() {
        let (mut client, server) = duplex(64);
        let guard = Guard::default();
        let mut server = Guarded::new(server, guard.clone());
        client.write_u8(b'G').await.unwrap();
        server.read_u8().await.unwrap();
        drop(guard.busy());
        let began = Instant::now();
        let drip = async {
            loop {
                tokio::time::sleep(Duration::from_secs(3)).await;
                client.write_u8(b'x').await.unwrap();
            }
        };
        let read = async { while server.read_u8().await.is_ok() {} };
        tokio::select! {
            () = drip => unreachable!("it never ends"),
            () = read => {}
        }
        assert_eq!(
            began.elapsed().as_secs(),
            3 + 10,
            "ten seconds from its first byte"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_answered_and_an_idle_connection_have_no_head_limit() {
        let (mut client, server) = duplex(64);
        let guard = Guard::default();
        let mut server = Guarded::new(server, guard.clone());
        let busy = guard.busy();
        let slow = async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            client.write_u8(b'a').await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(busy);
            tokio::time::sleep(Duration::from_secs(100)).await;
            client.write_u8(b'b').await.unwrap();
        };
        let (read, ()) = tokio::join!(
            async { server.read_u8().await.and(server.read_u8().await) },
            slow
        );
        assert_eq!(read.unwrap(), b'b');
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut() {
        let (_client, server) = duplex(8);
        let began = Instant::now();
        let written = Guarded::new(server, Guard::default())
            .write_all(&[0; 64])
            .await;
        assert_eq!(kind(written), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 30);
    }
}
