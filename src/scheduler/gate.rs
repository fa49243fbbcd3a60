//! A limit that several lanes or hosts share, and who waits because it is reached, in their order.

use std::collections::VecDeque;

/// Places that are taken, and who waits for one.
#[derive(Clone, Debug)]
pub(super) struct Gate<Waiting> {
    /// Places that are taken.
    pub(super) in_flight: usize,
    /// Lanes that were called because of a free place and were not looked at since. Each may take one.
    called: usize,
    waiting: VecDeque<Waiting>,
}

impl<Waiting> Default for Gate<Waiting> {
    fn default() -> Gate<Waiting> {
        Gate { in_flight: 0, called: 0, waiting: VecDeque::new() }
    }
}

impl<Waiting> Gate<Waiting> {
    /// Places that are free under this limit.
    pub(super) fn free(&self, limit: usize) -> usize {
        limit.saturating_sub(self.in_flight)
    }

    /// Places that one lane may take: all that are free but one for each other lane that was called for them.
    pub(super) fn free_for_one(&self, limit: usize) -> usize {
        let free = self.free(limit);
        free.saturating_sub(self.called).max(free.min(1))
    }

    /// Whether one more can be called under this limit.
    pub(super) fn can_call(&self, limit: usize) -> bool {
        self.in_flight + self.called < limit
    }

    /// Waits until it is called.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
    }

    /// Who has waited longest, and waits no more.
    pub(super) fn next(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    /// Who has waited shortest, and waits no more.
    pub(super) fn newest(&mut self) -> Option<Waiting> {
        self.waiting.pop_back()
    }

    /// A lane was called. The scheduler looks at it soon and then says [`Gate::looked_at`].
    pub(super) fn call(&mut self) {
        self.called += 1;
    }

    /// A lane that was called has been looked at.
    pub(super) fn looked_at(&mut self) {
        self.called = self.called.saturating_sub(1);
    }

    /// Nobody waits any more.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// How many wait; those that have gone elsewhere count until it is their turn.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody is in flight, waits, or was called.
    pub(super) fn is_unused(&self) -> bool {
        self.in_flight == 0 && self.called == 0 && self.waiting.is_empty()
    }
}
