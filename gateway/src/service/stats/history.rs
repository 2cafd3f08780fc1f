//! The last hour in samples.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::figures::Figures;

/// Time from one sample to the next.
pub const EVERY: Duration = Duration::from_secs(10);
/// Samples of an hour.
const MAX_SAMPLES: usize = 360;

/// One sample for each ten seconds of the last hour.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Figures>,
    taken: Option<Instant>,
}

impl History {
    /// Takes a sample, if it is time for one.
    pub fn offer(&mut self, now: Instant, sample: &Figures) {
        if self
            .taken
            .is_some_and(|taken| now.duration_since(taken) < EVERY)
        {
            return;
        }
        self.taken = Some(now);
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample.clone());
    }

    /// The samples, oldest first.
    #[must_use]
    pub fn samples(&self) -> Vec<Figures> {
        self.samples.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let (mut history, start) = (History::default(), Instant::now());
        for second in 0..7200 {
            history.offer(start + Duration::from_secs(second), &Figures::default());
        }
        assert_eq!(history.samples().len(), MAX_SAMPLES);
    }
}
