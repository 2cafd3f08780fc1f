//! What came back: counts, latencies, and whether each answer was right.

use std::collections::BTreeMap;
use std::time::Duration;

use memchr::memmem::Finder;

use super::Endpoint;
use super::connection::Answer;
use crate::histogram::Histogram;

/// Descriptions of problems that are kept; more of them say nothing new.
const KEPT_EXAMPLES: usize = 5;
/// Bytes of an answer that a description quotes.
const QUOTED_BYTES: usize = 300;

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Tally {
    rules: Rules,
    /// Answers within the measurement, by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Right answers within the measurement.
    pub(super) latencies: Histogram,
    /// Bytes of right answers within the measurement.
    pub(super) answer_bytes: u64,
    /// Bytes of their bodies.
    pub(super) body_bytes: u64,
    /// Answers out of the server's cache, within the measurement.
    pub(super) cached: u64,
    /// Problems of the whole run, warm-up included.
    pub(super) problems: Problems,
}

/// What must not happen, and how often it did.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Problems {
    /// Answers with another label than the right one, or none.
    pub(super) wrong_labels: u64,
    /// Answers with a status that is not allowed.
    pub(super) unexpected_statuses: u64,
    /// Answers out of the cache to pictures that nobody has sent before.
    pub(super) impossible_hits: u64,
    /// Connections that broke, or answers that were not HTTP.
    pub(super) broken: u64,
    /// Requests without an answer when patience was over.
    pub(super) unanswered: u64,
    /// The first few, in words.
    pub(super) examples: Vec<String>,
}

/// What a right answer is.
#[derive(Debug)]
struct Rules {
    statuses: Vec<u16>,
    has_label: bool,
    is_unique: bool,
    label_key: Finder<'static>,
    cached: Finder<'static>,
}

impl Tally {
    /// Nothing counted yet.
    pub(super) fn new(endpoint: Endpoint, allowed: &[u16], is_unique: bool) -> Self {
        // A job whose answer is known already is finished at once, with a 200 and a label.
        let own: &[u16] = if endpoint == Endpoint::Jobs {
            &[202, 200]
        } else {
            &[200]
        };
        let rules = Rules {
            statuses: [own, allowed].concat(),
            has_label: endpoint == Endpoint::Predict,
            is_unique,
            label_key: Finder::new("\"label\":"),
            cached: Finder::new("\"cached\":true"),
        };
        Self {
            rules,
            statuses: BTreeMap::new(),
            latencies: Histogram::default(),
            answer_bytes: 0,
            body_bytes: 0,
            cached: 0,
            problems: Problems::default(),
        }
    }

    /// Checks and counts an answer; outside the measurement only problems are counted. Tells whether it was right.
    pub(super) fn count(
        &mut self,
        answer: &Answer,
        label: Option<&str>,
        latency: Duration,
        is_measuring: bool,
    ) -> bool {
        if is_measuring {
            *self.statuses.entry(answer.status).or_default() += 1;
        }
        if !self.rules.statuses.contains(&answer.status) {
            self.problems.unexpected_statuses += 1;
            self.describe(|| format!("status {}: {}", answer.status, quote(&answer.body)));
            return false;
        }
        if !(200..300).contains(&answer.status) {
            return false;
        }
        if self.rules.has_label && !self.rules.has_right_label(&answer.body, label) {
            self.problems.wrong_labels += 1;
            self.describe(|| {
                format!(
                    "expected the label {}: {}",
                    label.unwrap_or("(any)"),
                    quote(&answer.body)
                )
            });
            return false;
        }
        let is_cached = self.rules.cached.find(&answer.body).is_some();
        if is_cached && self.rules.is_unique {
            self.problems.impossible_hits += 1;
            self.describe(|| format!("out of the cache: {}", quote(&answer.body)));
        }
        if is_measuring {
            self.latencies.add(latency);
            self.answer_bytes += answer.total_bytes as u64;
            self.body_bytes += answer.body.len() as u64;
            self.cached += u64::from(is_cached);
        }
        true
    }

    /// Counts a connection that broke.
    pub(super) fn count_broken(&mut self, error: &anyhow::Error) {
        self.problems.broken += 1;
        self.describe(|| format!("{error:#}"));
    }

    fn describe(&mut self, description: impl FnOnce() -> String) {
        if self.problems.examples.len() < KEPT_EXAMPLES {
            self.problems.examples.push(description());
        }
    }
}

impl Rules {
    /// Whether the first `"label":` of a body is followed by this label, or by any where none is given.
    fn has_right_label(&self, body: &[u8], label: Option<&str>) -> bool {
        let Some(at) = self.label_key.find(body) else {
            return false;
        };
        let value = body[at + self.label_key.needle().len()..].trim_ascii_start();
        value.starts_with(label.unwrap_or("\"").as_bytes())
    }
}

impl Problems {
    /// Whether nothing went wrong.
    pub(super) const fn is_none(&self) -> bool {
        self.wrong_labels
            + self.unexpected_statuses
            + self.impossible_hits
            + self.broken
            + self.unanswered
            == 0
    }
}

fn quote(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(QUOTED_BYTES)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            body: body.as_bytes().into(),
            total_bytes: body.len() + 100,
            is_last: false,
        }
    }

    fn count(tally: &mut Tally, status: u16, body: &str) -> bool {
        tally.count(
            &answer(status, body),
            Some("\"Coat\""),
            Duration::from_millis(1),
            true,
        )
    }

    #[test]
    fn right_answers_are_counted_and_are_no_problem() {
        let mut tally = Tally::new(Endpoint::Predict, &[], true);
        assert!(count(&mut tally, 200, r#"{"output":{"label":"Coat"}}"#));
        assert!(count(&mut tally, 200, r#"{"output": {"label": "Coat"}}"#));
        assert!(
            tally.problems.is_none() && tally.latencies.total() == 2 && tally.statuses[&200] == 2
        );
    }

    #[test]
    fn every_kind_of_wrong_answer_is_a_problem() {
        let cases = [
            (200, r#"{"output":{"label":"Bag"}}"#),
            (200, r#"{"output":{"label":"Coats"}}"#),
            (200, "{}"),
            (200, r#"{"cached":true,"output":{"label":"Coat"}}"#),
            (202, r#"{"status":"queued"}"#),
            (429, "{}"),
        ];
        for (status, body) in cases {
            let mut tally = Tally::new(Endpoint::Predict, &[], true);
            count(&mut tally, status, body);
            assert!(
                !tally.problems.is_none() && tally.problems.examples.len() == 1,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn hits_are_right_where_pictures_repeat_and_429_where_it_is_allowed() {
        let mut tally = Tally::new(Endpoint::Predict, &[429], false);
        assert!(count(
            &mut tally,
            200,
            r#"{"cached":true,"output":{"label":"Coat"}}"#
        ));
        assert!(!count(&mut tally, 429, "{}"));
        assert!(tally.problems.is_none());
        assert_eq!(
            (tally.cached, tally.latencies.total(), tally.statuses[&429]),
            (1, 1, 1)
        );
    }

    #[test]
    fn warm_up_counts_problems_only() {
        let mut tally = Tally::new(Endpoint::Predict, &[], true);
        for label in ["\"Coat\"", "\"Bag\""] {
            tally.count(
                &answer(200, r#"{"output":{"label":"Bag"}}"#),
                Some(label),
                Duration::ZERO,
                false,
            );
        }
        assert_eq!(
            (
                tally.problems.wrong_labels,
                tally.latencies.total(),
                tally.statuses.len()
            ),
            (1, 0, 0)
        );
    }
}
