//! What is left to each address where no keys are needed: a bounded table, whoever asks.

use std::sync::Arc;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::rate::{Bucket, Rate};
use crate::http::peer::Peer;

/// Most addresses that are distinguished at once. Beyond it those that have not asked for the longest time are forgotten, which
/// gives each its whole rate again.
const MAX_ADDRESSES: u64 = 65_536;

/// What is left to each address.
#[derive(Debug)]
pub(super) struct Addresses {
    rate: Rate,
    /// Requests without an address, which no connection sends, are together one more client.
    buckets: Cache<Option<Peer>, Arc<Bucket>>,
}

impl Addresses {
    /// The whole rate for every address.
    pub(super) fn new(rate: Rate) -> Self {
        let buckets = Cache::builder()
            .max_capacity(MAX_ADDRESSES)
            .eviction_policy(EvictionPolicy::lru())
            // After that long without a request a bucket is full again, as a new one is.
            .time_to_idle(rate.window())
            .build();
        Self { rate, buckets }
    }

    /// What is left to one of them.
    pub(super) fn bucket(&self, peer: Option<Peer>) -> Arc<Bucket> {
        self.buckets
            .get_with(peer, || Arc::new(Bucket::new(self.rate)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_table_of_addresses_is_bounded() {
        let addresses = Addresses::new("1/h".parse().unwrap());
        for address in 0..80_000 {
            let peer = Peer::of(Ipv4Addr::from_bits(address).into());
            addresses.bucket(Some(peer));
        }
        addresses.buckets.run_pending_tasks();
        assert_eq!(addresses.buckets.entry_count(), MAX_ADDRESSES);
    }

    #[test]
    fn each_address_has_a_bucket_of_its_own() {
        let addresses = Addresses::new("1/h".parse().unwrap());
        let bucket = |last: u8| {
            let peer = Peer::of(Ipv4Addr::new(192, 0, 2, last).into());
            addresses.bucket(Some(peer))
        };
        assert!(Arc::ptr_eq(&bucket(1), &bucket(1)));
        assert!(!Arc::ptr_eq(&bucket(1), &bucket(2)));
    }
}
