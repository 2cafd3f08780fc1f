//! Dead letters in this process's memory. They end with the process.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Bounds, DeadLetter, DeadLetterStore, Page};
use crate::clock::UnixMillis;
use crate::job::JobId;
use crate::store::StoreError;

/// Dead letters in a map, for one process and its tests.
#[derive(Debug)]
pub struct MemoryDeadLetters {
    dead_letters: Mutex<DeadLetters>,
    bounds: Bounds,
}

/// In the order of lists. Few are looked up by id, so a search is good enough for that.
type DeadLetters = BTreeMap<(UnixMillis, JobId), DeadLetter>;

impl MemoryDeadLetters {
    /// An empty store.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let dead_letters = Mutex::default();
        Self {
            dead_letters,
            bounds,
        }
    }
}

fn find(dead_letters: &DeadLetters, id: JobId) -> Option<&DeadLetter> {
    dead_letters
        .values()
        .find(|dead_letter| dead_letter.id == id)
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[async_trait]
impl DeadLetterStore for MemoryDeadLetters {
    async fn add(&self, dead_letter: &DeadLetter) -> Result<(), StoreError> {
        let mut dead_letters = self.dead_letters.lock();
        if find(&dead_letters, dead_letter.id).is_some() {
            return Ok(());
        }
        dead_letters.insert((dead_letter.died_at, dead_letter.id), dead_letter.clone());
        let mut bytes: u64 = dead_letters
            .values()
            .map(|dead_letter| number(dead_letter.size()))
            .sum();
        while number(dead_letters.len()) > self.bounds.dead_letters
            || (bytes > self.bounds.bytes && dead_letters.len() > 1)
        {
            let Some((_, oldest)) = dead_letters.pop_first() else {
                break;
            };
            bytes -= number(oldest.size());
        }
        Ok(())
    }

    async fn list(&self, offset: u64, limit: u64) -> Result<Page, StoreError> {
        let dead_letters = self.dead_letters.lock();
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let page = dead_letters.values().skip(size(offset)).take(size(limit));
        Ok(Page {
            items: page.map(DeadLetter::summary).collect(),
            total: number(dead_letters.len()),
        })
    }

    async fn get(&self, id: JobId) -> Result<Option<DeadLetter>, StoreError> {
        Ok(find(&self.dead_letters.lock(), id).cloned())
    }

    async fn remove(&self, id: JobId) -> Result<bool, StoreError> {
        let mut dead_letters = self.dead_letters.lock();
        let key = find(&dead_letters, id).map(|dead_letter| (dead_letter.died_at, id));
        Ok(key.is_some_and(|key| dead_letters.remove(&key).is_some()))
    }

    async fn purge(&self) -> Result<u64, StoreError> {
        Ok(number(std::mem::take(&mut *self.dead_letters.lock()).len()))
    }

    async fn count(&self) -> Result<u64, StoreError> {
        Ok(number(self.dead_letters.lock().len()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Arc;

    use super::*;
    use crate::dead_letters::suite::Store;

    fn make(bounds: Bounds) -> std::future::Ready<Store> {
        ready(Arc::new(MemoryDeadLetters::new(bounds)))
    }

    crate::dead_letter_suite!(make);
}
