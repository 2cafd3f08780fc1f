//! The gateway: HTTP in, jobs out.
//!
//! `http` → `service` → `selvage_core`, `background` → `service`; `program` puts them together. `scripts/check-structure` checks
//! these arrows. [`mod@http`], [`service`], [`background`] and [`program`] each say what they contain.

pub mod background;
pub mod http;
pub mod program;
pub mod service;

pub use http::app::App;
pub use http::server::serve;
pub use service::gateway::{Backends, Gateway};
