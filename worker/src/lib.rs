//! The worker: jobs in, predictions out.

pub mod engine;
mod failpoint;
pub mod image;
pub mod metrics;
pub mod model;
pub mod ticket;
