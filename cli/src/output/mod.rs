//! Results on standard output, as a table or as JSON. Progress is printed elsewhere.

mod predictions;
mod table;

use std::io::{self, Write as _};

use serde_json::value::RawValue;

pub(crate) use self::predictions::{Predicted, Predictions};
pub(crate) use self::table::{Row, write};
use crate::arguments::Format;
use crate::failure::Failure;
use crate::job::Job;

/// Writes one answer of the server's: its own JSON, or a table made of it.
pub(crate) fn one(
    format: Format,
    raw: &RawValue,
    rows: impl FnOnce() -> Vec<Row>,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match format {
        Format::Table => write(&rows(), &mut out)?,
        Format::Json | Format::Ndjson => writeln!(out, "{}", raw.get())?,
    }
    Ok(out.flush()?)
}

/// Writes a list of jobs.
pub(crate) fn jobs(format: Format, jobs: &[Job]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match format {
        Format::Table => {
            let rows: Vec<Row> = jobs.iter().map(Row::of_job).collect();
            write(&rows, &mut out)?;
        }
        Format::Json => {
            let raw: Vec<&RawValue> = jobs.iter().map(|job| job.raw.as_ref()).collect();
            let list = serde_json::to_string(&raw).map_err(io::Error::from)?;
            writeln!(out, "{list}")?;
        }
        Format::Ndjson => {
            for job in jobs {
                writeln!(out, "{}", job.raw.get())?;
            }
        }
    }
    Ok(out.flush()?)
}
