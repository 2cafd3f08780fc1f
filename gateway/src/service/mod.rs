//! What a gateway does with requests, without HTTP, lapin or redis: from an image to its prediction or its job.
//!
//! Imports only the traits and types of `selvage_core`, and no other room of this crate.
//!
//! | module | contents |
//! |---|---|
//! | [`gateway`] | the parts of one gateway, for handlers and background tasks |
//! | [`predictions`] | cache, computation, asynchronous job |
//! | [`inflight`], [`admission`], [`submit`] | its parts: requests that share a job, permits, the submission of a job |
//! | [`models`] | which model and file a request means |
//! | [`queues`], [`stats`] | depths, rates and estimates; the fleet in numbers |
//! | [`watch`] | long polls and event streams |
//! | [`webhooks`] | which webhooks are accepted, and how they are signed |
//! | [`dead_letters`] | dead letters: listed, replayed, purged |
//! | [`lifecycle`], [`metrics`] | phases of a drain; what is counted |
//! | [`time`] | moments as the API writes them |

pub mod admission;
pub mod dead_letters;
pub mod gateway;
pub mod inflight;
pub mod lifecycle;
pub mod metrics;
pub mod models;
pub mod predictions;
pub mod queues;
pub mod stats;
pub mod submit;
pub mod time;
pub mod watch;
pub mod webhooks;
