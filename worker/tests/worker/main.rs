//! A whole worker on backends in memory: real sessions, real images, no services.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod changes;
mod faults;
mod jobs;
mod ops;
mod starts;
mod support;
