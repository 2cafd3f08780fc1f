//! What a free thread does next: pure, no threads, no clock.
//!
//! Nothing waits for a batch to fill. On the CPU, a free thread takes its share of what is ready: all of it while the others compute,
//! a part of it while others are free too, since two half batches on two cores are done sooner than one whole. On another device, some
//! threads only decode and others only run whole batches, so that the device never waits for a decoder.

use std::collections::VecDeque;

use selvage_core::job::Priority;

/// Encoded bytes that one thread takes at once: many small images or one photograph.
const CHUNK_BYTES: usize = 64 * 1024;
/// Of so many choices between two waiting queues one goes to the batch queue.
const BATCH_TURN: u8 = 4;

/// Two queues, one per priority. Interactive jobs go first; while both wait, every fourth choice is the batch priority's.
#[derive(Debug)]
pub struct PriorityQueues<T> {
    interactive: VecDeque<T>,
    batch: VecDeque<T>,
    contests: u8,
}

impl<T> Default for PriorityQueues<T> {
    fn default() -> Self {
        Self {
            interactive: VecDeque::new(),
            batch: VecDeque::new(),
            contests: 0,
        }
    }
}

impl<T> PriorityQueues<T> {
    /// How many wait in both queues.
    #[must_use]
    pub fn len(&self) -> usize {
        self.interactive.len() + self.batch.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds to the end of a queue.
    pub fn push(&mut self, priority: Priority, item: T) {
        self.queue(priority).push_back(item);
    }

    /// The next one, without taking it.
    #[must_use]
    pub fn peek(&self) -> Option<&T> {
        match self.next_priority() {
            Priority::Interactive => self.interactive.front(),
            Priority::Batch => self.batch.front(),
        }
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<T> {
        let priority = self.next_priority();
        if !self.interactive.is_empty() && !self.batch.is_empty() {
            self.contests = (self.contests + 1) % BATCH_TURN;
        }
        self.queue(priority).pop_front()
    }

    /// Takes up to `most`.
    pub fn take(&mut self, most: usize) -> Vec<T> {
        std::iter::from_fn(|| self.pop()).take(most).collect()
    }

    fn queue(&mut self, priority: Priority) -> &mut VecDeque<T> {
        match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Batch => &mut self.batch,
        }
    }

    fn next_priority(&self) -> Priority {
        let turn = self.contests == BATCH_TURN - 1;
        match (self.interactive.is_empty(), self.batch.is_empty()) {
            (false, false) if turn => Priority::Batch,
            (true, false) => Priority::Batch,
            _ => Priority::Interactive,
        }
    }
}

/// What the choice needs to know of a job that is not decoded yet.
pub trait Raw {
    /// It may share neither a batch nor a thread's hands with another.
    fn is_alone(&self) -> bool;
    /// Size of the encoded image.
    fn bytes(&self) -> usize;
}

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Decodes and runs the model in turn.
    Both,
    /// Only decodes.
    Decode,
    /// Only runs the model.
    Infer,
}

/// What a free thread does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<R, D> {
    /// Runs the model on these.
    Infer(Vec<D>),
    /// Decodes these.
    Decode(Vec<R>),
    /// Decodes this one and runs the model on it alone.
    Alone(R),
}

/// Chooses for one of `free` threads that may decode and have nothing to do, itself included, or for one that only runs the model.
/// `None`: there is nothing for it.
///
/// A thread for both runs a full batch before it decodes more, a part of one only when there is nothing left to decode.
pub fn choose<R: Raw, D>(
    raw: &mut PriorityQueues<R>,
    decoded: &mut PriorityQueues<D>,
    max_batch: usize,
    free: usize,
    role: Role,
) -> Option<Step<R, D>> {
    let share = |waiting: usize| waiting.div_ceil(free.max(1)).min(max_batch);
    let is_alone = raw.peek().is_some_and(Raw::is_alone);
    match role {
        Role::Infer if is_alone => return raw.pop().map(Step::Alone),
        Role::Infer if decoded.is_empty() => return None,
        Role::Infer => return Some(Step::Infer(decoded.take(max_batch))),
        Role::Decode if is_alone => return None,
        Role::Both if decoded.len() >= max_batch || (raw.is_empty() && !decoded.is_empty()) => {
            let most = share(decoded.len());
            return Some(Step::Infer(decoded.take(most)));
        }
        Role::Decode | Role::Both => {}
    }
    let most = share(raw.len());
    let first = raw.pop()?;
    if first.is_alone() {
        return Some(Step::Alone(first));
    }
    let mut bytes = first.bytes();
    let mut chunk = vec![first];
    while chunk.len() < most {
        let fits = |next: &&R| !next.is_alone() && bytes + next.bytes() <= CHUNK_BYTES;
        if raw.peek().filter(fits).is_none() {
            break;
        }
        let Some(next) = raw.pop() else { break };
        bytes += next.bytes();
        chunk.push(next);
    }
    Some(Step::Decode(chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Image {
        id: usize,
        bytes: usize,
        alone: bool,
    }

    impl Raw for Image {
        fn is_alone(&self) -> bool {
            self.alone
        }

        fn bytes(&self) -> usize {
            self.bytes
        }
    }

    fn small(id: usize) -> Image {
        Image {
            id,
            bytes: 500,
            alone: false,
        }
    }

    fn queues<T>(
        interactive: impl IntoIterator<Item = T>,
        batch: impl IntoIterator<Item = T>,
    ) -> PriorityQueues<T> {
        let mut queues = PriorityQueues::default();
        interactive
            .into_iter()
            .for_each(|item| queues.push(Priority::Interactive, item));
        batch
            .into_iter()
            .for_each(|item| queues.push(Priority::Batch, item));
        queues
    }

    fn ids(step: Option<Step<Image, u8>>) -> Vec<usize> {
        match step {
            Some(Step::Decode(chunk)) => chunk.iter().map(|image| image.id).collect(),
            other => panic!("not a chunk to decode: {other:?}"),
        }
    }

    #[test]
    fn a_full_batch_is_run_before_more_is_decoded() {
        let mut raw = queues([small(0)], []);
        let mut decoded = queues(0..10, []);
        assert_eq!(
            choose(&mut raw, &mut decoded, 8, 1, Role::Both),
            Some(Step::Infer((0..8).collect()))
        );
        // Two are left: fewer than a batch, and one more can join them.
        assert_eq!(
            ids(choose(&mut raw, &mut queues(8..10, []), 8, 2, Role::Both)),
            [0]
        );
    }

    #[test]
    fn whatever_is_decoded_is_run_when_nothing_is_left_to_decode() {
        let mut raw = queues::<Image>([], []);
        assert_eq!(
            choose(&mut raw, &mut queues([7], []), 8, 1, Role::Both),
            Some(Step::Infer(vec![7]))
        );
        assert_eq!(
            choose(&mut raw, &mut queues::<u8>([], []), 8, 1, Role::Both),
            None
        );
    }

    #[test]
    fn free_threads_share_and_a_lone_one_takes_all() {
        let nothing = || queues::<u8>([], []);
        let mut raw = queues((0..16).map(small), []);
        assert_eq!(
            ids(choose(&mut raw, &mut nothing(), 32, 2, Role::Both)).len(),
            8
        );
        assert_eq!(
            ids(choose(&mut raw, &mut nothing(), 32, 1, Role::Both)).len(),
            8
        );
        let mut raw = queues::<Image>([], []);
        assert_eq!(
            choose(&mut raw, &mut queues(0..5, []), 32, 2, Role::Both),
            Some(Step::Infer(vec![0, 1, 2]))
        );
    }

    #[test]
    fn photographs_go_one_by_one_and_small_images_together() {
        let photo = |id| Image {
            bytes: 300_000,
            ..small(id)
        };
        let mut raw = queues([photo(0), photo(1), small(2), small(3), photo(4)], []);
        let mut decoded = queues::<u8>([], []);
        for expected in [&[0][..], &[1], &[2, 3], &[4]] {
            assert_eq!(
                ids(choose(&mut raw, &mut decoded, 8, 1, Role::Both)),
                expected
            );
        }
    }

    #[test]
    fn a_job_that_is_to_be_alone_is() {
        let alone = |id| Image {
            alone: true,
            ..small(id)
        };
        let mut raw = queues([small(0), alone(1), small(2)], []);
        let mut decoded = queues::<u8>([], []);
        assert_eq!(ids(choose(&mut raw, &mut decoded, 8, 1, Role::Both)), [0]);
        assert_eq!(
            choose(&mut raw, &mut decoded, 8, 1, Role::Both),
            Some(Step::Alone(alone(1)))
        );
        assert_eq!(ids(choose(&mut raw, &mut decoded, 8, 1, Role::Both)), [2]);
    }

    #[test]
    fn neither_queue_starves_the_other() {
        let mut both = queues(0..100, 1_000..1_100);
        let taken = both.take(40);
        let batch = taken.iter().filter(|id| **id >= 1_000).count();
        assert_eq!(batch, 10);
        let mut only_batch = queues([], 1_000..1_100);
        assert_eq!(only_batch.take(40).len(), 40);
        // Within a queue the order stays.
        let interactive: Vec<i32> = taken.into_iter().filter(|id| *id < 1_000).collect();
        assert_eq!(interactive, (0..30).collect::<Vec<_>>());
    }

    #[test]
    fn single_places_are_shared_out_too() {
        let mut both = queues(0..100, 1_000..1_100);
        let batch = (0..20).filter_map(|_| both.pop()).filter(|id| *id >= 1_000);
        assert_eq!(batch.count(), 5);
    }

    #[test]
    fn what_is_looked_at_is_what_is_taken() {
        let mut both = queues(0..9, 1_000..1_009);
        while let Some(next) = both.peek().copied() {
            assert_eq!(both.pop(), Some(next));
        }
        assert!(both.is_empty());
    }

    #[test]
    fn one_that_only_decodes_leaves_batches_and_lone_jobs_to_the_others() {
        let alone = Image {
            alone: true,
            ..small(1)
        };
        let mut raw = queues([small(0), alone, small(2)], []);
        let mut decoded = queues(0..3, []);
        let mut next =
            |raw: &mut PriorityQueues<Image>, role| choose(raw, &mut decoded, 8, 1, role);
        assert_eq!(ids(next(&mut raw, Role::Decode)), [0]);
        assert_eq!(next(&mut raw, Role::Decode), None);
        assert!(matches!(next(&mut raw, Role::Infer), Some(Step::Alone(_))));
        assert_eq!(
            next(&mut raw, Role::Infer),
            Some(Step::Infer(vec![0, 1, 2]))
        );
        assert_eq!(next(&mut raw, Role::Infer), None);
        assert_eq!(ids(next(&mut raw, Role::Decode)), [2]);
    }

    #[test]
    fn one_that_only_infers_takes_a_whole_batch_while_others_decode() {
        let mut raw = queues((0..4).map(small), []);
        let mut decoded = queues(0..5, []);
        let taken = choose(&mut raw, &mut decoded, 4, 3, Role::Infer);
        assert_eq!(taken, Some(Step::Infer(vec![0, 1, 2, 3])));
        let taken = choose(&mut raw, &mut decoded, 4, 3, Role::Infer);
        assert_eq!(taken, Some(Step::Infer(vec![4])));
    }
}
