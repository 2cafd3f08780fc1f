//! The RabbitMQ backend on a real broker: the queue suite, and what only a broker can do to us.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may fail the test"
)]

mod fleet;
mod losses;
mod nodes;
mod proxy;
mod refusals;

use fleet::fixture;

selvage_core::queue_suite!(fixture);
