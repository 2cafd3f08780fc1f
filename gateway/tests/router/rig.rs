//! A gateway under test: its backends and its client. No test here.

use std::fs;
use std::io::Cursor;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, header};
use image::{DynamicImage, GrayImage, ImageFormat, Luma};
use prometheus::Registry;
use selvage_core::cache::{Cache, MemoryCache};
use selvage_core::catalog::Catalog;
use selvage_core::clock::{Clock, UnixMillis};
use selvage_core::dead_letters::{Bounds, MemoryDeadLetters};
use selvage_core::job::{Job, JobId, ModelName, Priority};
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::outcome::{Cost, Failure, Outcome, Report, Scores};
use selvage_core::queue::memory::MemoryQueue;
use selvage_core::queue::{Consumer, Delivery, Queue};
use selvage_core::registry::MemoryFleet;
use selvage_core::store::MemoryStore;
use selvage_gateway::http::access::Access;
use selvage_gateway::http::browsers::BrowserRules;
use selvage_gateway::http::limits::Limits;
use selvage_gateway::service::models::Models;
use selvage_gateway::{App, Backends};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

use crate::described::Described;
use crate::down::{BrokerDown, DeadLettersDown, StoreDown};
use crate::gated::{Gated, Published};
use crate::worker::Worker;

const TTL: Duration = Duration::from_secs(3600);
const RETENTION: Duration = Duration::from_secs(86_400);
/// Longest time anything here may take; all of it is in memory.
const PATIENCE: Duration = Duration::from_secs(20);

const MODEL: &str = r#"
    name = "tiny"
    version = "2"
    file = "model.onnx"
    labels = ["shirt", "boot", "bag"]
    [input]
    width = 28
    height = 28
    channels = "gray"
    mean = [0.5]
    std = [0.5]
"#;

/// What a worker says to a job.
pub(crate) type Script = fn(&Job) -> Outcome;

/// What a test changes about its gateway.
pub(crate) struct Plan {
    pub(crate) limits: Limits,
    pub(crate) queue_capacity: usize,
    pub(crate) records: usize,
    pub(crate) broker_down: bool,
    /// Who decides what becomes of each job that is published.
    pub(crate) gate: Option<mpsc::UnboundedSender<Published>>,
    pub(crate) store_down: bool,
    /// How often the store of dead letters refuses one.
    pub(crate) dead_letter_refusals: usize,
    pub(crate) durable: bool,
    /// What stands before the cache.
    pub(crate) before_cache: Option<fn(MemoryCache) -> Arc<dyn Cache>>,
    /// The text of a keys file.
    pub(crate) keys: Option<String>,
    /// The rate of an address, without keys.
    pub(crate) rate: Option<&'static str>,
}

impl Default for Plan {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let limits = Limits {
            max_body: 1 << 20,
            max_buffered: 8 << 20,
            max_pixels: 1_000_000,
            default_wait: seconds(10),
            max_wait: seconds(60),
            max_in_flight: 64,
            job_deadline: seconds(900),
            retention: RETENTION,
            drain: seconds(20),
            max_connections: 64,
            max_connections_per_address: 64,
            connection_shares_shrink: false,
            browsers: BrowserRules::new(&[], &[], false, Ipv4Addr::LOCALHOST.into()),
            shared_cache: false,
            webhooks: selvage_gateway::service::webhooks::WebhookSettings {
                secret: None,
                previous_secret: None,
                allow_private: false,
                first_retry: seconds(1),
            },
        };
        Self {
            limits,
            queue_capacity: 1000,
            records: 1000,
            broker_down: false,
            gate: None,
            store_down: false,
            dead_letter_refusals: 0,
            durable: true,
            before_cache: None,
            keys: None,
            rate: None,
        }
    }
}

/// A gateway with everything around it.
pub(crate) struct Rig {
    pub(crate) app: App,
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) fleet: Arc<MemoryFleet>,
    pub(crate) dead_letters: Arc<MemoryDeadLetters>,
    pub(crate) cache: MemoryCache,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) computed: Arc<AtomicUsize>,
    router: Router,
    described: Described,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    _models: TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.json);
        self
    }

    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.json["code"], code, "{}", answer.json);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json["request_id"], answer.header("request-id"));
        answer
    }

    pub(crate) fn id(&self) -> &str {
        self.json["id"].as_str().unwrap()
    }
}

impl Rig {
    pub(crate) fn new(plan: Plan) -> Self {
        let models = tempfile::tempdir().unwrap();
        let folder = models.path().join("tiny");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("model.toml"), MODEL).unwrap();
        fs::write(folder.join("model.onnx"), b"never read by a gateway").unwrap();
        let catalog = Arc::new(Catalog::read(models.path()).unwrap());
        let clock = Clock::default();
        let (queue, reports) = MemoryQueue::new(plan.queue_capacity);
        let store = Arc::new(MemoryStore::new(plan.records, RETENTION, clock.clone()));
        let cache = MemoryCache::new(1 << 20, TTL);
        let fleet = Arc::new(MemoryFleet::new(clock.clone()));
        let dead_letters = Arc::new(MemoryDeadLetters::new(Bounds::default()));
        let backends = Backends {
            queue: if plan.broker_down {
                Arc::new(BrokerDown)
            } else if let Some(published) = plan.gate {
                let inner = Arc::clone(&queue);
                Arc::new(Gated { inner, published }) as _
            } else {
                Arc::clone(&queue) as _
            },
            dead_letter_queue: queue.dead_letters(),
            dead_letters: Arc::new(DeadLettersDown {
                inner: Arc::clone(&dead_letters),
                refusals: plan.dead_letter_refusals.into(),
            }),
            reports,
            cache: plan.before_cache.map_or_else(
                || Arc::new(cache.clone()) as _,
                |before| before(cache.clone()),
            ),
            local_cache: None,
            store: if plan.store_down {
                Arc::new(StoreDown)
            } else {
                Arc::clone(&store) as _
            },
            fleet: Arc::clone(&fleet) as _,
            clock,
            durable: plan.durable,
        };
        let chosen = Models::new(Arc::clone(&catalog), None).unwrap();
        let rate = plan.rate.map(|rate| rate.parse().unwrap());
        let access = plan.keys.map_or_else(
            || Access::open(rate),
            |keys| {
                let file = models.path().join("keys");
                fs::write(&file, keys).unwrap();
                Access::from_file(&file).unwrap()
            },
        );
        let app = App::start(plan.limits, access, chosen, backends, &Registry::new()).unwrap();
        let stop = app.life.stop.clone();
        let router = app.router();
        Self {
            described: Described::by(&router),
            router,
            _stop_on_drop: stop.clone().drop_guard(),
            app,
            queue,
            store,
            fleet,
            dead_letters,
            cache,
            catalog,
            computed: Arc::default(),
            stop,
            _models: models,
        }
    }

    /// Starts a worker that answers every job with what `script` says.
    pub(crate) fn work(&self, script: Script) {
        for priority in Priority::ALL {
            let worker = Worker {
                queue: Arc::clone(&self.queue),
                store: Arc::clone(&self.store),
                cache: self.cache.clone(),
                catalog: Arc::clone(&self.catalog),
                computed: Arc::clone(&self.computed),
                script,
            };
            let stop = self.stop.clone();
            self.app.life.tasks.spawn(worker.run(priority, stop));
        }
    }

    /// What the default model's answer to an image is cached under.
    pub(crate) fn key_of(&self, image: &[u8]) -> PredictionKey {
        let model = &self.catalog.models()[0];
        PredictionKey {
            model: model.digest,
            preprocessing: model.preprocessing,
            image: Digest::of(image),
        }
    }

    pub(crate) fn model(&self) -> ModelName {
        self.catalog.models()[0].name.clone()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        send(self.router.clone(), self.described.clone(), request).await
    }

    /// The answer's head, with its body still to come.
    pub(crate) async fn open(&self, request: Request<Body>) -> axum::response::Response {
        let router = self.router.clone();
        router.oneshot(with_host(request)).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    pub(crate) async fn post(&self, path: &str, image: Vec<u8>) -> Answer {
        self.post_with(path, image, &[]).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        image: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.send(post(path, image, headers)).await
    }

    /// Sends a request in a task of its own.
    pub(crate) fn post_later(&self, path: &str, image: Vec<u8>) -> tokio::task::JoinHandle<Answer> {
        self.post_with_later(path, image, &[])
    }

    /// The same with further headers.
    pub(crate) fn post_with_later(
        &self,
        path: &str,
        image: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> tokio::task::JoinHandle<Answer> {
        let (router, request) = (self.router.clone(), post(path, image, headers));
        let described = self.described.clone();
        self.app.life.tasks.spawn(send(router, described, request))
    }

    /// Waits until so many jobs wait in a queue.
    pub(crate) async fn wait_for_depth(&self, priority: Priority, depth: u64) {
        let model = self.model();
        eventually(async || self.queue.depth(&model, priority).await.unwrap() == depth).await;
    }

    /// Takes one delivery out of a queue.
    pub(crate) async fn take(&self, priority: Priority) -> Delivery {
        let mut consumer = self.consumer(priority).await;
        consumer.next().await.unwrap()
    }

    async fn consumer(&self, priority: Priority) -> Box<dyn Consumer> {
        let (model, stop) = (self.model(), self.stop.clone());
        self.queue.consume(&model, priority, 8, stop).await.unwrap()
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let families = self.app.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.into_iter().flat_map(|family| family.get_metric());
        metrics
            .map(|m| m.get_counter().get_value() + m.get_gauge().get_value())
            .sum()
    }
}

pub(crate) fn post(path: &str, image: Vec<u8>, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(image.into()).unwrap()
}

async fn send(router: Router, described: Described, request: Request<Body>) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = router.oneshot(with_host(request)).await.unwrap();
    let (parts, body) = response.into_parts();
    described.check((&method, &path), parts.status.as_u16(), &parts.headers);
    let body = axum::body::to_bytes(body, 8 << 20).await.unwrap().to_vec();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        json: serde_json::from_slice(&body).unwrap_or(Value::Null),
        body,
    }
}

/// A request as clients send it, with the name of this machine unless it has one.
pub(crate) fn with_host(mut request: Request<Body>) -> Request<Body> {
    let localhost = HeaderValue::from_static("localhost");
    let headers = request.headers_mut();
    headers.entry(header::HOST).or_insert(localhost);
    request
}

/// Asks again until the condition holds.
pub(crate) async fn eventually(condition: impl AsyncFn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(
            Instant::now() < end,
            "the condition did not come true in {PATIENCE:?}"
        );
        sleep(Duration::from_millis(2)).await;
    }
}

/// A PNG that differs for each seed.
pub(crate) fn png(seed: u8) -> Vec<u8> {
    let picture = GrayImage::from_fn(28, 28, |x, y| Luma([seed ^ (x * 9 + y) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageLuma8(picture)
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

pub(crate) fn scores() -> Scores {
    Scores::new(vec![0.1, 0.7, 0.2])
}

/// Every image is a boot.
pub(crate) fn boots(_: &Job) -> Outcome {
    Outcome::Succeeded(scores())
}

pub(crate) fn report(id: JobId, outcome: Outcome, cost: Cost) -> Report {
    Report {
        id,
        outcome,
        cost,
        attempts: 1,
        cached: false,
    }
}

pub(crate) fn failed(code: selvage_core::outcome::FailureCode) -> Outcome {
    Outcome::Failed(Failure::new(code, "inner text: /srv/models is on fire"))
}

/// A job's id as if it had been issued so long ago.
pub(crate) fn old_id(age: Duration) -> JobId {
    let moment = UnixMillis::wall().0 - u64::try_from(age.as_millis()).unwrap();
    let mut bytes = *JobId::new().as_bytes();
    bytes[..6].copy_from_slice(&moment.to_be_bytes()[2..]);
    JobId::from_bytes(bytes)
}
