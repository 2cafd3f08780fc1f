//! The job's state machine once more, as small as it can be: what random histories are checked against.

use proptest::collection::vec;
use proptest::prelude::*;
use selvage_core::clock::UnixMillis;
use selvage_core::job_state::JobState;
use selvage_core::store::suite::idempotency::keyed;
use selvage_core::store::suite::webhooks::hooked;
use selvage_core::store::suite::{answer, failure, seed_due};
use selvage_core::store::{Cancel, Claim, End, MAX_ATTEMPTS, Seed};

/// Jobs of one history; the last two are overdue from the start.
pub(crate) const JOBS: usize = 5;
/// The job with a webhook for each of [`HOOKS`].
pub(crate) const HOOKED: Which = 0;
/// The states the webhook of [`HOOKED`] is for.
pub(crate) const HOOKS: [JobState; 3] = [JobState::Succeeded, JobState::Failed, JobState::Canceled];
/// Two jobs of one repeated request, under one idempotency key.
pub(crate) const KEYED: [Which; 2] = [1, 2];

/// Which job a step is about.
pub(crate) type Which = usize;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Submit(Which),
    /// A worker has received a batch.
    Check(Vec<Which>),
    /// A thread begins a batch. That a worker was lost in between shows as nothing but another claim.
    Claim(Vec<Which>),
    Release(Vec<Which>),
    Complete(Vec<(Which, End)>),
    Cancel(Which),
    /// The broker has confirmed a job.
    Confirm(Which),
    /// The gateways that have submitted a job and not confirmed it are gone, and so long that their leases are over.
    EndLeases,
    /// The gateway takes a job back that it could not publish, its own or one that it has taken over.
    Withdraw(Which),
    /// The webhook of a job that has ended is delivered.
    Tell,
    /// Ends what is overdue.
    Sweep,
    /// The record is wiped, where the backend can lose one.
    Lose(Which),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let which = || 0..JOBS;
    let end = prop_oneof![
        Just(End::Succeeded(answer())),
        Just(End::Failed(failure())),
        Just(End::Canceled),
        Just(End::Expired),
    ];
    prop_oneof![
        3 => which().prop_map(Step::Submit),
        2 => vec(which(), 1..4).prop_map(Step::Check),
        6 => vec(which(), 1..4).prop_map(Step::Claim),
        2 => vec(which(), 1..3).prop_map(Step::Release),
        2 => vec((which(), end), 1..3).prop_map(Step::Complete),
        2 => which().prop_map(Step::Cancel),
        2 => which().prop_map(Step::Confirm),
        1 => Just(Step::EndLeases),
        1 => which().prop_map(Step::Withdraw),
        1 => Just(Step::Tell),
        1 => Just(Step::Sweep),
        1 => which().prop_map(Step::Lose),
    ]
}

pub(crate) fn jobs() -> Vec<Seed> {
    let overdue = |n: u64| seed_due(UnixMillis(UnixMillis::wall().0 - 60_000 + 1_000 * n));
    // Of each history its own: others share the store.
    let key = hooked(&[]).id;
    let repeated = KEYED.map(|_| keyed(key.as_bytes(), b"request"));
    let fresh = [hooked(&HOOKS)].into_iter().chain(repeated);
    fresh.chain((0..2).map(overdue)).collect()
}

/// What a record should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) state: Option<JobState>,
    pub(crate) attempts: u32,
    cancel_requested: bool,
    /// It has an idempotency key, and nobody has confirmed, checked or claimed it: which job's submitter is to publish it, and whether
    /// its lease is over.
    pub(crate) pending: Option<(Which, bool)>,
    /// Its webhook was delivered.
    pub(crate) delivered: bool,
}

impl Model {
    pub(crate) fn is_open(&self) -> bool {
        self.state.is_some_and(|state| !state.is_terminal())
    }

    /// Whether its webhook is due, if it has one.
    pub(crate) fn is_webhook_due(&self) -> bool {
        !self.delivered && self.state.is_some_and(|state| HOOKS.contains(&state))
    }

    /// Whether this wrote its record.
    pub(crate) fn submit(&mut self) -> bool {
        let writes = self.state.is_none();
        self.state.get_or_insert(JobState::Queued);
        writes
    }

    pub(crate) fn withdraw(&mut self, submitter: Which) {
        let is_submitters = self.pending.is_some_and(|(by, _)| by == submitter);
        if self.state == Some(JobState::Queued) && (is_submitters || !KEYED.contains(&submitter)) {
            *self = Self::default();
        }
    }

    /// Whether it has its idempotency key, if that was its own.
    pub(crate) fn keeps_key(&self) -> bool {
        let is_unknown = self.state == Some(JobState::Expired) && self.pending.is_some();
        self.state.is_some() && !is_unknown
    }

    pub(crate) fn check(&mut self, is_overdue: bool) -> Claim {
        let claim = self.verdict(is_overdue);
        if matches!(claim, Claim::Run(_)) {
            self.pending = None;
            self.state = Some(JobState::Queued);
        }
        claim
    }

    pub(crate) fn claim(&mut self, is_overdue: bool) -> Claim {
        let claim = self.verdict(is_overdue);
        if let Claim::Run(start) = claim {
            self.pending = None;
            self.state = Some(JobState::Running);
            self.attempts = start;
        }
        claim
    }

    fn verdict(&self, is_overdue: bool) -> Claim {
        match (self.state, self.attempts) {
            (Some(state), _) if state.is_terminal() => Claim::Finished,
            (_, MAX_ATTEMPTS..) => Claim::Exhausted,
            _ if is_overdue => Claim::Overdue,
            _ if self.cancel_requested => Claim::CancelRequested,
            _ => Claim::Run(self.attempts + 1),
        }
    }

    pub(crate) fn release(&mut self) {
        if self.state == Some(JobState::Running) {
            self.attempts -= 1;
            self.state = Some(if self.cancel_requested {
                JobState::Canceled
            } else {
                JobState::Queued
            });
        }
    }

    pub(crate) fn complete(&mut self, end: &End) -> bool {
        let ends = self.is_open();
        if ends {
            self.state = Some(if self.cancel_requested {
                JobState::Canceled
            } else {
                end.state()
            });
        }
        ends
    }

    pub(crate) fn cancel(&mut self) -> Cancel {
        match self.state {
            None => Cancel::Unknown,
            Some(JobState::Queued) => {
                self.state = Some(JobState::Canceled);
                Cancel::Canceled
            }
            Some(JobState::Running) => {
                self.cancel_requested = true;
                Cancel::Requested
            }
            Some(JobState::Canceled) => Cancel::Canceled,
            Some(ended) => Cancel::Finished(ended),
        }
    }
}
