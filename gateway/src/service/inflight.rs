//! Jobs that somebody waits for at this gateway: who waits for which, and who shares one computation.
//!
//! Only bookkeeping under one lock that is never held across an await; publishing and waiting happen elsewhere.

use std::collections::HashMap;

use parking_lot::Mutex;
use selvage_core::job::JobId;
use selvage_core::key::PredictionKey;
use selvage_core::outcome::Report;
use selvage_core::queue::PublishError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::service::admission::{Full, Permit};

/// What became of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// A worker has finished it.
    Report(Report),
    /// It was not queued.
    Refused(Refusal),
    /// Nobody waits for this computation any more: who still wants the answer asks again.
    Expired,
}

/// Why a job was not queued; [`PublishError`] without its source, so that all who share it can get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue is at its bound.
    Full,
    /// It does not fit into a message.
    TooLarge,
    /// The broker does not take messages.
    Unavailable,
}

impl From<&PublishError> for Refusal {
    fn from(error: &PublishError) -> Self {
        match error {
            PublishError::Full => Self::Full,
            PublishError::TooLarge => Self::TooLarge,
            PublishError::Unavailable(_) => Self::Unavailable,
        }
    }
}

/// What one waiter holds.
pub type Waiting = oneshot::Receiver<Verdict>;

/// How a request came in.
#[derive(Debug)]
pub enum Entered {
    /// It computes: its job is to be published now.
    Leads(Waiting),
    /// The same computation is under way, as that job: it waits for that one.
    Follows(JobId, Waiting),
}

/// What a flight is registered with.
#[derive(Clone, Copy, Debug)]
pub struct InFlightEntry {
    /// The job.
    pub id: JobId,
    /// What it computes.
    pub key: PredictionKey,
    /// Others may share it, and it may share others'.
    pub shared: bool,
    /// The answer may be kept in this process.
    pub keep: bool,
    /// When nobody waits for it any more.
    pub until: Instant,
}

#[derive(Debug)]
struct Flight {
    entry: InFlightEntry,
    waiters: Vec<oneshot::Sender<Verdict>>,
    /// Held as long as the job may be on its way, whether its client is still there or not.
    _permit: Permit,
}

/// All flights of this gateway.
#[derive(Debug, Default)]
pub struct Inflight {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    flights: HashMap<JobId, Flight>,
    shared: HashMap<PredictionKey, JobId>,
}

impl Inflight {
    /// Joins the flight of the same key, or opens a new one with a place from `admit`.
    ///
    /// # Errors
    /// [`Full`], from `admit`.
    pub fn enter(
        &self,
        entry: InFlightEntry,
        admit: impl FnOnce() -> Result<Permit, Full>,
    ) -> Result<Entered, Full> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table.lock();
        if entry.shared
            && let Some(flight) = table.shared_flight(&entry.key)
        {
            flight.waiters.push(sender);
            return Ok(Entered::Follows(flight.entry.id, receiver));
        }
        let permit = admit()?;
        if entry.shared {
            table.shared.insert(entry.key, entry.id);
        }
        let flight = Flight {
            entry,
            waiters: vec![sender],
            _permit: permit,
        };
        table.flights.insert(entry.id, flight);
        Ok(Entered::Leads(receiver))
    }

    /// What a flight was registered with, while it lasts.
    pub fn entry(&self, id: JobId) -> Option<InFlightEntry> {
        Some(self.table.lock().flights.get(&id)?.entry)
    }

    /// Ends a flight and notifies all waiters; its entry, or `None` where it had ended before.
    pub fn settle(&self, id: JobId, verdict: &Verdict) -> Option<InFlightEntry> {
        let flight = self.table.lock().remove(id)?;
        Some(flight.tell(verdict))
    }

    /// Says that a waiter has left, with its receiver dropped. The entry where it was the last one: nobody can join that
    /// flight any more. Its place is held until its job is heard of, or its time is over.
    pub fn leave(&self, id: JobId) -> Option<InFlightEntry> {
        let mut table = self.table.lock();
        let flight = table.flights.get_mut(&id)?;
        let is_left = flight.waiters.is_empty();
        flight.waiters.retain(|waiter| !waiter.is_closed());
        if is_left || !flight.waiters.is_empty() {
            return None;
        }
        let entry = flight.entry;
        table.unshare(&entry);
        Some(entry)
    }

    /// Ends the flights whose time is over, or all of them.
    pub fn expire(&self, due: Option<Instant>) {
        let mut table = self.table.lock();
        let over = |flight: &&Flight| due.is_none_or(|now| flight.entry.until <= now);
        let ids: Vec<JobId> = table
            .flights
            .values()
            .filter(over)
            .map(|f| f.entry.id)
            .collect();
        let flights: Vec<Flight> = ids.into_iter().filter_map(|id| table.remove(id)).collect();
        drop(table);
        for flight in flights {
            flight.tell(&Verdict::Expired);
        }
    }

    /// Flights under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.lock().flights.len()
    }

    /// Whether no flight is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    /// The flight others of this key may join; one whose time is over is left to end by itself.
    fn shared_flight(&mut self, key: &PredictionKey) -> Option<&mut Flight> {
        let id = self.shared.get(key)?;
        let flight = self.flights.get_mut(id)?;
        (flight.entry.until > Instant::now()).then_some(flight)
    }

    fn remove(&mut self, id: JobId) -> Option<Flight> {
        let flight = self.flights.remove(&id)?;
        self.unshare(&flight.entry);
        Some(flight)
    }

    /// Lets nobody join that flight any more.
    fn unshare(&mut self, entry: &InFlightEntry) {
        if self.shared.get(&entry.key) == Some(&entry.id) {
            self.shared.remove(&entry.key);
        }
    }
}

impl Flight {
    fn tell(self, verdict: &Verdict) -> InFlightEntry {
        for waiter in self.waiters {
            // A waiter whose client has gone is no error.
            waiter.send(verdict.clone()).ok();
        }
        self.entry
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use selvage_core::key::Digest;

    use super::*;
    use crate::service::admission::Admission;

    fn entry(image: &[u8], shared: bool) -> InFlightEntry {
        let key = PredictionKey {
            model: Digest::of(b"model"),
            preprocessing: 1,
            image: Digest::of(image),
        };
        InFlightEntry {
            id: JobId::new(),
            key,
            shared,
            keep: true,
            until: Instant::now() + Duration::from_secs(10),
        }
    }

    fn leads(entered: Result<Entered, Full>) -> Waiting {
        match entered {
            Ok(Entered::Leads(waiting)) => waiting,
            other => panic!("{other:?}"),
        }
    }

    fn follows(entered: Result<Entered, Full>) -> Waiting {
        match entered {
            Ok(Entered::Follows(_, waiting)) => waiting,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn equal_keys_share_one_flight_and_one_place() {
        let (inflight, admission) = (Inflight::default(), Admission::new(1));
        let first = entry(b"a", true);
        let leader = leads(inflight.enter(first, || admission.admit()));
        let follower = follows(inflight.enter(entry(b"a", true), || admission.admit()));
        assert!(
            inflight
                .enter(entry(b"b", true), || admission.admit())
                .is_err()
        );
        let verdict = Verdict::Refused(Refusal::Full);
        assert_eq!(inflight.settle(first.id, &verdict).unwrap().id, first.id);
        assert_eq!(
            (leader.await.unwrap(), follower.await.unwrap()),
            (verdict.clone(), verdict.clone())
        );
        assert!(
            inflight.settle(first.id, &verdict).is_none(),
            "it ends once"
        );
        assert!(inflight.is_empty() && admission.in_flight() == 0);
    }

    #[tokio::test]
    async fn unshared_flights_neither_lead_nor_follow_others() {
        let (inflight, admission) = (Inflight::default(), Admission::new(9));
        leads(inflight.enter(entry(b"a", false), || admission.admit()));
        leads(inflight.enter(entry(b"a", true), || admission.admit()));
        leads(inflight.enter(entry(b"a", false), || admission.admit()));
        follows(inflight.enter(entry(b"a", true), || admission.admit()));
        assert_eq!(inflight.len(), 3);
    }

    #[tokio::test]
    async fn a_flight_is_left_by_its_last_waiter_only() {
        let (inflight, admission) = (Inflight::default(), Admission::new(2));
        let first = entry(b"a", true);
        drop(leads(inflight.enter(first, || admission.admit())));
        let follower = follows(inflight.enter(entry(b"a", true), || admission.admit()));
        assert!(inflight.leave(first.id).is_none(), "another one waits");
        drop(follower);
        assert_eq!(inflight.leave(first.id).unwrap().id, first.id);
        assert!(inflight.leave(first.id).is_none(), "it is left once");
        assert_eq!(admission.in_flight(), 1, "its job is still on its way");
        let second = leads(inflight.enter(entry(b"a", true), || admission.admit()));
        assert!(
            inflight
                .enter(entry(b"b", true), || admission.admit())
                .is_err()
        );
        assert_eq!(
            inflight.settle(first.id, &Verdict::Expired).unwrap().id,
            first.id
        );
        assert_eq!(admission.in_flight(), 1);
        follows(inflight.enter(entry(b"a", true), || admission.admit()));
        inflight.expire(None);
        assert_eq!(second.await.unwrap(), Verdict::Expired);
        assert!(inflight.leave(first.id).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn flights_expire_when_their_time_is_over() {
        let (inflight, admission) = (Inflight::default(), Admission::new(9));
        let waiting = leads(inflight.enter(entry(b"a", true), || admission.admit()));
        inflight.expire(Some(Instant::now()));
        assert_eq!(inflight.len(), 1);
        tokio::time::advance(Duration::from_secs(11)).await;
        leads(inflight.enter(entry(b"a", true), || admission.admit()));
        inflight.expire(Some(Instant::now()));
        assert_eq!(waiting.await.unwrap(), Verdict::Expired);
        assert_eq!(inflight.len(), 1, "the younger one of the same key stays");
        follows(inflight.enter(entry(b"a", true), || admission.admit()));
        inflight.expire(None);
        assert!(inflight.is_empty());
    }
}
