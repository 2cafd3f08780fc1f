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

use ::bytes::Bytes;

use super::bytes::{Reader, Sink, put_long, put_short, write_exact};
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
    write_exact(|sink| {
        write_head(sink, MAGIC, jobs.len())?;
        let mut before = None;
        for (job, submission) in jobs.iter().zip(&submissions) {
            write_job(sink, job, submission.as_deref(), before)?;
            before = Some(job);
        }
        Ok(())
    })
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
    sink: &mut dyn Sink,
    job: &Job,
    submission: Option<&[u8]>,
    before: Option<&Job>,
) -> Result<(), WireError> {
    let flags = flags(job, before);
    sink.put(&[flags]);
    sink.put(job.id.as_bytes());
    if flags & MODEL_AS_BEFORE == 0 {
        put_short(sink, job.model.as_str().as_bytes(), "model")?;
        sink.put(job.key.model.as_bytes());
        sink.put(&job.key.preprocessing.to_le_bytes());
    }
    sink.put(job.key.image.as_bytes());
    sink.put(&job.created_at.0.to_le_bytes());
    sink.put(&job.deadline.0.to_le_bytes());
    sink.put(&job.earlier_attempts.to_le_bytes());
    if let Some(ReplyAddress(address)) = &job.reply_to
        && flags & REPLY_AS_BEFORE == 0
    {
        put_short(sink, address.as_bytes(), "reply address")?;
    }
    if let Some(request_id) = &job.request_id {
        put_short(sink, request_id.as_bytes(), "request id")?;
    }
    if let Some(traceparent) = &job.traceparent {
        put_short(sink, traceparent.as_bytes(), "traceparent")?;
    }
    if let Some(submission) = submission {
        put_long(sink, submission, "submission")?;
    }
    put_long(sink, &job.image, "image")
}

/// Reads an envelope. Images are slices of `body`: they are not copied, and keep the whole body in memory.
///
/// # Errors
/// [`WireError`] for anything that [`encode_jobs`] did not write.
pub fn decode_jobs(body: &Bytes) -> Result<Vec<Job>, WireError> {
    let mut reader = Reader::new(body);
    let count = read_head(&mut reader, MAGIC)?;
    // The count is a claim; what is there bounds what is reserved for it.
    let mut jobs = Vec::with_capacity(count.min(reader.remaining() / SHORTEST_JOB));
    for _ in 0..count {
        let job = read_job(&mut reader, body, jobs.last())?;
        jobs.push(job);
    }
    reader.end()?;
    Ok(jobs)
}

fn read_job(reader: &mut Reader<'_>, body: &Bytes, before: Option<&Job>) -> Result<Job, WireError> {
    let flags = reader.u8()?;
    let has = |flag: u8| flags & flag != 0;
    let id = JobId::from_bytes(reader.array()?);
    let (model, model_digest, preprocessing) = read_model(reader, has(MODEL_AS_BEFORE), before)?;
    let key = PredictionKey {
        model: model_digest,
        preprocessing,
        image: Digest::from_bytes(reader.array()?),
    };
    Ok(Job {
        id,
        model,
        key,
        created_at: UnixMillis(reader.u64()?),
        deadline: UnixMillis(reader.u64()?),
        cache: CachePolicy {
            read: has(CACHE_READ),
            write: has(CACHE_WRITE),
        },
        earlier_attempts: reader.u32()?,
        reply_to: read_reply(reader, has(HAS_REPLY), has(REPLY_AS_BEFORE), before)?,
        request_id: read_text(reader, has(HAS_REQUEST_ID), "request id")?,
        traceparent: read_text(reader, has(HAS_TRACEPARENT), "traceparent")?,
        submission: read_submission(reader, has(HAS_PROMISE))?,
        image: read_image(reader, body)?,
    })
}

fn read_model(
    reader: &mut Reader<'_>,
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
    let name = reader.short_text("model")?.parse().map_err(|_| FIELD)?;
    Ok((name, Digest::from_bytes(reader.array()?), reader.u64()?))
}

fn read_reply(
    reader: &mut Reader<'_>,
    present: bool,
    as_before: bool,
    before: Option<&Job>,
) -> Result<Option<ReplyAddress>, WireError> {
    const FIELD: &str = "reply address";
    match (present, as_before) {
        (false, false) => Ok(None),
        (false, true) => Err(WireError::Malformed(FIELD)),
        (true, false) => Ok(Some(ReplyAddress(reader.short_text(FIELD)?.into()))),
        (true, true) => before
            .and_then(|before| before.reply_to.clone())
            .map(Some)
            .ok_or(WireError::Malformed(FIELD)),
    }
}

fn read_text(
    reader: &mut Reader<'_>,
    present: bool,
    field: &'static str,
) -> Result<Option<Arc<str>>, WireError> {
    if present {
        Ok(Some(reader.short_text(field)?.into()))
    } else {
        Ok(None)
    }
}

fn read_submission(
    reader: &mut Reader<'_>,
    present: bool,
) -> Result<Option<Submission>, WireError> {
    if !present {
        return Ok(None);
    }
    let length = reader.long_length()?;
    let json = reader.slice(length)?;
    serde_json::from_slice(json).map_err(|_| WireError::Malformed("submission"))
}

fn read_image(reader: &mut Reader<'_>, body: &Bytes) -> Result<Bytes, WireError> {
    let length = reader.long_length()?;
    Ok(body.slice(reader.range(length)?))
}
