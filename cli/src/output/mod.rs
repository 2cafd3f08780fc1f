//! Results on standard output, as a table or as JSON. Progress is printed elsewhere.

mod predictions;
mod table;

use std::io::{self, Write as _};

use serde::Serialize;
use serde_json::value::RawValue;

pub(crate) use self::predictions::Predicted;
pub(crate) use self::table::Row;
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
        Format::Table => table::write(&rows(), &mut out)?,
        Format::Json | Format::Ndjson => writeln!(out, "{}", raw.get())?,
    }
    Ok(out.flush()?)
}

/// A list of results: lines of JSON are written as they come, a table or one JSON array at the end.
#[derive(Debug)]
pub(crate) struct List {
    format: Format,
    rows: Vec<Row>,
    items: Vec<String>,
}

impl List {
    pub(crate) const fn new(format: Format) -> Self {
        Self {
            format,
            rows: Vec::new(),
            items: Vec::new(),
        }
    }

    /// Adds a result: its JSON and its rows.
    pub(crate) fn add(&mut self, item: &impl Serialize, rows: Vec<Row>) -> Result<(), Failure> {
        let item = serde_json::to_string(item).map_err(io::Error::from)?;
        match self.format {
            Format::Table => self.rows.extend(rows),
            Format::Json => self.items.push(item),
            Format::Ndjson => writeln!(io::stdout(), "{item}")?,
        }
        Ok(())
    }

    /// Writes what is left.
    pub(crate) fn end(self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match self.format {
            Format::Table => table::write(&self.rows, &mut out)?,
            Format::Json => writeln!(out, "[{}]", self.items.join(",\n "))?,
            Format::Ndjson => {}
        }
        Ok(out.flush()?)
    }
}
