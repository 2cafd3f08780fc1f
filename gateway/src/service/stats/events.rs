//! What an operator should know: conditions as long as they last, and events as they happen. Both are logged here once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use selvage_core::clock::UnixMillis;
use selvage_core::registry::{Members, WorkerStatus};
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::time::Time;

/// Events that are kept; the oldest make room.
const MAX_EVENTS: usize = 50;
/// How long a worker that was lost is shown as a condition, unless it comes back or another one takes its place.
const LOST_SHOWN: Duration = Duration::from_secs(300);

/// A fault that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Condition {
    /// The kind of fault, for programs.
    pub kind: &'static str,
    /// What it concerns: a dependency, a model, a worker.
    pub subject: String,
    /// What it means, for people.
    pub text: String,
}

impl Condition {
    pub(super) fn new(kind: &'static str, subject: &str, text: impl Into<String>) -> Self {
        Self {
            kind,
            subject: subject.to_owned(),
            text: text.into(),
        }
    }

    /// Whether both are the same fault, whatever its figures have become.
    fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.subject == other.subject
    }
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Event {
    at: Time,
    /// The kind of the condition that began or ended, or what else happened.
    kind: &'static str,
    /// Whether somebody may have to act.
    warning: bool,
    text: String,
}

/// Conditions, the latest events, and the workers they were made of.
#[derive(Debug, Default)]
pub struct EventLog {
    conditions: Vec<Condition>,
    events: VecDeque<Event>,
    /// `None` until the list of processes was read once.
    workers: Option<BTreeMap<String, WorkerStatus>>,
    lost: BTreeMap<String, Lost>,
}

#[derive(Debug)]
struct Lost {
    at: UnixMillis,
    /// How many workers there were before.
    workers: usize,
    condition: Condition,
}

impl EventLog {
    /// Faults that last, as they were last looked at.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// The latest events, newest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().rev()
    }

    /// Notes an event, and logs it.
    pub fn note(&mut self, at: UnixMillis, kind: &'static str, warning: bool, text: String) {
        if warning {
            tracing::warn!(event = kind, "{text}");
        } else {
            tracing::info!(event = kind, "{text}");
        }
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            at: Time(at),
            kind,
            warning,
            text,
        });
    }

    /// Takes what lasts now; what is new and what is over becomes an event.
    pub fn set(&mut self, now: UnixMillis, mut found: Vec<Condition>) {
        self.lost.retain(|_, lost| lost.at.after(LOST_SHOWN) > now);
        found.extend(self.lost.values().map(|lost| lost.condition.clone()));
        let before = std::mem::replace(&mut self.conditions, found);
        let is_in = |list: &[Condition], one: &Condition| list.iter().any(|other| other.is(one));
        let begun = self.conditions.iter().filter(|one| !is_in(&before, one));
        let begun: Vec<_> = begun.map(|one| (one.kind, one.text.clone())).collect();
        let over = before
            .into_iter()
            .filter(|one| !is_in(&self.conditions, one));
        let over: Vec<_> = over.filter(|one| one.kind != "worker_lost").collect();
        for one in over {
            self.note(now, one.kind, false, format!("Over: {}", one.text));
        }
        for (kind, text) in begun {
            self.note(now, kind, true, text);
        }
    }

    /// Notes which workers came, left, and were lost. One that leaves in order takes itself off the list; one that falls silent
    /// or vanishes with jobs in hand is lost.
    pub fn look_at(&mut self, now: UnixMillis, members: &Members) {
        let heard = members
            .workers
            .iter()
            .filter(|one| !members.is_silent(&one.id));
        let heard: BTreeMap<_, _> = heard.map(|one| (one.id.clone(), one.clone())).collect();
        self.lost.retain(|_, lost| heard.len() < lost.workers);
        let Some(before) = self.workers.replace(heard.clone()) else {
            return;
        };
        for (id, _) in heard.iter().filter(|(id, _)| !before.contains_key(*id)) {
            let back = self.lost.remove(id).is_some();
            let text = format!(
                "Worker {id} {}.",
                if back { "is back" } else { "has joined" }
            );
            self.note(now, "worker_joined", false, text);
        }
        for (id, worker) in before.iter().filter(|(id, _)| !heard.contains_key(*id)) {
            if members.is_silent(id) {
                let lost = Lost {
                    at: now,
                    workers: before.len(),
                    condition: lost(worker),
                };
                self.lost.insert(id.clone(), lost);
            } else {
                self.note(now, "worker_left", false, format!("Worker {id} has left."));
            }
        }
    }
}

fn lost(worker: &WorkerStatus) -> Condition {
    let busy: u32 = worker.models.iter().map(|held| u32::from(held.busy)).sum();
    let jobs = match busy {
        0 => "It had no job in hand".to_owned(),
        busy => format!("{busy} of its sessions were busy; their jobs are delivered again"),
    };
    let text = format!(
        "Worker {} is lost: nothing is heard of it. {jobs}.",
        worker.id
    );
    Condition::new("worker_lost", &worker.id, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: &str) -> WorkerStatus {
        WorkerStatus {
            id: id.to_owned(),
            started_at: UnixMillis(0),
            models: Vec::new(),
        }
    }

    fn members(heard: &[&str], silent: &[&str]) -> Members {
        let all = heard.iter().chain(silent);
        let quiet = |id: &&str| ((*id).to_owned(), Duration::from_secs(2));
        Members {
            workers: all.map(|id| worker(id)).collect(),
            quiet: silent.iter().map(quiet).collect(),
            ..Members::default()
        }
    }

    fn kinds(log: &EventLog) -> Vec<&'static str> {
        log.events().map(|event| event.kind).collect()
    }

    #[test]
    fn a_worker_that_leaves_is_told_from_one_that_is_lost() {
        let mut log = EventLog::default();
        log.look_at(UnixMillis(0), &members(&["a", "b"], &[]));
        assert!(kinds(&log).is_empty(), "the first look is no change");
        log.look_at(UnixMillis(1), &members(&["a", "b", "c"], &[]));
        log.look_at(UnixMillis(2), &members(&["a", "b"], &[]));
        log.look_at(UnixMillis(3), &members(&["a"], &["b"]));
        log.set(UnixMillis(3), Vec::new());
        assert_eq!(kinds(&log), ["worker_lost", "worker_left", "worker_joined"]);
        assert_eq!(log.conditions()[0].subject, "b");
        // Nothing happens where nothing changes, and a lost worker stays for a while after it is off the list.
        log.look_at(UnixMillis(4), &members(&["a"], &[]));
        log.set(UnixMillis(4), Vec::new());
        assert_eq!((log.conditions().len(), kinds(&log).len()), (1, 3));
        log.set(UnixMillis(3).after(LOST_SHOWN), Vec::new());
        assert_eq!((log.conditions().len(), kinds(&log).len()), (0, 3));
    }

    #[test]
    fn a_lost_worker_that_comes_back_or_is_replaced_is_missed_no_more() {
        for next in ["a", "another"] {
            let mut log = EventLog::default();
            log.look_at(UnixMillis(0), &members(&["a"], &[]));
            log.look_at(UnixMillis(1), &members(&[], &["a"]));
            log.set(UnixMillis(1), Vec::new());
            assert_eq!(log.conditions().len(), 1);
            log.look_at(UnixMillis(2), &members(&[next], &[]));
            log.set(UnixMillis(2), Vec::new());
            assert!(log.conditions().is_empty());
            assert_eq!(kinds(&log), ["worker_joined", "worker_lost"]);
        }
    }

    #[test]
    fn a_condition_is_an_event_as_it_begins_and_as_it_ends() {
        let mut log = EventLog::default();
        let down = |text: &str| Condition::new("dependency", "broker", text);
        for (text, events) in [("Down, 1 s.", 1), ("Down, 2 s.", 1)] {
            log.set(UnixMillis(0), vec![down(text)]);
            assert_eq!(
                (log.conditions()[0].text.as_str(), log.events.len()),
                (text, events)
            );
        }
        log.set(UnixMillis(1), Vec::new());
        assert_eq!(log.events().next().unwrap().text, "Over: Down, 2 s.");
        for _ in 0..2 * MAX_EVENTS {
            log.note(UnixMillis(2), "other", false, String::new());
        }
        assert_eq!(log.events.len(), MAX_EVENTS);
    }
}
