//! Reports <-> bytes: what a worker sends to a gateway that waits.
//!
//! ```text
//! id 16 | flags u8 (low bits: outcome, 0x80: cached) | attempts u32
//! | waited, decode, inference u32 each, in microseconds | batch size u16
//! | succeeded: count u32, that many f32 | failed: code u8, detail long | else nothing
//! ```

use super::bytes::{Reader, Sink, put_long, write_exact};
use super::{WireError, read_head, write_head};
use crate::job::JobId;
use crate::outcome::{Cost, Failure, FailureCode, Outcome, Report, Scores};

const MAGIC: [u8; 2] = *b"SR";

const SUCCEEDED: u8 = 0;
const FAILED: u8 = 1;
const CANCELED: u8 = 2;
const EXPIRED: u8 = 3;
const CACHED: u8 = 1 << 7;

/// The shortest entry: an outcome without content.
const SHORTEST_REPORT: usize = 16 + 1 + 4 + 3 * 4 + 2;

/// Writes reports into one buffer of exactly their size.
///
/// # Errors
/// [`WireError::Empty`] without reports, [`WireError::TooLong`] where a field does not fit its length.
pub fn encode_reports(reports: &[Report]) -> Result<Vec<u8>, WireError> {
    write_exact(|sink| {
        write_head(sink, MAGIC, reports.len())?;
        reports
            .iter()
            .try_for_each(|report| write_report(sink, report))
    })
}

fn write_report(sink: &mut dyn Sink, report: &Report) -> Result<(), WireError> {
    let outcome = match &report.outcome {
        Outcome::Succeeded(_) => SUCCEEDED,
        Outcome::Failed(_) => FAILED,
        Outcome::Canceled => CANCELED,
        Outcome::Expired => EXPIRED,
    };
    let cached = if report.cached { CACHED } else { 0 };
    sink.put(report.id.as_bytes());
    sink.put(&[outcome | cached]);
    sink.put(&report.attempts.to_le_bytes());
    sink.put(&report.cost.waited_us.to_le_bytes());
    sink.put(&report.cost.decode_us.to_le_bytes());
    sink.put(&report.cost.inference_us.to_le_bytes());
    sink.put(&report.cost.batch_size.to_le_bytes());
    match &report.outcome {
        Outcome::Succeeded(scores) => write_scores(sink, scores),
        Outcome::Failed(failure) => {
            sink.put(&[code_to_byte(failure.code)]);
            put_long(sink, failure.detail.as_bytes(), "detail")
        }
        Outcome::Canceled | Outcome::Expired => Ok(()),
    }
}

fn write_scores(sink: &mut dyn Sink, scores: &Scores) -> Result<(), WireError> {
    let scores = scores.as_slice();
    let count = u32::try_from(scores.len()).map_err(|_| WireError::TooLong("scores"))?;
    sink.put(&count.to_le_bytes());
    for score in scores {
        sink.put(&score.to_le_bytes());
    }
    Ok(())
}

/// Reads what [`encode_reports`] wrote.
///
/// # Errors
/// [`WireError`] for anything else.
pub fn decode_reports(body: &[u8]) -> Result<Vec<Report>, WireError> {
    let mut reader = Reader::new(body);
    let count = read_head(&mut reader, MAGIC)?;
    // The count is a claim; what is there bounds what is reserved for it.
    let mut reports = Vec::with_capacity(count.min(reader.remaining() / SHORTEST_REPORT));
    for _ in 0..count {
        reports.push(read_report(&mut reader)?);
    }
    reader.end()?;
    Ok(reports)
}

fn read_report(reader: &mut Reader<'_>) -> Result<Report, WireError> {
    let id = JobId::from_bytes(reader.array()?);
    let flags = reader.u8()?;
    let attempts = reader.u32()?;
    let cost = Cost {
        waited_us: reader.u32()?,
        decode_us: reader.u32()?,
        inference_us: reader.u32()?,
        batch_size: reader.u16()?,
    };
    let outcome = match flags & !CACHED {
        SUCCEEDED => Outcome::Succeeded(read_scores(reader)?),
        FAILED => Outcome::Failed(read_failure(reader)?),
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

fn read_scores(reader: &mut Reader<'_>) -> Result<Scores, WireError> {
    let count = reader.long_length()?;
    let bytes = reader.slice(count.checked_mul(4).ok_or(WireError::Cut)?)?;
    let scores = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok(Scores::new(scores.collect::<Vec<_>>()))
}

fn read_failure(reader: &mut Reader<'_>) -> Result<Failure, WireError> {
    let code = code_from_byte(reader.u8()?)?;
    let length = reader.long_length()?;
    let detail =
        std::str::from_utf8(reader.slice(length)?).map_err(|_| WireError::Malformed("detail"))?;
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
