//! A job: one image to be classified by one model before a deadline.
//!
//! No queue, no store and no HTTP here; [`crate::queue::wire`] turns jobs into bytes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::UnixMillis;
use crate::key::{Digest, PredictionKey};
use crate::key_name::KeyName;
use crate::webhook::Webhook;

/// A job's identity: a UUIDv7, so it carries the time at which it was made.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", schema(value_type = String, format = "uuid", pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$", example = "01929f3e-7c1a-7b52-9a64-2f0d8f6a5b11"))]
pub struct JobId(Uuid);

/// A text that is not a UUIDv7.
#[derive(Debug, thiserror::Error)]
#[error("not a UUIDv7")]
pub struct InvalidJobId;

impl JobId {
    /// A fresh id, made of the current wall time and random bits.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id's 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// An id from its 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// When the id was made, by the clock of the gateway that made it.
    #[must_use]
    pub fn made_at(&self) -> UnixMillis {
        let millis = self.0.as_u64_pair().0 >> 16; // RFC 9562 §5.7: the first 48 bits are Unix milliseconds
        UnixMillis(millis)
    }
}

impl Default for JobId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        // `Uuid` accepts several spellings; ids have one: 36 characters, hyphenated, lower case.
        let id = Uuid::try_parse(text).map_err(|_| InvalidJobId)?;
        let canonical = id.get_version_num() == 7 && id.to_string() == text;
        if canonical {
            Ok(Self(id))
        } else {
            Err(InvalidJobId)
        }
    }
}

/// A model's name: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or digit; safe in queue names, keys and URLs.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$", example = "fashion-mnist"))]
pub struct ModelName(Arc<str>);

/// A text that cannot be a model's name.
#[derive(Debug, thiserror::Error)]
#[error("a model name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit")]
pub struct InvalidModelName;

impl ModelName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelName {
    type Err = InvalidModelName;

    fn from_str(text: &str) -> Result<Self, InvalidModelName> {
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c);
        if starts_well && text.len() <= 64 && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidModelName)
        }
    }
}

impl TryFrom<String> for ModelName {
    type Error = InvalidModelName;

    fn try_from(text: String) -> Result<Self, InvalidModelName> {
        text.parse()
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of a model's two queues a job travels through.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Work somebody waits for now; it has no record and is dropped at its deadline.
    Interactive,
    /// An asynchronous job, accepted with a 202; it has a record and ends in a terminal state.
    Batch,
}

impl Priority {
    /// Both queues, in the order in which workers prefer them.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];

    /// The queue's name in queue names, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

/// How a job may use the result cache (`Cache-Control` of the request).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// An answer that is already there may be given.
    pub read: bool,
    /// A new answer may be kept.
    pub write: bool,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            read: true,
            write: true,
        }
    }
}

/// What makes a repeated request the same job: at most one job has this key while its record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Idempotency {
    /// Digest of the client's key and of all that scopes it.
    pub key: Digest,
    /// Digest of what was asked; the same key with another one is a client's mistake.
    pub fingerprint: Digest,
}

/// What an asynchronous job carries besides its image: all that is needed to write its record again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Version of the model, as its `model.toml` names it.
    pub version: String,
    /// How many labels the answer lists.
    pub top_k: u16,
    /// The client's own data, returned as given.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Present where the request had an idempotency key.
    #[serde(default, rename = "once", skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Idempotency>,
    /// The API key it was asked for with; nobody else is shown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<KeyName>,
    /// Where its webhook is delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// The dead-lettered job whose image is asked about again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// Digest of the image's bytes, where [`Job::key`] holds another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_hash: Option<Digest>,
}

/// Where a waiting gateway takes replies; opaque to all but the queue's backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplyAddress(pub Arc<str>);

/// One image to be classified by one model before a deadline.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Identity; a redelivered job keeps it.
    pub id: JobId,
    /// The model's name: it picks its queue.
    pub model: ModelName,
    /// What the answer depends on, and the key it is cached under.
    pub key: PredictionKey,
    /// When the gateway accepted it, by the shared clock.
    pub created_at: UnixMillis,
    /// After this moment, by the shared clock, nobody wants the answer.
    pub deadline: UnixMillis,
    /// How it may use the cache.
    pub cache: CachePolicy,
    /// Starts that an earlier message of this job has seen and the broker's own count does not show.
    pub earlier_attempts: u32,
    /// Who waits for a reply; `None` where nobody does.
    pub reply_to: Option<ReplyAddress>,
    /// The request's id, for logs.
    pub request_id: Option<Arc<str>>,
    /// W3C trace context of the request.
    pub traceparent: Option<Arc<str>>,
    /// Present exactly for jobs on the batch queue.
    pub submission: Option<Submission>,
    /// The encoded image, as it was sent.
    pub image: Bytes,
}

impl Job {
    /// The queue this job travels through: asynchronous work and waited-for work never share one.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        match self.submission {
            Some(_) => Priority::Batch,
            None => Priority::Interactive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling_and_carry_their_time() {
        let before = UnixMillis::wall();
        let id = JobId::new();
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        assert!(id.made_at() >= before && id.made_at() <= UnixMillis::wall());
        let upper = id.to_string().to_uppercase();
        for text in [
            "",
            "1",
            "550e8400-e29b-41d4-a716-446655440000",
            upper.as_str(),
        ] {
            assert!(text.parse::<JobId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn model_names_that_could_leave_their_queue_or_folder_are_refused() {
        for good in ["fashion-mnist", "a", "resnet50.v2_x"] {
            assert_eq!(good.parse::<ModelName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(65);
        for bad in [
            "",
            "../etc",
            "-a",
            ".a",
            "a b",
            "A",
            "a/b",
            "a\0",
            "ä",
            long.as_str(),
        ] {
            assert!(bad.parse::<ModelName>().is_err(), "{bad:?}");
        }
    }
}
