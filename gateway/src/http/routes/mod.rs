//! HTTP to service and back: [`mod@table`] has all paths, each other file the handlers of some.

mod access;
mod batch;
pub(crate) mod browsers;
mod dead_letters;
mod docs;
mod events;
mod framing;
mod home;
mod input;
mod jobs;
mod list;
mod middleware;
mod models;
mod oip;
mod ops;
mod predict;
mod receive;
mod response_mode;
mod stats;
mod table;
