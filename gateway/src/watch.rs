//! Long polls: one task looks at all records that clients wait for, in one round trip a turn.
//!
//! A client's poll costs the store one look now and then, not a connection, and a lost notification cannot be lost here
//! because there is none.

use std::sync::Arc;
use std::time::Duration;

use selvage_core::job::JobId;
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

/// Where polls are handed in.
#[derive(Clone, Debug)]
pub struct Watch {
    polls: mpsc::Sender<Poll>,
}

#[derive(Debug)]
struct Poll {
    id: JobId,
    since: Instant,
    next: Instant,
    found: oneshot::Sender<Record>,
}

impl Watch {
    /// The hand-in, and the task behind it, which runs until `stop` fires.
    pub fn new(
        store: Arc<dyn JobStore>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (polls, arriving) = mpsc::channel(MAX_ARRIVING);
        (Self { polls }, run(store, arriving, stop))
    }

    /// The job's record once it has ended; `None` where it has not by `until`, or nothing can be waited for now.
    pub async fn ended(&self, id: JobId, until: Instant) -> Option<Record> {
        let (found, finding) = oneshot::channel();
        let since = Instant::now();
        let next = since + FIRST;
        self.polls
            .try_send(Poll {
                id,
                since,
                next,
                found,
            })
            .ok()?;
        timeout_at(until, finding).await.ok()?.ok()
    }
}

async fn run(
    store: Arc<dyn JobStore>,
    mut arriving: mpsc::Receiver<Poll>,
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

/// Looks at what is due and tells whose job has ended; the polls that remain.
async fn look(store: &dyn JobStore, polls: Vec<Poll>) -> Vec<Poll> {
    let due_by = Instant::now() + TOGETHER;
    let wanted = polls.into_iter().filter(|poll| !poll.found.is_closed());
    let (mut due, mut remaining): (Vec<_>, Vec<_>) = wanted.partition(|poll| poll.next <= due_by);
    while !due.is_empty() {
        let turn: Vec<Poll> = due.drain(..due.len().min(MAX_LOOK)).collect();
        let ids: Vec<JobId> = turn.iter().map(|poll| poll.id).collect();
        let looked = timeout(LOOK_LIMIT, store.get(&ids)).await;
        // While the store is away the polls go on waiting: it may be back before they end.
        let records = match looked {
            Ok(Ok(records)) => records,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let mut records = records.into_iter();
        for mut poll in turn {
            match records.next().flatten() {
                Some(record) if record.state.is_terminal() => {
                    poll.found.send(record).ok();
                }
                _ => {
                    let age = poll.since.elapsed();
                    poll.next = Instant::now() + SLOWEST.min(FIRST + age / 4);
                    remaining.push(poll);
                }
            }
        }
    }
    remaining
}
