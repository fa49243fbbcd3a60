//! Attempts that want to know the same at the same time share one question. The question is asked as long as anybody
//! waits for it, whoever began it. When the last one stops waiting, the question is dropped and its socket is closed.
//! No task is left behind, because the futures of those that wait drive the question.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

type Question<T> = Shared<BoxFuture<'static, T>>;
type Open<K, T> = Arc<Mutex<HashMap<K, WeakShared<BoxFuture<'static, T>>>>>;

/// The questions for whose answers somebody waits. There are never more questions than there are waiting futures.
#[derive(Debug)]
pub(super) struct Questions<K, T: Clone> {
    open: Open<K, T>,
}

impl<K: Clone + Eq + Hash, T: Clone + Send + Sync + 'static> Questions<K, T> {
    /// Starts without questions.
    pub(super) fn new() -> Questions<K, T> {
        Questions { open: Arc::default() }
    }

    /// Waits for the answer to the question `key`. If it is not open, `ask` opens it. Dropping the future stops
    /// waiting.
    pub(super) async fn answer<F>(&self, key: K, ask: impl FnOnce() -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        let question = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            match open.get(&key).and_then(WeakShared::upgrade) {
                Some(question) => question,
                None => {
                    let question = ask().boxed().shared();
                    if let Some(weak) = question.downgrade() {
                        open.insert(key.clone(), weak);
                    }
                    question
                }
            }
        };
        let _waiting = Waiting { open: Arc::clone(&self.open), key, question: Some(question.clone()) };
        question.await
    }

    /// How many questions are open.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// One that waits. When the last one is dropped, the question is removed.
struct Waiting<K: Eq + Hash, T: Clone> {
    open: Open<K, T>,
    key: K,
    question: Option<Question<T>>,
}

impl<K: Eq + Hash, T: Clone> Drop for Waiting<K, T> {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // This happens under the lock, so that nobody joins the question between its end and its removal.
        drop(self.question.take());
        if open.get(&self.key).is_some_and(|question| question.upgrade().is_none()) {
            open.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn whoever_asks_the_same_at_the_same_time_shares_one_question() {
        let (questions, asked) = (Questions::new(), AtomicUsize::new(0));
        let (answer, wait) = oneshot::channel::<u32>();
        let wait = wait.map(Result::unwrap).shared();
        let ask = || {
            asked.fetch_add(1, Ordering::Relaxed);
            wait.clone()
        };
        let mut all = Box::pin(futures_util::future::join_all((0..100).map(|_| questions.answer("a", ask))));
        assert!(timeout(Duration::ZERO, &mut all).await.is_err());
        answer.send(7).unwrap();
        assert_eq!(all.await, vec![7; 100]);
        assert_eq!((asked.load(Ordering::Relaxed), questions.len()), (1, 0));
    }

    #[tokio::test]
    async fn a_question_survives_who_began_it() {
        let questions = Questions::new();
        let (answer, wait) = oneshot::channel::<u32>();
        let mut first = Box::pin(questions.answer("a", || wait.map(Result::unwrap)));
        assert!(timeout(Duration::ZERO, &mut first).await.is_err());
        let mut second = pin!(questions.answer("a", || async { panic!("asked again") }));
        assert!(timeout(Duration::ZERO, &mut second).await.is_err());
        drop(first);
        answer.send(7).unwrap();
        assert_eq!(second.await, 7);
    }

    #[tokio::test]
    async fn nothing_is_left_when_nobody_waits_any_more() {
        let questions: Questions<&str, ()> = Questions::new();
        let alive = Arc::new(());
        for _ in 0..2 {
            let held = Arc::clone(&alive);
            let ask = || async move {
                let _held = held;
                pending().await
            };
            assert!(timeout(Duration::ZERO, questions.answer("a", ask)).await.is_err());
        }
        assert_eq!((questions.len(), Arc::strong_count(&alive)), (0, 1));
    }
}
