//! Deliveries: from the queue to the engine, and from its results to cache, record and reply, and only then the ack.
//!
//! No decoding and no inference here: both are in [`crate::engine`]. Nothing in `engine/`, `image/` or `onnx/` imports this room.
//!
//! | module | contents |
//! |---|---|
//! | `worker`, `life` | a worker: made, consuming, draining |
//! | `intake`, `decide`, `claim` | what becomes of a delivery's jobs, by record and cache |
//! | `abandoned`, `elsewhere` | jobs that nobody waits for; files that other workers hold |
//! | [`starts`] | counts the attempts of jobs that have a record |
//! | `finish` | writes results to cache and records, replies, then acks |
//! | `hosted_model`, `change` | the files of each model, and how one replaces another |
//! | `heartbeat`, `watchdog` | announcements; steps that hang |

mod abandoned;
mod change;
mod claim;
mod decide;
mod elsewhere;
mod finish;
mod heartbeat;
mod hosted_model;
mod intake;
mod life;
pub mod starts;
mod watchdog;
mod worker;

pub(crate) use worker::blocking;
pub use worker::{Worker, load_runtime};
