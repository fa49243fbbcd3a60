//! A limit that several lanes or hosts share, and the queue of those that wait because it is reached.

use std::collections::VecDeque;

/// Counts the places that are taken under a limit, and keeps the queue of those that wait for a place.
#[derive(Clone, Debug)]
pub(super) struct PlaceQueue<Waiting> {
    /// How many places are taken.
    pub(super) in_flight: usize,
    /// How many lanes were called because of a free place and were not looked at since. Each may take one place.
    called: usize,
    waiting: VecDeque<Waiting>,
}

impl<Waiting> Default for PlaceQueue<Waiting> {
    fn default() -> PlaceQueue<Waiting> {
        PlaceQueue { in_flight: 0, called: 0, waiting: VecDeque::new() }
    }
}

impl<Waiting> PlaceQueue<Waiting> {
    /// How many places are free under this limit.
    pub(super) fn free(&self, limit: usize) -> usize {
        limit.saturating_sub(self.in_flight)
    }

    /// How many places one lane may take: all that are free, except one for each other lane that was called. If it was
    /// called itself, it may take one in any case.
    pub(super) fn free_for_one(&self, limit: usize, called: bool) -> usize {
        let free = self.free(limit);
        free.saturating_sub(self.called).max(free.min(usize::from(called)))
    }

    /// Whether one more lane can be called under this limit.
    pub(super) fn can_call(&self, limit: usize) -> bool {
        self.in_flight + self.called < limit
    }

    /// Puts `waiting` at the end of the queue.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
    }

    /// Takes the one that has waited longest out of the queue.
    pub(super) fn next(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    /// Takes the one that has waited shortest out of the queue.
    pub(super) fn newest(&mut self) -> Option<Waiting> {
        self.waiting.pop_back()
    }

    /// Notes that a lane was called. The scheduler looks at it soon, and then calls [`PlaceQueue::looked_at`].
    pub(super) fn call(&mut self) {
        self.called += 1;
    }

    /// Notes that a lane that was called has been looked at.
    pub(super) fn looked_at(&mut self) {
        self.called = self.called.saturating_sub(1);
    }

    /// Empties the queue.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// The length of the queue. A lane that has moved to another queue counts until its turn comes here.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no place is taken, the queue is empty, and no lane is called.
    pub(super) fn is_unused(&self) -> bool {
        self.in_flight == 0 && self.called == 0 && self.waiting.is_empty()
    }
}
