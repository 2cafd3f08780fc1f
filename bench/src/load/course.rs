//! The course of a run: connect, warm up, measure, wait for what is still under way, follow accepted jobs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{Answer, Connection};
use super::follow::{Accepted, follow};
use super::pace::Pace;
use super::report::Report;
use super::requests::Requests;
use super::tally::Tally;
use super::{Options, seconds};
use crate::cpu::Sample;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measuring,
    Over,
}

/// What the connections share; all of them run on one thread.
#[derive(Debug)]
struct Shared {
    phase: Cell<Phase>,
    /// Requests sent and not answered yet.
    under_way: Cell<u64>,
    pace: Pace,
    requests: RefCell<Requests>,
    tally: RefCell<Tally>,
    accepted: RefCell<Accepted>,
}

/// Carries a run out.
///
/// # Errors
/// When nobody listens, or a watched process ends. Wrong answers are in the report.
pub(super) async fn run(options: &Options) -> Result<Report> {
    let requests = Requests::prepare(options)?;
    let pictures = requests.pictures();
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        connections.push(Connection::open(options.url).await?);
    }
    let shared = Rc::new(Shared {
        phase: Cell::new(Phase::WarmUp),
        under_way: Cell::new(0),
        pace: Pace::start(options.rate)?,
        requests: RefCell::new(requests),
        tally: RefCell::new(Tally::new(
            options.path,
            &options.allow_status,
            options.unique,
        )),
        accepted: RefCell::new(Accepted::keep(options.follow)),
    });
    let mut drivers = JoinSet::new();
    for connection in connections {
        drivers.spawn_local(drive(Rc::clone(&shared), connection, options.url));
    }
    let measured = measure(&shared, options, &mut drivers).await?;
    drivers.abort_all();
    let mut report = {
        let mut tally = shared.tally.borrow_mut();
        tally.problems.unanswered = shared.under_way.get();
        Report::new(options, pictures, &measured, &mut tally)
    };
    let accepted = shared.accepted.take();
    report.add_followed(follow(options, accepted).await?);
    Ok(report)
}

/// The measurement's two ends.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) before: Sample,
    pub(super) after: Sample,
    pub(super) seconds: f64,
    /// Requests that were due at its end without a connection to carry them.
    pub(super) backlog: usize,
}

async fn measure(
    shared: &Shared,
    options: &Options,
    drivers: &mut JoinSet<Result<()>>,
) -> Result<Measured> {
    sleep(seconds(options.warmup)).await;
    let before = Sample::take(&options.watch)?;
    let begin = Instant::now();
    shared.phase.set(Phase::Measuring);
    sleep(seconds(options.seconds)).await;
    shared.phase.set(Phase::Over);
    let measured_seconds = begin.elapsed().as_secs_f64();
    let backlog = shared.pace.backlog();
    let after = Sample::take(&options.watch)?;
    // Connections stop after the answer they wait for. Those without a turn never get one: they are dropped.
    let all_answered = async {
        while shared.under_way.get() > 0 {
            match drivers.join_next().await {
                Some(ended) => ended.context("a connection's task panicked")??,
                None => return Ok(()),
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    // Whatever is still unanswered then is in the report.
    if let Ok(ended) = timeout(seconds(options.patience), all_answered).await {
        ended?;
    }
    Ok(Measured {
        before,
        after,
        seconds: measured_seconds,
        backlog,
    })
}

/// Sends one request after the other until the measurement is over.
async fn drive(
    shared: Rc<Shared>,
    mut connection: Connection,
    server: std::net::SocketAddr,
) -> Result<()> {
    let mut request = Vec::new();
    while shared.phase.get() != Phase::Over {
        let start = shared.pace.turn().await;
        if shared.phase.get() == Phase::Over {
            break;
        }
        let number = shared.requests.borrow_mut().write_next(&mut request);
        shared.under_way.set(shared.under_way.get() + 1);
        let answer = connection.exchange(&request).await;
        shared.under_way.set(shared.under_way.get() - 1);
        let is_usable = match answer {
            Ok(answer) => {
                shared.judge(&answer, number, start);
                !answer.is_last
            }
            Err(error) => {
                shared.tally.borrow_mut().count_broken(&error);
                false
            }
        };
        if !is_usable {
            connection = Connection::open(server).await?;
        }
    }
    Ok(())
}

impl Shared {
    fn judge(&self, answer: &Answer, number: usize, start: Instant) {
        let requests = self.requests.borrow();
        let label = requests.label(number);
        let is_measuring = self.phase.get() == Phase::Measuring;
        let is_right = self
            .tally
            .borrow_mut()
            .count(answer, label, start.elapsed(), is_measuring);
        if is_right && answer.status == 202 {
            self.accepted.borrow_mut().add(&answer.body, label);
        }
    }
}
