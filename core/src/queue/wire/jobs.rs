//! An envelope of one or more jobs <-> bytes.
//!
//! Jobs of one message mostly share model and reply address, so an entry may say "as the one before" for both: that saves
//! their bytes on the wire and their allocations on arrival.
//!
//! ```text
//! flags u8 | id 16 | [model: name short, digest 32, prep u64] | image digest 32 | created u64 | deadline u64
//! | earlier attempts u32 | [reply address short] | [request id short] | [traceparent short]
//! | [submission long, JSON] | image long
//! ```

use std::sync::Arc;

use ::bytes::{Buf as _, BufMut as _, Bytes};

use super::bytes::{array, end, long, put_long, put_short, short_text};
use super::{WireError, read_head, write_head};
use crate::clock::UnixMillis;
use crate::job::{CachePolicy, Job, JobId, ModelName, ReplyAddress, Submission};
use crate::key::{Digest, PredictionKey};

const MAGIC: [u8; 2] = *b"SJ";

const MODEL_AS_BEFORE: u8 = 1;
const HAS_REPLY: u8 = 1 << 1;
const REPLY_AS_BEFORE: u8 = 1 << 2;
const CACHE_READ: u8 = 1 << 3;
const CACHE_WRITE: u8 = 1 << 4;
const HAS_REQUEST_ID: u8 = 1 << 5;
const HAS_TRACEPARENT: u8 = 1 << 6;
const HAS_PROMISE: u8 = 1 << 7;

/// A job's size besides its image and its submission, generously.
pub(super) const JOB_OVERHEAD: usize = 512;
/// The shortest entry: flags, id, image digest, two moments, attempts, and the length of an empty image.
const SHORTEST_JOB: usize = 1 + 16 + 32 + 8 + 8 + 4 + 4;

/// Writes jobs into one buffer of exactly their size.
///
/// # Errors
/// [`WireError::Empty`] without jobs, [`WireError::TooLong`] where a field does not fit its length.
pub fn encode_jobs(jobs: &[Job]) -> Result<Vec<u8>, WireError> {
    let submissions = jobs
        .iter()
        .map(|job| job.submission.as_ref().map(serde_json::to_vec).transpose())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| WireError::Malformed("submission"))?;
    let images = jobs.iter().map(|job| job.image.len() + JOB_OVERHEAD);
    let submitted = submissions.iter().flatten().map(Vec::len);
    let mut out = Vec::with_capacity(images.chain(submitted).sum());
    write_head(&mut out, MAGIC, jobs.len())?;
    let mut before = None;
    for (job, submission) in jobs.iter().zip(&submissions) {
        write_job(&mut out, job, submission.as_deref(), before)?;
        before = Some(job);
    }
    Ok(out)
}

fn same_model(job: &Job, before: Option<&Job>) -> bool {
    before.is_some_and(|before| {
        before.model == job.model
            && before.key.model == job.key.model
            && before.key.preprocessing == job.key.preprocessing
    })
}

fn same_reply(job: &Job, before: Option<&Job>) -> bool {
    job.reply_to.is_some() && before.is_some_and(|before| before.reply_to == job.reply_to)
}

fn flags(job: &Job, before: Option<&Job>) -> u8 {
    [
        (same_model(job, before), MODEL_AS_BEFORE),
        (job.reply_to.is_some(), HAS_REPLY),
        (same_reply(job, before), REPLY_AS_BEFORE),
        (job.cache.read, CACHE_READ),
        (job.cache.write, CACHE_WRITE),
        (job.request_id.is_some(), HAS_REQUEST_ID),
        (job.traceparent.is_some(), HAS_TRACEPARENT),
        (job.submission.is_some(), HAS_PROMISE),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .fold(0, |flags, (_, flag)| flags | flag)
}

fn write_job(
    out: &mut Vec<u8>,
    job: &Job,
    submission: Option<&[u8]>,
    before: Option<&Job>,
) -> Result<(), WireError> {
    let flags = flags(job, before);
    out.put_u8(flags);
    out.put_slice(job.id.as_bytes());
    if flags & MODEL_AS_BEFORE == 0 {
        put_short(out, job.model.as_str().as_bytes(), "model")?;
        out.put_slice(job.key.model.as_bytes());
        out.put_u64_le(job.key.preprocessing);
    }
    out.put_slice(job.key.image.as_bytes());
    out.put_u64_le(job.created_at.0);
    out.put_u64_le(job.deadline.0);
    out.put_u32_le(job.earlier_attempts);
    if let Some(ReplyAddress(address)) = &job.reply_to
        && flags & REPLY_AS_BEFORE == 0
    {
        put_short(out, address.as_bytes(), "reply address")?;
    }
    if let Some(request_id) = &job.request_id {
        put_short(out, request_id.as_bytes(), "request id")?;
    }
    if let Some(traceparent) = &job.traceparent {
        put_short(out, traceparent.as_bytes(), "traceparent")?;
    }
    if let Some(submission) = submission {
        put_long(out, submission, "submission")?;
    }
    put_long(out, &job.image, "image")
}

/// Reads an envelope. Images are slices of `body`: they are not copied, and keep the whole body in memory.
///
/// # Errors
/// [`WireError`] for anything that [`encode_jobs`] did not write.
pub fn decode_jobs(body: &Bytes) -> Result<Vec<Job>, WireError> {
    let mut message = body.clone();
    let count = read_head(&mut message, MAGIC)?;
    // The count is a claim; what is there bounds what is reserved for it.
    let mut jobs = Vec::with_capacity(count.min(message.len() / SHORTEST_JOB));
    for _ in 0..count {
        let job = read_job(&mut message, jobs.last())?;
        jobs.push(job);
    }
    end(&message)?;
    Ok(jobs)
}

fn read_job(message: &mut Bytes, before: Option<&Job>) -> Result<Job, WireError> {
    let flags = message.try_get_u8()?;
    let has = |flag: u8| flags & flag != 0;
    let id = JobId::from_bytes(array(message)?);
    let (model, model_digest, preprocessing) = read_model(message, has(MODEL_AS_BEFORE), before)?;
    let key = PredictionKey {
        model: model_digest,
        preprocessing,
        image: Digest::from_bytes(array(message)?),
    };
    Ok(Job {
        id,
        model,
        key,
        created_at: UnixMillis(message.try_get_u64_le()?),
        deadline: UnixMillis(message.try_get_u64_le()?),
        cache: CachePolicy {
            read: has(CACHE_READ),
            write: has(CACHE_WRITE),
        },
        earlier_attempts: message.try_get_u32_le()?,
        reply_to: read_reply(message, has(HAS_REPLY), has(REPLY_AS_BEFORE), before)?,
        request_id: read_text(message, has(HAS_REQUEST_ID), "request id")?,
        traceparent: read_text(message, has(HAS_TRACEPARENT), "traceparent")?,
        submission: read_submission(message, has(HAS_PROMISE))?,
        image: long(message)?,
    })
}

fn read_model(
    message: &mut Bytes,
    as_before: bool,
    before: Option<&Job>,
) -> Result<(ModelName, Digest, u64), WireError> {
    const FIELD: WireError = WireError::Malformed("model");
    if as_before {
        let before = before.ok_or(FIELD)?;
        return Ok((
            before.model.clone(),
            before.key.model,
            before.key.preprocessing,
        ));
    }
    let name = short_text(message, "model")?.parse().map_err(|_| FIELD)?;
    Ok((
        name,
        Digest::from_bytes(array(message)?),
        message.try_get_u64_le()?,
    ))
}

fn read_reply(
    message: &mut Bytes,
    present: bool,
    as_before: bool,
    before: Option<&Job>,
) -> Result<Option<ReplyAddress>, WireError> {
    const FIELD: &str = "reply address";
    match (present, as_before) {
        (false, false) => Ok(None),
        (false, true) => Err(WireError::Malformed(FIELD)),
        (true, false) => Ok(Some(ReplyAddress(short_text(message, FIELD)?.into()))),
        (true, true) => before
            .and_then(|before| before.reply_to.clone())
            .map(Some)
            .ok_or(WireError::Malformed(FIELD)),
    }
}

fn read_text(
    message: &mut Bytes,
    present: bool,
    field: &'static str,
) -> Result<Option<Arc<str>>, WireError> {
    let text = present.then(|| short_text(message, field)).transpose()?;
    Ok(text.map(Into::into))
}

fn read_submission(message: &mut Bytes, present: bool) -> Result<Option<Submission>, WireError> {
    if !present {
        return Ok(None);
    }
    serde_json::from_slice(&long(message)?).map_err(|_| WireError::Malformed("submission"))
}
