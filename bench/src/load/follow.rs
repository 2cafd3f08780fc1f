//! What became of accepted jobs: a sample of those answered with 202 is asked for until they are finished.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use super::connection::Connection;
use super::{Options, seconds};

/// A sample of accepted jobs, spread evenly over all of them.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    kept: Vec<Job>,
    wanted: usize,
    seen: usize,
    /// Every so many-th job is kept.
    every: usize,
}

#[derive(Debug)]
struct Job {
    body: Vec<u8>,
    label: Option<String>,
}

/// What became of the jobs that were asked for.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Followed {
    /// Finished with the right label.
    pub(super) right: u64,
    /// Finished with another label, failed, expired, or unknown to the server.
    pub(super) wrong: u64,
    /// Not finished when patience was over.
    pub(super) unfinished: u64,
    /// The first that went wrong.
    pub(super) example: Option<String>,
}

impl Accepted {
    /// A sample of up to so many jobs.
    pub(super) fn keep(wanted: usize) -> Self {
        Self {
            wanted,
            every: 1,
            ..Self::default()
        }
    }

    /// Takes note of an accepted job: the body of its 202 and its right label as JSON text.
    pub(super) fn add(&mut self, body: &[u8], label: Option<&str>) {
        if self.wanted == 0 {
            return;
        }
        if self.seen.is_multiple_of(self.every) {
            self.kept.push(Job {
                body: body.to_vec(),
                label: label.map(str::to_owned),
            });
        }
        self.seen += 1;
        // Thin the sample out where it is twice as dense as wanted.
        if self.kept.len() > 2 * self.wanted {
            let mut number = 0_usize;
            self.kept.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.every *= 2;
        }
    }
}

/// Asks for each kept job until it is finished.
///
/// # Errors
/// When the server cannot be reached or what it answers is no job.
pub(super) async fn follow(options: &Options, accepted: Accepted) -> Result<Followed> {
    let mut followed = Followed::default();
    let end = Instant::now() + seconds(options.patience);
    let mut jobs = accepted.kept;
    jobs.truncate(accepted.wanted);
    if jobs.is_empty() {
        return Ok(followed);
    }
    let mut connection = Connection::open(options.url).await?;
    for job in jobs {
        let left = end.saturating_duration_since(Instant::now());
        match timeout(left, outcome(&mut connection, options.url, &job)).await {
            Ok(answer) => followed.count(&answer?, job.label.as_deref()),
            Err(_elapsed) => {
                followed.unfinished += 1;
                connection = Connection::open(options.url).await?; // the old one has an answer coming
            }
        }
    }
    Ok(followed)
}

/// The finished job, or whatever else the server says for good.
async fn outcome(connection: &mut Connection, server: SocketAddr, job: &Job) -> Result<Value> {
    let accepted: Value = serde_json::from_slice(&job.body).context("a 202 without JSON")?;
    let id = accepted["id"].as_str().context("a 202 without id")?;
    let request = format!("GET /jobs/{id}?wait=10 HTTP/1.1\r\nHost: {server}\r\n\r\n");
    loop {
        let answer = connection.exchange(request.as_bytes()).await?;
        let body: Value = serde_json::from_slice(&answer.body).context("an answer without JSON")?;
        let is_pending =
            answer.status == 200 && matches!(body["status"].as_str(), Some("queued" | "running"));
        if !is_pending {
            return Ok(body);
        }
    }
}

impl Followed {
    fn count(&mut self, answer: &Value, label: Option<&str>) {
        let given = answer["output"].get("label");
        let is_right = answer["status"] == "succeeded"
            && given.is_some_and(|given| {
                label.is_none_or(|label| {
                    serde_json::from_str(label).is_ok_and(|label: Value| *given == label)
                })
            });
        if is_right {
            self.right += 1;
        } else {
            self.wrong += 1;
            self.example.get_or_insert_with(|| {
                format!("expected {}: {answer}", label.unwrap_or("any label"))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_sample_is_spread_over_all_jobs() {
        let mut accepted = Accepted::keep(10);
        for number in 0..1_000 {
            accepted.add(number.to_string().as_bytes(), None);
        }
        let numbers: Vec<usize> = accepted
            .kept
            .iter()
            .map(|job| std::str::from_utf8(&job.body).unwrap().parse().unwrap())
            .collect();
        assert!((10..=20).contains(&numbers.len()), "{numbers:?}");
        let distance = numbers[1] - numbers[0];
        assert!(
            numbers.windows(2).all(|pair| pair[1] - pair[0] == distance),
            "{numbers:?}"
        );
        assert!(*numbers.last().unwrap() > 900);
    }

    #[test]
    fn only_success_with_the_right_label_is_right() {
        let mut followed = Followed::default();
        let coat = json!({"status": "succeeded", "output": {"label": "Coat"}});
        followed.count(&coat, Some("\"Coat\""));
        followed.count(&coat, None);
        assert_eq!((followed.right, followed.wrong), (2, 0));
        followed.count(&coat, Some("\"Bag\""));
        followed.count(&json!({"status": "failed", "output": null}), None);
        followed.count(&json!({"status": 404, "code": "job_not_found"}), None);
        assert_eq!(
            (followed.right, followed.wrong, followed.unfinished),
            (2, 3, 0)
        );
    }
}
