//! The fleet in numbers: read once a second for all streams, by `background::sampler`.
//!
//! | module | owns |
//! |---|---|
//! | [`recent`] | what came in the last minute |
//! | [`dependencies`], [`mod@standing`] | what this gateway depends on, and whether traffic should come here |
//! | [`mod@status`] | this gateway, as it announces itself |
//! | [`conditions`], [`events`] | faults that last, and what happened |
//! | [`counted`], [`history`] | counts of processes that have ended, and the last hour |
//! | [`figures`], [`snapshot`] | the numbers as JSON |
//! | [`latest`] | the numbers read last, and who follows them |

pub mod conditions;
pub mod counted;
pub mod dependencies;
pub mod events;
pub mod figures;
pub mod history;
pub mod latest;
pub mod recent;
pub mod snapshot;
pub mod standing;
pub mod status;

pub use latest::{Following, Stats};
