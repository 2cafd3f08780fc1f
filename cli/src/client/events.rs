//! A job's server-sent events, one connection at a time.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use sse_stream::SseByteStream;
use tokio::time::timeout;

use crate::job::Job;

/// Longest silence on a stream: the server sends a comment every 15 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);

type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A stream of events.
pub(crate) struct Events(SseByteStream<Chunks>);

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    /// The job as it is now; `None` where an event tells only of the stream itself.
    pub(crate) job: Option<Job>,
    /// What to send as `Last-Event-ID` after this event.
    pub(crate) id: Option<String>,
    /// When to come back after the stream broke.
    pub(crate) retry: Option<Duration>,
}

impl Events {
    /// The events of an answer, or `None` where it has none: something between may not let them pass.
    pub(crate) fn of(response: Response) -> Option<Self> {
        let kind = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
        if !kind.starts_with("text/event-stream") {
            return None;
        }
        let chunks = Box::pin(response.bytes_stream());
        let chunks = stream::unfold(chunks, |mut chunks| async move {
            let chunk = match timeout(SILENCE_LIMIT, chunks.next()).await {
                Ok(chunk) => chunk?.map_err(io::Error::other),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            Some((chunk, chunks))
        });
        Some(Self(SseByteStream::new(Box::pin(chunks))))
    }

    /// The next event; `None` where the stream ended or broke.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let event = self.0.next().await?.ok()?;
        Some(Event {
            job: event.data.and_then(|data| serde_json::from_str(&data).ok()),
            id: event.id,
            retry: event.retry.map(Duration::from_millis),
        })
    }
}
