//! The program around the other rooms: settings, start-up, assembly, the commands. May import every room; none imports it.
//!
//! | module | contents |
//! |---|---|
//! | [`config`] | settings |
//! | `assemble` | puts a gateway together and starts its tasks |
//! | [`run`], [`start`] | from settings to a running gateway |
//! | [`fleet`], `embedded` | the backends of either mode |
//! | [`descriptors`] | how many connections the process can hold |
//! | [`dead_letters`] | `selvage-gateway dead-letters` |

mod assemble;
pub mod config;
pub mod dead_letters;
pub mod descriptors;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod fleet;
pub mod run;
pub mod start;
