//! What can go wrong: each said in one sentence that tells what to do, each with its exit code.

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How the program ends. Of several, the highest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// All is well.
    Success = 0,
    /// An image or a job failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No server could be reached.
    Unreachable = 3,
    /// The server wants another key.
    Refused = 4,
    /// The server has no room, or is not able to work now.
    Busy = 5,
    /// The user's time limit passed.
    TimedOut = 6,
    /// The user wanted an end.
    Interrupted = 130,
}

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// This machine cannot do what is asked: a file that is not to be read, output nobody takes.
    #[error("{0}")]
    Here(String),
    /// Nobody answers.
    #[error(
        "no server answers at {url} ({cause}): start one, or name another by --url or SELVAGE_URL"
    )]
    Unreachable { url: String, cause: String },
    /// Somebody answers, who is not Selvage.
    #[error("{url} answers {status}, but not as Selvage does{hint}: check --url or SELVAGE_URL")]
    NotSelvage {
        url: String,
        status: u16,
        hint: String,
    },
    /// The server says no.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The user's time is over.
    #[error("not done within --timeout")]
    TimedOut,
    /// The user wanted an end.
    #[error("interrupted")]
    Interrupted,
    /// Nobody waits any more for a job that was submitted.
    #[error(
        "{cause}: job {job} goes on at the server; `selvage jobs wait {job}` waits on, `selvage jobs cancel {job}` cancels it"
    )]
    Left { job: String, cause: Box<Failure> },
    /// Not sent, because none before it could be.
    #[error("not sent")]
    NotSent(Exit),
}

impl Failure {
    /// The code this ends the program with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Here(_) => Exit::Failed,
            Self::Unreachable { .. } | Self::NotSelvage { .. } => Exit::Unreachable,
            Self::Problem(problem) => match problem.status {
                401 | 403 => Exit::Refused,
                429 | 503 => Exit::Busy,
                409 if problem.code == "request_in_progress" => Exit::Busy,
                _ => Exit::Failed,
            },
            Self::TimedOut => Exit::TimedOut,
            Self::Interrupted => Exit::Interrupted,
            Self::Left { cause, .. } => cause.exit(),
            Self::NotSent(exit) => *exit,
        }
    }

    /// Whether the next image would fare the same.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self.exit(), Exit::Unreachable | Exit::Refused)
    }

    /// One word for it, as the server's problems have one.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Usage(_) => "usage",
            Self::Here(_) => "unreadable",
            Self::Unreachable { .. } => "unreachable",
            Self::NotSelvage { .. } => "not_selvage",
            Self::Problem(problem) => &problem.code,
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
            Self::Left { cause, .. } => cause.code(),
            Self::NotSent(_) => "not_sent",
        }
    }

    /// The same, where it ends a wait and not the job.
    pub(crate) fn leaving(self, job: &str) -> Self {
        match self.exit() {
            Exit::Success | Exit::Failed | Exit::Usage | Exit::Refused => self,
            Exit::Unreachable | Exit::Busy | Exit::TimedOut | Exit::Interrupted => Self::Left {
                job: job.to_owned(),
                cause: Box::new(self),
            },
        }
    }

    /// The job it left at the server.
    pub(crate) fn job(&self) -> Option<&str> {
        match self {
            Self::Left { job, .. } => Some(job),
            _ => None,
        }
    }

    /// The server's problem, or one of the same form.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Problem(problem) => json!(problem),
            _ => json!({"code": self.code(), "detail": self.to_string(), "job": self.job()}),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(cause: io::Error) -> Self {
        Self::Here(format!("standard output cannot be written to: {cause}"))
    }
}

/// A problem object (RFC 9457): the body of an error, and the `error` of a failed job.
#[derive(Clone, Debug, Deserialize, Serialize, thiserror::Error)]
#[error("{}", self.sentence())]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) status: u16,
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Problem {
    fn sentence(&self) -> String {
        let mut said = self.title.clone();
        if let Some(first) = said.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        // What a program has to send is no help to somebody at a keyboard.
        if self.code != "unauthenticated" && !self.detail.is_empty() {
            said = format!("{said}: {}", self.detail);
        }
        let advice = self.advice();
        let joined = if advice.is_empty() { "" } else { "; " };
        format!("{said} ({} {}){joined}{advice}", self.status, self.code)
    }

    /// What to do about it, where the server's own words do not say it.
    fn advice(&self) -> Cow<'static, str> {
        let advice = match self.code.as_str() {
            "unauthenticated" => {
                "put a key the server knows into SELVAGE_API_KEY, or into a file for --key-file"
            }
            "forbidden" => "use a key that may",
            "model_not_found" => "`selvage models` lists what can be asked",
            "job_not_found" => "check the id, and that the key is the one it was asked for with",
            "job_expired" => "send the image again",
            "job_finished" => "`selvage jobs get` shows how",
            "payload_too_large" | "image_too_large" => "send a smaller one",
            "unsupported_media_type" | "invalid_image" => {
                "send a whole PNG, JPEG, WebP, GIF or BMP"
            }
            "queue_full" | "rate_limited" => "try again later, or with more --tries",
            "broker_unavailable" | "store_unavailable" | "store_full" | "no_workers"
            | "draining" => "try again later; `selvage status` shows what is missing",
            _ => return self.for_the_operator(),
        };
        advice.into()
    }

    fn for_the_operator(&self) -> Cow<'static, str> {
        match self.rest.get("request_id").and_then(Value::as_str) {
            Some(id) if self.status >= 500 => {
                format!("tell the server's operator the request's id, {id}").into()
            }
            _ => "".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(body: Value) -> Failure {
        Failure::Problem(serde_json::from_value(body).unwrap())
    }

    #[test]
    fn problems_become_one_sentence_and_what_to_do() {
        let full = problem(json!({
            "type": "/problems/queue_full", "title": "The queue is full", "status": 429, "code": "queue_full",
            "detail": "2000 jobs are waiting, about 3.1 s of work", "request_id": "r", "retry_after_ms": 3100,
        }));
        let said = "the queue is full: 2000 jobs are waiting, about 3.1 s of work (429 queue_full); \
                    try again later, or with more --tries";
        assert_eq!((full.to_string().as_str(), full.exit()), (said, Exit::Busy));
        assert_eq!(full.to_json()["retry_after_ms"], 3100);

        let unknown = problem(json!({
            "title": "An API key is needed", "status": 401, "code": "unauthenticated",
            "detail": "send a valid API key as `Authorization: Bearer <key>`, and nowhere else",
        }));
        assert!(unknown.is_lasting() && unknown.exit() == Exit::Refused);
        assert!(!unknown.to_string().contains("Bearer"), "{unknown}");

        let internal =
            problem(json!({"title": "x", "status": 500, "code": "internal", "request_id": "r-1"}));
        assert!(internal.to_string().ends_with("request's id, r-1"));
    }

    #[test]
    fn what_is_left_at_the_server_is_named() {
        for failure in [Failure::TimedOut, Failure::Interrupted] {
            let (code, exit) = (failure.code().to_owned(), failure.exit());
            let left = failure.leaving("01929f3e");
            assert!(left.to_string().contains("selvage jobs wait 01929f3e"));
            assert_eq!(left.to_json()["job"], "01929f3e");
            assert_eq!((left.code(), left.exit()), (code.as_str(), exit));
        }
        let ended = problem(json!({"title": "x", "status": 404, "code": "job_not_found"}));
        assert!(ended.leaving("01929f3e").job().is_none());
        assert!(Exit::Interrupted > Exit::TimedOut && Exit::Failed > Exit::Success);
    }
}
