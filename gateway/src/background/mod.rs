//! Background tasks. `program/assemble.rs` starts each of them, and the gateway's `life.stop` ends it.
//!
//! No task answers a request. Imports [`crate::service`] only.
//!
//! | module | task |
//! |---|---|
//! | [`replies`] | hands replies to those who wait, and ends jobs that nobody waits for |
//! | [`sweeper`] | ends jobs whose deadline has passed |
//! | [`dead_letter_intake`] | ends the jobs of dead-lettered messages, and stores the messages |
//! | [`webhooks`] | delivers webhooks |
//! | [`sampler`] | reads the fleet's numbers, announces this gateway |
//! | [`changes`] | follows the models folder |

pub mod changes;
pub mod dead_letter_intake;
pub mod replies;
pub mod sampler;
pub mod sweeper;
pub mod webhooks;
