//! Replays: new deliveries that a person makes from earlier ones.
//!
//! The deliveries of one message form a chain: an original, its replay, the replay's replay. Receivers see all of them
//! under one `webhook-id`, so the message decides what may be repeated, not the single delivery. Only the last delivery
//! of the chain can be replayed. If any delivery of the chain was delivered or is unknown, the message is sent again
//! only if the order allows it by name.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Store, StoreError, texts};
use crate::domain::delivery::State;

/// Who replays deliveries and why, and what may be repeated.
#[derive(Clone, Debug)]
pub struct ReplayOrder {
    /// Who replays, in that person's own words.
    pub by: String,
    /// The reason that this person gave.
    pub reason: String,
    /// Whether messages that were delivered before may be sent again.
    pub include_delivered: bool,
    /// Whether messages that may have been received before may be sent again.
    pub include_unknown: bool,
}

impl ReplayOrder {
    /// Whether deliveries in this state may be replayed at all. A single delivery can still be refused for other
    /// reasons.
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
pub enum ReplayRefusal {
    /// There is no delivery with this id.
    NoSuchDelivery,
    /// The delivery itself is still waiting or in flight.
    OnItsWay {
        /// Its state: waiting or sending.
        state: State,
    },
    /// The delivery has already been replayed.
    Replayed {
        /// The replay's delivery; `None` if somebody else made it at this moment.
        replay: Option<Uuid>,
        /// The state of the replay's delivery.
        state: Option<State>,
    },
    /// The message was delivered, by this or by another delivery of the chain.
    Delivered,
    /// The message may have been received, by this or by another delivery of the chain, which may have left history.
    Unknown,
    /// The action is disabled, so the replay would be skipped.
    ActionDisabled {
        /// The action's agent.
        agent: String,
        /// The action's name.
        action: String,
    },
    /// The call is no longer in the outbox.
    PayloadGone,
}

/// The result of replaying one delivery, or of judging it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The delivery can be replayed. It was only judged.
    Allowed,
    /// The delivery was replayed; this is the new delivery.
    As(Uuid),
    /// The delivery was not replayed.
    Refused(ReplayRefusal),
}

/// Whether deliveries are only judged, or also replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Judge,
    Make,
}

impl Store {
    /// Returns what [`Store::replay`] would do. Changes nothing.
    pub async fn judge_replay(&self, ids: &[Uuid], order: &ReplayOrder) -> Result<Vec<(Uuid, Replayed)>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        replay(&mut connection, ids, order, Mode::Judge).await
    }

    /// Replays those of the deliveries `ids` that can be replayed, all in one commit, and returns the result for each.
    ///
    /// # Errors
    /// Returns the database's error. Then it is not known whether the deliveries were replayed; if they were, a
    /// repetition refuses them.
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

/// Replays deliveries while nobody else can replay or resolve them.
///
/// Two statements, because the second must see what was committed while the first waited: if a person has found that
/// the message was delivered, it must not be sent again.
async fn lock_and_replay(
    connection: &mut PgConnection,
    ids: &[Uuid],
    order: &ReplayOrder,
) -> Result<Vec<(Uuid, Replayed)>, StoreError> {
    sqlx::query!("SELECT postcall.lock_deliveries($1)", ids).fetch_one(&mut *connection).await?;
    replay(connection, ids, order, Mode::Make).await
}

/// The verdict of the statement in [`replay`] on one delivery.
#[derive(Clone, Copy)]
enum Verdict {
    Allowed,
    NoSuchDelivery,
    OnItsWay,
    Replayed,
    Delivered,
    Unknown,
    ActionDisabled,
    PayloadGone,
}

impl Verdict {
    /// The verdict with this name in the statement.
    fn named(name: &str) -> Option<Verdict> {
        Some(match name {
            "allowed" => Verdict::Allowed,
            "no_such_delivery" => Verdict::NoSuchDelivery,
            "on_its_way" => Verdict::OnItsWay,
            "replayed" => Verdict::Replayed,
            "delivered" => Verdict::Delivered,
            "unknown" => Verdict::Unknown,
            "action_disabled" => Verdict::ActionDisabled,
            "payload_gone" => Verdict::PayloadGone,
            _ => return None,
        })
    }
}
texts::is_text_to_read!(Verdict, "verdict");

/// One row that the statement in [`replay`] returns.
struct Row {
    delivery_id: Uuid,
    verdict: Verdict,
    state: Option<State>,
    next_id: Option<Uuid>,
    next_state: Option<State>,
    agent: Option<String>,
    action: Option<String>,
    made: Option<Uuid>,
}

/// Arrow `replay`, if `mode` says so. Judges, and makes what may be made.
#[expect(clippy::too_many_lines, reason = "most of it is one statement")]
async fn replay(
    connection: &mut PgConnection,
    ids: &[Uuid],
    order: &ReplayOrder,
    mode: Mode,
) -> Result<Vec<(Uuid, Replayed)>, StoreError> {
    // The same statement judges and replays, so that a dry run cannot differ from the replay that it announces.
    // - The view is filtered by an array, which uses the index of each of its tables; a join would not.
    // - If two people replay at the same time, the second waits until the first has committed, and then sees its
    //   replay. If somebody replays without the lock, the unique constraint decides. ORDER BY gives all of them the
    //   same order, so that they cannot deadlock.
    // - If a delivery of the chain has left history, its outcome can no longer be seen: the message then counts as
    //   unknown.
    // - The triggers of postcall.replay give the new delivery its id and its message id, and put it into the queue.
    // - A scalar subquery checks whether the payload exists: it can only be an index look-up per row.
    // - No notification is sent: a sleeping dispatcher looks for work by itself within a second.
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
        SELECT judged.id AS "delivery_id!", verdict AS "verdict!: Verdict", state AS "state: State",
               next_id AS "next_id?", next_state AS "next_state: State", agent, action, made.delivery_id AS "made?"
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
    .await
    .map_err(|error| texts::in_columns(error, &["delivery_id", "verdict", "state", "next_id", "next_state"]))?;
    Ok(rows.into_iter().map(|row| (row.delivery_id, row.outcome(mode))).collect())
}

impl Row {
    fn outcome(self, mode: Mode) -> Replayed {
        // The view shows a state of every delivery that there is.
        let Some(state) = self.state else { return Replayed::Refused(ReplayRefusal::NoSuchDelivery) };
        Replayed::Refused(match (self.verdict, self.made, mode) {
            (Verdict::Allowed, Some(made), _) => return Replayed::As(made),
            (Verdict::Allowed, None, Mode::Judge) => return Replayed::Allowed,
            (Verdict::Allowed, None, Mode::Make) => ReplayRefusal::Replayed { replay: None, state: None },
            (Verdict::NoSuchDelivery, ..) => ReplayRefusal::NoSuchDelivery,
            (Verdict::OnItsWay, ..) => ReplayRefusal::OnItsWay { state },
            (Verdict::Replayed, ..) => ReplayRefusal::Replayed { replay: self.next_id, state: self.next_state },
            (Verdict::Delivered, ..) => ReplayRefusal::Delivered,
            (Verdict::Unknown, ..) => ReplayRefusal::Unknown,
            (Verdict::ActionDisabled, ..) => ReplayRefusal::ActionDisabled {
                agent: self.agent.unwrap_or_default(),
                action: self.action.unwrap_or_default(),
            },
            (Verdict::PayloadGone, ..) => ReplayRefusal::PayloadGone,
        })
    }
}
