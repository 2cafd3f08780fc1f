//! How many connections there may be: in all, and of one client, so that no client alone takes the places of all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::peer::Peer;

/// All places of a server.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Taken>,
}

/// How many connections each client has. It has no entry without a connection, so it is no larger than all places.
#[derive(Debug)]
struct Taken {
    of: Mutex<HashMap<Peer, usize>>,
    most: usize,
}

/// A place that nobody has yet.
#[derive(Debug)]
pub(super) struct Free(OwnedSemaphorePermit);

/// A connection's place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    taken: Arc<Taken>,
    peer: Peer,
}

impl Places {
    /// So many in all, and at most so many of them for one client.
    pub(super) fn new(all: usize, most: usize) -> Self {
        let taken = Taken {
            of: Mutex::default(),
            most,
        };
        Self {
            free: Arc::new(Semaphore::new(all)),
            taken: Arc::new(taken),
        }
    }

    /// A place, as soon as there is one.
    pub(super) async fn free(&self) -> Result<Free, AcquireError> {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        permit.map(Free)
    }

    /// A place, if there is one now.
    pub(super) fn free_now(&self) -> Result<Free, TryAcquireError> {
        let permit = Arc::clone(&self.free).try_acquire_owned();
        permit.map(Free)
    }

    /// Gives the place to a client; `None` where it has as many as one may have.
    pub(super) fn take(&self, free: Free, peer: Peer) -> Option<Place> {
        let mut taken = self.taken.lock();
        let count = taken.entry(peer).or_default();
        if *count >= self.taken.most {
            return None;
        }
        *count += 1;
        Some(Place {
            _permit: free.0,
            taken: Arc::clone(&self.taken),
            peer,
        })
    }
}

impl Taken {
    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, usize>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.taken.lock().entry(self.peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_only_its_share_and_leaves_no_trace() {
        let places = Places::new(3, 2);
        let take = |last: u8| {
            let peer = Peer::of([192, 0, 2, last].into());
            places.take(places.free_now().ok()?, peer)
        };
        let (first, second) = (take(1), take(1));
        assert!(first.is_some() && second.is_some());
        assert!(take(1).is_none(), "its share is used up");
        let other = take(2);
        assert!(other.is_some() && take(3).is_none(), "all places are taken");
        drop(first);
        assert!(take(1).is_some());
        drop((second, other));
        assert!(places.taken.lock().is_empty());
    }
}
