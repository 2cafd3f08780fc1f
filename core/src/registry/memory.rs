//! The registry inside this process: the embedded shape's one gateway and one worker, and tests.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use super::{Fleet, FleetError, GONE_AFTER, Member, Members};
use crate::clock::{Clock, UnixMillis};

/// Members within this process.
#[derive(Debug)]
pub struct MemoryFleet {
    members: Mutex<BTreeMap<String, Announcement>>,
    clock: Clock,
}

#[derive(Debug)]
struct Announcement {
    member: Member,
    heard_at: UnixMillis,
}

impl MemoryFleet {
    /// A registry without members; its shared time is `clock`'s.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            members: Mutex::default(),
            clock,
        }
    }

    /// The members that are not gone, and the time now.
    fn lock(&self) -> (MutexGuard<'_, BTreeMap<String, Announcement>>, UnixMillis) {
        let now = self.clock.now();
        let mut members = self.members.lock();
        members.retain(|_, announcement| announcement.heard_at.after(GONE_AFTER) > now);
        (members, now)
    }
}

#[async_trait]
impl Fleet for MemoryFleet {
    async fn announce(&self, member: &Member) -> Result<UnixMillis, FleetError> {
        let (mut members, now) = self.lock();
        let announcement = Announcement {
            member: member.clone(),
            heard_at: now,
        };
        members.insert(member.id().to_owned(), announcement);
        Ok(now)
    }

    async fn leave(&self, id: &str) -> Result<(), FleetError> {
        self.lock().0.remove(id);
        Ok(())
    }

    async fn members(&self) -> Result<Members, FleetError> {
        let mut found = Members::default();
        let (members, now) = self.lock();
        for (id, announcement) in members.iter() {
            let quiet = now.since(announcement.heard_at);
            found.quiet.insert(id.clone(), quiet);
            match announcement.member.clone() {
                Member::Worker(worker) => found.workers.push(worker),
                Member::Gateway(gateway) => found.gateways.push(gateway),
            }
        }
        Ok(found)
    }

    async fn time(&self) -> Result<UnixMillis, FleetError> {
        Ok(self.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::registry::SILENT_AFTER;
    use crate::registry::suite::{a_worker, worker};

    fn empty() -> std::future::Ready<Arc<dyn Fleet>> {
        std::future::ready(Arc::new(MemoryFleet::new(Clock::default())))
    }

    crate::fleet_suite!(empty);

    #[tokio::test]
    async fn a_silent_worker_is_gone() {
        let clock = Clock::default();
        let fleet = MemoryFleet::new(clock.clone());
        let now = fleet.announce(&a_worker("a")).await.unwrap();
        fleet.announce(&a_worker("b")).await.unwrap();
        clock.anchor(UnixMillis(now.0 + 4_000));
        fleet.announce(&a_worker("b")).await.unwrap();
        let both = fleet.members().await.unwrap();
        assert_eq!(both.workers.len(), 2);
        assert!(both.is_silent("a") && !both.is_silent("b"));
        assert!(both.next_silence() <= Some(SILENT_AFTER));
        clock.anchor(now.after(GONE_AFTER));
        assert_eq!(fleet.members().await.unwrap().workers, [worker("b")]);
    }
}
