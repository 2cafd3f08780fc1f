//! Results on standard output, as a table or as JSON. What happens meanwhile is told elsewhere.

mod predictions;
mod table;

use std::io::{self, Write as _};

use serde_json::value::RawValue;

pub(crate) use self::predictions::{Predicted, Predictions};
pub(crate) use self::table::{Row, Table};
use crate::arguments::Format;
use crate::failure::Failure;

/// Writes one answer of the server's: its own JSON, or a table made of it.
pub(crate) fn one(
    format: Format,
    raw: &RawValue,
    rows: impl FnOnce() -> Vec<Row>,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match format {
        Format::Table => Table::from(rows()).write(&mut out)?,
        Format::Json | Format::Ndjson => writeln!(out, "{}", raw.get())?,
    }
    Ok(out.flush()?)
}
