//! Lets calls that come while one is under way share the next one. No timer: alone, a call goes at once.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Shares one round trip among callers of one moment. Ends with its owner.
#[derive(Debug)]
pub(super) struct Gatherer<T, R, E> {
    queue: mpsc::Sender<Waiting<T, R, E>>,
    _driver: JoinSet<()>,
}

#[derive(Debug)]
struct Waiting<T, R, E> {
    item: T,
    done: oneshot::Sender<Result<R, E>>,
}

impl<T, R, E> Gatherer<T, R, E>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Clone + Send + 'static,
{
    /// Gathers up to `most` items for one `call`, which gives one result per item in order; as many again may wait, further callers wait for a place.
    ///
    /// # Panics
    /// Outside of a Tokio runtime, or if `most` is 0.
    pub(super) fn new<F, C>(most: usize, call: C) -> Self
    where
        C: Fn(Vec<T>) -> F + Send + 'static,
        F: Future<Output = Result<Vec<R>, E>> + Send + 'static,
    {
        let (queue, items) = mpsc::channel(most);
        let mut driver = JoinSet::new();
        driver.spawn(drive(items, most, call));
        Self {
            queue,
            _driver: driver,
        }
    }

    /// Has one item handled by a call of its own or a shared one; `None` if the gatherer has ended or the call gave too
    /// few results.
    ///
    /// An item whose caller goes away before its call begins is left out.
    pub(super) async fn submit(&self, item: T) -> Option<Result<R, E>> {
        let (done, outcome) = oneshot::channel();
        self.queue.send(Waiting { item, done }).await.ok()?;
        outcome.await.ok()
    }
}

async fn drive<T, R, E, F, C>(mut items: mpsc::Receiver<Waiting<T, R, E>>, most: usize, call: C)
where
    E: Clone,
    C: Fn(Vec<T>) -> F,
    F: Future<Output = Result<Vec<R>, E>>,
{
    let mut gathered = Vec::with_capacity(most);
    while items.recv_many(&mut gathered, most).await > 0 {
        let wanted = gathered
            .drain(..)
            .filter(|waiting| !waiting.done.is_closed());
        let (items, callers): (Vec<T>, Vec<_>) =
            wanted.map(|waiting| (waiting.item, waiting.done)).unzip();
        if items.is_empty() {
            continue;
        }
        // A caller that is gone needs no answer.
        match call(items).await {
            Ok(results) => {
                for (caller, result) in callers.into_iter().zip(results) {
                    let _ = caller.send(Ok(result));
                }
            }
            Err(error) => {
                for caller in callers {
                    let _ = caller.send(Err(error.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::Semaphore;

    use super::*;

    /// Calls that each wait for a permit and write down what they were given.
    struct Calls {
        made: Arc<Mutex<Vec<Vec<u32>>>>,
        permits: Arc<Semaphore>,
    }

    fn gatherer(most: usize) -> (Arc<Gatherer<u32, u32, String>>, Calls) {
        let calls = Calls {
            made: Arc::default(),
            permits: Arc::new(Semaphore::new(0)),
        };
        let (made, permits) = (calls.made.clone(), calls.permits.clone());
        let gatherer = Gatherer::new(most, move |items: Vec<u32>| {
            made.lock().unwrap().push(items.clone());
            let permits = permits.clone();
            async move {
                permits.acquire().await.unwrap().forget();
                match items.contains(&13) {
                    true => Err("unlucky".to_owned()),
                    false => Ok(items),
                }
            }
        });
        (Arc::new(gatherer), calls)
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_comes_during_a_call_shares_the_next() {
        let (gatherer, calls) = gatherer(8);
        let mut tasks = JoinSet::new();
        let submit = |n: u32| {
            let gatherer = gatherer.clone();
            async move { gatherer.submit(n).await }
        };
        tasks.spawn(submit(1));
        until(|| calls.made.lock().unwrap().len() == 1).await;
        for n in 2..=6 {
            tasks.spawn(submit(n));
        }
        until(|| gatherer.queue.capacity() == 3).await;
        calls.permits.add_permits(2);
        let outcomes = tasks.join_all().await;
        let mut own: Vec<u32> = outcomes
            .into_iter()
            .map(|own| own.unwrap().unwrap())
            .collect();
        own.sort_unstable();
        assert_eq!(own, [1, 2, 3, 4, 5, 6], "each gets its own result");
        let mut made = calls.made.lock().unwrap().clone();
        made[1].sort_unstable();
        assert_eq!(made, [vec![1], vec![2, 3, 4, 5, 6]]);
    }

    #[tokio::test]
    async fn a_failed_call_fails_all_who_shared_it_and_nobody_else() {
        let (gatherer, calls) = gatherer(8);
        calls.permits.add_permits(100);
        let (unlucky, with_it) = tokio::join!(gatherer.submit(13), gatherer.submit(14));
        assert_eq!(
            (unlucky, with_it),
            (
                Some(Err("unlucky".to_owned())),
                Some(Err("unlucky".to_owned()))
            )
        );
        assert_eq!(gatherer.submit(1).await, Some(Ok(1)));
    }

    #[tokio::test]
    async fn a_call_takes_no_more_than_it_may() {
        let (gatherer, calls) = gatherer(4);
        calls.permits.add_permits(100);
        let mut tasks = JoinSet::new();
        for n in 100..150 {
            let gatherer = gatherer.clone();
            tasks.spawn(async move { gatherer.submit(n).await });
        }
        assert!(
            tasks
                .join_all()
                .await
                .iter()
                .all(|outcome| matches!(outcome, Some(Ok(_))))
        );
        let made = calls.made.lock().unwrap();
        assert!(made.iter().all(|items| items.len() <= 4), "{made:?}");
        assert_eq!(made.iter().map(Vec::len).sum::<usize>(), 50);
    }

    #[tokio::test]
    async fn who_went_away_before_the_call_is_left_out() {
        let (gatherer, calls) = gatherer(8);
        let mut tasks = JoinSet::new();
        let at = gatherer.clone();
        tasks.spawn(async move { at.submit(1).await });
        until(|| calls.made.lock().unwrap().len() == 1).await;
        let at = gatherer.clone();
        let gone = tasks.spawn(async move { at.submit(2).await });
        until(|| gatherer.queue.capacity() == 7).await;
        gone.abort();
        tasks.join_next().await.unwrap().unwrap_err();
        let at = gatherer.clone();
        tasks.spawn(async move { at.submit(3).await });
        calls.permits.add_permits(2);
        tasks.join_all().await;
        assert_eq!(*calls.made.lock().unwrap(), [vec![1], vec![3]]);
    }
}
