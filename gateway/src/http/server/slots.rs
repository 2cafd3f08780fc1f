//! Connection slots: how many connections there may be, in all and of one address, and which one makes room for another.
//!
//! While more than half of all slots are taken, an address gets a share of the free ones only, which shrinks with the number of
//! addresses. When all are taken, a newcomer gets the slot of another connection: the oldest one that is idle or still
//! sends its request, of the address that has the most.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::progress::Progress;
use crate::http::limits::Limits;
use crate::http::peer::Peer;

/// Connections an address may have however many others there are; browsers open six.
const LEAST_SHARE: usize = 8;

/// All slots of a listener.
#[derive(Clone, Debug)]
pub(super) struct ConnectionSlots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    table: Mutex<Table>,
    /// Somebody may find a slot who did not before.
    changed: Arc<Notify>,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// In all.
    pub(super) all: usize,
    /// Of one address.
    pub(super) of_one: usize,
    /// An address's share shrinks under pressure.
    pub(super) shrink: bool,
}

#[derive(Debug, Default)]
struct Table {
    /// Every address's connections, oldest first. It has no entry without a connection, so it is no larger than all slots.
    of: HashMap<Peer, BTreeMap<u64, Arc<Progress>>>,
    taken: usize,
    last: u64,
}

/// A connection's slot, free again when this is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    slots: ConnectionSlots,
    peer: Peer,
    id: u64,
    progress: Arc<Progress>,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self {
            all: limits.max_connections,
            of_one: limits.max_connections_per_address,
            shrink: limits.connection_shares_shrink,
        }
    }
}

impl ConnectionSlots {
    /// All of them free.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Shared {
            bounds,
            table: Mutex::default(),
            changed: Arc::default(),
        }))
    }

    /// Waits until a newcomer can find a slot.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            self.0.changed.notified().await;
        }
    }

    /// Whether a slot is free, or a connection could be closed for a newcomer.
    pub(super) fn has_room(&self) -> bool {
        let table = self.0.table.lock();
        let mut all = table.of.values().flat_map(BTreeMap::values);
        table.taken < self.0.bounds.all || all.any(|connection| connection.is_closable(true))
    }

    /// A slot for a newcomer, if need be at the expense of another connection; `None` where its address has as many as it
    /// may have now.
    pub(super) fn take(&self, peer: Peer) -> Option<ConnectionSlot> {
        let mut table = self.0.table.lock();
        let held = table.of.get(&peer).map_or(0, BTreeMap::len);
        let bound = self.0.bounds.of(peer, &table);
        // Where one address may have all, as a proxy does, its newcomer takes the slot of an idle one below.
        if held >= bound && bound < self.0.bounds.all {
            return None;
        }
        if table.taken >= self.0.bounds.all && !table.make_room(peer, held) {
            return None;
        }
        table.taken += 1;
        table.last += 1;
        let id = table.last;
        let progress = Arc::new(Progress::new(Arc::clone(&self.0.changed)));
        let own = table.of.entry(peer).or_default();
        own.insert(id, Arc::clone(&progress));
        Some(ConnectionSlot {
            slots: self.clone(),
            peer,
            id,
            progress,
        })
    }
}

impl Bounds {
    /// How many connections that address may have now.
    fn of(&self, peer: Peer, table: &Table) -> usize {
        let others = table.of.keys().any(|other| *other != peer);
        if !self.shrink || !others || table.taken <= self.all / 2 {
            return self.of_one;
        }
        let free = self.all.saturating_sub(table.taken);
        let share = free / (table.of.len() + 1);
        share.max(LEAST_SHARE).min(self.of_one)
    }
}

impl Table {
    /// Closes a connection for one of `newcomer`, which has `held`. An address that has no more than the newcomer's loses
    /// none to it. Among its own, only an idle one is closed: an upload is worth more than the next connection.
    fn make_room(&mut self, newcomer: Peer, held: usize) -> bool {
        loop {
            let sending = |peer: Peer| peer != newcomer;
            let candidates = self.of.iter().filter_map(|(peer, connections)| {
                let count = connections.len();
                let is_larger = *peer == newcomer || count > held;
                let mut closable = connections
                    .iter()
                    .filter(|(_, connection)| connection.is_closable(sending(*peer)));
                let (id, _) = is_larger.then(|| closable.next()).flatten()?;
                Some((count, *id, *peer))
            });
            let victim = candidates.max_by_key(|(count, id, _)| (*count, Reverse(*id)));
            let Some((_, id, peer)) = victim else {
                return false;
            };
            // Its request may have come to its end meanwhile.
            let closed = self
                .of
                .get(&peer)
                .and_then(|connections| connections.get(&id))
                .is_some_and(|connection| connection.close(sending(peer)));
            if closed {
                self.remove(peer, id);
                return true;
            }
        }
    }

    fn remove(&mut self, peer: Peer, id: u64) {
        if let Entry::Occupied(mut connections) = self.of.entry(peer) {
            if connections.get_mut().remove(&id).is_some() {
                self.taken -= 1;
            }
            if connections.get().is_empty() {
                connections.remove();
            }
        }
    }
}

impl ConnectionSlot {
    /// What the connection does.
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.0.table.lock().remove(self.peer, self.id);
        self.slots.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn slots(all: usize, of_one: usize, shrink: bool) -> ConnectionSlots {
        ConnectionSlots::new(Bounds {
            all,
            of_one,
            shrink,
        })
    }

    fn peer(last: u8) -> Peer {
        Peer::of([192, 0, 2, last].into())
    }

    /// Takes slots for that address until there is none for it.
    fn take_all(slots: &ConnectionSlots, last: u8) -> Vec<ConnectionSlot> {
        std::iter::from_fn(|| slots.take(peer(last))).collect()
    }

    fn is_closed(slot: &ConnectionSlot) -> bool {
        slot.progress().closed().now_or_never().is_some()
    }

    #[test]
    fn an_address_has_only_its_bound_and_leaves_no_trace() {
        let slots = slots(3, 2, false);
        let mut own = take_all(&slots, 1);
        assert_eq!(own.len(), 2);
        let other = slots.take(peer(2)).unwrap();
        own.pop();
        assert!(slots.take(peer(1)).is_some());
        drop((own, other));
        let table = slots.0.table.lock();
        assert!(table.of.is_empty() && table.taken == 0);
    }

    #[test]
    fn under_pressure_an_address_gets_a_share_of_what_is_free() {
        let slots = slots(100, 75, true);
        let first = take_all(&slots, 1);
        assert_eq!(first.len(), 75, "it was alone");
        // A third of what is free would be less.
        let others: Vec<_> = (2..=3).map(|last| take_all(&slots, last)).collect();
        assert!(others.iter().all(|own| own.len() == LEAST_SHARE));
        assert!(slots.take(peer(4)).is_some(), "a newcomer finds a slot");
        assert!(!first.iter().any(is_closed), "at nobody's expense");
    }

    #[test]
    fn shares_shrink_with_the_number_of_addresses_and_a_bound_that_is_given_does_not() {
        let count = |shrink: bool| {
            let slots = slots(1000, 1000, shrink);
            let both = || (slots.take(peer(1)), slots.take(peer(2)));
            let _half: Vec<_> = (0..250).map(|_| both()).collect();
            let third: Vec<_> = (0..400).map_while(|_| slots.take(peer(3))).collect();
            (third.len(), slots.take(peer(1)).is_some())
        };
        // A quarter of what is free: n = (500 - n) / 4. Those that have more get none meanwhile.
        assert_eq!(count(true), (100, false));
        assert_eq!(count(false), (400, true));
    }

    #[test]
    fn a_newcomer_gets_the_slot_of_the_oldest_that_is_idle_or_sending_of_the_largest_address() {
        let slots = slots(6, 6, false);
        let small = slots.take(peer(9)).unwrap();
        let large: Vec<_> = (0..5).filter_map(|_| slots.take(peer(1))).collect();
        let _answered = large[0].progress().begin(false).unwrap();
        assert!(large[1].progress().came(), "a head has begun");
        let _body = large[2].progress().begin(true).unwrap();
        let mut newcomers = Vec::new();
        for closed in 1..=3 {
            newcomers.push(slots.take(peer(2)).unwrap());
            let which: Vec<_> = large
                .iter()
                .map(|slot| slot.progress().is_closable(true))
                .collect();
            assert_eq!(
                which.iter().filter(|closable| **closable).count(),
                4 - closed
            );
            assert!(is_closed(&large[closed]));
        }
        assert!(slots.take(peer(2)).is_some(), "for one of its own");
        assert!(!is_closed(&small) && !is_closed(&large[0]));
        assert_eq!(slots.0.table.lock().taken, 5, "and that one has gone again");
        let slots = super::tests::slots(1, 1, false);
        let only = slots.take(peer(1)).unwrap();
        assert!(slots.take(peer(1)).is_some(), "one address may have all");
        assert!(is_closed(&only));
    }

    #[test]
    fn an_address_does_not_lose_what_it_sends_to_its_own_newcomer() {
        let slots = slots(2, 2, false);
        let (first, second) = (slots.take(peer(1)).unwrap(), slots.take(peer(2)).unwrap());
        assert!(second.progress().came());
        assert!(slots.take(peer(2)).is_none(), "nor to an equal");
        drop((first, second));
        let own = [slots.take(peer(1)).unwrap(), slots.take(peer(1)).unwrap()];
        assert!(own.iter().all(|slot| slot.progress().came()));
        assert!(slots.take(peer(1)).is_none());
        assert!(slots.take(peer(2)).is_some(), "but to another one's");
    }

    #[test]
    fn who_waits_for_room_wakes_when_an_answer_is_written() {
        let slots = slots(1, 1, false);
        let only = slots.take(peer(1)).unwrap();
        let (answering, _) = only.progress().begin(false).unwrap();
        let mut room = Box::pin(slots.room());
        assert!((&mut room).now_or_never().is_none(), "it is answered");
        assert!(slots.take(peer(2)).is_none());
        drop(answering);
        assert!((&mut room).now_or_never().is_none(), "it is not written");
        only.progress().flushed();
        assert!((&mut room).now_or_never().is_some());
        assert!(slots.take(peer(2)).is_some() && is_closed(&only));
    }
}
