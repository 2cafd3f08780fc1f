//! Counts of other processes, those that have ended included, so that a sum never falls.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A process that was off the list for so long does not come back; only its counts are kept.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// The last known counts of each process.
#[derive(Debug, Default)]
pub struct Counted<T> {
    seen: BTreeMap<String, (Instant, T)>,
    ended: T,
}

impl<T: Clone + Default> Counted<T> {
    /// Takes the counts of the processes that are there now; `add` adds two counts.
    pub fn note(
        &mut self,
        now: Instant,
        listed: impl Iterator<Item = (String, T)>,
        add: fn(&mut T, &T),
    ) {
        self.seen
            .extend(listed.map(|(id, count)| (id, (now, count))));
        let ended = &mut self.ended;
        self.seen.retain(|_, (at, count)| {
            let keep = now.duration_since(*at) < FORGET_AFTER;
            if !keep {
                add(ended, count);
            }
            keep
        });
    }

    /// The counts of all processes that were ever seen.
    pub fn sum(&self, add: fn(&mut T, &T)) -> T {
        let mut sum = self.ended.clone();
        self.seen
            .values()
            .for_each(|(_, count)| add(&mut sum, count));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_never_fall_and_processes_that_ended_are_forgotten() {
        let add: fn(&mut u64, &u64) = |sum, count| *sum += count;
        let (mut counted, start) = (Counted::<u64>::default(), Instant::now());
        let list = |names: &[(&str, u64)]| {
            let owned = names.iter().map(|(id, count)| ((*id).to_owned(), *count));
            owned.collect::<Vec<_>>().into_iter()
        };
        counted.note(start, list(&[("a", 3), ("b", 4)]), add);
        counted.note(start + Duration::from_secs(1), list(&[("a", 5)]), add);
        assert_eq!(counted.sum(add), 9);
        counted.note(start + 2 * FORGET_AFTER, list(&[("c", 1)]), add);
        assert_eq!((counted.sum(add), counted.seen.len()), (10, 1));
    }
}
