//! Where jobs wait for a free publisher. While a message is unconfirmed the next jobs gather here, so messages grow with
//! the load and nothing ever waits for a timer. Knows no AMQP.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::job::{Job, ModelName, Priority};
use crate::queue::PublishError;

/// A job's size besides its image, generously.
const JOB_OVERHEAD: usize = 512;

/// How many jobs one message may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Jobs in one message.
    pub jobs: usize,
    /// Bytes in one message of several jobs; a larger job travels alone.
    pub bytes: usize,
}

/// How much may wait for publishers or for the broker's confirm in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishBufferLimits {
    /// Jobs.
    pub jobs: usize,
    /// Bytes of their images; one job is always taken.
    pub bytes: usize,
}

/// A job and the caller that waits for its confirm.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) job: Job,
    pub(super) verdict: oneshot::Sender<Result<(), PublishError>>,
    /// When the caller gets an error because nobody took it.
    pub(super) give_up: Instant,
}

impl Pending {
    fn bytes(&self) -> usize {
        self.job.image.len() + JOB_OVERHEAD
    }

    /// Whether it may share a message: never a job that may have taken a worker down.
    fn travels_alone(&self) -> bool {
        self.job.earlier_attempts > 0
    }
}

/// Jobs of one queue that travel together. Their room is given free when it is dropped.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) model: ModelName,
    pub(super) priority: Priority,
    pub(super) pending: Vec<Pending>,
    bytes: usize,
    jobs: usize,
    buffer: Arc<PublishBuffer>,
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut state = self.buffer.state.lock();
        state.jobs -= self.jobs;
        state.bytes -= self.bytes;
    }
}

type QueueKey = (ModelName, Priority);

#[derive(Debug, Default)]
struct BufferState {
    queues: HashMap<QueueKey, VecDeque<Pending>>,
    /// The queues in which jobs wait; each gets a message in turn.
    turn: VecDeque<QueueKey>,
    /// Jobs waiting or on their way.
    jobs: usize,
    bytes: usize,
    closed: bool,
}

/// The bounded buffer from callers to publishers.
#[derive(Debug)]
pub(super) struct PublishBuffer {
    state: Mutex<BufferState>,
    arrived: Notify,
    limits: PublishBufferLimits,
    grouping: Grouping,
}

impl PublishBuffer {
    pub(super) fn new(limits: PublishBufferLimits, grouping: Grouping) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Notify::new(),
            limits,
            grouping,
        }
    }

    /// Takes a job, or says at once that there is no room for it.
    pub(super) fn push(&self, pending: Pending) -> Result<(), PublishError> {
        let bytes = pending.bytes();
        let mut state = self.state.lock();
        if state.closed {
            return Err(PublishError::Unavailable("the queue is closed".into()));
        }
        let room =
            state.jobs < self.limits.jobs && state.bytes.saturating_add(bytes) <= self.limits.bytes;
        if state.jobs > 0 && !room {
            return Err(PublishError::Full);
        }
        state.jobs += 1;
        state.bytes += bytes;
        let name = (pending.job.model.clone(), pending.job.priority());
        let waiting = state.queues.entry(name.clone()).or_default();
        waiting.push_back(pending);
        if waiting.len() == 1 {
            state.turn.push_back(name);
        }
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next message's jobs; `None` once it is closed and empty.
    pub(super) async fn next(self: &Arc<Self>) -> Option<Group> {
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            if let Some(group) = self.take() {
                return Some(group);
            }
            if self.state.lock().closed {
                return None;
            }
            arrived.await;
            // Callers that are about to run, such as all those that one reply has woken, add theirs first. It costs a
            // microsecond, and doubles the size of messages where several publishers are free.
            yield_now().await;
        }
    }

    fn take(self: &Arc<Self>) -> Option<Group> {
        let mut state = self.state.lock();
        let name = state.turn.pop_front()?;
        let waiting = state.queues.get_mut(&name)?;
        let pending = take_from(waiting, self.grouping);
        if !waiting.is_empty() {
            state.turn.push_back(name.clone());
        }
        let more = !state.turn.is_empty();
        drop(state);
        if more {
            self.arrived.notify_one();
        }
        Some(Group {
            model: name.0,
            priority: name.1,
            jobs: pending.len(),
            bytes: pending.iter().map(Pending::bytes).sum(),
            pending,
            buffer: Arc::clone(self),
        })
    }

    /// Refuses new jobs; those that wait are still published.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_waiters();
    }
}

fn take_from(waiting: &mut VecDeque<Pending>, grouping: Grouping) -> Vec<Pending> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    while let Some(next) = waiting.front() {
        let alone = next.travels_alone();
        let fits = taken.len() < grouping.jobs && bytes + next.bytes() <= grouping.bytes;
        if !taken.is_empty() && (alone || !fits) {
            break;
        }
        bytes += next.bytes();
        taken.extend(waiting.pop_front());
        if alone {
            break;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::queue::suite::{alone, job, submitted};

    type Answer = oneshot::Receiver<Result<(), PublishError>>;

    fn buffer(limit: usize, group: usize) -> Arc<PublishBuffer> {
        let limits = PublishBufferLimits {
            jobs: limit,
            bytes: 1 << 20,
        };
        let grouping = Grouping {
            jobs: group,
            bytes: 8192,
        };
        Arc::new(PublishBuffer::new(limits, grouping))
    }

    fn fresh(n: u32) -> Job {
        job(&"first".parse().unwrap(), n)
    }

    fn push(buffer: &PublishBuffer, job: Job) -> Result<Answer, PublishError> {
        let (verdict, answer) = oneshot::channel();
        let give_up = Instant::now() + Duration::from_secs(60);
        buffer
            .push(Pending {
                job,
                verdict,
                give_up,
            })
            .map(|()| answer)
    }

    /// The groups that wait, as their jobs' numbers.
    fn groups(buffer: &Arc<PublishBuffer>) -> Vec<Vec<String>> {
        let mut groups = Vec::new();
        while let Some(group) = buffer.take() {
            let number = |pending: &Pending| pending.job.request_id.as_deref().unwrap().to_owned();
            groups.push(group.pending.iter().map(number).collect());
        }
        groups
    }

    #[tokio::test]
    async fn what_gathered_goes_together_up_to_the_bound() {
        let buffer = buffer(100, 4);
        for n in 0..6 {
            push(&buffer, fresh(n)).unwrap();
        }
        assert_eq!(groups(&buffer), [vec!["0", "1", "2", "3"], vec!["4", "5"]]);
    }

    #[tokio::test]
    async fn large_and_restarted_jobs_travel_alone() {
        let buffer = buffer(100, 4);
        let large = Job {
            image: vec![0; 9000].into(),
            ..fresh(1)
        };
        for job in [fresh(0), large, fresh(2), alone(fresh(3)), fresh(4)] {
            push(&buffer, job).unwrap();
        }
        assert_eq!(
            groups(&buffer),
            [vec!["0"], vec!["1"], vec!["2"], vec!["3"], vec!["4"]]
        );
    }

    #[tokio::test]
    async fn lanes_take_turns() {
        let buffer = buffer(100, 2);
        for n in 0..4 {
            push(&buffer, submitted(fresh(n))).unwrap();
        }
        push(&buffer, fresh(9)).unwrap();
        assert_eq!(groups(&buffer), [vec!["0", "1"], vec!["9"], vec!["2", "3"]]);
    }

    #[tokio::test]
    async fn room_is_free_again_only_when_a_group_is_done() {
        let buffer = buffer(2, 4);
        push(&buffer, fresh(0)).unwrap();
        push(&buffer, fresh(1)).unwrap();
        assert!(matches!(push(&buffer, fresh(2)), Err(PublishError::Full)));
        let group = buffer.next().await.unwrap();
        assert!(push(&buffer, fresh(2)).is_err(), "still on its way");
        drop(group);
        push(&buffer, fresh(2)).unwrap();
    }

    #[tokio::test]
    async fn bytes_are_bounded_but_one_job_is_always_taken() {
        let buffer = buffer(100, 4);
        let huge = Job {
            image: vec![0; 2 << 20].into(),
            ..fresh(0)
        };
        push(&buffer, huge).unwrap();
        assert!(matches!(push(&buffer, fresh(1)), Err(PublishError::Full)));
    }

    #[tokio::test]
    async fn a_closed_buffer_gives_out_the_rest_and_ends() {
        let buffer = buffer(100, 4);
        push(&buffer, fresh(0)).unwrap();
        buffer.close();
        assert!(matches!(
            push(&buffer, fresh(1)),
            Err(PublishError::Unavailable(_))
        ));
        assert!(buffer.next().await.is_some());
        assert!(buffer.next().await.is_none());
    }
}
