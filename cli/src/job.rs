//! A job as the server answered it: its own JSON for programs, and the parts of it that people are shown.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure::Problem;

/// A job, with the text it came as.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The server's JSON, unchanged.
    pub(crate) raw: Box<RawValue>,
    /// What is read of it here.
    pub(crate) seen: Seen,
}

/// What is read of a job; fields that come later are no error.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) output: Option<Output>,
    pub(crate) error: Option<Problem>,
    pub(crate) queue: Option<Queue>,
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

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Output {
    pub(crate) top: Vec<Label>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Label {
    pub(crate) label: String,
    pub(crate) score: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Queue {
    position: u64,
    eta_ms: u64,
}

impl Job {
    /// Reads a job's JSON.
    pub(crate) fn read(text: &[u8]) -> serde_json::Result<Self> {
        let raw: Box<RawValue> = serde_json::from_slice(text)?;
        let seen = serde_json::from_str(raw.get())?;
        Ok(Self { raw, seen })
    }

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
        let job = Job::read(text).unwrap();
        assert_eq!(job.raw.get().as_bytes(), text);
        assert_eq!(job.standing(), "queued, estimated position 12, about 0.2 s");
        assert!(!job.has_ended() && !job.is_lost());
    }

    #[test]
    fn a_lost_job_says_why() {
        let text = br#"{"id":"7","status":"failed","output":null,"queue":null,"error":
            {"title":"The image is broken","status":422,"code":"invalid_image","detail":"cut"}}"#;
        let job = Job::read(text).unwrap();
        assert!(job.is_lost());
        assert!(job.reason().starts_with("the image is broken: cut"));
    }
}
