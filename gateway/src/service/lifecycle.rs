//! Where this gateway is in its life. Everything that must end early asks here; nothing is ended here.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The phases, in their only order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Takes everything.
    Serving,
    /// Takes everything, but says that it is not ready, so that traffic goes elsewhere.
    Leaving,
    /// Takes no new work; what was taken goes on.
    Draining,
    /// Waits end now.
    Ending,
}

/// The phase, and the tasks that live as long as the gateway.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: AtomicU8,
    ends_at: OnceLock<Instant>,
    /// Fires as the phase [`Phase::Draining`] begins.
    pub draining: CancellationToken,
    /// Tasks that outlive a request; waited for at the end.
    pub tasks: TaskTracker,
    /// Ends the background tasks, after the last request.
    pub stop: CancellationToken,
}

impl Lifecycle {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Serving,
            1 => Phase::Leaving,
            2 => Phase::Draining,
            _ => Phase::Ending,
        }
    }

    /// Sets when the drain is over; the first one counts.
    pub fn end_at(&self, end: Instant) {
        self.ends_at.get_or_init(|| end);
    }

    /// When the drain is over; now where none has begun.
    #[must_use]
    pub fn ends_at(&self) -> Instant {
        self.ends_at.get().copied().unwrap_or_else(Instant::now)
    }

    /// Goes on to a later phase; never back.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
        if phase >= Phase::Draining {
            self.draining.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_has_one_direction() {
        let life = Lifecycle::default();
        assert_eq!(life.phase(), Phase::Serving);
        for phase in [Phase::Leaving, Phase::Draining, Phase::Ending] {
            life.enter(phase);
            assert_eq!(life.phase(), phase);
        }
        life.enter(Phase::Leaving);
        assert_eq!(life.phase(), Phase::Ending);
        assert!(life.draining.is_cancelled());
    }
}
