//! One image: sends it and, if asked to, waits for its result.

use std::time::Duration;

use reqwest::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::time::Instant;
use uuid::Uuid;

use crate::arguments::Predict;
use crate::client::{Call, Client};
use crate::console::Topic;
use crate::context::Context;
use crate::failure::Failure;
use crate::images::Image;
use crate::job::Job;
use crate::wait::{LONGEST_POLL, Wait};

/// How long an interrupted submission may still take to name its job.
const NAMING_GRACE: Duration = Duration::from_secs(2);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The server looks at the image itself.
const IMAGE: HeaderValue = HeaderValue::from_static("application/octet-stream");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// The server refuses longer metadata.
const LONGEST_METADATA: usize = 1024;

/// How all images of a command are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) asked: &'a Predict,
    pub(super) client: &'a Client,
    pub(super) context: &'a Context,
}

impl Asking<'_> {
    /// The image's job, ended unless it was only to be submitted.
    pub(super) async fn predict(&self, image: &Image, name: &str) -> Result<Job, Failure> {
        let topic = self.context.console.about(name);
        let bounds = self.context.bounds(self.asked.patience.span());
        let deadline = bounds.deadline;
        // The server drops the work of a request that is dropped; a submission gets a moment to name its job.
        let grace = if self.submits() {
            NAMING_GRACE
        } else {
            Duration::ZERO
        };
        let job = bounds.run(grace, self.send(image, topic, deadline)).await?;
        if job.has_ended() || self.asked.response_mode.submit {
            return Ok(job);
        }
        let id = &job.seen.id;
        let wait = Wait {
            client: self.client,
            topic,
            deadline,
        };
        let end = async {
            if self.asked.response_mode.follow {
                wait.follow(id).await
            } else {
                wait.poll(id).await
            }
        };
        let ended = bounds.run(Duration::ZERO, end).await;
        ended.map_err(|failure| failure.leaving(id))
    }

    const fn submits(&self) -> bool {
        self.asked.response_mode.submit || self.asked.response_mode.follow
    }

    async fn send(
        &self,
        image: &Image,
        topic: Topic<'_>,
        deadline: Instant,
    ) -> Result<Job, Failure> {
        let bytes = image.read().await?;
        let call = if self.submits() {
            submission(deadline)
        } else {
            question(deadline)
        };
        let mut call = call
            .header(CONTENT_TYPE, IMAGE)
            .body(bytes)
            .query("model", self.asked.model.as_deref())
            .query("top_k", self.asked.top)
            .query("metadata", metadata(image));
        if self.asked.no_cache {
            call = call.header(CACHE_CONTROL, NO_CACHE);
        }
        self.client.send(&call, &topic).await?.read(self.client)
    }
}

/// What `selvage jobs list` shows of the image later.
fn metadata(image: &Image) -> Option<String> {
    let metadata = serde_json::json!({"file": image.file_name()?}).to_string();
    (metadata.len() <= LONGEST_METADATA).then_some(metadata)
}

/// A request that waits. It needs no idempotency key: the server stores nothing while it waits, so a retry is the same request.
fn question(deadline: Instant) -> Call {
    let left = deadline.saturating_duration_since(Instant::now());
    Call::post("/predict", deadline).wait(left.min(LONGEST_POLL))
}

/// A job. With its idempotency key, retries submit it only once.
fn submission(deadline: Instant) -> Call {
    let key = format!("\"{}\"", Uuid::new_v4());
    let call = Call::post("/jobs", deadline);
    match HeaderValue::try_from(key) {
        Ok(key) => call.header(IDEMPOTENCY_KEY, key),
        Err(_) => call,
    }
}
