//! How far a connection has come with its request: it decides whether the connection may be closed to make room for another.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ConnectionPhase {
    /// Between two requests, or before the first.
    #[default]
    Idle,
    /// A head has begun.
    Head,
    /// The head is complete, the body is not.
    Body,
    /// The request is complete, its answer is not.
    Answering,
    /// The answer is complete, but not yet written.
    Writing,
    /// The connection makes room for another one.
    Closed,
}

/// What one connection does; shared between its stream, its service and the table of slots.
#[derive(Debug, Default)]
pub(super) struct Progress {
    now: Mutex<Now>,
    closed: Notify,
    /// Wakes the accept loop when a connection may be closed that could not be before; all connections share it.
    closable: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Now {
    state: ConnectionPhase,
    /// Requests whose head was complete; it may wrap, only changes are looked at.
    begun: u32,
}

/// A request that is read or answered; it is answered when this is dropped.
#[derive(Debug)]
pub(super) struct Answering(Arc<Progress>, u32);

/// A request's body that is read; it is complete, or nobody wants it any more, when this is dropped.
#[derive(Debug)]
pub(super) struct Reading(Arc<Progress>, u32);

impl Progress {
    /// A connection that has sent nothing.
    pub(super) fn new(closable: Arc<Notify>) -> Self {
        Self {
            closable,
            ..Self::default()
        }
    }

    /// How many requests have begun.
    pub(super) fn begun(&self) -> u32 {
        self.now.lock().begun
    }

    /// Notes that bytes came; says whether they belong to a head.
    pub(super) fn came(&self) -> bool {
        let mut now = self.now.lock();
        if now.state == ConnectionPhase::Idle {
            now.state = ConnectionPhase::Head;
        }
        matches!(now.state, ConnectionPhase::Head | ConnectionPhase::Writing)
    }

    /// Notes that a head is complete, and what is to come; `None` where the connection is being closed.
    pub(super) fn begin(self: &Arc<Self>, has_body: bool) -> Option<(Answering, Option<Reading>)> {
        let mut now = self.now.lock();
        if now.state == ConnectionPhase::Closed {
            return None;
        }
        now.state = if has_body {
            ConnectionPhase::Body
        } else {
            ConnectionPhase::Answering
        };
        now.begun = now.begun.wrapping_add(1);
        let reading = has_body.then(|| Reading(Arc::clone(self), now.begun));
        Some((Answering(Arc::clone(self), now.begun), reading))
    }

    /// Notes that all there was to write has been written.
    pub(super) fn flushed(&self) {
        let mut now = self.now.lock();
        if now.state == ConnectionPhase::Writing {
            now.state = ConnectionPhase::Idle;
            self.closable.notify_one();
        }
    }

    /// Whether the connection is idle, or, where `sending` counts too, has not sent its request to the end.
    pub(super) fn is_closable(&self, sending: bool) -> bool {
        match self.now.lock().state {
            ConnectionPhase::Idle => true,
            ConnectionPhase::Head | ConnectionPhase::Body => sending,
            ConnectionPhase::Answering | ConnectionPhase::Writing | ConnectionPhase::Closed => {
                false
            }
        }
    }

    /// Closes the connection if it [is closable](Self::is_closable).
    pub(super) fn close(&self, sending: bool) -> bool {
        let mut now = self.now.lock();
        let closes = match now.state {
            ConnectionPhase::Idle => true,
            ConnectionPhase::Head | ConnectionPhase::Body => sending,
            ConnectionPhase::Answering | ConnectionPhase::Writing | ConnectionPhase::Closed => {
                false
            }
        };
        if closes {
            now.state = ConnectionPhase::Closed;
            self.closed.notify_one();
        }
        closes
    }

    /// Waits until the connection is to be closed.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut now = self.0.now.lock();
        if now.begun == self.1
            && matches!(
                now.state,
                ConnectionPhase::Body | ConnectionPhase::Answering
            )
        {
            now.state = ConnectionPhase::Writing;
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut now = self.0.now.lock();
        if now.begun == self.1 && now.state == ConnectionPhase::Body {
            now.state = ConnectionPhase::Answering;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_can_be_closed_until_its_request_has_come_and_once_its_answer_is_written() {
        let progress = Arc::new(Progress::default());
        let closable = || (progress.is_closable(false), progress.is_closable(true));
        assert_eq!(closable(), (true, true), "idle");
        assert!(progress.came(), "a head begins");
        assert_eq!(closable(), (false, true), "a head");
        let (answering, reading) = progress.begin(true).unwrap();
        assert!(!progress.came(), "the body is no head");
        assert_eq!(closable(), (false, true), "a body");
        drop(reading);
        assert_eq!(closable(), (false, false), "it is answered");
        assert!(!progress.close(true));
        drop(answering);
        assert_eq!(closable(), (false, false), "the answer is not written");
        progress.flushed();
        assert_eq!(closable(), (true, true), "idle again");
        assert!(progress.close(false) && !progress.close(false));
        assert!(progress.begin(false).is_none(), "it is closed");
    }

    #[test]
    fn a_body_that_is_thrown_away_late_is_not_the_next_requests() {
        let progress = Arc::new(Progress::default());
        let (answering, late) = progress.begin(true).unwrap();
        drop(answering);
        progress.flushed();
        let _next = progress.begin(true).unwrap();
        drop(late);
        assert!(progress.is_closable(true), "the next body is still to come");
    }
}
