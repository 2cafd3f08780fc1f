//! What the RabbitMQ backend counts. Label-free, so the number of series is fixed.

use prometheus::{
    Histogram, IntCounter, Registry, register_histogram_with_registry,
    register_int_counter_with_registry,
};

/// Counters of one process; clones count together.
#[derive(Clone, Debug)]
pub struct QueueCounters {
    /// Messages of jobs that the broker confirmed.
    pub envelopes: IntCounter,
    /// Jobs in each of them.
    pub jobs_per_envelope: Histogram,
    /// Messages refused because their queue was full.
    pub nacked: IntCounter,
    /// Messages returned because their queue was missing.
    pub returned: IntCounter,
    /// Messages whose confirm did not come.
    pub unconfirmed: IntCounter,
    /// Messages that could not be read and were dead-lettered.
    pub undecodable: IntCounter,
    /// Settlements that came too late: the broker delivers the message again.
    pub lost_settlements: IntCounter,
    /// Reports that nobody could be given.
    pub lost_replies: IntCounter,
    /// Connections that were lost after they had been up.
    pub lost_connections: IntCounter,
    /// Consumers that were ended by the broker and made again.
    pub lost_consumers: IntCounter,
}

impl QueueCounters {
    /// Counters that the registry shows.
    ///
    /// # Errors
    /// Where the registry already has a metric of one of the names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let name = format!("selvage_queue_{name}_total");
            register_int_counter_with_registry!(name, help, registry)
        };
        Ok(Self {
            envelopes: counter(
                "messages_published",
                "Messages of jobs that the broker confirmed.",
            )?,
            jobs_per_envelope: register_histogram_with_registry!(
                "selvage_queue_jobs_per_message",
                "Jobs in each message that the broker confirmed.",
                vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
                registry
            )?,
            nacked: counter("messages_refused", "Messages refused by a full queue.")?,
            returned: counter(
                "messages_returned",
                "Messages returned because their queue was missing.",
            )?,
            unconfirmed: counter(
                "messages_unconfirmed",
                "Messages whose confirm did not come.",
            )?,
            undecodable: counter(
                "messages_undecodable",
                "Messages that could not be read and were dead-lettered.",
            )?,
            lost_settlements: counter(
                "settlements_lost",
                "Settlements that came after their channel was gone.",
            )?,
            lost_replies: counter("replies_lost", "Reports that nobody could be given.")?,
            lost_connections: counter(
                "connections_lost",
                "Broker connections lost after they had been up.",
            )?,
            lost_consumers: counter(
                "consumers_lost",
                "Consumers ended by the broker and made again.",
            )?,
        })
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
