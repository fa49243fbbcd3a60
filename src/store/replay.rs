//! Replays: new deliveries made by hand from earlier ones.
//!
//! The deliveries of one message are a chain: an original, its replay, the replay's replay. Receivers see all of them
//! under one `webhook-id`, so what must not be repeated by accident is judged for the message, not for the single
//! delivery: only the chain's last one can be replayed, and one that was delivered, or is in doubt, anywhere in the chain
//! is sent again only if that was asked for.

use sqlx::PgConnection;
use uuid::Uuid;

use super::history::{HistoryFilter, HistoryRow, StateCount};
use super::{Store, StoreError};
use crate::domain::delivery::State;

/// In whose name deliveries are replayed, and what may be repeated.
#[derive(Clone, Debug)]
pub struct ReplayOrder {
    /// Who asks for it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Also messages that were delivered before.
    pub include_delivered: bool,
    /// Also messages that may have been received before.
    pub include_unknown: bool,
}

impl ReplayOrder {
    /// Whether deliveries in this state may be replayed at all. More can stand against a single one.
    pub fn allows(&self, state: State) -> bool {
        match state {
            State::Waiting | State::Sending => false,
            State::Delivered => self.include_delivered,
            State::Unknown => self.include_unknown,
            State::Rejected | State::Failed | State::Skipped => true,
        }
    }
}

/// Why a delivery is not replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none of that id.
    NoSuchDelivery,
    /// It is still on its way itself.
    OnItsWay {
        /// Waiting or sending.
        state: String,
    },
    /// It has been replayed already.
    Replayed {
        /// As this delivery; `None` if that was made by somebody else at this very moment.
        replay: Option<Uuid>,
        /// Where that one stands.
        state: Option<String>,
    },
    /// The message was delivered, by it or by another delivery of the chain.
    Delivered,
    /// The message may have been received, by it or by another delivery of the chain, which may have left history.
    Unknown,
    /// Its action is disabled, so that it would be skipped.
    ActionDisabled {
        /// The agent.
        agent: String,
        /// The action's name.
        action: String,
    },
    /// The call is no longer in the outbox.
    PayloadGone,
    /// The database judged in a way that this program does not know.
    Other,
}

/// What became of a delivery that was to be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It can be replayed; nothing was asked for but that.
    Allowed,
    /// It was, as this new delivery.
    As(Uuid),
    /// It was not.
    Refused(Refusal),
}

/// What a filter matches of deliveries that can be replayed as far as their states tell.
#[derive(Debug)]
pub enum Candidates {
    /// Few enough.
    Found {
        /// The oldest first.
        rows: Vec<HistoryRow>,
        /// What else matches, in states that the order does not allow.
        left_out: Vec<StateCount>,
    },
    /// More than were bargained for; how many more is not counted.
    TooMany,
}

/// Whether to replay what can be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Judge,
    Make,
}

impl Store {
    /// The deliveries that match `filter`, in the states that `order` allows; at most `limit`.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn replay_candidates(
        &self,
        filter: &HistoryFilter,
        order: &ReplayOrder,
        limit: usize,
    ) -> Result<Candidates, StoreError> {
        // Counted first, so that what is left out, or is too much, is never read. Between the two looks a delivery may
        // change its state: each is judged once more when it is replayed.
        let allowed = |count: &StateCount| State::named(&count.state).is_some_and(|state| order.allows(state));
        let (chosen, left_out): (Vec<_>, Vec<_>) =
            self.count_history(filter, limit).await?.into_iter().partition(allowed);
        let matching: i64 = chosen.iter().map(|count| count.count).sum();
        if usize::try_from(matching).unwrap_or(usize::MAX) > limit {
            return Ok(Candidates::TooMany);
        }
        let states = chosen.into_iter().map(|count| count.state).collect();
        let filter = HistoryFilter { states: Some(states), ..filter.clone() };
        let mut rows = self.history(&filter, limit).await?;
        rows.reverse();
        Ok(Candidates::Found { rows, left_out })
    }

    /// What [`Store::replay`] would do. Changes nothing.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn judge_replay(&self, ids: &[Uuid], order: &ReplayOrder) -> Result<Vec<(Uuid, Replayed)>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        replay(&mut connection, ids, order, Mode::Judge).await
    }

    /// Replays those of the deliveries `ids` that can be replayed, all in one commit, and says for each what became of
    /// it.
    ///
    /// # Errors
    /// Only those of the database. Then it is not known whether they were replayed; if they were, a repetition refuses
    /// them.
    pub async fn replay(&self, ids: &[Uuid], order: &ReplayOrder) -> Result<Vec<(Uuid, Replayed)>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let outcomes = lock_and_replay(&mut transaction, ids, order).await?;
        transaction.commit().await?;
        Ok(outcomes)
    }

    /// Replays all of the deliveries `ids` or, if one of them is refused, none.
    ///
    /// # Errors
    /// As [`Store::replay`].
    pub async fn replay_all_or_none(
        &self,
        ids: &[Uuid],
        order: &ReplayOrder,
    ) -> Result<Vec<(Uuid, Replayed)>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let outcomes = lock_and_replay(&mut transaction, ids, order).await?;
        if outcomes.iter().any(|(_, outcome)| matches!(outcome, Replayed::Refused(_))) {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
        Ok(outcomes)
    }
}

/// Replays while nobody else can replay the same deliveries, or say what became of them.
///
/// Two statements, because the second must see what those have committed for whom the first has waited: a person's finding
/// that the message was delivered stands against sending it again.
async fn lock_and_replay(
    connection: &mut PgConnection,
    ids: &[Uuid],
    order: &ReplayOrder,
) -> Result<Vec<(Uuid, Replayed)>, StoreError> {
    sqlx::query!("SELECT postcall.lock_deliveries($1)", ids).fetch_one(&mut *connection).await?;
    replay(connection, ids, order, Mode::Make).await
}

/// One row of the statement's answer.
struct Row {
    delivery_id: Uuid,
    verdict: String,
    state: Option<String>,
    next_id: Option<Uuid>,
    next_state: Option<String>,
    agent: Option<String>,
    action: Option<String>,
    made: Option<Uuid>,
}

#[expect(clippy::too_many_lines, reason = "most of it is one statement")]
async fn replay(
    connection: &mut PgConnection,
    ids: &[Uuid],
    order: &ReplayOrder,
    mode: Mode,
) -> Result<Vec<(Uuid, Replayed)>, StoreError> {
    // One statement for judging and for making, so that a dry run cannot differ from what it announces.
    // - The view is asked by an array, which reaches the index of each of its tables; a join would not.
    // - Two people at the same time: the second waits until the first has committed, and then sees its replay. The unique
    //   constraint decides where somebody replays without the lock; ORDER BY gives all the same order, so that nobody
    //   waits in a circle.
    // - Where a delivery of the chain has left history, nobody can see any more what it came to: that is a doubt.
    // - The triggers of postcall.replay give the new delivery its id and its message, and put it into the queue.
    // - The payload is looked for by a scalar subquery: it can only be an index look-up per row.
    // - No notification is sent: a dispatcher that sleeps looks by itself within a second.
    let rows = sqlx::query_as!(
        Row,
        r#"
        WITH asked AS MATERIALIZED (
            SELECT DISTINCT asked.id, coalesce(replay.message_id, asked.id) AS message_id
            FROM unnest($1::uuid[]) AS asked (id)
            LEFT JOIN postcall.replay ON replay.delivery_id = asked.id
        ),
        chain AS MATERIALIZED (
            SELECT message_id, message_id AS delivery_id FROM asked
            UNION
            SELECT message_id, delivery_id FROM postcall.replay
            WHERE message_id = ANY (ARRAY(SELECT message_id FROM asked))
        ),
        story AS MATERIALIZED (
            SELECT delivery_id, call_id, agent, action, state, message_id FROM postcall.delivery_history
            WHERE delivery_id = ANY (ARRAY(SELECT delivery_id FROM chain))
        ),
        past AS MATERIALIZED (
            SELECT message_id, bool_or(state = 'delivered') AS delivered,
                   bool_or(state = 'unknown')
                   OR count(*) < (SELECT count(*) FROM chain WHERE chain.message_id = story.message_id) AS unknown
            FROM story GROUP BY message_id
        ),
        judged AS MATERIALIZED (
            SELECT asked.id, asked.message_id, story.call_id, story.agent, story.action, action.action_id, story.state,
                   next.delivery_id AS next_id, next_story.state AS next_state,
                   CASE WHEN story.state IS NULL THEN 'no_such_delivery'
                        WHEN story.state IN ('waiting', 'sending') THEN 'on_its_way'
                        WHEN next.delivery_id IS NOT NULL THEN 'replayed'
                        WHEN past.delivered AND NOT $2 THEN 'delivered'
                        WHEN past.unknown AND NOT $3 THEN 'unknown'
                        WHEN NOT coalesce(action.enabled, false) THEN 'action_disabled'
                        WHEN (SELECT outbox.id FROM postcall.outbox WHERE outbox.id = story.call_id) IS NULL
                            THEN 'payload_gone'
                        ELSE 'allowed' END AS verdict
            FROM asked
            LEFT JOIN story ON story.delivery_id = asked.id
            LEFT JOIN past ON past.message_id = asked.message_id
            LEFT JOIN postcall.replay AS next ON next.replay_of = asked.id
            LEFT JOIN story AS next_story ON next_story.delivery_id = next.delivery_id
            LEFT JOIN postcall.action ON action.agent = story.agent AND action.name = story.action
        ),
        made AS (
            INSERT INTO postcall.replay (replay_of, replayed_by, reason)
            SELECT id, $4, $5 FROM judged WHERE verdict = 'allowed' AND $6
            ORDER BY id
            ON CONFLICT (replay_of) DO NOTHING
            RETURNING delivery_id, replay_of
        )
        SELECT judged.id AS "delivery_id!", verdict AS "verdict!", state, next_id AS "next_id?", next_state, agent,
               action, made.delivery_id AS "made?"
        FROM judged LEFT JOIN made ON made.replay_of = judged.id
        ORDER BY judged.id
        "#,
        ids,
        order.include_delivered,
        order.include_unknown,
        order.by,
        order.reason,
        mode == Mode::Make,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.delivery_id, row.outcome(mode))).collect())
}

impl Row {
    fn outcome(self, mode: Mode) -> Replayed {
        Replayed::Refused(match (self.verdict.as_str(), self.made, mode) {
            ("allowed", Some(made), _) => return Replayed::As(made),
            ("allowed", None, Mode::Judge) => return Replayed::Allowed,
            ("allowed", None, Mode::Make) => Refusal::Replayed { replay: None, state: None },
            ("no_such_delivery", ..) => Refusal::NoSuchDelivery,
            ("on_its_way", ..) => Refusal::OnItsWay { state: self.state.unwrap_or_default() },
            ("replayed", ..) => Refusal::Replayed { replay: self.next_id, state: self.next_state },
            ("delivered", ..) => Refusal::Delivered,
            ("unknown", ..) => Refusal::Unknown,
            ("action_disabled", ..) => Refusal::ActionDisabled {
                agent: self.agent.unwrap_or_default(),
                action: self.action.unwrap_or_default(),
            },
            ("payload_gone", ..) => Refusal::PayloadGone,
            _ => Refusal::Other,
        })
    }
}
