//! The fleet in numbers: one task reads them once a second and feeds all streams, another says what this gateway counts.
//!
//! | module | owns |
//! |---|---|
//! | [`recent`] | what came in the last minute |
//! | [`dependencies`], [`mod@standing`] | what this gateway depends on, and whether traffic should come here |
//! | [`mod@status`] | this gateway, as it announces itself |
//! | [`snapshot`] | the numbers as JSON |
//! | [`latest`] | the numbers read last, and who follows them |
//! | [`sampler`] | the tasks that read and announce |

pub mod dependencies;
pub mod latest;
pub mod recent;
pub mod sampler;
pub mod snapshot;
pub mod standing;
pub mod status;

pub use latest::{Following, Stats};
