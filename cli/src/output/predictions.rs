//! What became of each image, in the order the images were named in.

use std::io::{self, Write as _};

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Row;
use crate::arguments::Format;
use crate::failure::Failure;
use crate::job::Job;

/// What became of one image.
#[derive(Debug)]
pub(crate) struct Predicted {
    /// The file's name, or `-`.
    pub(crate) image: String,
    /// Its job, or why there is none.
    pub(crate) result: Result<Job, Failure>,
}

/// One image in JSON: `job` is the server's object, unchanged.
#[derive(Serialize)]
struct Item<'a> {
    image: &'a str,
    job: Option<&'a RawValue>,
    error: Option<Value>,
}

/// Writes results as they come, or at the end where their form needs all of them.
#[derive(Debug)]
pub(crate) struct Predictions {
    format: Format,
    /// Labels listed for each image.
    top: usize,
    written: usize,
    rows: Vec<Row>,
}

impl Predictions {
    pub(crate) const fn new(format: Format, top: usize) -> Self {
        Self {
            format,
            top,
            written: 0,
            rows: Vec::new(),
        }
    }

    /// Takes one more result.
    pub(crate) fn add(&mut self, predicted: &Predicted) -> Result<(), Failure> {
        let before = match self.format {
            Format::Table => {
                self.rows.extend(rows(predicted, self.top));
                return Ok(());
            }
            Format::Json if self.written == 0 => "[",
            Format::Json => ",\n ",
            Format::Ndjson => "",
        };
        let item = Item {
            image: &predicted.image,
            job: predicted.result.as_ref().ok().map(|job| job.raw.as_ref()),
            error: predicted.result.as_ref().err().map(Failure::to_json),
        };
        let item = serde_json::to_string(&item).map_err(io::Error::from)?;
        let after = if self.format == Format::Ndjson {
            "\n"
        } else {
            ""
        };
        self.written += 1;
        let mut out = io::stdout().lock();
        write!(out, "{before}{item}{after}")?;
        Ok(out.flush()?)
    }

    /// Writes what is left.
    pub(crate) fn end(self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match self.format {
            Format::Table => super::write(&self.rows, &mut out)?,
            Format::Json if self.written == 0 => writeln!(out, "[]")?,
            Format::Json => writeln!(out, "]")?,
            Format::Ndjson => {}
        }
        Ok(out.flush()?)
    }
}

/// A row for the image, and one for each further label of it.
fn rows(predicted: &Predicted, top: usize) -> Vec<Row> {
    let image = &predicted.image;
    let row = |image: &str, status: &str| Row::new().with("IMAGE", image).with("STATUS", status);
    let job = match &predicted.result {
        Ok(job) => job,
        Err(failure) => {
            let (status, note) = match failure {
                Failure::NotSent(_) => ("not_sent", ""),
                _ => ("failed", failure.code()),
            };
            let row = row(image, status).label(None).with("NOTE", note);
            return vec![row.with("JOB", failure.job().unwrap_or_default())];
        }
    };
    let labels = job
        .seen
        .output
        .iter()
        .flat_map(|output| &output.top)
        .take(top);
    let mut labels = labels;
    let note = job.seen.error.as_ref().map_or("", |problem| &problem.code);
    let id = if job.has_ended() { "" } else { &job.seen.id };
    let first = row(image, job.seen.status.as_str()).label(labels.next());
    let mut rows = vec![first.with("NOTE", note).with("JOB", id)];
    rows.extend(labels.map(|label| {
        row("", "")
            .label(Some(label))
            .with("NOTE", "")
            .with("JOB", "")
    }));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(results: Vec<(&str, Result<&str, Failure>)>, top: usize) -> String {
        let mut all = Vec::new();
        for (image, result) in results {
            let result = result.map(|text| serde_json::from_str(text).unwrap());
            all.extend(rows(
                &Predicted {
                    image: image.to_owned(),
                    result,
                },
                top,
            ));
        }
        let mut out = Vec::new();
        super::write(&all, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const BOOT: &str = r#"{"id":"1","status":"succeeded","error":null,"queue":null,
        "output":{"top":[{"label":"Ankle boot","score":0.91388},{"label":"Sneaker","score":0.05}]}}"#;
    const QUEUED: &str = r#"{"id":"2","status":"queued","error":null,"queue":null,"output":null}"#;

    #[test]
    fn each_image_has_its_row_and_its_labels() {
        let unreadable = Failure::Here("gone".to_owned());
        let later = Failure::NotSent(crate::failure::Exit::Interrupted);
        let results = vec![
            ("boot.png", Ok(BOOT)),
            ("gone.png", Err(unreadable)),
            ("late.png", Err(later)),
        ];
        let expected = "\
IMAGE     STATUS     LABEL        SCORE  NOTE
boot.png  succeeded  Ankle boot  0.9139
                     Sneaker     0.0500
gone.png  failed                         unreadable
late.png  not_sent
";
        assert_eq!(table(results, 2), expected);
    }

    #[test]
    fn what_was_submitted_shows_its_job() {
        let expected = "IMAGE  STATUS  JOB\na.png  queued  2\n";
        assert_eq!(table(vec![("a.png", Ok(QUEUED))], 1), expected);
    }
}
