//! Time limits of one connection that hyper does not have: the first byte, a head that has begun, a client that does
//! not read. A body has its own limits, in `upload`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::progress::Progress;

/// Longest time from the first byte of a request's head to its last, and from the connection to its first byte.
const HEAD: Duration = Duration::from_secs(10);
/// Longest time in which a client takes not a single byte of an answer.
const WRITE: Duration = Duration::from_secs(30);
/// Longest time in which a client takes what is ready for it: reading a byte now and then does not buy more.
const WRITE_TOTAL: Duration = Duration::from_secs(120);

/// Cuts a connection that is too slow for what it does.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    progress: Arc<Progress>,
    /// Connections that were cut, by reason.
    cut: IntCounterVec,
}

impl Guard {
    /// For one connection; counts in `cut` if it has to be cut.
    pub(super) const fn new(progress: Arc<Progress>, cut: IntCounterVec) -> Self {
        Self { progress, cut }
    }

    fn too_slow(&self, reason: &str, what: &'static str) -> io::Error {
        self.cut.with_label_values(&[reason]).inc();
        io::Error::new(io::ErrorKind::TimedOut, what)
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
    /// The client has taken nothing for too long when this fires.
    writing: Option<Pin<Box<Sleep>>>,
    /// When the client must have taken all that is ready for it; `None` where nothing is.
    written_by: Option<Instant>,
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
            written_by: None,
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
        ready!(timer.as_mut().poll(cx));
        let what = "the request's head took too long";
        Poll::Ready(Err(self.guard.too_slow("slow_head", what)))
    }

    /// Passes on how a write went, unless the client has let it wait for too long.
    fn poll_stalled<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing = None;
            return written;
        }
        let now = Instant::now();
        let written_by = *self.written_by.get_or_insert(now + WRITE_TOTAL);
        let timer = self
            .writing
            .get_or_insert_with(|| Box::pin(sleep_until(written_by.min(now + WRITE))));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(self
            .guard
            .too_slow("slow_read", "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let begun = self.guard.progress.begun();
        if begun != self.seen {
            self.seen = begun;
            self.head_by = None;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = buffer.filled().len() > before;
        if came && self.guard.progress.came() && self.head_by.is_none() {
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
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_stalled(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.poll_stalled(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes once all it had has been written.
        self.written_by = None;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.guard.progress.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn guard() -> Guard {
        let opts = prometheus::Opts::new("cut", "cut");
        let cut = IntCounterVec::new(opts, &["reason"]).unwrap();
        Guard::new(Arc::default(), cut)
    }

    fn cut(guard: &Guard, reason: &str) -> u64 {
        guard.cut.with_label_values(&[reason]).get()
    }

    fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
        result.unwrap_err().kind()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_cut() {
        let (_client, server) = duplex(64);
        let began = Instant::now();
        let guard = guard();
        let read = Guarded::new(server, guard.clone()).read_u8().await;
        assert_eq!(kind(read), io::ErrorKind::TimedOut);
        assert_eq!(cut(&guard, "slow_head"), 1);
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn dripping_a_head_does_not_buy_time() {
        let (mut client, server) = duplex(64);
        let guard = guard();
        let mut server = Guarded::new(server, guard.clone());
        client.write_u8(b'G').await.unwrap();
        server.read_u8().await.unwrap();
        drop(guard.progress.begin(false));
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
        let guard = guard();
        let mut server = Guarded::new(server, guard.clone());
        let busy = guard.progress.begin(false);
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
        let guard = guard();
        let written = Guarded::new(server, guard.clone())
            .write_all(&[0; 64])
            .await;
        assert_eq!(kind(written), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 30);
        assert_eq!(cut(&guard, "slow_read"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn reading_a_byte_now_and_then_does_not_buy_time() {
        let (mut client, server) = duplex(8);
        let mut server = Guarded::new(server, guard());
        // What was taken in time does not count against what follows.
        server.write_all(&[0; 8]).await.unwrap();
        client.read_exact(&mut [0; 8]).await.unwrap();
        server.flush().await.unwrap();
        tokio::time::sleep(Duration::from_secs(500)).await;
        let began = Instant::now();
        let drip = async {
            loop {
                tokio::time::sleep(Duration::from_secs(20)).await;
                client.read_u8().await.unwrap();
            }
        };
        let written = tokio::select! {
            () = drip => unreachable!("it never ends"),
            written = server.write_all(&[0; 64]) => written,
        };
        assert_eq!(kind(written), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 120);
    }
}
