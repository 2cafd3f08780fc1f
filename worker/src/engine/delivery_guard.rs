//! One delivery's settlement: done once, when the last of its jobs has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use selvage_core::queue::Settle;
use tokio::sync::OwnedSemaphorePermit;

/// One job's share in its delivery. A share that is dropped without [`DeliveryGuard::done`] hands the whole delivery back, so
/// that no fault can make a job look finished.
#[derive(Debug)]
pub struct DeliveryGuard {
    delivery: Arc<Unsettled>,
    done: bool,
}

impl DeliveryGuard {
    /// Shares for the jobs of one delivery. The room it took is free once it is settled.
    #[must_use]
    pub fn shares(
        settle: Box<dyn Settle>,
        jobs: usize,
        room: Option<OwnedSemaphorePermit>,
    ) -> Vec<Self> {
        let delivery = Arc::new(Unsettled {
            settle: Some(settle),
            jobs,
            aside: AtomicBool::new(false),
            back: AtomicBool::new(false),
            _room: room,
        });
        let share = || Self {
            delivery: Arc::clone(&delivery),
            done: false,
        };
        std::iter::repeat_with(share).take(jobs).collect()
    }

    /// The job is finished and all that clients may read about it is stored.
    pub fn done(mut self) {
        self.done = true;
    }

    /// The job has ended in a way that people may want to look into: its message becomes a dead letter. One that carries
    /// other jobs too is only done.
    pub fn dead_letter(self) {
        let alone = self.delivery.jobs == 1;
        self.delivery.aside.store(alone, Ordering::Release);
        self.done();
    }

    /// The job is for another worker.
    pub fn hand_back(self) {}
}

impl Drop for DeliveryGuard {
    fn drop(&mut self) {
        if !self.done {
            self.delivery.back.store(true, Ordering::Release);
        }
    }
}

#[derive(Debug)]
struct Unsettled {
    settle: Option<Box<dyn Settle>>,
    jobs: usize,
    aside: AtomicBool,
    back: AtomicBool,
    _room: Option<OwnedSemaphorePermit>,
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        let Some(settle) = self.settle.take() else {
            return;
        };
        if *self.back.get_mut() {
            settle.give_back();
        } else if *self.aside.get_mut() {
            settle.dead_letter();
        } else {
            settle.ack();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use selvage_core::queue::Settlement;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Recorder(Arc<Mutex<Vec<Settlement>>>);

    impl Settle for Recorder {
        fn settle(self: Box<Self>, settlement: Settlement) {
            self.0.lock().unwrap().push(settlement);
        }
    }

    fn settled(act: impl FnOnce(Vec<DeliveryGuard>)) -> Vec<Settlement> {
        settled_of(3, act)
    }

    fn settled_of(jobs: usize, act: impl FnOnce(Vec<DeliveryGuard>)) -> Vec<Settlement> {
        let recorder = Recorder::default();
        act(DeliveryGuard::shares(
            Box::new(recorder.clone()),
            jobs,
            None,
        ));
        let seen = recorder.0.lock().unwrap();
        seen.clone()
    }

    #[test]
    fn a_delivery_is_acknowledged_once_when_its_last_job_is_done() {
        let mut kept = Vec::new();
        let early = settled(|mut shares| {
            kept.extend(shares.pop());
            shares.into_iter().for_each(DeliveryGuard::done);
        });
        assert!(early.is_empty());
        assert_eq!(
            settled(|shares| shares.into_iter().for_each(DeliveryGuard::done)),
            [Settlement::Ack]
        );
    }

    #[test]
    fn one_job_that_goes_back_takes_its_delivery_along() {
        let seen = settled(|mut shares| {
            shares.pop().unwrap().hand_back();
            shares.into_iter().for_each(DeliveryGuard::done);
        });
        assert_eq!(seen, [Settlement::GiveBack]);
    }

    #[test]
    fn only_a_job_alone_is_dead_lettered() {
        let aside =
            |shares: Vec<DeliveryGuard>| shares.into_iter().for_each(DeliveryGuard::dead_letter);
        assert_eq!(settled_of(1, aside), [Settlement::DeadLetter]);
        assert_eq!(settled_of(2, aside), [Settlement::Ack]);
    }

    #[test]
    fn a_share_that_gets_lost_hands_back() {
        let seen = settled(|mut shares| {
            drop(shares.remove(1));
            shares.into_iter().for_each(DeliveryGuard::done);
        });
        assert_eq!(seen, [Settlement::GiveBack]);
    }
}
