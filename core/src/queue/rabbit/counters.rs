//! What the RabbitMQ backend counts. Label-free, so the number of series is fixed.

use prometheus::{Histogram, IntCounter, Registry};

use crate::metrics;

metrics! {
    /// Counters of one process; clones count together.
    pub struct QueueCounters("selvage_queue_") {
        /// Messages of jobs that the broker confirmed
        pub envelopes: IntCounter = "messages_published_total";
        /// Jobs in each message that the broker confirmed
        pub jobs_per_envelope: Histogram = "jobs_per_message" in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
        /// Messages refused by a full queue
        pub nacked: IntCounter = "messages_refused_total";
        /// Messages returned because their queue was missing
        pub returned: IntCounter = "messages_returned_total";
        /// Messages whose confirm did not come
        pub unconfirmed: IntCounter = "messages_unconfirmed_total";
        /// Messages that could not be read and were dead-lettered
        pub undecodable: IntCounter = "messages_undecodable_total";
        /// Settlements that came after their channel was gone: the broker delivers the message again
        pub lost_settlements: IntCounter = "settlements_lost_total";
        /// Reports that nobody could be given
        pub lost_replies: IntCounter = "replies_lost_total";
        /// Broker connections lost after they had been up
        pub lost_connections: IntCounter = "connections_lost_total";
        /// Consumers ended by the broker and made again
        pub lost_consumers: IntCounter = "consumers_lost_total";
    }
}

impl Default for QueueCounters {
    /// Counters that no registry shows.
    fn default() -> Self {
        Self::register(&Registry::new()).expect("the names are valid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_shown_once() {
        let registry = Registry::new();
        QueueCounters::register(&registry).unwrap();
        assert_eq!(registry.gather().len(), 10);
        assert!(QueueCounters::register(&registry).is_err());
    }
}
