//! The job's state machine as plain code: what the memory store keeps per job. Redis has the same rules in Lua.

use std::time::Duration;

use super::{Cancel, Claim, Completion, End, JobState, MAX_ATTEMPTS, Record, Seed};
use crate::clock::UnixMillis;
use crate::job::JobId;
use crate::outcome::Cost;

/// A record with what only the store needs to know of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) record: Record,
    /// A running job was asked to stop.
    cancel_requested: bool,
    /// Until it is confirmed: the end of the submitter's lease, and the submitter.
    pub(super) pending: Option<(UnixMillis, JobId)>,
}

impl Entry {
    /// A queued job.
    pub(super) fn new(seed: Seed, number: u64, retention: Duration) -> Self {
        let record = Record {
            number: Some(number),
            state: JobState::Queued,
            attempts: 0,
            started_at: None,
            finished_at: None,
            expires_at: seed.deadline.after(retention),
            output: None,
            failure: None,
            cost: Cost::default(),
            cached: false,
            delivery: None,
            seed,
        };
        Self {
            record,
            cancel_requested: false,
            pending: None,
        }
    }

    /// Says whether the job is to be run. It is queued then, also one that a worker had begun: its message has come again.
    pub(super) fn check(&mut self, now: UnixMillis) -> Claim {
        let claim = self.verdict(now);
        if matches!(claim, Claim::Run(_)) {
            self.pending = None;
            self.record.state = JobState::Queued;
        }
        claim
    }

    /// Counts a start, unless there is a reason not to run the job.
    pub(super) fn claim(&mut self, now: UnixMillis) -> Claim {
        let claim = self.verdict(now);
        if let Claim::Run(start) = claim {
            self.pending = None;
            self.record.state = JobState::Running;
            self.record.attempts = start;
            self.record.started_at.get_or_insert(now);
        }
        claim
    }

    fn verdict(&self, now: UnixMillis) -> Claim {
        let record = &self.record;
        if record.state.is_terminal() {
            return Claim::Finished;
        }
        if record.attempts >= MAX_ATTEMPTS {
            return Claim::Exhausted;
        }
        if record.seed.deadline <= now {
            return Claim::Overdue;
        }
        if self.cancel_requested {
            return Claim::CancelRequested;
        }
        Claim::Run(record.attempts + 1)
    }

    /// Takes a start back; ends the job if it was asked to stop meanwhile.
    pub(super) fn release(&mut self, now: UnixMillis, retention: Duration) {
        if self.record.state != JobState::Running {
            return;
        }
        self.record.attempts -= 1;
        if self.record.attempts == 0 {
            self.record.started_at = None;
        }
        if self.cancel_requested {
            self.finish(JobState::Canceled, now, retention);
        } else {
            self.record.state = JobState::Queued;
        }
    }

    /// Ends the job; true if this call did it.
    pub(super) fn complete(
        &mut self,
        completion: &Completion,
        now: UnixMillis,
        retention: Duration,
    ) -> bool {
        if self.record.state.is_terminal() {
            return false;
        }
        self.record.cost = completion.cost;
        if self.cancel_requested {
            self.finish(JobState::Canceled, now, retention);
            return true;
        }
        self.record.cached = completion.cached;
        match &completion.end {
            End::Succeeded(output) => self.record.output = Some(output.clone()),
            End::Failed(failure) => self.record.failure = Some(failure.clone()),
            End::Canceled | End::Expired => {}
        }
        self.finish(completion.end.state(), now, retention);
        true
    }

    /// Ends a queued job, asks a running one to stop.
    pub(super) fn cancel(&mut self, now: UnixMillis, retention: Duration) -> Cancel {
        match self.record.state {
            JobState::Queued => {
                self.finish(JobState::Canceled, now, retention);
                Cancel::Canceled
            }
            JobState::Running => {
                self.cancel_requested = true;
                Cancel::Requested
            }
            JobState::Canceled => Cancel::Canceled,
            ended @ (JobState::Succeeded | JobState::Failed | JobState::Expired) => {
                Cancel::Finished(ended)
            }
        }
    }

    /// Whether its deadline passed before it was confirmed: no client knows its id.
    pub(super) fn expired_unconfirmed(&self) -> bool {
        self.record.state == JobState::Expired && self.pending.is_some()
    }

    fn finish(&mut self, state: JobState, now: UnixMillis, retention: Duration) {
        self.record.state = state;
        self.record.finished_at = Some(now);
        self.record.expires_at = now.after(retention);
    }
}
