//! Delivers webhooks.
//!
//! | module | contents |
//! |---|---|
//! | `courier` | the task that takes what is due out of the store's outbox and retries until it is delivered |
//! | `message` | what is delivered, and its signature |
//! | `slots` | how many deliveries run at once: in all, per owner and per host |

mod courier;
mod message;
mod slots;

pub use courier::run;
