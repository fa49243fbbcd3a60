//! How long a search may take.

use std::time::{Duration, Instant};

/// How long a search may take.
pub(super) const SEARCH_TIME: Duration = Duration::from_millis(800);
/// How long it may take for a page that has to be there at once.
const GLANCE: Duration = Duration::from_millis(50);
/// A statement may take so long in any case: on a busy machine, its plan alone takes a part of that.
const LEAST_STATEMENT_TIME: Duration = Duration::from_millis(40);

/// How long a search, or a look, may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Usually about a tenth of a second, for a page; what an index finds may take longer.
    Glance,
    /// Usually at most about a second.
    Search,
}

/// When a search began, and how long it may take.
#[derive(Clone, Copy)]
pub(in crate::store) struct Budget {
    started: Instant,
    time: Duration,
}

impl Budget {
    /// The time begins now.
    pub(in crate::store) fn of(patience: Patience) -> Budget {
        let time = match patience {
            Patience::Glance => GLANCE,
            Patience::Search => SEARCH_TIME,
        };
        Budget { started: Instant::now(), time }
    }

    /// The whole time.
    pub(super) fn time(self) -> Duration {
        self.time
    }

    /// What is left of it.
    pub(in crate::store) fn left(self) -> Duration {
        self.time.saturating_sub(self.started.elapsed())
    }

    /// How long the next statement may take.
    pub(super) fn statement(self) -> Duration {
        self.left().max(self.time / 4).max(LEAST_STATEMENT_TIME)
    }
}
