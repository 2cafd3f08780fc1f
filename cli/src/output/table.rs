//! Aligned columns without frames: for people, and for `awk`.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr as _;

use crate::console::printable;
use crate::job::{Job, Label};

/// Between two columns.
const GAP: &str = "  ";

/// A row: cells under the names of their columns. Columns without any text are not shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row(Vec<Cell>);

#[derive(Clone, Debug)]
struct Cell {
    column: &'static str,
    text: String,
    is_number: bool,
}

impl Cell {
    /// The text, or the column's name instead, in so many places.
    fn padded(&self, is_head: bool, width: usize) -> String {
        let text = if is_head { self.column } else { &self.text };
        let padding = " ".repeat(width.saturating_sub(text.width()));
        if self.is_number {
            format!("{padding}{text}")
        } else {
            format!("{text}{padding}")
        }
    }
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

    /// With a label, its score and its place in the image.
    pub(crate) fn label(self, label: Option<&Label>) -> Self {
        let score = label.and_then(|label| label.score);
        let edges = label.and_then(|label| label.edges);
        let place = edges
            .map(|[left, top, right, bottom]| format!("{left:.0},{top:.0} {right:.0},{bottom:.0}"));
        self.with("LABEL", label.map_or("", |label| &label.label))
            .number(
                "SCORE",
                &score.map_or_else(String::new, |score| format!("{score:.4}")),
            )
            .with("BOX", place.unwrap_or_default())
    }

    /// A job by itself.
    pub(crate) fn of_job(job: &Job) -> Self {
        let seen = &job.seen;
        let shown = seen.output.as_ref().map(|output| output.shown(1));
        let best = shown.as_ref().and_then(|shown| shown.first());
        let note = match (&seen.error, &seen.queue) {
            (Some(problem), _) => problem.code.clone(),
            (None, Some(queue)) => queue.sentence(),
            (None, None) => String::new(),
        };
        Self::new()
            .with("JOB", &seen.id)
            .with("CREATED", seen.created())
            .with("MODEL", seen.model())
            .with("FILE", seen.file())
            .with("STATUS", seen.status.as_str())
            .label(best)
            .with("NOTE", note)
    }
}

/// Writes rows of the same columns under their names; nothing if there are no rows.
pub(crate) fn write(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    let count = rows.first().map_or(0, |row| row.0.len());
    let mut lines = vec![String::new(); rows.len() + 1];
    for column in 0..count {
        let cells = || rows.iter().map(|row| &row.0[column]);
        if cells().all(|cell| cell.text.is_empty()) {
            continue;
        }
        let widths = cells().map(|cell| cell.text.width().max(cell.column.width()));
        let width = widths.max().unwrap_or_default();
        let head = cells().take(1).map(|cell| cell.padded(true, width));
        let texts = head.chain(cells().map(|cell| cell.padded(false, width)));
        for (line, text) in lines.iter_mut().zip(texts) {
            *line += &(text + GAP);
        }
    }
    let shown = if rows.is_empty() { &[] } else { &lines[..] };
    shown
        .iter()
        .try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(rows: &[Row]) -> String {
        let mut out = Vec::new();
        write(rows, &mut out).unwrap();
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
        assert_eq!(written(&rows), "IMAGE    N\n靴.png   9\na.png   10\n");
    }

    #[test]
    fn nothing_is_no_table() {
        assert_eq!(written(&[]), "");
    }

    #[test]
    fn a_cell_stays_on_its_line() {
        let text = written(&[Row::new().with("IMAGE", "a\nb\x1b[31m")]);
        assert_eq!(text, "IMAGE\na\u{fffd}b\u{fffd}[31m\n");
    }
}
