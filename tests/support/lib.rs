//! What the black-box tests share: programs under test, services, pictures, a client. No scenario here.

pub mod cli;
pub mod client;
pub mod deployment;
pub mod driver;
pub mod eventually;
pub mod history;
pub mod identity;
pub mod keys;
pub mod load;
pub mod openvino;
pub mod page;
pub mod pictures;
pub mod private;
pub mod program;
pub mod proxy;
pub mod receiver;
pub mod scrape;
pub mod services;
pub mod settings;
pub mod spans;
pub mod stock;
pub mod usage;

pub use cli::Cli;
pub use client::{Answer, Client};
pub use deployment::Deployment;
pub use eventually::eventually;
pub use settings::{Settings, Shape};
