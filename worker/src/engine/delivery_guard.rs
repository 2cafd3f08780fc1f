//! One delivery's settlement: done once, when the last of its jobs has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use selvage_core::queue::Settle;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;

/// One job's share in its delivery. A share that is dropped without [`DeliveryGuard::done`] hands the whole delivery back, so
/// that no fault can make a job look finished.
#[derive(Debug)]
pub struct DeliveryGuard {
    delivery: Arc<Unsettled>,
    done: bool,
}

impl DeliveryGuard {
    /// Shares for the jobs of one delivery. It is settled by a task of `tasks`, and the room it took is free then.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn shares(
        settle: Box<dyn Settle>,
        jobs: usize,
        room: Option<OwnedSemaphorePermit>,
        tasks: &TaskTracker,
    ) -> Vec<Self> {
        let delivery = Arc::new(Unsettled {
            settle: Some(settle),
            jobs,
            aside: AtomicBool::new(false),
            back: AtomicBool::new(false),
            room,
            tasks: tasks.clone(),
            runtime: Handle::current(),
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
    room: Option<OwnedSemaphorePermit>,
    tasks: TaskTracker,
    runtime: Handle,
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        let Some(settle) = self.settle.take() else {
            return;
        };
        let room = self.room.take();
        let back = self.back.load(Ordering::Acquire);
        let aside = self.aside.load(Ordering::Acquire);
        let settling = async move {
            if back {
                settle.give_back().await;
            } else if aside {
                settle.dead_letter().await;
            } else {
                settle.ack().await;
            }
            drop(room);
        };
        self.tasks.spawn_on(settling, &self.runtime);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Recorder(Arc<Mutex<Vec<&'static str>>>);

    #[async_trait]
    impl Settle for Recorder {
        async fn ack(self: Box<Self>) {
            self.0.lock().unwrap().push("ack");
        }

        async fn give_back(self: Box<Self>) {
            self.0.lock().unwrap().push("give back");
        }

        async fn dead_letter(self: Box<Self>) {
            self.0.lock().unwrap().push("dead letter");
        }
    }

    async fn settled(act: impl FnOnce(Vec<DeliveryGuard>)) -> Vec<&'static str> {
        settled_of(3, act).await
    }

    async fn settled_of(jobs: usize, act: impl FnOnce(Vec<DeliveryGuard>)) -> Vec<&'static str> {
        let recorder = Recorder::default();
        let tasks = TaskTracker::new();
        act(DeliveryGuard::shares(
            Box::new(recorder.clone()),
            jobs,
            None,
            &tasks,
        ));
        tasks.close();
        tasks.wait().await;
        let seen = recorder.0.lock().unwrap();
        seen.clone()
    }

    #[tokio::test]
    async fn a_delivery_is_acknowledged_once_when_its_last_job_is_done() {
        let mut kept = Vec::new();
        let early = settled(|mut shares| {
            kept.extend(shares.pop());
            shares.into_iter().for_each(DeliveryGuard::done);
        });
        assert!(early.await.is_empty());
        assert_eq!(
            settled(|shares| shares.into_iter().for_each(DeliveryGuard::done)).await,
            ["ack"]
        );
    }

    #[tokio::test]
    async fn one_job_that_goes_back_takes_its_delivery_along() {
        let seen = settled(|mut shares| {
            shares.pop().unwrap().hand_back();
            shares.into_iter().for_each(DeliveryGuard::done);
        });
        assert_eq!(seen.await, ["give back"]);
    }

    #[tokio::test]
    async fn only_a_job_alone_is_dead_lettered() {
        let aside =
            |shares: Vec<DeliveryGuard>| shares.into_iter().for_each(DeliveryGuard::dead_letter);
        assert_eq!(settled_of(1, aside).await, ["dead letter"]);
        assert_eq!(settled_of(2, aside).await, ["ack"]);
    }

    #[tokio::test]
    async fn a_share_that_gets_lost_hands_back() {
        let seen = settled(|mut shares| {
            drop(shares.remove(1));
            shares.into_iter().for_each(DeliveryGuard::done);
        });
        assert_eq!(seen.await, ["give back"]);
    }
}
