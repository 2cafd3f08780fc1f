//! A job of the server: its JSON for programs, and the parts of it that people see.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::failure::Problem;

/// A part of the server's JSON.
#[derive(Clone, Debug)]
pub(crate) struct Verbatim<T> {
    /// Its text, unchanged.
    pub(crate) raw: Box<RawValue>,
    /// What this client reads of it.
    pub(crate) seen: T,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Verbatim<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let seen = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        Ok(Self { raw, seen })
    }
}

/// A job.
pub(crate) type Job = Verbatim<Seen>;

/// What this client reads of a job; it ignores fields of later versions.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) output: Option<Output>,
    pub(crate) error: Option<Problem>,
    pub(crate) queue: Option<Queue>,
    #[serde(default)]
    created_at: String,
    model: Option<Model>,
    metadata: Option<Metadata>,
}

#[derive(Clone, Debug, Deserialize)]
struct Model {
    name: String,
}

/// What this client has sent with the image, or another client something else.
#[derive(Clone, Debug, Deserialize)]
struct Metadata {
    file: Option<serde_json::Value>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Queued,
    Running,
    Succeeded,
    Failed,
    Canceled,
    Expired,
}

/// The result of any task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Output {
    /// The best labels.
    top: Vec<Label>,
    /// The labels that the image has.
    labels: Option<Vec<Label>>,
    boxes: Option<Vec<Label>>,
    embedding: Option<Vec<f64>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Label {
    pub(crate) label: String,
    pub(crate) score: Option<f64>,
    /// Left, top, right and bottom edge of an object, in pixels.
    #[serde(rename = "box")]
    pub(crate) edges: Option<[f64; 4]>,
}

/// Values of a vector that are shown.
const FIRST_VALUES: usize = 4;

impl Output {
    /// What is shown of it: up to `top` labels of a classification, else all there is.
    pub(crate) fn shown(&self, top: usize) -> Vec<Label> {
        let text = |label: String| Label {
            label,
            score: None,
            edges: None,
        };
        if let Some(vector) = &self.embedding {
            let first: Vec<String> = vector
                .iter()
                .take(FIRST_VALUES)
                .map(|value| format!("{value:.4}"))
                .collect();
            let (count, first) = (vector.len(), first.join(", "));
            return vec![text(format!("vector of {count} values: {first}, …"))];
        }
        match self.boxes.as_ref().or(self.labels.as_ref()) {
            None => self.top.iter().take(top).cloned().collect(),
            Some(found) if found.is_empty() => vec![text("nothing".to_owned())],
            Some(found) => found.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Queue {
    position: u64,
    eta_ms: u64,
}

impl Job {
    pub(crate) const fn has_ended(&self) -> bool {
        !matches!(self.seen.status, Status::Queued | Status::Running)
    }

    /// Whether it ended without an answer.
    pub(crate) const fn is_lost(&self) -> bool {
        self.has_ended() && !matches!(self.seen.status, Status::Succeeded)
    }

    /// Its state: `queued, estimated position 12, about 0.2 s`.
    pub(crate) fn standing(&self) -> String {
        let status = self.seen.status.as_str();
        match &self.seen.queue {
            Some(queue) => format!("{status}, {}", queue.sentence()),
            None => status.to_owned(),
        }
    }

    /// Why there is no answer and what to do, for a job that is lost.
    pub(crate) fn reason(&self) -> String {
        match (&self.seen.error, self.seen.status) {
            (Some(problem), _) => problem.to_string(),
            (None, Status::Expired) => {
                "the job was not begun in time and has expired; send the image again".to_owned()
            }
            (None, status) => format!("the job is {}", status.as_str()),
        }
    }
}

impl Seen {
    /// When it was submitted, to the second: `2026-11-28 12:00:00Z`.
    pub(crate) fn created(&self) -> String {
        let seconds = self.created_at.get(..19);
        seconds.map_or(String::new(), |text| format!("{}Z", text.replace('T', " ")))
    }

    pub(crate) fn model(&self) -> &str {
        self.model.as_ref().map_or("", |model| &model.name)
    }

    /// The name of the image's file, if the job's client has sent it.
    pub(crate) fn file(&self) -> &str {
        let file = self
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.file.as_ref());
        file.and_then(|file| file.as_str()).unwrap_or_default()
    }
}

impl Status {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }
}

impl Queue {
    pub(crate) fn sentence(self) -> String {
        let position = self.position;
        let seconds = std::time::Duration::from_millis(self.eta_ms).as_secs_f64();
        format!("estimated position {position}, about {seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_keeps_its_text_and_tells_where_it_stands() {
        let text = br#"{"id":"7","status":"queued","output":null,"error":null,"queue":{"position":12,"eta_ms":240},"new":1}"#;
        let job: Job = serde_json::from_slice(text).unwrap();
        assert_eq!(job.raw.get().as_bytes(), text);
        assert_eq!(job.standing(), "queued, estimated position 12, about 0.2 s");
        assert!(!job.has_ended() && !job.is_lost());
    }

    #[test]
    fn a_job_shows_its_time_model_and_file() {
        let job = |metadata: &str| {
            let text = format!(
                r#"{{"id":"7","status":"queued","output":null,"error":null,"queue":null,"metadata":{metadata},
                "model":{{"name":"clothing"}},"created_at":"2026-11-28T12:00:00.250Z"}}"#
            );
            serde_json::from_str::<Job>(&text).unwrap().seen
        };
        let seen = job(r#"{"file":"boot.png","of":"another"}"#);
        let shown = (seen.created(), seen.model(), seen.file());
        assert_eq!(
            shown,
            ("2026-11-28 12:00:00Z".to_owned(), "clothing", "boot.png")
        );
        // Other clients may mean something else by it.
        assert_eq!(job(r#"{"file":7}"#).file(), "");
        assert_eq!(job("{}").file(), "");
    }

    #[test]
    fn a_lost_job_says_why() {
        let text = br#"{"id":"7","status":"failed","output":null,"queue":null,"error":
            {"title":"The image is broken","status":422,"code":"invalid_image","detail":"cut"}}"#;
        let job: Job = serde_json::from_slice(text).unwrap();
        assert!(job.is_lost());
        assert!(job.reason().starts_with("the image is broken: cut"));
    }
}
