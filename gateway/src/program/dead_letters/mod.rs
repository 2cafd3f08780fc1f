//! `selvage-gateway dead-letters`: its arguments, and what it does.

pub mod arguments;
mod command;
