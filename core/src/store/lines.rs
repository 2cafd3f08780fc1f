//! Where unfinished jobs stand, as the memory store keeps it: one line per model, in the order of submission.

use std::collections::{HashMap, VecDeque};

use crate::job::{JobId, ModelName};

/// The lines of all models.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The number of the next job that joins; numbers only grow.
    next: u64,
    members: HashMap<JobId, (ModelName, u64)>,
    lines: HashMap<ModelName, VecDeque<(u64, JobId)>>,
}

impl Lines {
    /// Puts a job at its line's end.
    pub(super) fn join(&mut self, model: &ModelName, id: JobId) {
        let number = self.next;
        self.next += 1;
        self.members.insert(id, (model.clone(), number));
        let line = self.lines.entry(model.clone()).or_default();
        line.push_back((number, id));
    }

    pub(super) fn leave(&mut self, id: JobId) {
        let Some((model, number)) = self.members.remove(&id) else {
            return;
        };
        if let Some(line) = self.lines.get_mut(&model)
            && let Ok(place) = line.binary_search_by_key(&number, |(number, _)| *number)
        {
            line.remove(place);
            if line.is_empty() {
                self.lines.remove(&model);
            }
        }
    }

    /// The job's place, counted from 1; `None` where it stands in no line.
    pub(super) fn place(&self, id: JobId) -> Option<u64> {
        let (model, number) = self.members.get(&id)?;
        let line = self.lines.get(model)?;
        let ahead = line.partition_point(|(other, _)| other < number);
        Some(ahead as u64 + 1)
    }

    /// The job at the end of a model's line, and its place.
    pub(super) fn last(&self, model: &ModelName) -> Option<(JobId, u64)> {
        let line = self.lines.get(model)?;
        let (_, id) = line.back()?;
        Some((*id, line.len() as u64))
    }
}
