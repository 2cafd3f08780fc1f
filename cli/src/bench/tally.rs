//! What came back: counts, latencies, and whether each response was right.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::connection::Response;

/// Bytes of a response that an example quotes.
const QUOTED_BYTES: usize = 300;
/// What the first label of a response follows.
const LABEL: &[u8] = b"\"label\":";
/// The longest latency that is distinguished, in microseconds: an hour. Latencies are kept to within a thousandth.
const LONGEST_US: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Tally {
    /// Latencies of right responses, in microseconds.
    pub(super) latencies: Histogram<u64>,
    /// Right responses that the server had in its cache.
    pub(super) cached: u64,
    /// Bytes of the bodies of right responses.
    pub(super) body_bytes: u64,
    /// Errors by their code.
    pub(super) errors: BTreeMap<String, Errors>,
}

/// The errors of one code.
#[derive(Debug, Serialize)]
pub(super) struct Errors {
    pub(super) count: u64,
    /// The first of them, in words.
    pub(super) example: String,
}

/// Which responses are right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Every image is new, so no result can come from the cache.
    pub(super) is_unique: bool,
    /// Jobs are submitted: a response needs no label.
    pub(super) is_submit: bool,
}

/// The part of a problem object that counts.
#[derive(Deserialize)]
struct Problem {
    code: String,
}

impl Rules {
    /// Whether a right response came from the cache; the code of a wrong one.
    fn check(self, response: &Response, label: Option<&str>) -> Result<bool, String> {
        let body = &response.body;
        match (response.status, self.is_submit) {
            (200, _) | (202, true) => {}
            (status, _) => {
                let code = serde_json::from_slice::<Problem>(body).map(|problem| problem.code);
                return Err(code.unwrap_or_else(|_| format!("status_{status}")));
            }
        }
        if !self.is_submit && !has_label(body, label) {
            return Err("wrong_label".to_owned());
        }
        let is_cached = memmem::find(body, b"\"cached\":true").is_some();
        if is_cached && self.is_unique {
            return Err("unexpected_cache_hit".to_owned());
        }
        Ok(is_cached)
    }
}

/// Whether the first `"label":` is followed by this label; by any text if none is given.
fn has_label(body: &[u8], label: Option<&str>) -> bool {
    memmem::find(body, LABEL).is_some_and(|at| {
        let value = body[at + LABEL.len()..].trim_ascii_start();
        value.starts_with(label.unwrap_or("\"").as_bytes())
    })
}

/// A wrong response in words: from its label on, if another label was expected.
fn quote(response: &Response, label: Option<&str>) -> String {
    let from = label.and_then(|_| memmem::find(&response.body, LABEL));
    let body = &response.body[from.unwrap_or(0)..];
    let body = String::from_utf8_lossy(&body[..body.len().min(QUOTED_BYTES)]);
    let expected = label.map_or(String::new(), |label| format!("expected {label}: "));
    format!("{expected}{} {body}", response.status)
}

impl Tally {
    /// Nothing counted yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            latencies: Histogram::new_with_max(LONGEST_US, SIGNIFICANT_DIGITS)?,
            cached: 0,
            body_bytes: 0,
            errors: BTreeMap::new(),
        })
    }

    /// Checks and counts what came back for a request.
    pub(super) fn count(
        &mut self,
        rules: Rules,
        outcome: &Result<Response>,
        label: Option<&str>,
        latency: Duration,
    ) {
        match outcome
            .as_ref()
            .map(|response| (response, rules.check(response, label)))
        {
            Ok((response, Ok(is_cached))) => {
                let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                self.latencies.saturating_record(micros);
                self.cached += u64::from(is_cached);
                self.body_bytes += response.body.len() as u64;
            }
            Ok((response, Err(code))) => self.error(&code, 1, || quote(response, label)),
            Err(error) => self.error("connection", 1, || format!("{error:#}")),
        }
    }

    /// Counts requests that were still without a response when the run ended.
    pub(super) fn unanswered(&mut self, requests: usize) {
        if requests > 0 {
            let why = || "no response within the time limit".to_owned();
            self.error("no_response", requests as u64, why);
        }
    }

    fn error(&mut self, code: &str, times: u64, describe: impl FnOnce() -> String) {
        if let Some(errors) = self.errors.get_mut(code) {
            errors.count += times;
        } else {
            let (count, example) = (times, describe());
            self.errors
                .insert(code.to_owned(), Errors { count, example });
        }
    }

    /// Adds what another thread has counted.
    pub(super) fn add(&mut self, other: Self) -> Result<()> {
        self.latencies.add(other.latencies)?;
        self.cached += other.cached;
        self.body_bytes += other.body_bytes;
        for (code, errors) in other.errors {
            self.error(&code, errors.count, || errors.example);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    const PREDICT: Rules = Rules {
        is_unique: true,
        is_submit: false,
    };

    fn count(rules: Rules, status: u16, body: &str) -> Tally {
        let response = Response {
            status,
            body: body.as_bytes().into(),
            is_last: false,
        };
        let mut tally = Tally::new().unwrap();
        let latency = Duration::from_millis(1);
        tally.count(rules, &Ok(response), Some("\"Coat\""), latency);
        tally
    }

    fn errors(tally: &Tally) -> Vec<(&str, u64)> {
        tally
            .errors
            .iter()
            .map(|(code, errors)| (code.as_str(), errors.count))
            .collect()
    }

    #[test]
    fn right_responses_are_counted_and_are_no_error() {
        for body in [
            r#"{"output":{"label":"Coat"}}"#,
            r#"{"output": {"label": "Coat"}}"#,
        ] {
            let tally = count(PREDICT, 200, body);
            assert!(tally.errors.is_empty() && tally.latencies.len() == 1);
        }
        let submit = Rules {
            is_submit: true,
            ..PREDICT
        };
        assert_eq!(
            count(submit, 202, r#"{"status":"queued"}"#).latencies.len(),
            1
        );
    }

    #[test]
    fn every_wrong_response_is_counted_by_its_code() {
        for (status, body, code) in [
            (200, r#"{"output":{"label":"Bag"}}"#, "wrong_label"),
            (200, r#"{"output":{"label":"Coats"}}"#, "wrong_label"),
            (200, "{}", "wrong_label"),
            (
                200,
                r#"{"cached":true,"output":{"label":"Coat"}}"#,
                "unexpected_cache_hit",
            ),
            (202, r#"{"status":"queued"}"#, "status_202"),
            (429, r#"{"code":"queue_full","title":"x"}"#, "queue_full"),
            (502, "<html>", "status_502"),
        ] {
            let tally = count(PREDICT, status, body);
            assert_eq!(errors(&tally), [(code, 1)], "{status} {body}");
            assert!(tally.latencies.is_empty());
            let quoted = &body[body.find("\"label\":").unwrap_or(0)..];
            let example = format!("expected \"Coat\": {status} {quoted}");
            assert_eq!(tally.errors[code].example, example);
        }
    }

    #[test]
    fn the_label_of_a_long_response_is_quoted() {
        let body = format!(
            r#"{{"digest":"{}","label":"Bag"}}"#,
            "0".repeat(QUOTED_BYTES)
        );
        let tally = count(PREDICT, 200, &body);
        assert!(tally.errors["wrong_label"].example.contains("\"Bag\""));
    }

    #[test]
    fn results_from_the_cache_are_right_where_images_repeat() {
        let rules = Rules {
            is_unique: false,
            ..PREDICT
        };
        let tally = count(rules, 200, r#"{"cached":true,"output":{"label":"Coat"}}"#);
        assert_eq!((tally.cached, tally.errors.len()), (1, 0));
    }

    #[test]
    fn the_counts_of_threads_are_added_up() {
        let mut all = count(PREDICT, 200, r#"{"output":{"label":"Coat"}}"#);
        let mut other = count(PREDICT, 200, "{}");
        other.count(PREDICT, &Err(anyhow!("it broke")), None, Duration::ZERO);
        other.unanswered(2);
        all.add(other).unwrap();
        let expected = [("connection", 1), ("no_response", 2), ("wrong_label", 1)];
        assert_eq!(errors(&all), expected);
        assert_eq!(
            (
                all.latencies.len(),
                all.errors["connection"].example.as_str()
            ),
            (1, "it broke")
        );
    }
}
