//! The Lua scripts beside this file, and how a job's seed is laid out for them. Makes no calls.

use std::time::Duration;

use redis::{Script, ScriptInvocation};

use crate::clock::UnixMillis;
use crate::job::JobId;
use crate::key_name::KeyName;
use crate::program::config::Prefix;
use crate::store::Seed;

/// The end of the year 9999, in Unix milliseconds: scripts count in doubles, and print times in at most 15 digits.
const LATEST: u64 = 253_402_300_799_999;

macro_rules! script {
    ($name:ident) => {
        Script::new(concat!(
            include_str!("prelude.lua"),
            include_str!(concat!(stringify!($name), ".lua"))
        ))
    };
}

macro_rules! scripts {
    ($($name:ident),+) => {
        /// The scripts of the job store.
        #[derive(Debug)]
        pub(super) struct StoreScripts {
            $(pub(super) $name: Script,)+
        }

        impl StoreScripts {
            pub(super) fn new() -> Self {
                Self {
                    $($name: script!($name),)+
                }
            }
        }
    };
}
scripts! {
    submit, confirm, claim, release, complete, cancel, overdue, tidy, withdraw, lease_webhooks, complete_webhook, scan
}

/// The script of the list of processes.
pub(super) fn announce() -> Script {
    script!(announce)
}

/// Names of the job store's keys.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The list of unfinished jobs by deadline.
    pub(super) deadlines: String,
    /// The list of webhooks by when they are due.
    pub(super) webhooks: String,
    /// Each model's counts of submitted and ended jobs.
    pub(super) counts: String,
    pub(super) record_prefix: String,
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &Prefix) -> Self {
        let prefix = prefix.as_str();
        Self {
            deadlines: format!("{prefix}:deadlines"),
            webhooks: format!("{prefix}:webhooks"),
            counts: format!("{prefix}:counts"),
            record_prefix: format!("{prefix}:job:"),
            prefix: prefix.to_owned(),
        }
    }

    /// The list of an owner's jobs, or of nobody's.
    pub(super) fn owned(&self, owner: Option<&KeyName>) -> String {
        let owner = owner.map_or("", KeyName::as_str);
        format!("{}:owner:{owner}", self.prefix)
    }

    /// The note that a job was abandoned.
    pub(super) fn abandon(&self, id: JobId) -> String {
        format!("{}:abandoned:{id}", self.prefix)
    }

    /// The record of that job.
    pub(super) fn record(&self, id: impl std::fmt::Display) -> String {
        format!("{}{id}", self.record_prefix)
    }
}

/// A seed as `submit` and `claim` take it: with its idempotency key, if it has one.
#[derive(Debug)]
pub(super) struct Entry {
    record: String,
    id: String,
    deadline: u64,
    seed: String,
    /// The key's name and the request's fingerprint.
    idempotency: Option<(String, String)>,
}

impl Entry {
    pub(super) fn new(seed: &Seed, names: &Names) -> serde_json::Result<Self> {
        let idempotency = seed.submission.idempotency.as_ref().map(|idempotency| {
            let name = format!("{}:idempotency:{}", names.prefix, idempotency.key.to_hex());
            (name, idempotency.fingerprint.to_hex())
        });
        Ok(Self {
            record: names.record(seed.id),
            id: seed.id.to_string(),
            deadline: millis(seed.deadline),
            seed: serde_json::to_string(seed)?,
            idempotency,
        })
    }

    pub(super) fn add_to(&self, call: &mut ScriptInvocation<'_>) {
        call.key(&self.record);
        call.arg(&self.id).arg(self.deadline).arg(&self.seed);
        match &self.idempotency {
            Some((name, fingerprint)) => call.key(name).arg(fingerprint),
            // Keys come in pairs; this one is not looked at.
            None => call.key(&self.record).arg(""),
        };
    }
}

/// A moment as scripts take it.
pub(super) fn millis(time: UnixMillis) -> u64 {
    time.0.min(LATEST)
}

/// A span as scripts take it.
pub(super) fn span_millis(span: Duration) -> u64 {
    millis(UnixMillis(0).after(span))
}
