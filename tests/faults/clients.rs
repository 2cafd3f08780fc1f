//! Clients that behave as real ones do under faults: they give up waiting and repeat under their `Idempotency-Key`, cancel,
//! poll, stream and take webhooks, each at any gateway. Every 202 is held to exactly one end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use selvage_tests::history::{History, Seen};
use selvage_tests::keys::WEBHOOK_SECRET;
use selvage_tests::receiver::{Received, Receiver};
use selvage_tests::{Answer, Client, eventually, pictures};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Stage;

/// Clients at work at once.
const CLIENTS: u64 = 12;
/// Longest time until a client has its 202; more than any outage.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest time until every job has its end, and every webhook has come.
const SETTLE: Duration = Duration::from_secs(600);

/// What all clients share.
#[derive(Debug)]
struct Shared {
    gateways: Vec<Client>,
    receiver: Receiver,
    history: History,
    /// Jobs asked for with a webhook.
    notified: std::sync::Mutex<Vec<String>>,
    /// Which sample each accepted job shows.
    samples: std::sync::Mutex<BTreeMap<String, u64>>,
    next: AtomicU64,
    repeats: AtomicU64,
}

/// Clients at work until [`Clients::finish`].
#[derive(Debug)]
pub(super) struct Clients {
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Clients {
    /// Starts them on all gateways of the stage.
    pub(super) async fn start(stage: &Stage) -> Self {
        let shared = Arc::new(Shared {
            gateways: stage
                .gateways()
                .iter()
                .map(|gateway| Client::new(*gateway))
                .collect(),
            receiver: Receiver::start(&[]).await,
            history: History::default(),
            notified: std::sync::Mutex::default(),
            samples: std::sync::Mutex::default(),
            next: AtomicU64::new(1 << 40),
            repeats: AtomicU64::new(0),
        });
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for _ in 0..CLIENTS {
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    shared.one().await;
                }
            });
        }
        Self {
            shared,
            stop,
            tasks,
        }
    }

    /// What was seen so far, in a line.
    pub(super) fn summary(&self) -> String {
        let repeats = self.shared.repeats.load(Ordering::Relaxed);
        format!(
            "clients: {}, repeats {repeats}",
            self.shared.history.verdict()
        )
    }

    /// Ends the clients, waits for every job's end at every gateway and for the webhooks, and judges.
    ///
    /// # Panics
    /// When a job was lost, ended twice or wrongly, or its webhook never came.
    pub(super) async fn finish(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no client panics");
        }
        let shared = &self.shared;
        for id in shared.history.accepted() {
            let mut ends = Vec::new();
            for gateway in &shared.gateways {
                ends.push(shared.end(gateway, &id).await);
            }
            shared.judge(&id, &ends);
        }
        let notified = shared.notified.lock().unwrap().clone();
        for id in &notified {
            let came = timeout(
                SETTLE,
                eventually("a webhook comes", SETTLE * 2, || async {
                    shared.webhooks(id).first().cloned()
                }),
            );
            match came.await {
                Err(_) => shared
                    .history
                    .wrong(format!("{id}: its webhook never came")),
                Ok(first) => shared.judge_webhooks(id, &first),
            }
        }
        println!("{}, webhooks {}", self.summary(), notified.len());
        let problems = shared.history.problems().join("\n");
        assert!(
            shared.history.verdict().is_clean(),
            "{}\n{problems}",
            self.summary()
        );
    }
}

impl Shared {
    /// One job from its first request to whatever its client wants of it.
    async fn one(&self) {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let kind = n % 5;
        let Some(id) = self.submit(n, kind == 0).await else {
            return;
        };
        let other = self.gateway(n + 1);
        match kind {
            1 => drop(
                other
                    .send(other.request(Method::DELETE, &format!("/jobs/{id}")))
                    .await,
            ),
            2 => drop(other.get(&format!("/jobs/{id}?wait=5")).await),
            3 => drop(timeout(PATIENCE, other.get(&format!("/jobs/{id}/events"))).await),
            _ => {}
        }
        for gateway in &self.gateways {
            self.look(gateway, &id).await;
        }
    }

    fn gateway(&self, n: u64) -> &Client {
        &self.gateways[usize::try_from(n).unwrap_or_default() % self.gateways.len()]
    }

    /// Asks under one key, at the gateways in turn, until a 202 comes; then once more at each. All 202s name one job.
    async fn submit(&self, n: u64, webhook: bool) -> Option<String> {
        let sample = n / 5 % 10;
        let image = pictures::tagged(
            pictures::SAMPLES[usize::try_from(sample).unwrap_or_default()],
            n,
        );
        let mut body = json!({"image": BASE64_STANDARD.encode(image)});
        if webhook {
            body["webhook"] = json!({"url": self.receiver.url()});
        }
        let key = uuid::Uuid::new_v4().to_string();
        let (mut ids, mut left) = (Vec::new(), self.gateways.len());
        let asking = async {
            for turn in n.. {
                let impatience = Duration::from_millis(100 + 250 * (turn % 8));
                let ask = self.gateway(turn).request(Method::POST, "/jobs");
                let ask = ask.header("idempotency-key", &key).json(&body);
                let answer = timeout(impatience, self.gateway(turn).send(ask)).await;
                if turn > n {
                    self.repeats.fetch_add(1, Ordering::Relaxed);
                }
                if let Ok(Ok(answer)) = answer
                    && let Some(id) = self.accepted(&answer)
                {
                    ids.push(id);
                    left -= 1;
                    if left == 0 {
                        return;
                    }
                } else {
                    sleep(Duration::from_millis(200)).await;
                }
            }
        };
        // Whoever has no 202 by then has no job.
        let _in_time = timeout(PATIENCE, asking).await;
        for id in &ids {
            self.samples.lock().unwrap().insert(id.clone(), sample);
        }
        ids.dedup();
        if ids.len() > 1 {
            self.history
                .wrong(format!("one key, several jobs: {}", ids.join(", ")));
        }
        let id = ids.pop()?;
        if webhook {
            self.notified.lock().unwrap().push(id.clone());
        }
        Some(id)
    }

    /// The id of a job that was accepted, or had been. A refusal must be one that says when to come again.
    fn accepted(&self, answer: &Answer) -> Option<String> {
        match answer.status {
            200 | 202 => {
                self.history.saw(answer.id(), seen(&answer.json));
                Some(answer.id().to_owned())
            }
            409 | 429 | 503 if !answer.header("retry-after").is_empty() => None,
            status => {
                self.history.wrong(format!("{status} {}", answer.json));
                None
            }
        }
    }

    /// Looks at a job; a gateway that has no record of an accepted job breaks its word, and shows null.
    async fn look(&self, gateway: &Client, id: &str) -> Option<Value> {
        let answer = timeout(PATIENCE, gateway.get(&format!("/jobs/{id}")))
            .await
            .ok()?
            .ok()?;
        match answer.status {
            200 => {
                self.history.saw(id, seen(&answer.json));
                Some(answer.json)
            }
            404 => {
                self.history.wrong(format!("{id}: 404 after its 202"));
                Some(Value::Null)
            }
            _ => None,
        }
    }

    /// The job as that gateway shows it once it has ended; null where it never does.
    async fn end(&self, gateway: &Client, id: &str) -> Value {
        let ended = eventually("a job ends", SETTLE * 2, || async {
            self.look(gateway, id)
                .await
                .filter(|job| job.is_null() || !job["finished_at"].is_null())
        });
        timeout(SETTLE, ended).await.unwrap_or_default()
    }

    /// The same end at every gateway, the right label, and no job that expired although nobody had begun it.
    fn judge(&self, id: &str, ends: &[Value]) {
        let first = &ends[0];
        for end in ends {
            if end["status"] != first["status"] || end["output"] != first["output"] {
                self.history
                    .wrong(format!("{id}: two ends: {first} and {end}"));
            }
        }
        let sample = self.samples.lock().unwrap().get(id).copied();
        let right = match first["status"].as_str() {
            Some("succeeded") => first["output"]["index"].as_u64() == sample,
            Some("canceled") => true,
            _ => false,
        };
        if !right {
            self.history
                .wrong(format!("{id} shows sample {sample:?}: {first}"));
        }
    }

    /// The messages about a job, their signatures checked.
    fn webhooks(&self, id: &str) -> Vec<Value> {
        let about = |message: &Received| message.header("webhook-id").starts_with(id);
        let received = self.receiver.received();
        received
            .iter()
            .filter(|message| about(message))
            .map(verified)
            .collect()
    }

    /// Every message about a job says what the first said.
    fn judge_webhooks(&self, id: &str, first: &Value) {
        for message in self.webhooks(id) {
            let data = &message["data"];
            if data["status"] != first["data"]["status"]
                || data["output"] != first["data"]["output"]
            {
                self.history
                    .wrong(format!("{id}: webhooks differ: {first} and {message}"));
            }
        }
    }
}

fn seen(job: &Value) -> Option<Seen> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(Seen {
        state: text(&job["status"]),
        result: text(&job["output"]["label"]),
    })
}

/// The message, once its signature was checked. It may be older than a receiver would take, so it is signed again.
fn verified(message: &Received) -> Value {
    let sent_at = message.header("webhook-timestamp").parse();
    let secret = standardwebhooks::Webhook::new(WEBHOOK_SECRET).expect("a good secret");
    let signature = secret
        .sign(
            message.header("webhook-id"),
            sent_at.expect("seconds"),
            &message.body,
        )
        .expect("a message can be signed");
    assert_eq!(message.header("webhook-signature"), signature);
    serde_json::from_slice(&message.body).expect("the body is JSON")
}
