//! Jobs in, outcomes out: per model a pool of threads, each with a session of its own. No queue and no cache here; of the
//! store only what counts attempts.
//!
//! A slow model has its own threads and so never delays a fast one's jobs.

pub mod batch;
pub mod delivery_guard;
mod exclusive;
mod inference_thread;
mod policy;
mod pool;
mod progress;
pub(crate) mod running;
mod task;
#[cfg(test)]
mod tests;
mod threads;

pub use exclusive::{Engine, Exclusive, NonExclusive};
pub use policy::Policy;
pub use pool::{Pool, PoolSpec};
pub use task::{Completed, Completions, CountAttempts, End, Isolation, Task};
