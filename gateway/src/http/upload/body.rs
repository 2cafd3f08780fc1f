//! Reads a request's body within its bounds: size, time without progress, time in all, and memory of all bodies together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::http::error::{ApiError, Code};

/// Longest time without a byte.
const IDLE: Duration = Duration::from_secs(30);
/// Longest time for a whole body.
const TOTAL: Duration = Duration::from_secs(120);
/// Bodies up to this size are not charged to the budget: as many as there may be stay far below it.
const FREE_BYTES: usize = 16 * 1024;
/// Memory a body is given before it has come: what a client says of its length is not believed beyond it.
const TRUSTED_BYTES: usize = 256 * 1024;
/// A body that was refused for its size is read on for so long, so that its client sees the answer, not a reset.
const LINGER: Duration = Duration::from_secs(2);
/// One permit of the budget.
const UNIT_BYTES: usize = 1024;
/// When to come back when all memory for bodies is taken; they are short-lived.
const RETRY_BODIES: Duration = Duration::from_secs(1);

/// The bounds of all bodies of one gateway.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    max_bytes: usize,
    budget: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// A body in memory, and its share of the budget.
#[derive(Debug)]
pub struct BufferedBody {
    /// The bytes.
    pub bytes: Bytes,
    /// The share; given back when it is dropped.
    pub share: Share,
}

/// A body's share of the budget; none for small ones.
#[derive(Debug, Default)]
pub struct Share(Option<OwnedSemaphorePermit>);

impl Share {
    /// Lets several images hold the share together.
    #[must_use]
    pub fn split(self) -> SharedShare {
        SharedShare(self.0.map(Arc::new))
    }
}

/// A share that all images of one body hold.
#[derive(Clone, Debug, Default)]
pub struct SharedShare(Option<Arc<OwnedSemaphorePermit>>);

impl SharedShare {
    /// Ties the share to an image: it is given back when the last copy of the last image is gone, be it in a queue.
    #[must_use]
    pub fn attach(&self, image: Bytes) -> Bytes {
        match &self.0 {
            None => image,
            Some(share) => Bytes::from_owner(Charged {
                image,
                _share: Arc::clone(share),
            }),
        }
    }
}

struct Charged {
    image: Bytes,
    _share: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.image
    }
}

impl BodyLimits {
    /// Bounds for one body and for all together, in bytes. Tasks that outlive a request run on `tasks`.
    #[must_use]
    pub fn new(max_bytes: usize, max_buffered_bytes: usize, tasks: TaskTracker) -> Self {
        let units = (max_buffered_bytes.max(max_bytes) / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self {
            max_bytes,
            budget: Arc::new(Semaphore::new(units)),
            tasks,
        }
    }

    /// Reads a body to its end.
    ///
    /// # Errors
    /// `payload_too_large`, `body_timeout`, `queue_full` where memory for bodies is used up, or `bad_request` where
    /// the client broke off.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<BufferedBody, ApiError> {
        let announced = headers.get(CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > self.max_bytes) {
            self.refuse(headers, body);
            return Err(self.too_large());
        }
        match timeout(TOTAL, self.collect(announced.unwrap_or(0), body)).await {
            Ok(read) => read,
            Err(_elapsed) => Err(too_slow()),
        }
    }

    async fn collect(&self, announced: usize, mut body: Body) -> Result<BufferedBody, ApiError> {
        let mut share = Share::default();
        self.charge(&mut share, announced)?;
        // Most bodies are one frame: they are handed on as they came.
        let Some(first) = next(&mut body).await? else {
            return Ok(BufferedBody {
                bytes: Bytes::new(),
                share,
            });
        };
        let mut all = None;
        let mut length = first.len();
        self.charge(&mut share, length)?;
        while let Some(frame) = next(&mut body).await? {
            length += frame.len();
            if length > self.max_bytes {
                self.linger(body);
                return Err(self.too_large());
            }
            self.charge(&mut share, length)?;
            all.get_or_insert_with(|| {
                let mut bytes =
                    BytesMut::with_capacity(announced.clamp(length, TRUSTED_BYTES.max(length)));
                bytes.extend_from_slice(&first);
                bytes
            })
            .extend_from_slice(&frame);
        }
        if length > self.max_bytes {
            return Err(self.too_large());
        }
        let bytes = all.map_or(first, BytesMut::freeze);
        Ok(BufferedBody { bytes, share })
    }

    /// Raises a body's share of the budget to `bytes`.
    fn charge(&self, Share(share): &mut Share, bytes: usize) -> Result<(), ApiError> {
        if bytes <= FREE_BYTES {
            return Ok(());
        }
        let held = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(UNIT_BYTES).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.budget).try_acquire_many_owned(more) else {
            let detail = "too many large bodies are being read; come back in a moment";
            return Err(ApiError::new(Code::QueueFull, detail).retry_after(RETRY_BODIES));
        };
        match share {
            Some(share) => share.merge(permit),
            None => *share = Some(permit),
        }
        Ok(())
    }

    /// Has nothing to do with a body: its request is refused before it is read.
    pub fn refuse(&self, headers: &HeaderMap, body: Body) {
        // A client that asks first (RFC 9110 §10.1.1) has sent nothing yet, and will not.
        if !headers.contains_key(EXPECT) && !body.is_end_stream() {
            self.linger(body);
        }
    }

    fn too_large(&self) -> ApiError {
        let detail = format!("a body may have at most {} bytes", self.max_bytes);
        ApiError::new(Code::PayloadTooLarge, detail)
    }

    /// Throws away what still comes, within bounds: a socket that is closed while its client still writes is reset,
    /// and the client never sees why.
    fn linger(&self, mut body: Body) {
        let mut left = self.max_bytes.saturating_mul(4);
        self.tasks.spawn(async move {
            let drain = async {
                while let Some(Ok(frame)) = body.frame().await {
                    let read = frame.data_ref().map_or(0, Bytes::len);
                    let Some(rest) = left.checked_sub(read) else {
                        break;
                    };
                    left = rest;
                }
            };
            timeout(LINGER, drain).await.ok();
        });
    }
}

/// The next data of a body; `None` at its end.
async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        let frame = timeout(IDLE, body.frame())
            .await
            .map_err(|_elapsed| too_slow())?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => {
                let error = ApiError::new(Code::BadRequest, "the body broke off").because(error);
                return Err(error);
            }
            // Trailers say nothing that is needed here.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn too_slow() -> ApiError {
    let detail = "the body must come within 120 s, with no pause of 30 s";
    ApiError::new(Code::BodyTimeout, detail)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn limits(max: usize, buffered: usize) -> BodyLimits {
        BodyLimits::new(max, buffered, TaskTracker::new())
    }

    fn chunks(chunks: Vec<Bytes>) -> Body {
        Body::from_stream(stream::iter(
            chunks.into_iter().map(Ok::<_, std::io::Error>),
        ))
    }

    fn announced(length: usize) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_LENGTH, length.into())])
    }

    #[tokio::test]
    async fn one_frame_is_not_copied_and_many_are_joined() {
        let limits = limits(1 << 20, 1 << 20);
        let whole = Bytes::from(vec![7; 100]);
        let held = limits
            .read(&HeaderMap::new(), whole.clone().into())
            .await
            .unwrap();
        assert_eq!(held.bytes.as_ptr(), whole.as_ptr());
        let parts = chunks(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        let held = limits.read(&announced(3), parts).await.unwrap();
        assert_eq!(&*held.bytes, b"abc");
    }

    #[tokio::test]
    async fn bodies_above_the_limit_are_refused_by_length_and_by_content() {
        let limits = limits(1000, 1 << 20);
        let by_length = limits.read(&announced(1001), Body::empty()).await;
        let at_once = limits.read(&HeaderMap::new(), vec![0; 1001].into()).await;
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 64])));
        let endless = limits
            .read(&HeaderMap::new(), Body::from_stream(endless))
            .await;
        for read in [by_length, at_once, endless] {
            assert_eq!(read.unwrap_err().code(), Code::PayloadTooLarge);
        }
        assert!(
            limits
                .read(&announced(1000), vec![0; 1000].into())
                .await
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_and_dripping_bodies_time_out() {
        let limits = limits(1 << 20, 1 << 20);
        let stalled = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let read = limits.read(&announced(10), stalled).await;
        assert_eq!(read.unwrap_err().code(), Code::BodyTimeout);
        let dripping = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        });
        let read = limits
            .read(&HeaderMap::new(), Body::from_stream(dripping))
            .await;
        assert_eq!(read.unwrap_err().code(), Code::BodyTimeout);
    }

    #[tokio::test]
    async fn large_bodies_share_a_budget_that_comes_back() {
        let limits = limits(1 << 20, 1 << 20);
        let large = || vec![0; 700 * 1024];
        let held = limits
            .read(&announced(700 * 1024), large().into())
            .await
            .unwrap();
        let second = limits.read(&announced(700 * 1024), large().into()).await;
        assert_eq!(second.unwrap_err().code(), Code::QueueFull);
        let small = limits.read(&HeaderMap::new(), vec![0; 1000].into()).await;
        assert!(small.is_ok());
        let queued = held.share.split().attach(held.bytes);
        let copy = queued.slice(10..);
        drop(queued);
        assert!(
            limits
                .read(&announced(700 * 1024), large().into())
                .await
                .is_err()
        );
        drop(copy);
        let unannounced = chunks(vec![Bytes::from(vec![0; 350 * 1024]); 2]);
        assert!(limits.read(&HeaderMap::new(), unannounced).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_a_bad_request() {
        let broken = stream::iter([
            Ok(Bytes::from_static(b"ab")),
            Err(std::io::Error::other("reset")),
        ]);
        let read = limits(100, 100)
            .read(&announced(10), Body::from_stream(broken))
            .await;
        assert_eq!(read.unwrap_err().code(), Code::BadRequest);
    }
}
