//! The result of one image, as JSON and as rows.

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::Row;
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

/// `job` is the server's object, unchanged.
impl Serialize for Predicted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("image", &self.image)?;
        map.serialize_entry("job", &self.result.as_ref().ok().map(|job| &job.raw))?;
        map.serialize_entry("error", &self.result.as_ref().err().map(Failure::to_json))?;
        map.end()
    }
}

impl Predicted {
    /// A row for the image, and one for each further label of it.
    pub(crate) fn rows(&self, top: usize) -> Vec<Row> {
        let image = &self.image;
        let row =
            |image: &str, status: &str| Row::new().with("IMAGE", image).with("STATUS", status);
        let job = match &self.result {
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
        let seen = &job.seen;
        let labels = seen.output.iter().flat_map(|output| output.shown(top));
        let mut labels = labels.collect::<Vec<_>>().into_iter();
        let note = seen.error.as_ref().map_or("", |problem| &problem.code);
        let id = if job.has_ended() { "" } else { &seen.id };
        let first = row(image, seen.status.as_str()).label(labels.next().as_ref());
        let mut rows = vec![first.with("NOTE", note).with("JOB", id)];
        rows.extend(labels.map(|label| {
            row("", "")
                .label(Some(&label))
                .with("NOTE", "")
                .with("JOB", "")
        }));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(results: Vec<(&str, Result<&str, Failure>)>, top: usize) -> String {
        let mut all = Vec::new();
        for (image, result) in results {
            let result = result.map(|text| serde_json::from_str(text).unwrap());
            let predicted = Predicted {
                image: image.to_owned(),
                result,
            };
            all.extend(predicted.rows(top));
        }
        let mut out = Vec::new();
        crate::output::table::write(&all, &mut out).unwrap();
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
    fn every_task_has_its_rows() {
        let job = |output: &str| {
            format!(
                r#"{{"id":"1","status":"succeeded","error":null,"queue":null,"output":{output}}}"#
            )
        };
        let boxes = job(r#"{"task":"detect","width":9,"height":9,"boxes":[
            {"label":"hen","score":0.75,"box":[1.2,2,3,4.6]},{"label":"owl","score":0.5,"box":[0,0,9,9]}]}"#);
        let none = job(r#"{"task":"detect","width":9,"height":9,"boxes":[]}"#);
        let labels = job(
            r#"{"task":"multilabel","threshold":0.5,"labels":[{"label":"red","score":0.9}],
            "top":[{"label":"red","score":0.9},{"label":"wet","score":0.2}]}"#,
        );
        let vector = job(r#"{"task":"embed","embedding":[0.5,-0.25,0.125,1,2]}"#);
        let results = vec![
            ("a", Ok(boxes.as_str())),
            ("b", Ok(&none)),
            ("c", Ok(&labels)),
            ("d", Ok(&vector)),
        ];
        let expected = "\
IMAGE  STATUS     LABEL                                                    SCORE  BOX
a      succeeded  hen                                                     0.7500  1,2 3,5
                  owl                                                     0.5000  0,0 9,9
b      succeeded  nothing
c      succeeded  red                                                     0.9000
d      succeeded  vector of 5 values: 0.5000, -0.2500, 0.1250, 1.0000, …
";
        assert_eq!(table(results, 1), expected);
    }

    #[test]
    fn what_was_submitted_shows_its_job() {
        let expected = "IMAGE  STATUS  JOB\na.png  queued  2\n";
        assert_eq!(table(vec![("a.png", Ok(QUEUED))], 1), expected);
    }
}
