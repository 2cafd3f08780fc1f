//! How many attempts run at once: in all, of one owner's jobs, and to one host. So receivers that hang delay only webhooks of the
//! same owner and to the same host.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use selvage_core::key_name::KeyName;
use tokio::sync::Notify;
use url::Url;

/// Most attempts at once.
const MAX_AT_ONCE: usize = 64;
/// Most attempts at once for the jobs of one API key; without keys, for all jobs.
const OWNER_AT_ONCE: usize = 8;
/// Most attempts at once to one host. It is more than one owner has, so that no owner alone blocks a host that others use too.
const HOST_AT_ONCE: usize = 16;

/// All slots of a gateway.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: Mutex<Taken>,
    freed: Notify,
}

/// Owners and hosts have an entry only while they have a slot, so each map is no larger than all slots.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    owners: HashMap<Option<KeyName>, usize>,
    hosts: HashMap<String, usize>,
}

/// A slot for one attempt, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    owner: Option<KeyName>,
    host: String,
}

impl Slots {
    /// A slot for one attempt of an owner to a URL; `None` where all are taken, or as many as the owner or the host may have.
    pub(super) fn take(self: &Arc<Self>, owner: Option<&KeyName>, url: &str) -> Option<Slot> {
        let (owner, host) = (owner.cloned(), host(url));
        let mut taken = self.taken.lock();
        let owners = taken.owners.get(&owner).copied().unwrap_or_default();
        let hosts = taken.hosts.get(&host).copied().unwrap_or_default();
        if taken.all >= MAX_AT_ONCE || owners >= OWNER_AT_ONCE || hosts >= HOST_AT_ONCE {
            return None;
        }
        taken.all += 1;
        taken.owners.insert(owner.clone(), owners + 1);
        taken.hosts.insert(host.clone(), hosts + 1);
        drop(taken);
        Some(Slot {
            slots: Arc::clone(self),
            owner,
            host,
        })
    }

    /// Whether all slots are taken.
    pub(super) fn are_taken(&self) -> bool {
        self.taken.lock().all >= MAX_AT_ONCE
    }

    /// Returns once a slot was freed since the last return.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock();
        taken.all -= 1;
        give_back(&mut taken.owners, self.owner.take());
        give_back(&mut taken.hosts, std::mem::take(&mut self.host));
        drop(taken);
        self.slots.freed.notify_one();
    }
}

fn give_back<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// The host of a URL; empty where there is none: such a try ends at once.
fn host(url: &str) -> String {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    host.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::iter::from_fn;

    use super::*;

    #[test]
    fn an_owner_and_a_host_have_only_their_share_and_leave_no_trace() {
        let slots = Arc::new(Slots::default());
        let owner = |number: usize| format!("key-{number}").parse::<KeyName>().unwrap();
        let host = |number: usize| format!("https://host-{number}.example/hook");
        let mut all = Vec::new();

        let (ann, mut number) = (owner(0), 0);
        all.extend(from_fn(|| {
            number += 1;
            slots.take(Some(&ann), &host(number))
        }));
        assert_eq!(all.len(), OWNER_AT_ONCE);
        assert!(slots.take(None, &host(1)).is_some(), "others have slots");

        let mut number = 0;
        let shared = ["https://Shared.example:8443/a", "https://shared.example./b"];
        all.extend(from_fn(|| {
            number += 1;
            slots.take(Some(&owner(number)), shared[number % 2])
        }));
        assert_eq!(all.len(), OWNER_AT_ONCE + HOST_AT_ONCE);
        assert!(
            slots.take(None, &host(0)).is_some(),
            "other hosts have slots"
        );

        let mut number = 100;
        all.extend(from_fn(|| {
            number += 1;
            slots.take(Some(&owner(number)), &host(number))
        }));
        assert_eq!(all.len(), MAX_AT_ONCE);
        assert!(slots.are_taken());
        all.clear();
        let taken = slots.taken.lock();
        assert!(taken.all == 0 && taken.owners.is_empty() && taken.hosts.is_empty());
    }
}
