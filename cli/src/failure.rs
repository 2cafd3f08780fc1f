//! What can go wrong: each with a message that says what to do, and with its exit code.

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Exit codes. The highest one counts if there are several failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Everything succeeded.
    Success = 0,
    /// An image or a job failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No server is reachable.
    Unreachable = 3,
    /// The server rejects the API key.
    Refused = 4,
    /// The server is overloaded or temporarily unavailable.
    Busy = 5,
    /// The user's time limit has passed.
    TimedOut = 6,
    /// The user has interrupted the program.
    Interrupted = 130,
}

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// A failure of this machine: a file that cannot be read, output that cannot be written.
    #[error("{0}")]
    Here(String),
    /// The reader of standard output wants no more, as in `selvage … | head`.
    #[error("standard output is closed")]
    ClosedPipe,
    /// The server does not respond.
    #[error("no server answers at {url}: {cause}; {advice}")]
    Unreachable {
        url: String,
        cause: String,
        advice: &'static str,
    },
    /// Another program responds.
    #[error("{url} responds with {status}, but not as Selvage does{hint}; check the address")]
    NotSelvage {
        url: String,
        status: u16,
        hint: String,
    },
    /// The server responds with a problem.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The user's time limit has passed.
    #[error("not done within --timeout")]
    TimedOut,
    /// The user has interrupted the program.
    #[error("interrupted")]
    Interrupted,
    /// The client no longer waits for a submitted job.
    #[error(
        "{cause}; job {job} continues on the server: `selvage jobs wait {job}` waits for it, `selvage jobs cancel {job}` cancels it"
    )]
    Left { job: String, cause: Box<Failure> },
    /// Not sent, because of what happened before.
    #[error("not sent")]
    NotSent(Exit),
}

impl Failure {
    /// No server responds at that address.
    pub(crate) fn unreachable(url: &str, is_proxied: bool, cause: String) -> Self {
        Self::Unreachable {
            url: url.to_owned(),
            cause,
            advice: if is_proxied {
                "check the proxy, or list the host in NO_PROXY"
            } else {
                "start one, or set another address (--url, SELVAGE_URL)"
            },
        }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::ClosedPipe => Exit::Success,
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

    /// Whether the next image would fail in the same way.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self.exit(), Exit::Unreachable | Exit::Refused)
    }

    /// A short reason, for a line about a retry.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Unreachable { url, cause, .. } => format!("no server answers at {url}: {cause}"),
            Self::NotSelvage { url, status, .. } => format!("{url} responds with {status}"),
            Self::Problem(problem) => format!("{} ({})", problem.title(), problem.code),
            other => other.to_string(),
        }
    }

    /// A code, as the server's problems have one.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Usage(_) => "usage",
            Self::Here(_) | Self::ClosedPipe => "unreadable",
            Self::Unreachable { .. } => "unreachable",
            Self::NotSelvage { .. } => "not_selvage",
            Self::Problem(problem) => &problem.code,
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
            Self::Left { cause, .. } => cause.code(),
            Self::NotSent(_) => "not_sent",
        }
    }

    /// The same, if it ends the wait but not the job.
    pub(crate) fn leaving(self, job: &str) -> Self {
        match self.exit() {
            Exit::Success | Exit::Failed | Exit::Usage | Exit::Refused => self,
            Exit::Unreachable | Exit::Busy | Exit::TimedOut | Exit::Interrupted => Self::Left {
                job: job.to_owned(),
                cause: Box::new(self),
            },
        }
    }

    /// The job that continues on the server.
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

/// Errors of standard output.
impl From<io::Error> for Failure {
    fn from(cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Here(format!("cannot write to standard output: {cause}")),
        }
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
    fn title(&self) -> String {
        let mut title = self.title.clone();
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        title
    }

    fn sentence(&self) -> String {
        let mut said = self.title();
        // The header that a program has to send does not help a user of this client.
        if self.code != "unauthenticated" && !self.detail.is_empty() {
            said = format!("{said}: {}", self.detail);
        }
        let advice = self.advice();
        let joined = if advice.is_empty() { "" } else { "; " };
        format!("{said} ({} {}){joined}{advice}", self.status, self.code)
    }

    /// What to do about it, if the server does not say it.
    fn advice(&self) -> Cow<'static, str> {
        let advice = match self.code.as_str() {
            "unauthenticated" => {
                "put a key the server knows into SELVAGE_API_KEY, or into a file for --key-file"
            }
            "forbidden" => "use a key with that permission",
            "model_not_found" => "`selvage models` lists the models",
            "job_not_found" => "check the id, and that the API key is the one that submitted it",
            "job_expired" => "send the image again",
            "job_finished" => "`selvage jobs get` shows its result",
            "payload_too_large" | "image_too_large" => "send a smaller image",
            "unsupported_media_type" | "invalid_image" => {
                "send a complete PNG, JPEG, WebP, GIF or BMP"
            }
            "queue_full" | "rate_limited" => "try again later, or with more --attempts",
            "broker_unavailable" | "store_unavailable" | "store_full" | "no_workers"
            | "draining" => "try again later; `selvage status` shows the cause",
            _ => return self.for_the_operator(),
        };
        advice.into()
    }

    fn for_the_operator(&self) -> Cow<'static, str> {
        match self.rest.get("request_id").and_then(Value::as_str) {
            Some(id) if self.status >= 500 => {
                format!("tell the operator the request id: {id}").into()
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
                    try again later, or with more --attempts";
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
        assert!(internal.to_string().ends_with("request id: r-1"));
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
