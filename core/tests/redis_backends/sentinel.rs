//! A primary with a replica behind a sentinel: the link follows a failover, and what was relied on is there afterwards.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::process::{Child, Command};
use std::time::Duration;

use redis::FromRedisValue;
use selvage_core::job_state::JobState;
use selvage_core::program::config::RedisUrl;
use selvage_core::redis::RedisStore;
use selvage_core::store::suite::{answer, completion, seed};
use selvage_core::store::{Claim, End, JobStore, Seed, WorkerStore as _};

use crate::private::{PrivateRedis, answering, free_port};
use crate::proxy::Proxy;
use crate::support::{HOUR, Raw, chain, eventually, fresh_prefix, job_name};

/// The password of the servers, and that of the sentinel.
const SERVERS: &str = "s3cret-of-servers";
const SENTINEL: &str = "s3cret-of-sentinels";
/// How long a sentinel would wait before it acts by itself: longer than any test. On a busy machine a server that is only
/// slow looks lost before long, and a failover that nobody has asked for is another test.
const NEVER_MILLIS: u64 = 600_000;

/// A sentinel of one test; ends with it.
struct Sentinel {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Sentinel {
    /// Starts one that watches that server as `main`, needs nobody's agreement and waits for commands.
    fn watching(primary: &PrivateRedis) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..10 {
            let port = free_port();
            let file = folder.path().join("sentinel.conf");
            let lines = [
                "bind 127.0.0.1".to_owned(),
                format!("port {port}"),
                format!("dir {}", folder.path().display()),
                format!("requirepass {SENTINEL}"),
                format!("sentinel monitor main 127.0.0.1 {} 1", primary.port()),
                format!("sentinel auth-pass main {SERVERS}"),
                format!("sentinel down-after-milliseconds main {NEVER_MILLIS}"),
                format!("sentinel failover-timeout main {NEVER_MILLIS}"),
            ];
            std::fs::write(&file, lines.join("\n")).unwrap();
            let mut command = Command::new("redis-server");
            command.arg(&file).arg("--sentinel");
            if let Some(child) = answering(command, port) {
                return Self {
                    child,
                    port,
                    _folder: folder,
                };
            }
        }
        panic!("no sentinel could be started on a free port")
    }

    fn raw(&self) -> Raw {
        let url = format!("redis://:{SENTINEL}@127.0.0.1:{}", self.port);
        Raw::connect(&url.parse().unwrap())
    }

    /// The address by which the servers are found, by way of a sentinel that is away and this one.
    fn url(&self) -> RedisUrl {
        let (away, here) = (free_port(), self.port);
        let url = format!(
            "redis+sentinel://default:{SERVERS}@127.0.0.1:{away},127.0.0.1:{here}/main/0?sentinel_password={SENTINEL}"
        );
        url.parse().unwrap()
    }

    /// Waits until it knows that many replicas of the primary.
    async fn knows_replicas(&self, count: usize) {
        let mut raw = self.raw();
        eventually("the sentinel knows the replica", || {
            let replicas: Vec<redis::Value> = raw.run("SENTINEL REPLICAS", "main");
            std::future::ready((replicas.len() == count).then_some(()))
        })
        .await;
    }

    /// Has it make a replica the primary, as it does by itself where the primary is lost.
    async fn fails_over(&self) {
        let mut raw = self.raw();
        eventually("the sentinel finds the replica good enough", || {
            let reported = raw.try_run::<()>("SENTINEL FAILOVER", "main");
            std::future::ready(reported.ok())
        })
        .await;
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn raw(redis: &PrivateRedis) -> Raw {
    Raw::connect(&redis.url_as(&format!("default:{SERVERS}@")))
}

/// A server that wants a password and knows that of the others.
fn server() -> PrivateRedis {
    let redis = PrivateRedis::start();
    let settings = ("masterauth", SERVERS, "requirepass", SERVERS);
    redis.raw().run::<()>("CONFIG SET", settings);
    redis
}

/// Makes a server the replica of another one by way of that port, and waits until it keeps up.
async fn follow(replica: &PrivateRedis, primary: &PrivateRedis, port: u16) {
    raw(replica).run::<()>("REPLICAOF", ("127.0.0.1", port));
    keeps_up(primary).await;
}

/// Waits until the replica of a server has acknowledged a change that is made now. To be online is not enough: a replica that
/// has its copy gets changes only after its first acknowledgement.
async fn keeps_up(primary: &PrivateRedis) {
    raw(primary).run::<()>("SET", ("a change", 1));
    replication(primary, "the replica keeps up", |info| {
        let sent = info
            .lines()
            .find_map(|line| line.strip_prefix("master_repl_offset:"));
        sent.is_some_and(|sent| info.contains(&format!("state=online,offset={sent},")))
    })
    .await;
}

/// Waits for what a server says of its replication.
async fn replication(redis: &PrivateRedis, what: &str, is_so: impl Fn(&str) -> bool) {
    let mut raw = raw(redis);
    eventually(what, || {
        let info: String = raw.run("INFO", "replication");
        std::future::ready(is_so(&info).then_some(()))
    })
    .await;
}

fn field<T: FromRedisValue>(raw: &mut Raw, key: &str, field: &str) -> T {
    raw.run("HGET", (key, field))
}

/// Submits that job until it is taken.
async fn submitted(store: &RedisStore, job: &Seed) {
    eventually("the store takes a job", || async {
        store.submit(job).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_lost_primary_is_followed_and_nothing_that_was_submitted_is_missing() {
    let (mut primary, replica) = (server(), server());
    follow(&replica, &primary, primary.port()).await;
    let sentinel = Sentinel::watching(&primary);
    sentinel.knows_replicas(1).await;
    let (url, prefix) = (sentinel.url(), fresh_prefix());
    let store = RedisStore::new(&url, &prefix, HOUR).unwrap();
    let (done, queued) = (seed(), seed());
    for job in [&done, &queued] {
        store.submit(job).await.unwrap();
    }
    let claims = store.claim(std::slice::from_ref(&done)).await.unwrap();
    assert_eq!(claims, [Claim::Run(1)]);
    let end = completion(done.id, End::Succeeded(answer()));
    assert_eq!(store.complete(&[end]).await.unwrap(), [true]);
    primary.kill();
    let error = eventually("the loss shows", || async {
        store.submit(&seed()).await.err()
    })
    .await;
    for text in [chain(&error), format!("{error:?} {store:?} {url}")] {
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("redis+sentinel://"), "{text}");
    }
    sentinel.fails_over().await;
    submitted(&store, &seed()).await;
    let records = store.get(&[done.id, queued.id]).await.unwrap();
    let states: Vec<JobState> = records
        .into_iter()
        .map(|record| record.unwrap().state)
        .collect();
    assert_eq!(states, [JobState::Succeeded, JobState::Queued]);
    let role: String = raw(&replica).run("INFO", "replication");
    assert!(role.contains("role:master"), "{role}");
}

#[tokio::test]
async fn a_server_that_has_become_a_replica_is_left_for_the_primary() {
    let (first, second) = (server(), server());
    follow(&second, &first, first.port()).await;
    let sentinel = Sentinel::watching(&first);
    let prefix = fresh_prefix();
    let store = RedisStore::new(&sentinel.url(), &prefix, HOUR).unwrap();
    let job = seed();
    store.submit(&job).await.unwrap();
    // The roles change and no connection is cut: only the refusal of a change tells.
    let mut watched = sentinel.raw();
    watched.run::<()>("SENTINEL REMOVE", "main");
    raw(&second).run::<()>("REPLICAOF", ("NO", "ONE"));
    follow(&first, &second, second.port()).await;
    watched.run::<()>("SENTINEL MONITOR", ("main", "127.0.0.1", second.port(), 1));
    watched.run::<()>("SENTINEL SET", ("main", "auth-pass", SERVERS));
    let error = store.submit(&seed()).await.unwrap_err();
    assert!(
        chain(&error).to_uppercase().contains("READONLY"),
        "{}",
        chain(&error)
    );
    let next = seed();
    submitted(&store, &next).await;
    let name = job_name(&prefix, &next);
    let state: Option<String> = field(&mut raw(&second), &name, "state");
    assert_eq!(state.as_deref(), Some("queued"));
    assert!(store.get(&[job.id]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn a_change_that_is_relied_on_is_on_a_replica_before_the_call_returns() {
    let (primary, replica) = (server(), server());
    let line = Proxy::late(&primary.url(), Duration::from_millis(10)).await;
    follow(&replica, &primary, line.port()).await;
    let sentinel = Sentinel::watching(&primary);
    let prefix = fresh_prefix();
    let store = RedisStore::new(&sentinel.url(), &prefix, HOUR).unwrap();
    let mut copy = raw(&replica);
    for _ in 0..5 {
        let job = seed();
        store.submit(&job).await.unwrap();
        let name = job_name(&prefix, &job);
        let state: Option<String> = field(&mut copy, &name, "state");
        assert_eq!(state.as_deref(), Some("queued"));
        store.claim(std::slice::from_ref(&job)).await.unwrap();
        let end = completion(job.id, End::Succeeded(answer()));
        assert_eq!(store.complete(&[end]).await.unwrap(), [true]);
        let state: Option<String> = field(&mut copy, &name, "state");
        assert_eq!(state.as_deref(), Some("succeeded"));
    }
}

#[tokio::test]
async fn a_replica_that_was_late_once_because_it_joined_is_waited_for_again() {
    let (primary, replica) = (server(), server());
    let line = Proxy::late(&primary.url(), Duration::from_millis(10)).await;
    let sentinel = Sentinel::watching(&primary);
    let prefix = fresh_prefix();
    let store = RedisStore::new(&sentinel.url(), &prefix, HOUR).unwrap();
    raw(&replica).run::<()>("REPLICAOF", ("127.0.0.1", line.port()));
    // It is stopped before its copy is made: the primary then holds it to be online, and it acknowledges nothing.
    let says = |state: &'static str| move |info: &str| info.contains(state);
    replication(&primary, "a copy is asked for", says("state=wait_bgsave")).await;
    replica.signal("STOP");
    replication(&primary, "the copy is sent", says("state=online")).await;
    store.submit(&seed()).await.unwrap();
    replica.signal("CONT");
    keeps_up(&primary).await;
    let job = seed();
    store.submit(&job).await.unwrap();
    let name = job_name(&prefix, &job);
    let state: Option<String> = field(&mut raw(&replica), &name, "state");
    assert_eq!(state.as_deref(), Some("queued"));
}

#[tokio::test]
async fn a_primary_without_replicas_serves() {
    let primary = server();
    let sentinel = Sentinel::watching(&primary);
    let store = RedisStore::new(&sentinel.url(), &fresh_prefix(), HOUR).unwrap();
    for _ in 0..10 {
        store.submit(&seed()).await.unwrap();
    }
    let stats: String = raw(&primary).run("INFO", "commandstats");
    // The server would not return before its time was over, each time. The probe of the new connection waits for no replica.
    assert!(stats.contains("cmdstat_wait:calls=1,"), "{stats}");
}
