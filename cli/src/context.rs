//! What every command gets: the console, and the interrupt.

use std::time::Duration;

use tokio::time::Instant;

use crate::bounds::{Bounds, Interrupt};
use crate::console::Console;

/// The console and the interrupt of a command.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) console: Console,
    pub(crate) interrupt: Interrupt,
}

impl Context {
    /// The bounds of work that may take so long.
    pub(crate) fn bounds(&self, span: Duration) -> Bounds<'_> {
        Bounds {
            interrupt: &self.interrupt,
            deadline: Instant::now() + span,
        }
    }
}
