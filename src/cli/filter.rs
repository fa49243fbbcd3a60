//! The criteria for deliveries that `history` and `replay` share.

use clap::Args;
use uuid::Uuid;

use super::moment::{parse_moment, resolved, say_nothing_between};
use crate::domain::delivery::State;
use crate::domain::error_kind::ErrorKind;
use crate::domain::moment::Moment;
use crate::store::history::HistoryFilter;
use crate::store::{Store, StoreError};

/// The name under which other arguments can refer to all criteria together.
pub(super) const GROUP: &str = "Filter";

/// Criteria for deliveries.
///
/// clap makes an argument group with the name of this type: [`GROUP`].
#[derive(Args, Clone)]
pub(super) struct Filter {
    /// The call's agent.
    #[arg(long)]
    agent: Option<String>,

    /// The action's name.
    #[arg(long)]
    action: Option<String>,

    /// The state; may be given more than once.
    #[arg(long = "state", value_name = "STATE", value_enum)]
    states: Vec<State>,

    /// The provider's id of the call (callInfo.callSid).
    #[arg(long, value_name = "SID")]
    call_sid: Option<String>,

    /// The call's id in the outbox.
    #[arg(long, value_name = "UUID")]
    call_id: Option<Uuid>,

    /// The error kind.
    #[arg(long, value_name = "KIND", value_enum)]
    error_kind: Option<ErrorKind>,

    /// The HTTP status code.
    #[arg(long, value_name = "CODE")]
    response_code: Option<i16>,

    /// Created at this time or later: a day, a time with an offset, or a span back from now (30m, 1h, 2d).
    #[arg(long, visible_alias = "from", value_name = "TIME|SPAN", value_parser = parse_moment)]
    since: Option<Moment>,

    /// Created before this time; as --since.
    #[arg(long, visible_alias = "to", value_name = "TIME|SPAN", value_parser = parse_moment)]
    until: Option<Moment>,

    /// Only what is open: rejected, failed or unknown, and not healed: no later delivery of the same message was
    /// delivered, and no finding says that it was.
    #[arg(long)]
    open: bool,
}

impl Filter {
    /// The criteria, with the times that are meant.
    ///
    /// # Errors
    /// Only those of the database, whose clock is asked if a span is given.
    pub(super) async fn resolved(self, store: &Store) -> Result<HistoryFilter, StoreError> {
        let [since, until] = resolved(store, [self.since, self.until]).await?;
        say_nothing_between(since, until);
        Ok(HistoryFilter {
            delivery_ids: None,
            agent: self.agent,
            action: self.action,
            states: Some(self.states).filter(|states| !states.is_empty()),
            call_sid: self.call_sid,
            call_id: self.call_id,
            error_kind: self.error_kind,
            response_code: self.response_code,
            since,
            until,
            open: self.open,
        })
    }
}
