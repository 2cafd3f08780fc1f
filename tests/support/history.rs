//! What happened to every job of a run, and the verdict over it: nothing lost, nothing answered twice, nothing wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

/// The states a job cannot leave.
const TERMINAL: [&str; 4] = ["succeeded", "failed", "canceled", "expired"];

/// Everything a client saw, in the order in which it saw it.
#[derive(Debug, Default)]
pub struct History {
    inner: Mutex<Events>,
}

#[derive(Debug, Default)]
struct Events {
    answers: Vec<Answered>,
    jobs: BTreeMap<String, Vec<Seen>>,
    problems: Vec<String>,
}

/// One answer to one request.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Status code; 0 where the connection ended without an answer.
    pub status: u16,
    /// From the request to the answer.
    pub took: Duration,
    /// The client waited for the result.
    pub waited: bool,
}

/// One look at a job that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its state.
    pub state: String,
    /// Its label or its error's code; empty where it has neither.
    pub result: String,
}

/// The verdict over a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Jobs answered with 202.
    pub accepted: usize,
    /// Accepted jobs that were seen in a terminal state.
    pub finished: usize,
    /// Requests answered 429 or 503.
    pub refused: usize,
    /// Requests answered with a result at once.
    pub answered: usize,
    /// Connections that ended without an answer.
    pub cut: usize,
    /// Accepted jobs that never ended.
    pub lost: usize,
    /// Accepted jobs that were seen in two terminal states, or with two results.
    pub twice: usize,
    /// Answers that were wrong: another label, or a status that is not documented for the fault.
    pub wrong: usize,
    /// Longest time to a 429 or 503 of a request that does not wait for a result, in milliseconds.
    pub slowest_refusal_ms: u64,
    /// 99th percentile of the time to an answer of waiting requests that got one, in milliseconds.
    pub p99_ms: u64,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accepted {}, finished {}, lost {}, answered twice {}, wrong {}, answered at once {}, refused {} within {} ms, cut {}, p99 {} ms",
            self.accepted,
            self.finished,
            self.lost,
            self.twice,
            self.wrong,
            self.answered,
            self.refused,
            self.slowest_refusal_ms,
            self.cut,
            self.p99_ms
        )
    }
}

impl Verdict {
    /// Whether every guarantee was kept.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.twice == 0 && self.wrong == 0
    }
}

impl History {
    /// Notes an answer.
    ///
    /// # Panics
    /// When another thread panicked while it noted something; so do all methods.
    pub fn answered(&self, answer: Answered) {
        self.inner.lock().unwrap().answers.push(answer);
    }

    /// Notes a job that was accepted, or looked at again.
    ///
    /// # Panics
    /// See [`History::answered`].
    pub fn saw(&self, id: &str, seen: Option<Seen>) {
        let mut events = self.inner.lock().unwrap();
        let looks = events.jobs.entry(id.to_owned()).or_default();
        looks.extend(seen);
    }

    /// Notes something that must not happen.
    ///
    /// # Panics
    /// See [`History::answered`].
    pub fn wrong(&self, what: String) {
        self.inner.lock().unwrap().problems.push(what);
    }

    /// Accepted jobs that have not been seen to end.
    ///
    /// # Panics
    /// See [`History::answered`].
    #[must_use]
    pub fn unfinished(&self) -> Vec<String> {
        let events = self.inner.lock().unwrap();
        let open = events
            .jobs
            .iter()
            .filter(|(_, looks)| !looks.iter().any(Seen::is_terminal));
        open.map(|(id, _)| id.clone()).collect()
    }

    /// All accepted jobs.
    ///
    /// # Panics
    /// See [`History::answered`].
    #[must_use]
    pub fn accepted(&self) -> Vec<String> {
        self.inner.lock().unwrap().jobs.keys().cloned().collect()
    }

    /// Judges everything so far.
    ///
    /// # Panics
    /// See [`History::answered`].
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let events = self.inner.lock().unwrap();
        let count = |statuses: &[u16]| {
            events
                .answers
                .iter()
                .filter(|a| statuses.contains(&a.status))
                .count()
        };
        let mut waits: Vec<Duration> = events
            .answers
            .iter()
            .filter(|a| a.waited && a.status == 200)
            .map(|a| a.took)
            .collect();
        waits.sort();
        let p99 = waits
            .get((waits.len() * 99 / 100).min(waits.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default();
        let finished = events
            .jobs
            .values()
            .filter(|looks| looks.iter().any(Seen::is_terminal))
            .count();
        let refusals = events
            .answers
            .iter()
            .filter(|a| !a.waited && matches!(a.status, 429 | 503));
        let slowest_refusal = refusals.map(|a| a.took).max().unwrap_or_default();
        Verdict {
            accepted: events.jobs.len(),
            finished,
            refused: count(&[429, 503]),
            answered: count(&[200]),
            cut: count(&[0]),
            lost: events.jobs.len() - finished,
            twice: events
                .jobs
                .values()
                .filter(|looks| changed_its_end(looks))
                .count(),
            wrong: events.problems.len(),
            slowest_refusal_ms: millis(slowest_refusal),
            p99_ms: millis(p99),
        }
    }

    /// What was noted as wrong, in words.
    ///
    /// # Panics
    /// See [`History::answered`].
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.inner.lock().unwrap().problems.clone()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Seen {
    fn is_terminal(&self) -> bool {
        TERMINAL.contains(&self.state.as_str())
    }
}

/// Whether a job was seen in a terminal state and later in any other way.
fn changed_its_end(looks: &[Seen]) -> bool {
    let mut from_the_end = looks.iter().skip_while(|seen| !seen.is_terminal());
    let Some(end) = from_the_end.next() else {
        return false;
    };
    from_the_end.any(|later| later != end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: &str, result: &str) -> Option<Seen> {
        Some(Seen {
            state: state.to_owned(),
            result: result.to_owned(),
        })
    }

    #[test]
    fn a_job_that_never_ends_is_lost() {
        let history = History::default();
        history.saw("a", None);
        history.saw("b", seen("queued", ""));
        history.saw("b", seen("succeeded", "Bag"));
        let verdict = history.verdict();
        assert_eq!(
            (
                verdict.accepted,
                verdict.finished,
                verdict.lost,
                verdict.twice
            ),
            (2, 1, 1, 0)
        );
        assert!(!verdict.is_clean());
        assert_eq!(history.unfinished(), ["a"]);
    }

    #[test]
    fn a_job_that_changes_its_end_was_answered_twice() {
        for second in [
            seen("expired", ""),
            seen("succeeded", "Coat"),
            seen("running", ""),
        ] {
            let history = History::default();
            history.saw("a", seen("succeeded", "Bag"));
            history.saw("a", second);
            assert_eq!(history.verdict().twice, 1);
        }
        let history = History::default();
        history.saw("a", seen("queued", ""));
        history.saw("a", seen("succeeded", "Bag"));
        history.saw("a", seen("succeeded", "Bag"));
        assert!(history.verdict().is_clean());
    }

    #[test]
    fn wrong_answers_spoil_the_verdict() {
        let history = History::default();
        history.wrong("a boot was called a bag".to_owned());
        assert!(!history.verdict().is_clean());
    }
}
