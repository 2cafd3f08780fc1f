//! Bodies that say when they have come to their end.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};

/// A body that drops `until` at its end, or when it is dropped itself.
#[derive(Debug)]
pub(super) struct Tracked<B, T> {
    body: B,
    until: Option<T>,
}

impl<B, T> Tracked<B, T> {
    /// Drops `until` when `body` ends.
    pub(super) const fn new(body: B, until: Option<T>) -> Self {
        Self { body, until }
    }
}

impl<B: Body + Unpin, T: Unpin> Body for Tracked<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.until = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use futures_util::{FutureExt as _, stream};
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    #[test]
    fn the_end_is_the_last_frame_where_the_length_is_known_and_what_follows_it_else() {
        let known = Full::new(Bytes::from_static(b"a"));
        let frame = Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"a")));
        let streamed = StreamBody::new(stream::iter([frame]));
        let until = Arc::new(());
        let mut known = Tracked::new(known, Some(Arc::clone(&until)));
        let mut streamed = Tracked::new(streamed, Some(Arc::clone(&until)));
        assert_eq!(Arc::strong_count(&until), 3);
        known.frame().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(Arc::strong_count(&until), 2, "the last frame");
        streamed.frame().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(Arc::strong_count(&until), 2, "it may go on");
        assert!(streamed.frame().now_or_never().unwrap().is_none());
        assert_eq!(Arc::strong_count(&until), 1);
    }
}
