//! A load of every kind of request, whose every answer goes into a [`History`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::{Answer, Client};
use crate::history::{Answered, History, Seen};
use crate::pictures;

/// Longest time a request of the load may take: its wait, the submission that follows, and the drain of a gateway.
const REQUEST_LIMIT: Duration = Duration::from_secs(40);
/// How often an accepted job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is sent.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Requests per second, over all gateways.
    pub per_second: f64,
    /// How long each waiting request waits.
    pub wait: Duration,
    /// Of eight requests so many are bad images.
    pub bad_of_eight: u64,
    /// Every second request is a job; else all wait.
    pub jobs: bool,
    /// The key that is shown.
    pub key: Option<&'static str>,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            per_second: 20.0,
            wait: Duration::from_secs(5),
            bad_of_eight: 1,
            jobs: true,
            key: None,
        }
    }
}

/// A load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    history: Arc<History>,
    clients: Vec<Client>,
    stop: CancellationToken,
    requests: TaskTracker,
}

impl Load {
    /// Starts a load against these gateways, in turn.
    #[must_use]
    pub fn start(gateways: &[SocketAddr], mix: Mix) -> Self {
        let client = |gateway: &SocketAddr| {
            let client = Client::new(*gateway);
            mix.key.map_or(client.clone(), |key| client.with_key(key))
        };
        let load = Self {
            history: Arc::default(),
            clients: gateways.iter().map(client).collect(),
            stop: CancellationToken::new(),
            requests: TaskTracker::new(),
        };
        let senders: Vec<Sender> = (0..load.clients.len())
            .map(|gateway| load.sender(gateway, &mix))
            .collect();
        let (stop, requests) = (load.stop.clone(), load.requests.clone());
        load.requests.spawn(async move {
            let mut ticks = interval(Duration::from_secs_f64(1.0 / mix.per_second));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for sender in senders.iter().cycle() {
                tokio::select! {
                    _ = ticks.tick() => { requests.spawn(sender.clone().send_one()); }
                    () = stop.cancelled() => return,
                }
            }
        });
        load
    }

    fn sender(&self, gateway: usize, mix: &Mix) -> Sender {
        let others = self.clients.iter().enumerate();
        Sender {
            client: self.clients[gateway].clone(),
            others: others
                .filter(|(other, _)| *other != gateway)
                .map(|(_, client)| client.clone())
                .collect(),
            history: Arc::clone(&self.history),
            mix: mix.clone(),
        }
    }

    /// What has been seen so far.
    #[must_use]
    pub fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }

    /// Stops sending, then looks at every accepted job, at every gateway in turn, until all have ended or the limit passes;
    /// then looks once more, so that an end that changed would be seen.
    pub async fn finish(self, limit: Duration) -> Arc<History> {
        self.stop.cancel();
        self.requests.close();
        // Requests have limits of their own.
        let _all_ended = timeout(REQUEST_LIMIT * 2, self.requests.wait()).await;
        let clients = &self.clients;
        let end = Instant::now() + limit;
        for client in clients.iter().cycle() {
            let open = self.history.unfinished();
            if open.is_empty() || Instant::now() > end {
                break;
            }
            for id in open {
                look(client, &self.history, &id).await;
            }
            sleep(LOOK_EVERY).await;
        }
        for id in self.history.accepted() {
            look(&clients[clients.len() - 1], &self.history, &id).await;
        }
        Arc::clone(&self.history)
    }
}

/// Looks at a job once; a gateway or store that is away says nothing about the job.
async fn look(client: &Client, history: &History, id: &str) {
    if let Ok(answer) = client.get(&format!("/jobs/{id}")).await
        && answer.status == 200
    {
        history.saw(id, Some(state_of(&answer)));
    }
}

fn state_of(answer: &Answer) -> Seen {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let result = match answer.label() {
        "" => text(&answer.json["error"]["code"]),
        label => label.to_owned(),
    };
    Seen {
        state: text(&answer.json["status"]),
        result,
    }
}

#[derive(Clone, Debug)]
struct Sender {
    client: Client,
    /// Asked where nobody accepts the connection, as a load balancer would.
    others: Vec<Client>,
    history: Arc<History>,
    mix: Mix,
}

impl Sender {
    /// One request: every second pair waits, every other one wants a job; some repeat, some are bad.
    async fn send_one(self) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // Gateways take turns, so pairs do the same: each of two gateways gets requests of both kinds.
        let pair = n / 2;
        let waits = !self.mix.jobs || pair.is_multiple_of(2);
        let bad = (pair / 2) % 8 < self.mix.bad_of_eight;
        let sample = usize::try_from(pair / 2 % 10).unwrap_or_default();
        let image = if bad {
            pictures::broken_by(n)
        } else {
            pictures::tagged(pictures::SAMPLES[sample], n)
        };
        let path = if waits {
            format!("/predict?wait={}", self.mix.wait.as_secs())
        } else {
            "/jobs".to_owned()
        };
        let began = Instant::now();
        let answer = timeout(REQUEST_LIMIT, self.post(&path, image)).await;
        let took = began.elapsed();
        let Ok(answer) = answer else {
            self.history
                .wrong(format!("{path}: no answer within {REQUEST_LIMIT:?}"));
            return;
        };
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        self.history.answered(Answered {
            status,
            took,
            waited: waits,
        });
        if let Ok(answer) = answer {
            self.judge(&answer, sample, bad, took);
        }
    }

    async fn post(&self, path: &str, image: Vec<u8>) -> anyhow::Result<Answer> {
        let mut answer = self.client.post_image(path, image.clone()).await;
        for other in &self.others {
            match &answer {
                Err(error) if was_not_accepted(error) => {
                    answer = other.post_image(path, image.clone()).await
                }
                _ => break,
            }
        }
        answer
    }

    fn judge(&self, answer: &Answer, sample: usize, bad: bool, took: Duration) {
        let ok = match answer.status {
            200 => !bad && answer.json["output"]["index"] == sample_label(sample),
            202 => {
                self.history.saw(answer.id(), Some(state_of(answer)));
                true
            }
            422 => bad && answer.code() == "invalid_image",
            429 => answer.code() == "queue_full" && !answer.header("retry-after").is_empty(),
            503 => !answer.header("retry-after").is_empty(),
            _ => false,
        };
        if !ok {
            self.history
                .wrong(format!("after {took:?}: {} {}", answer.status, answer.json));
        }
    }
}

fn was_not_accepted(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<reqwest::Error>();
    error.is_some_and(reqwest::Error::is_connect)
}

/// The label each sample gets from the model; samples the model errs on are not used in loads.
fn sample_label(sample: usize) -> u64 {
    sample as u64
}
