//! One run: connections on threads of their own, a warm-up, the measurement, and the responses still to come.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;
use tokio::task::{JoinSet, LocalSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Response};
use super::cpu::{Sample, Usage, Watched};
use super::pace::Pace;
use super::requests::{Prepared, Requests};
use super::tally::{Rules, Tally};

/// How long responses are waited for after the measurement.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Pause of a connection that broke, so that a dead server is not asked in a busy loop.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// What a run sends.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) server: SocketAddr,
    pub(super) prepared: Arc<[Prepared]>,
    pub(super) rules: Rules,
    pub(super) connections: u32,
    pub(super) threads: u32,
    /// Requests per second; without it, each connection sends as soon as it has a response.
    pub(super) rate: Option<f64>,
    pub(super) warmup: Duration,
    pub(super) length: Duration,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.connections == 1 { "" } else { "s" };
        write!(f, "{} connection{plural}", self.connections)?;
        match self.rate {
            Some(rate) => write!(f, ", {rate} requests/s"),
            None => Ok(()),
        }
    }
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) tally: Tally,
    pub(super) elapsed: Duration,
    pub(super) usage: Usage,
    /// Requests that were due at the end and had no connection.
    pub(super) backlog: usize,
}

/// Signals from the run to its threads.
#[derive(Clone, Debug, Default)]
struct Signals {
    is_measuring: Arc<AtomicBool>,
    over: CancellationToken,
}

/// Runs the load; dropping the future ends its threads.
///
/// # Errors
/// If a watched process ends, or the system has no timer.
pub(super) async fn run(plan: &Plan, watch: &[Watched]) -> Result<Measured> {
    let signals = Signals::default();
    let ended = signals.over.clone().drop_guard();
    let threads: Vec<_> = (0..plan.threads.min(plan.connections))
        .map(|number| {
            let (plan, signals) = (plan.clone(), signals.clone());
            spawn_blocking(move || thread(&plan, number, &signals))
        })
        .collect();
    sleep(plan.warmup).await;
    let (before, began) = (Sample::take(watch)?, Instant::now());
    signals.is_measuring.store(true, Ordering::Relaxed);
    sleep(plan.length).await;
    signals.is_measuring.store(false, Ordering::Relaxed);
    drop(ended);
    let (elapsed, after) = (began.elapsed(), Sample::take(watch)?);
    let (mut tally, mut backlog) = (Tally::new()?, 0);
    for counted in try_join_all(threads).await? {
        let (of_thread, left) = counted?;
        tally.add(of_thread)?;
        backlog += left;
    }
    Ok(Measured {
        tally,
        elapsed,
        usage: after.since(&before),
        backlog,
    })
}

/// Runs one thread's share of the connections; returns its counts and its backlog.
fn thread(plan: &Plan, number: u32, signals: &Signals) -> Result<(Tally, usize)> {
    let threads = plan.threads.min(plan.connections);
    let connections = plan.connections / threads + u32::from(number < plan.connections % threads);
    let share = f64::from(connections) / f64::from(plan.connections);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let from = f64::from(number) / f64::from(threads);
        let shared = Rc::new(Shared {
            server: plan.server,
            rules: plan.rules,
            pace: Pace::start(plan.rate.map(|rate| rate * share))?,
            requests: RefCell::new(Requests::from_share(Arc::clone(&plan.prepared), from)),
            tally: RefCell::new(Tally::new()?),
            signals: signals.clone(),
        });
        let mut drivers = JoinSet::new();
        for _ in 0..connections {
            drivers.spawn_local(drive(Rc::clone(&shared)));
        }
        signals.over.cancelled().await;
        let backlog = shared.pace.backlog();
        let all = async { while drivers.join_next().await.is_some() {} };
        let _too_late = timeout(DRAIN_LIMIT, all).await;
        let mut tally = shared.tally.replace(Tally::new()?);
        tally.unanswered(drivers.len());
        Ok((tally, backlog))
    })
}

/// What the connections of a thread share.
#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    rules: Rules,
    pace: Pace,
    requests: RefCell<Requests>,
    tally: RefCell<Tally>,
    signals: Signals,
}

/// Sends one request after the other until the run is over. Requests that start within the measurement count.
async fn drive(shared: Rc<Shared>) {
    let (mut connection, mut request) = (None, Vec::new());
    while let Some(start) = shared.pace.turn(&shared.signals.over).await {
        let is_counted = shared.signals.is_measuring.load(Ordering::Relaxed);
        let number = shared.requests.borrow_mut().write_next(&mut request);
        let outcome = exchange(&mut connection, shared.server, &request).await;
        if is_counted {
            let requests = shared.requests.borrow();
            let mut tally = shared.tally.borrow_mut();
            tally.count(
                shared.rules,
                &outcome,
                requests.label(number),
                start.elapsed(),
            );
        }
        if outcome.is_err() {
            sleep(RECONNECT_PAUSE).await;
        }
    }
}

/// Sends a request over the connection, or over a new one; keeps it only if it can be used again.
async fn exchange(
    kept: &mut Option<Connection>,
    server: SocketAddr,
    request: &[u8],
) -> Result<Response> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(server).await?,
    };
    let response = connection.exchange(request).await?;
    *kept = (!response.is_last).then_some(connection);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::arguments::{Arguments, Command};
    use crate::bench::requests::prepare;

    const RIGHT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n\"label\":\"\"";

    /// A server that takes this long for each response and ends with the set, and the plan of a run against it.
    async fn plan(delay: Duration) -> (JoinSet<()>, Plan) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                        sleep(delay).await;
                        stream.write_all(RIGHT).await.unwrap();
                    }
                });
            }
        });
        let image = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../models/fashion-mnist/samples/0-t-shirt-top.png"
        );
        let line = ["selvage", "bench", &server.to_string(), image];
        let Command::Bench(asked) = Arguments::parse_from(line).command else {
            panic!("another command");
        };
        let plan = Plan {
            server,
            prepared: prepare(&asked).await.unwrap(),
            rules: Rules {
                is_unique: false,
                is_submit: false,
            },
            connections: 1,
            threads: 1,
            rate: None,
            warmup: Duration::ZERO,
            length: Duration::from_millis(500),
        };
        (serving, plan)
    }

    #[tokio::test]
    async fn connections_are_spread_over_threads_and_their_counts_added_up() {
        let (_serving, plan) = plan(Duration::from_millis(10)).await;
        let plan = Plan {
            connections: 5,
            threads: 2,
            ..plan
        };
        let measured = run(&plan, &[]).await.unwrap();
        assert!(
            measured.tally.errors.is_empty(),
            "{:?}",
            measured.tally.errors
        );
        // Each connection has sent at least its first request.
        assert!(measured.tally.latencies.len() >= 5);
        assert!(measured.tally.latencies.min() >= 10_000);
    }

    /// A connection gets a response every 50 ms, and every 10 ms a request is due: the wait for the connection counts.
    #[tokio::test]
    async fn at_a_rate_the_wait_for_a_connection_is_part_of_the_latency() {
        let (_serving, plan) = plan(Duration::from_millis(50)).await;
        let plan = Plan {
            rate: Some(100.0),
            ..plan
        };
        let measured = run(&plan, &[]).await.unwrap();
        assert!(measured.tally.latencies.max() > 200_000);
        assert!(measured.backlog > 0);
    }

    #[tokio::test]
    async fn a_server_that_has_gone_is_counted_as_errors() {
        let (_serving, mut plan) = plan(Duration::ZERO).await;
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        plan.server = gone.local_addr().unwrap();
        drop(gone);
        let tally = run(&plan, &[]).await.unwrap().tally;
        assert!(tally.errors["connection"].count > 0 && tally.latencies.is_empty());
        assert!(tally.errors["connection"].example.contains("refused"));
    }
}
