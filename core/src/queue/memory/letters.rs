//! Dead letters in memory: bounded in number and in bytes, gone with the process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::lock;
use crate::clock::UnixMillis;
use crate::job::Job;
use crate::queue::dead_letters::{Arrival, Content, Count, DeadLetters, Letter, Reason, Walk};
use crate::queue::{QueueError, Settle};

/// Letters kept; the oldest goes first.
pub(super) const MAX_LETTERS: usize = 1000;
/// Bytes of images kept with them; the oldest goes first, and the newest is always kept.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Longest wait for another walk to end.
const TURN: Duration = Duration::from_secs(5);

/// Where a memory queue sets messages aside.
#[derive(Debug, Default)]
pub(super) struct MemoryLetters {
    shelf: Arc<Mutex<Shelf>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Shelf {
    arrived: VecDeque<Letter>,
    filed: VecDeque<(u64, Letter)>,
    /// Letters filed so far; it numbers them.
    count: u64,
    /// Bytes of all letters.
    bytes: usize,
}

impl Shelf {
    /// Lets the oldest go while there are too many.
    fn make_room(&mut self) {
        while self.arrived.len() + self.filed.len() > MAX_LETTERS
            || (self.bytes > MAX_BYTES && self.arrived.len() + self.filed.len() > 1)
        {
            let oldest = self.filed.pop_front().map(|(_, letter)| letter);
            let Some(oldest) = oldest.or_else(|| self.arrived.pop_front()) else {
                return;
            };
            self.bytes -= oldest.size();
        }
    }
}

impl MemoryLetters {
    /// Takes a job that was set aside.
    pub(super) fn arrive(&self, queue: &str, job: Job, reason: Reason, handed_out: u32) {
        let letter = Letter {
            id: job.id,
            reason,
            attempts: job.earlier_attempts.saturating_add(handed_out),
            queue: queue.to_owned(),
            died_at: UnixMillis::wall(),
            content: Content::Job(Box::new(job)),
        };
        let mut shelf = lock(&self.shelf);
        shelf.bytes += letter.size();
        shelf.arrived.push_back(letter);
        shelf.make_room();
    }
}

#[async_trait]
impl DeadLetters for MemoryLetters {
    async fn next(&self) -> Result<Option<Arrival>, QueueError> {
        let mut shelf = lock(&self.shelf);
        let Some(letter) = shelf.arrived.pop_front() else {
            return Ok(None);
        };
        shelf.bytes -= letter.size();
        Ok(Some(Arrival {
            letters: vec![letter.clone()],
            settle: Box::new(InHand {
                letter: Some(letter),
                shelf: Arc::clone(&self.shelf),
            }),
        }))
    }

    async fn file(&self, letter: &Letter) -> Result<(), QueueError> {
        let mut shelf = lock(&self.shelf);
        shelf.count += 1;
        shelf.bytes += letter.size();
        let number = shelf.count;
        shelf.filed.push_back((number, letter.clone()));
        shelf.make_room();
        Ok(())
    }

    async fn walk(&self) -> Result<Box<dyn Walk>, QueueError> {
        let turn = timeout(TURN, Arc::clone(&self.turn).lock_owned()).await;
        let busy = |_| QueueError::Unavailable("somebody else reads the dead letters".into());
        let turn = turn.map_err(busy)?;
        let total = lock(&self.shelf).filed.len();
        Ok(Box::new(MemoryWalk {
            shelf: Arc::clone(&self.shelf),
            total: u64::try_from(total).unwrap_or(u64::MAX),
            at: 0,
            _turn: turn,
        }))
    }

    async fn count(&self) -> Result<Count, QueueError> {
        let shelf = lock(&self.shelf);
        let number = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        Ok(Count {
            arrived: number(shelf.arrived.len()),
            filed: number(shelf.filed.len()),
        })
    }
}

/// An arrival in somebody's hands; dropped, it comes back.
#[derive(Debug)]
struct InHand {
    letter: Option<Letter>,
    shelf: Arc<Mutex<Shelf>>,
}

impl Drop for InHand {
    fn drop(&mut self) {
        if let Some(letter) = self.letter.take() {
            let mut shelf = lock(&self.shelf);
            shelf.bytes += letter.size();
            shelf.arrived.push_front(letter);
            shelf.make_room();
        }
    }
}

#[async_trait]
impl Settle for InHand {
    async fn ack(mut self: Box<Self>) {
        self.letter = None;
    }

    async fn give_back(self: Box<Self>) {}

    async fn dead_letter(self: Box<Self>) {}
}

struct MemoryWalk {
    shelf: Arc<Mutex<Shelf>>,
    total: u64,
    /// Number of the letter that was given last.
    at: u64,
    _turn: OwnedMutexGuard<()>,
}

#[async_trait]
impl Walk for MemoryWalk {
    fn total(&self) -> u64 {
        self.total
    }

    async fn next(&mut self) -> Result<Option<Letter>, QueueError> {
        let shelf = lock(&self.shelf);
        let place = shelf
            .filed
            .partition_point(|(number, _)| *number <= self.at);
        let Some((number, letter)) = shelf.filed.get(place) else {
            return Ok(None);
        };
        self.at = *number;
        Ok(Some(letter.clone()))
    }

    async fn remove(&mut self) -> Result<(), QueueError> {
        let mut shelf = lock(&self.shelf);
        let place = shelf
            .filed
            .binary_search_by_key(&self.at, |(number, _)| *number);
        if let Ok(place) = place
            && let Some((_, letter)) = shelf.filed.remove(place)
        {
            shelf.bytes -= letter.size();
        }
        Ok(())
    }

    async fn purge(&mut self) -> Result<u64, QueueError> {
        let mut shelf = lock(&self.shelf);
        let place = shelf
            .filed
            .partition_point(|(number, _)| *number <= self.at);
        let purged = shelf.filed.split_off(place);
        shelf.bytes -= purged
            .iter()
            .map(|(_, letter)| letter.size())
            .sum::<usize>();
        Ok(u64::try_from(purged.len()).unwrap_or(u64::MAX))
    }

    async fn end(self: Box<Self>) {}
}
