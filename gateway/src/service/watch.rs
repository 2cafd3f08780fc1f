//! Long polls and event streams: one task looks at all records that clients wait for, in one round trip a turn.
//!
//! A client's wait costs the store one look now and then, not a connection, and a lost notification cannot be lost here
//! because there is none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use selvage_core::job::JobId;
use selvage_core::job_state::JobState;
use selvage_core::store::{JobStore, Record};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Most polls that may wait to be taken up; more are answered with what is known now.
const MAX_ARRIVING: usize = 4096;
/// Most records in one look.
const MAX_LOOK: usize = 256;
/// Looks that are due so soon are taken along.
const TOGETHER: Duration = Duration::from_millis(5);
/// The first look comes so soon; later ones wait for a quarter of the poll's age more, at most [`SLOWEST`].
const FIRST: Duration = Duration::from_millis(20);
/// The longest time between two looks at the same record.
const SLOWEST: Duration = Duration::from_secs(1);
/// Longest time a look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// Most jobs whose waiters may wait to be woken; one that is left out is looked at a moment later.
const MAX_NUDGES: usize = 1024;

/// What changes in a record while its job lives: a client that knows it has missed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(JobState, u32);

impl Version {
    /// The version of a record as it was read.
    #[must_use]
    pub const fn of(record: &Record) -> Self {
        Self(record.state, record.attempts)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.as_str(), self.1)
    }
}

/// Where waits are handed in.
#[derive(Clone, Debug)]
pub struct Watch {
    polls: mpsc::Sender<Poll>,
    nudges: mpsc::Sender<JobId>,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug)]
enum WatchTarget {
    /// The job's end.
    End,
    /// Anything but what is known.
    Change(Version),
}

#[derive(Debug)]
struct Poll {
    id: JobId,
    wanted: WatchTarget,
    since: Instant,
    next: Instant,
    found: oneshot::Sender<Record>,
}

impl Poll {
    fn new(id: JobId, wanted: WatchTarget) -> (Self, oneshot::Receiver<Record>) {
        let (found, finding) = oneshot::channel();
        let since = Instant::now();
        let poll = Self {
            id,
            wanted,
            since,
            next: since + FIRST,
            found,
        };
        (poll, finding)
    }

    fn is_answered_by(&self, record: &Record) -> bool {
        match self.wanted {
            WatchTarget::End => record.state.is_terminal(),
            WatchTarget::Change(known) => Version::of(record) != known,
        }
    }

    fn look_again(mut self) -> Self {
        let age = self.since.elapsed();
        self.next = Instant::now() + SLOWEST.min(FIRST + age / 4);
        self
    }
}

impl Watch {
    /// The hand-in, and the task behind it, which runs until `stop` fires.
    pub fn new(
        store: Arc<dyn JobStore>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (polls, arriving) = mpsc::channel(MAX_ARRIVING);
        let (nudges, nudged) = mpsc::channel(MAX_NUDGES);
        (Self { polls, nudges }, run(store, (arriving, nudged), stop))
    }

    /// The job's record once it has ended; `None` where it has not by `until`, or nothing can be waited for now.
    pub async fn ended(&self, id: JobId, until: Instant) -> Option<Record> {
        let (poll, finding) = Poll::new(id, WatchTarget::End);
        self.polls.try_send(poll).ok()?;
        timeout_at(until, finding).await.ok()?.ok()
    }

    /// The job's record as soon as it is another than the one that is known; `None` where it is gone, or this gateway
    /// drains.
    pub async fn changed(&self, id: JobId, known: Version) -> Option<Record> {
        let (poll, finding) = Poll::new(id, WatchTarget::Change(known));
        self.polls.send(poll).await.ok()?;
        finding.await.ok()
    }

    /// Has a record looked at now: this gateway knows that it has changed.
    pub fn nudge(&self, id: JobId) {
        self.nudges.try_send(id).ok();
    }
}

async fn run(
    store: Arc<dyn JobStore>,
    (mut arriving, mut nudged): (mpsc::Receiver<Poll>, mpsc::Receiver<JobId>),
    stop: CancellationToken,
) {
    let mut polls: Vec<Poll> = Vec::new();
    loop {
        let next = polls.iter().map(|poll| poll.next).min();
        tokio::select! {
            () = stop.cancelled() => return,
            arrived = arriving.recv() => match arrived {
                Some(poll) => polls.push(poll),
                None => return,
            },
            Some(id) = nudged.recv() => {
                let now = Instant::now();
                polls.iter_mut().filter(|poll| poll.id == id).for_each(|poll| poll.next = now);
            }
            () = until(next) => {}
        }
        while let Ok(poll) = arriving.try_recv() {
            polls.push(poll);
        }
        polls = look(store.as_ref(), polls).await;
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Looks at what is due and tells those who waited for what is there now; the polls that remain.
async fn look(store: &dyn JobStore, polls: Vec<Poll>) -> Vec<Poll> {
    let due_by = Instant::now() + TOGETHER;
    let wanted = polls.into_iter().filter(|poll| !poll.found.is_closed());
    let (mut due, mut remaining): (Vec<_>, Vec<_>) = wanted.partition(|poll| poll.next <= due_by);
    while !due.is_empty() {
        let turn: Vec<Poll> = due.drain(..due.len().min(MAX_LOOK)).collect();
        let ids: Vec<JobId> = turn.iter().map(|poll| poll.id).collect();
        let Ok(Ok(records)) = timeout(LOOK_LIMIT, store.get(&ids)).await else {
            // While the store is away the waits go on: it may be back before they end.
            remaining.extend(turn.into_iter().map(Poll::look_again));
            continue;
        };
        for (poll, record) in turn.into_iter().zip(records) {
            match (record, poll.wanted) {
                (Some(record), _) if poll.is_answered_by(&record) => {
                    poll.found.send(record).ok();
                }
                // Dropping it tells its waiter that there is nothing more to come.
                (None, WatchTarget::Change(_)) => {}
                (None, WatchTarget::End) | (Some(_), _) => remaining.push(poll.look_again()),
            }
        }
    }
    remaining
}
