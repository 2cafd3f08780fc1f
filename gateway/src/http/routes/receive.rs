//! From a request to what the service is asked: its images, its options, and what its headers say.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Uri};
use bytes::Bytes;
use selvage_core::catalog::Model;
use selvage_core::clock::UnixMillis;
use selvage_core::job::{CachePolicy, JobId};
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::key_name::KeyName;
use tokio::time::Instant;

use super::middleware::{RequestId, TRACEPARENT};
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::idempotency::IdempotencyKey;
use crate::http::openapi::set;
use crate::http::options::{self, Options, Query};
use crate::http::upload::{self, Count, LARGE_BYTES, Share};
use crate::service::predictions::PredictRequest;

/// W3C Trace Context §3.2: version 00 has 55 characters; later versions may have more.
const MAX_TRACEPARENT_BYTES: usize = 128;

/// What reading a body can end in.
pub(super) const BODY: u64 = set(&[
    Code::BodyTimeout,
    Code::PayloadTooLarge,
    Code::UnsupportedMediaType,
    Code::InvalidOption,
    Code::QueueFull,
]);
/// What looking at an image can end in.
pub(super) const IMAGE: u64 = set(&[Code::InvalidImage, Code::ImageTooLarge]);
/// What [`receive`] and a submission can end in, apart from what is wrong with an image.
pub(super) const SUBMISSION: u64 = BODY
    | set(&[
        Code::EmptyBody,
        Code::MissingImage,
        Code::BadBase64,
        Code::ModelNotFound,
        Code::WebhookForbidden,
        Code::IdempotencyMismatch,
        Code::RequestInProgress,
        Code::BrokerUnavailable,
        Code::StoreUnavailable,
        Code::StoreFull,
        Code::Draining,
    ]);
/// What waiting for an answer can end in.
pub(super) const WAIT: u64 = set(&[Code::JobCanceled, Code::InferenceFailed]);
/// What an answer can end in that is never a job's.
pub(super) const ANSWER: u64 = set(&[
    Code::ModelNotFound,
    Code::InferenceFailed,
    Code::BrokerUnavailable,
    Code::Draining,
    Code::DeadlineExceeded,
]);

/// The media types of images in forms.
pub(super) const IMAGES: &str = "image/png, image/jpeg, image/webp, image/gif, image/bmp";
/// One black pixel as PNG, for examples.
pub(super) const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=";

/// What was received, all of it looked at.
#[derive(Debug)]
pub(super) struct Received {
    /// The images in their order; those that are none with the reason.
    pub(super) images: Vec<Result<Image, ApiError>>,
    /// What is asked for.
    pub(super) options: Options,
    /// The model that is asked.
    pub(super) model: Arc<Model>,
    /// When it was accepted, by the shared clock.
    pub(super) created_at: UnixMillis,
    began: Instant,
    policy: CachePolicy,
    key: Option<IdempotencyKey>,
    owner: Option<KeyName>,
    request_id: Arc<str>,
    traceparent: Option<Arc<str>>,
}

/// What looks like an image, and its digest.
#[derive(Clone, Debug)]
pub(super) struct Image {
    bytes: Bytes,
    pub(super) digest: Digest,
}

/// Reads a request to its end.
pub(super) async fn receive(
    app: &App,
    (RequestId(request_id), caller): (RequestId, Caller),
    (uri, headers): (&Uri, &HeaderMap),
    body: Body,
    count: Count,
) -> Result<Received, ApiError> {
    // The body is read before anything else is refused: a client that still writes does not read our answer.
    let held = app.bodies.read(headers, body).await?;
    let key = IdempotencyKey::of(headers, caller.owner().map_or("", KeyName::as_str))?;
    upload::refuse_encoding(headers)?;
    let query = Query::of(uri)?;
    let upload = upload::parse(headers, &query, held.bytes, count).await?;
    caller.take_images(upload.images.len())?;
    let (options, share) = (upload.options, held.share.split());
    let began = Instant::now();
    let model = app
        .models
        .find(options.model.as_deref(), options.version.as_deref())?;
    if let Some(webhook) = &options.webhook {
        app.webhooks.admit(webhook)?;
    }
    let mut images = Vec::with_capacity(upload.images.len());
    for image in upload.images {
        images.push(match image {
            Ok(bytes) => look(app, share.attach(bytes)).await,
            Err(error) => Err(error),
        });
    }
    Ok(Received {
        images,
        options,
        model,
        created_at: app.predictions.clock.now(),
        began,
        policy: options::cache_policy(headers),
        key,
        owner: caller.owner().cloned(),
        request_id,
        traceparent: traceparent(headers),
    })
}

async fn look(app: &App, bytes: Bytes) -> Result<Image, ApiError> {
    upload::check(&bytes, app.limits.max_pixels)?;
    let digest = digest(&bytes).await?;
    Ok(Image { bytes, digest })
}

impl Received {
    /// The same for bytes that stand in the place of images, and for a client that gets nothing after its wait.
    pub(super) async fn stand_ins(
        app: &App,
        (RequestId(request_id), caller): (RequestId, Caller),
        headers: &HeaderMap,
        (model, wait): (Arc<Model>, Duration),
        (share, stand_ins): (Share, Vec<Bytes>),
    ) -> Result<Self, ApiError> {
        caller.take_images(stand_ins.len())?;
        let (began, share) = (Instant::now(), share.split());
        let mut images = Vec::with_capacity(stand_ins.len());
        for bytes in stand_ins {
            let bytes = share.attach(bytes);
            let digest = digest(&bytes).await?;
            images.push(Ok(Image { bytes, digest }));
        }
        Ok(Self {
            images,
            options: Options {
                top_k: u16::try_from(model.labels.len()).unwrap_or(u16::MAX),
                timeout: Some(wait),
                ..Options::default()
            },
            model,
            created_at: app.predictions.clock.now(),
            began,
            policy: options::cache_policy(headers),
            key: None,
            owner: caller.owner().cloned(),
            request_id,
            traceparent: traceparent(headers),
        })
    }

    /// What the service is asked about each image that is one.
    pub(super) fn asks(&self, app: &App, wait: Duration) -> Vec<Result<PredictRequest, ApiError>> {
        let fingerprint = self.key.as_ref().map(|_| self.fingerprint());
        let mut index = 0;
        let ask = |image: &Result<Image, ApiError>| {
            let image = image.clone()?;
            let idempotency = self.key.as_ref().zip(fingerprint);
            // Places are those among jobs, so that the first job of a request always decides whose key it is.
            let idempotency =
                idempotency.map(|(key, fingerprint)| key.idempotency(index, fingerprint));
            index += 1;
            Ok(PredictRequest {
                idempotency,
                ..self.ask(app, image, wait)
            })
        };
        self.images.iter().map(ask).collect()
    }

    fn ask(&self, app: &App, image: Image, wait: Duration) -> PredictRequest {
        let longest = app.limits.job_deadline;
        let cached_under = match &self.owner {
            Some(owner) if !app.limits.shared_cache => {
                Digest::of_parts(&[owner.as_str().as_bytes(), image.digest.as_bytes()])
            }
            Some(_) | None => image.digest,
        };
        let asked = self.options.timeout;
        PredictRequest {
            id: JobId::new(),
            key: PredictionKey {
                model: self.model.digest,
                preprocessing: self.model.preprocessing,
                image: cached_under,
            },
            image_hash: image.digest,
            model: Arc::clone(&self.model),
            image: image.bytes,
            policy: self.policy,
            values: None,
            top_k: self.options.top_k,
            metadata: self.options.metadata.clone(),
            owner: self.owner.clone(),
            wait,
            life: asked.map_or(longest, |asked| asked.min(longest)),
            created_at: self.created_at,
            began: self.began,
            request_id: Arc::clone(&self.request_id),
            traceparent: self.traceparent.clone(),
            idempotency: None,
            webhook: self.options.webhook.clone(),
        }
    }

    /// Digest of all that is asked; how long its client waits and how the cache is used is not part of it.
    fn fingerprint(&self) -> Digest {
        let Options {
            model: _,
            version: _,
            top_k,
            timeout,
            wait: _,
            metadata,
            webhook,
        } = &self.options;
        let metadata = serde_json::to_vec(metadata).unwrap_or_default();
        let webhook = serde_json::to_vec(webhook).unwrap_or_default();
        let timeout = timeout.map_or(0, |timeout| timeout.as_millis());
        // A model is the same one with another file: what was asked is repeated, not answered again.
        let model = self.model.name.as_str().as_bytes();
        let mut parts: Vec<&[u8]> = vec![model, &metadata, &webhook];
        let numbers = [top_k.to_be_bytes().to_vec(), timeout.to_be_bytes().to_vec()];
        parts.extend(numbers.iter().map(Vec::as_slice));
        let images = self.images.iter().map(|image| match image {
            Ok(image) => image.digest.as_bytes().as_slice(),
            Err(_) => &[],
        });
        parts.extend(images);
        Digest::of_parts(&parts)
    }
}

/// Hashing is fast enough for the runtime's threads, but not for megabytes on them.
async fn digest(image: &Bytes) -> Result<Digest, ApiError> {
    if image.len() <= LARGE_BYTES {
        return Ok(Digest::of(image));
    }
    let image = image.clone();
    let hashed = tokio::task::spawn_blocking(move || Digest::of(&image)).await;
    hashed.map_err(ApiError::internal)
}

fn traceparent(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let plain = |b: u8| b.is_ascii_hexdigit() || b == b'-';
    let sane = (55..=MAX_TRACEPARENT_BYTES).contains(&text.len()) && text.bytes().all(plain);
    sane.then(|| text.into())
}
