//! Aligned columns without frames: for eyes, and for `awk`.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr as _;

use crate::console::printable;
use crate::job::{Job, Label};

/// Between two columns.
const GAP: usize = 2;

/// A row: cells under the names of their columns. Columns nobody fills are not shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row(Vec<Cell>);

#[derive(Clone, Debug)]
struct Cell {
    column: &'static str,
    text: String,
    is_number: bool,
}

impl Row {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// With text in a column.
    pub(crate) fn with(self, column: &'static str, text: impl AsRef<str>) -> Self {
        self.cell(column, text.as_ref(), false)
    }

    /// With a number in a column.
    pub(crate) fn number(self, column: &'static str, number: &impl ToString) -> Self {
        self.cell(column, &number.to_string(), true)
    }

    fn cell(mut self, column: &'static str, text: &str, is_number: bool) -> Self {
        let text = printable(text);
        self.0.push(Cell {
            column,
            text,
            is_number,
        });
        self
    }

    /// With a label and its score.
    pub(crate) fn label(self, label: Option<&Label>) -> Self {
        let score = label.map(|label| format!("{:.4}", label.score));
        self.with("LABEL", label.map_or("", |label| &label.label))
            .number("SCORE", &score.unwrap_or_default())
    }

    /// A job by itself.
    pub(crate) fn of_job(job: &Job) -> Self {
        let best = job
            .seen
            .output
            .as_ref()
            .and_then(|output| output.top.first());
        let note = match (&job.seen.error, &job.seen.queue) {
            (Some(problem), _) => problem.code.clone(),
            (None, Some(queue)) => queue.sentence(),
            (None, None) => String::new(),
        };
        Self::new()
            .with("JOB", &job.seen.id)
            .with("STATUS", job.seen.status.as_str())
            .label(best)
            .with("NOTE", note)
    }
}

/// A column as it is measured.
#[derive(Debug)]
struct Column {
    name: &'static str,
    width: usize,
    is_number: bool,
    is_empty: bool,
}

/// Rows of the same columns.
#[derive(Debug)]
pub(crate) struct Table(Vec<Row>);

impl From<Vec<Row>> for Table {
    fn from(rows: Vec<Row>) -> Self {
        Self(rows)
    }
}

impl Table {
    /// Writes the table; nothing where it has no rows.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(first) = self.0.first() else {
            return Ok(());
        };
        let columns: Vec<Column> = (0..first.0.len()).map(|n| self.column(n)).collect();
        line(out, &columns, |n| columns[n].name)?;
        for row in &self.0 {
            line(out, &columns, |n| {
                row.0.get(n).map_or("", |cell| &cell.text)
            })?;
        }
        Ok(())
    }

    fn column(&self, n: usize) -> Column {
        let cells = || self.0.iter().filter_map(|row| row.0.get(n));
        let name = cells().next().map_or("", |cell| cell.column);
        Column {
            name,
            width: cells()
                .map(|cell| cell.text.width())
                .max()
                .unwrap_or(0)
                .max(name.width()),
            is_number: cells().any(|cell| cell.is_number),
            is_empty: cells().all(|cell| cell.text.is_empty()),
        }
    }
}

fn line<'a>(
    out: &mut impl Write,
    columns: &[Column],
    text: impl Fn(usize) -> &'a str,
) -> io::Result<()> {
    let mut line = String::new();
    for (n, column) in columns
        .iter()
        .enumerate()
        .filter(|(_, column)| !column.is_empty)
    {
        let text = text(n);
        let padding = " ".repeat(column.width.saturating_sub(text.width()));
        let (before, after) = if column.is_number {
            (padding.as_str(), "")
        } else {
            ("", padding.as_str())
        };
        line += &format!("{before}{text}{after}{:GAP$}", "");
    }
    writeln!(out, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(rows: Vec<Row>) -> String {
        let mut out = Vec::new();
        Table::from(rows).write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen_and_empty_ones_left_out() {
        let rows = [("靴.png", "9"), ("a.png", "10")];
        let rows = rows.map(|(name, n)| {
            Row::new()
                .with("IMAGE", name)
                .with("NOTE", "")
                .number("N", &n)
        });
        assert_eq!(
            written(rows.to_vec()),
            "IMAGE    N\n靴.png   9\na.png   10\n"
        );
    }

    #[test]
    fn nothing_is_no_table() {
        assert_eq!(written(Vec::new()), "");
    }

    #[test]
    fn a_cell_stays_on_its_line() {
        let text = written(vec![Row::new().with("IMAGE", "a\nb\x1b[31m")]);
        assert_eq!(text, "IMAGE\na\u{fffd}b\u{fffd}[31m\n");
    }
}
