//! Advice to clients against the truth, under steady load in simulated time: the truth is when the work is done that waits
//! at the moment of the advice.

use std::collections::VecDeque;
use std::fs;

use prometheus::Registry;
use selvage_core::catalog::Catalog;
use selvage_core::clock::{Clock, UnixMillis};
use selvage_core::job::{CachePolicy, JobId, Submission};
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::outcome::Cost;
use selvage_core::queue::memory::MemoryQueue;
use selvage_core::registry::{Ends, Member, MemoryFleet, ModelStatus, Taken, WorkerStatus};
use selvage_core::store::{Completion, End, MemoryStore, Seed, WorkerStore as _};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::service::admission::Admission;

const MODEL: &str = r#"
    name = "tiny"
    version = "1"
    file = "model.onnx"
    labels = ["a"]
    [input]
    width = 1
    height = 1
    channels = "gray"
    mean = [0.5]
    std = [0.5]
"#;
/// How long the load is steady before the first advice is looked at.
const WARM_UP: Duration = Duration::from_secs(10);
/// The part of the truth an advice must at least be, and what times of it at most.
const FACTOR: f64 = 2.0;

struct Scene {
    queues: Arc<Queues>,
    queue: Arc<MemoryQueue>,
    store: Arc<MemoryStore>,
    fleet: Arc<MemoryFleet>,
    admission: Arc<Admission>,
    model: Arc<Model>,
    line: VecDeque<JobId>,
    finished: u64,
    stop: tokio_util::sync::DropGuard,
}

fn model() -> Arc<Model> {
    let models = tempfile::tempdir().unwrap();
    let folder = models.path().join("tiny");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("model.toml"), MODEL).unwrap();
    fs::write(folder.join("model.onnx"), b"never read").unwrap();
    Arc::clone(&Catalog::read(models.path()).unwrap().models()[0])
}

impl Scene {
    /// A gateway that watches, with so many places.
    fn new(places: usize, tasks: &tokio_util::task::TaskTracker) -> Self {
        let (model, clock) = (model(), Clock::default());
        let (queue, _reports) = MemoryQueue::new(100_000);
        let store = Arc::new(MemoryStore::new(
            100_000,
            Duration::from_secs(60),
            clock.clone(),
        ));
        let fleet = Arc::new(MemoryFleet::new(clock.clone()));
        let queues = Arc::new(Queues::new(
            std::slice::from_ref(&model),
            (queue.clone(), store.clone(), fleet.clone()),
            clock,
            Metrics::register(&Registry::new()).unwrap(),
        ));
        let admission = Arc::new(Admission::new(places));
        let stop = CancellationToken::new();
        let watched = (queues.clone(), admission.clone(), stop.clone());
        tasks.spawn(async move {
            let (queues, admission, stop) = watched;
            let mut ticks = interval(Duration::from_secs(1));
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                admission.pace.tick();
                queues.read().await;
            }
        });
        Self {
            queues,
            queue,
            store,
            fleet,
            admission,
            model,
            line: VecDeque::new(),
            finished: 0,
            stop: stop.drop_guard(),
        }
    }

    fn key(&self) -> PredictionKey {
        PredictionKey {
            model: self.model.digest,
            preprocessing: 1,
            image: Digest::of(b"image"),
        }
    }

    async fn submit(&mut self, count: usize) {
        for _ in 0..count {
            let seed = Seed {
                id: JobId::new(),
                model: self.model.name.clone(),
                key: self.key(),
                created_at: UnixMillis::wall(),
                deadline: UnixMillis::wall().after(Duration::from_secs(3600)),
                submission: Submission {
                    version: "1".to_owned(),
                    top_k: 1,
                    ..Submission::default()
                },
            };
            self.store.submit(&seed).await.unwrap();
            self.line.push_back(seed.id);
        }
    }

    /// The workers finish the oldest jobs.
    async fn finish(&mut self, count: usize) {
        let oldest = self.line.drain(..count.min(self.line.len()));
        let end = |id| Completion {
            id,
            end: End::Expired,
            cost: Cost::default(),
            cached: false,
        };
        let ended: Vec<_> = oldest.map(end).collect();
        self.store.complete(&ended).await.unwrap();
    }

    /// What a worker says of itself.
    async fn announce(&self) {
        let held = ModelStatus {
            name: self.model.name.clone(),
            version: "1".to_owned(),
            digest: self.model.digest,
            preprocessing: Some(self.model.preprocessing),
            sessions: 1,
            busy: 1,
            jobs: self.finished,
            batches: 1,
            ended: Ends::default(),
            taken: Taken::default(),
            placement: None,
        };
        let status = WorkerStatus {
            id: "w".to_owned(),
            started_at: UnixMillis(0),
            models: vec![held],
        };
        let status = Member::Worker(status);
        self.fleet.announce(&status).await.unwrap();
    }
}

/// Prints both, and checks the factor.
fn judge(what: &str, load: (usize, usize), advised: Duration, truth: Duration) {
    let (rate, waiting) = load;
    let ratio = advised.as_secs_f64() / truth.as_secs_f64();
    println!(
        "{what}: {waiting} jobs at {rate}/s: advised {advised:.2?}, truth {truth:.2?}, ratio {ratio:.2}"
    );
    assert!((1.0 / FACTOR..=FACTOR).contains(&ratio), "{what}: {ratio}");
}

/// Jobs a second, and jobs that wait.
const LOADS: [(usize, usize); 6] = [
    (10, 20),
    (20, 400),
    (100, 100),
    (200, 4_000),
    (1_000, 2_000),
    (2_000, 20_000),
];

#[tokio::test(start_paused = true)]
async fn submitted_work_is_waited_for_as_long_as_it_was_said() {
    let tasks = tokio_util::task::TaskTracker::new();
    for (rate, waiting) in LOADS {
        // Workers finish in batches: once in a quarter of a second here, and once in a second and a half.
        for step in [Duration::from_millis(250), Duration::from_millis(1_500)] {
            let per_step = rate * usize::try_from(step.as_millis()).unwrap() / 1_000;
            let mut scene = Scene::new(1, &tasks);
            scene.submit(waiting).await;
            let mut advised = None;
            let began = Instant::now();
            let (eta, advice, at, last) = loop {
                sleep(step).await;
                scene.finish(per_step).await;
                scene.submit(waiting - scene.line.len()).await;
                if began.elapsed() < WARM_UP {
                    continue;
                }
                if advised.is_none() {
                    let name = &scene.model.name;
                    let known = scene.queues.waiting(name, Priority::Batch, 0);
                    let eta = scene.queues.eta(name, waiting as u64);
                    let advice = scene.queues.retry_after(name, Priority::Batch, known);
                    advised = Some((eta, advice, Instant::now(), scene.line[waiting - 1]));
                }
                if let Some(advised) = advised
                    && !scene.line.contains(&advised.3)
                {
                    break advised;
                }
            };
            // Work that is done within a step cannot be distinguished from the step.
            let truth = at.elapsed();
            if truth > step {
                judge("eta", (rate, waiting), eta, truth);
                judge("Retry-After, batch queue", (rate, waiting), advice, truth);
            }
            assert!(eta > Duration::ZERO && last != JobId::new());
            drop(scene.stop);
        }
    }
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn work_that_is_waited_for_takes_as_long_as_it_was_said() {
    let tasks = tokio_util::task::TaskTracker::new();
    for (rate, waiting) in LOADS {
        let mut scene = Scene::new(waiting, &tasks);
        let places: Vec<_> = (0..waiting)
            .map(|_| scene.admission.admit().unwrap())
            .collect();
        for n in 0..waiting {
            let job = selvage_core::job::Job {
                id: JobId::new(),
                model: scene.model.name.clone(),
                key: scene.key(),
                created_at: UnixMillis(n as u64),
                deadline: UnixMillis(u64::MAX),
                cache: CachePolicy::default(),
                earlier_attempts: 0,
                reply_to: None,
                request_id: None,
                traceparent: None,
                submission: None,
                image: bytes::Bytes::new(),
            };
            scene.queue.publish(job).await.unwrap();
        }
        // For each job that ends another one comes, so that as many wait at any time.
        let began = Instant::now();
        while began.elapsed() < WARM_UP {
            sleep(Duration::from_secs(2)).await;
            scene.finished += 2 * rate as u64;
            scene.admission.pace.count(2 * rate as u64);
            scene.announce().await;
        }
        sleep(Duration::from_millis(1_900)).await;
        let truth = Duration::from_secs_f64(waiting as f64 / rate as f64);
        let name = &scene.model.name;
        let known = scene.queues.waiting(name, Priority::Interactive, 0);
        assert_eq!(known, waiting as u64);
        let advice = scene.queues.retry_after(name, Priority::Interactive, known);
        judge(
            "Retry-After, interactive queue",
            (rate, waiting),
            advice,
            truth,
        );
        let full = scene.admission.admit().unwrap_err();
        judge(
            "Retry-After, places",
            (rate, waiting),
            full.retry_after,
            truth,
        );
        drop((places, scene.stop));
    }
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_line_that_was_seldom_used_is_not_taken_for_a_slow_one() {
    let tasks = tokio_util::task::TaskTracker::new();
    let mut scene = Scene::new(1, &tasks);
    // One job in ten seconds, done at once, says little of what could be done.
    for _ in 0..5 {
        scene.submit(1).await;
        sleep(Duration::from_secs(1)).await;
        scene.finish(1).await;
        sleep(Duration::from_secs(9)).await;
    }
    scene.submit(1_000).await;
    for _ in 0..6 {
        sleep(Duration::from_secs(1)).await;
        scene.finish(100).await;
    }
    sleep(Duration::from_millis(100)).await;
    let eta = scene.queues.eta(&scene.model.name, 400);
    judge(
        "eta after idle times",
        (100, 400),
        eta,
        Duration::from_secs(4),
    );
    drop(scene.stop);
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_position_is_shown_of_queued_jobs_with_a_number_once_the_counts_were_read() {
    let tasks = tokio_util::task::TaskTracker::new();
    let mut scene = Scene::new(1, &tasks);
    scene.submit(3).await;
    let found = scene.store.get(&[scene.line[2]]).await.unwrap();
    let last = found.into_iter().flatten().next().unwrap();
    assert_eq!(scene.queues.queue_view(&last), None);
    scene.queues.read().await;
    let view = scene.queues.queue_view(&last).unwrap();
    assert_eq!((view.position, view.eta_ms), (3, 3_000));
    let state = JobState::Running;
    let number = None;
    for other in [
        Record {
            state,
            ..last.clone()
        },
        Record { number, ..last },
    ] {
        assert_eq!(scene.queues.queue_view(&other), None);
    }
    drop(scene.stop);
}
