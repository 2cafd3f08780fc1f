//! Reports <-> bytes: what a worker sends to a gateway that waits.
//!
//! ```text
//! id 16 | flags u8 (low bits: outcome, 0x80: cached) | attempts u32
//! | waited, decode, inference u32 each, in microseconds | batch size u16
//! | succeeded: count u32, that many f32 | failed: code u8, detail long | else nothing
//! ```

use ::bytes::{Buf as _, BufMut as _, Bytes};

use super::bytes::{array, end, long, put_long, take, text};
use super::{WireError, read_head, write_head};
use crate::job::JobId;
use crate::outcome::{Cost, Failure, FailureCode, Outcome, Report, Scores};

const MAGIC: [u8; 2] = *b"SR";

const SUCCEEDED: u8 = 0;
const FAILED: u8 = 1;
const CANCELED: u8 = 2;
const EXPIRED: u8 = 3;
const CACHED: u8 = 1 << 7;

/// A report's size besides its scores or its detail, generously.
pub(super) const REPORT_OVERHEAD: usize = 64;
/// The shortest entry: an outcome without content.
const SHORTEST_REPORT: usize = 16 + 1 + 4 + 3 * 4 + 2;

/// Writes reports into one buffer of exactly their size.
///
/// # Errors
/// [`WireError::Empty`] without reports, [`WireError::TooLong`] where a field does not fit its length.
pub fn encode_reports(reports: &[Report]) -> Result<Vec<u8>, WireError> {
    let size = |report: &Report| match &report.outcome {
        Outcome::Succeeded(scores) => REPORT_OVERHEAD + size_of_val(scores.as_slice()),
        Outcome::Failed(failure) => REPORT_OVERHEAD + failure.detail.len(),
        Outcome::Canceled | Outcome::Expired => REPORT_OVERHEAD,
    };
    let mut out = Vec::with_capacity(reports.iter().map(size).sum());
    write_head(&mut out, MAGIC, reports.len())?;
    for report in reports {
        write_report(&mut out, report)?;
    }
    Ok(out)
}

fn write_report(out: &mut Vec<u8>, report: &Report) -> Result<(), WireError> {
    let outcome = match &report.outcome {
        Outcome::Succeeded(_) => SUCCEEDED,
        Outcome::Failed(_) => FAILED,
        Outcome::Canceled => CANCELED,
        Outcome::Expired => EXPIRED,
    };
    let cached = if report.cached { CACHED } else { 0 };
    out.put_slice(report.id.as_bytes());
    out.put_u8(outcome | cached);
    out.put_u32_le(report.attempts);
    out.put_u32_le(report.cost.waited_us);
    out.put_u32_le(report.cost.decode_us);
    out.put_u32_le(report.cost.inference_us);
    out.put_u16_le(report.cost.batch_size);
    match &report.outcome {
        Outcome::Succeeded(scores) => write_scores(out, scores),
        Outcome::Failed(failure) => {
            out.put_u8(code_to_byte(failure.code));
            put_long(out, failure.detail.as_bytes(), "detail")
        }
        Outcome::Canceled | Outcome::Expired => Ok(()),
    }
}

fn write_scores(out: &mut Vec<u8>, scores: &Scores) -> Result<(), WireError> {
    let scores = scores.as_slice();
    let count = u32::try_from(scores.len()).map_err(|_| WireError::TooLong("scores"))?;
    out.put_u32_le(count);
    for score in scores {
        out.put_f32_le(*score);
    }
    Ok(())
}

/// Reads what [`encode_reports`] wrote.
///
/// # Errors
/// [`WireError`] for anything else.
pub fn decode_reports(body: &[u8]) -> Result<Vec<Report>, WireError> {
    let mut message = Bytes::copy_from_slice(body);
    let count = read_head(&mut message, MAGIC)?;
    // The count is a claim; what is there bounds what is reserved for it.
    let mut reports = Vec::with_capacity(count.min(message.len() / SHORTEST_REPORT));
    for _ in 0..count {
        reports.push(read_report(&mut message)?);
    }
    end(&message)?;
    Ok(reports)
}

fn read_report(message: &mut Bytes) -> Result<Report, WireError> {
    let id = JobId::from_bytes(array(message)?);
    let flags = message.try_get_u8()?;
    let attempts = message.try_get_u32_le()?;
    let cost = Cost {
        waited_us: message.try_get_u32_le()?,
        decode_us: message.try_get_u32_le()?,
        inference_us: message.try_get_u32_le()?,
        batch_size: message.try_get_u16_le()?,
    };
    let outcome = match flags & !CACHED {
        SUCCEEDED => Outcome::Succeeded(read_scores(message)?),
        FAILED => Outcome::Failed(read_failure(message)?),
        CANCELED => Outcome::Canceled,
        EXPIRED => Outcome::Expired,
        _ => return Err(WireError::Malformed("outcome")),
    };
    Ok(Report {
        id,
        outcome,
        cost,
        attempts,
        cached: flags & CACHED != 0,
    })
}

fn read_scores(message: &mut Bytes) -> Result<Scores, WireError> {
    let count = usize::try_from(message.try_get_u32_le()?).map_err(|_| WireError::Cut)?;
    let bytes = take(message, count.checked_mul(4).ok_or(WireError::Cut)?)?;
    let scores = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok(Scores::new(scores.collect::<Vec<_>>()))
}

fn read_failure(message: &mut Bytes) -> Result<Failure, WireError> {
    let code = code_from_byte(message.try_get_u8()?)?;
    let detail = text(&long(message)?, "detail")?;
    Ok(Failure::new(code, detail))
}

/// These numbers are on the wire for good: a new code gets a new one.
const fn code_to_byte(code: FailureCode) -> u8 {
    match code {
        FailureCode::InvalidImage => 1,
        FailureCode::ImageTooLarge => 2,
        FailureCode::InferenceFailed => 3,
        FailureCode::Poison => 4,
        FailureCode::ModelGone => 5,
        FailureCode::DeadLettered => 6,
    }
}

const fn code_from_byte(byte: u8) -> Result<FailureCode, WireError> {
    Ok(match byte {
        1 => FailureCode::InvalidImage,
        2 => FailureCode::ImageTooLarge,
        3 => FailureCode::InferenceFailed,
        4 => FailureCode::Poison,
        5 => FailureCode::ModelGone,
        6 => FailureCode::DeadLettered,
        _ => return Err(WireError::Malformed("failure code")),
    })
}
