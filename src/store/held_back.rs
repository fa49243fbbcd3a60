//! What pauses hold back, and what they do not: the number of deliveries of each, and the oldest delivery of none.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::pauses::PauseRecord;
use super::status::{Count, HeldPause, oldest_waiting};
use super::{Store, StoreError};
use crate::domain::host::{Host, HostPattern};
use crate::domain::pause::{NamedTarget, Pause, PauseTarget};

/// The largest number of deliveries that are counted for all shown pauses together; each pause has an equal share.
const MOST_COUNTED_FOR_PAUSES: i64 = 50_000;
/// The largest number of actions that are searched for those of a paused host. If there are more actions, the count
/// says that more deliveries may wait.
const MOST_ACTIONS: i64 = 50_000;

impl Store {
    /// Whether an action sends to a host. Looks at the first 50,000 actions that are found.
    pub async fn is_host_used(&self, pattern: &HostPattern) -> Result<bool, StoreError> {
        // The hosts are compared here, because the database does not know which names mean the same host.
        let targets = sqlx::query_scalar!(
            "SELECT DISTINCT target FROM (SELECT target FROM postcall.action_target LIMIT $1) AS read",
            MOST_ACTIONS
        )
        .fetch_all(&self.pool)
        .await?;
        let mut hosts = targets.iter().flatten().filter_map(|target| Host::of_url(target));
        Ok(hosts.any(|host| pattern.matches(&host)))
    }
}

/// Counts the deliveries that wait for each pause.
pub(super) async fn count_paused(
    snapshot: &mut PgConnection,
    pauses: Vec<PauseRecord>,
) -> Result<Vec<HeldPause>, sqlx::Error> {
    let patterns = pauses.iter().filter_map(|pause| match &pause.target {
        NamedTarget::Host(host) => Some((pause.pause_id, host.parse().ok()?)),
        NamedTarget::Agent(_) | NamedTarget::Action { .. } => None,
    });
    let of_hosts = actions_of_hosts(snapshot, &patterns.collect::<Vec<_>>()).await?;
    let most = MOST_COUNTED_FOR_PAUSES / i64::try_from(pauses.len()).unwrap_or(1).max(1);
    let mut lanes = Lanes::default();
    for pause in &pauses {
        lanes.push(pause, of_hosts.found.get(&pause.pause_id).map_or(&[], Vec::as_slice));
    }
    // Each lane is counted from its index alone; the limit ends the scan of a pause's lanes.
    let rows = sqlx::query!(
        r#"
        SELECT pause.pause_id AS "pause_id!", counted.waiting AS "waiting!"
        FROM unnest($1::bigint[], $2::text[], $3::int[], $4::int[]) AS pause (pause_id, agent, first, last)
        CROSS JOIN LATERAL (
            SELECT count(*) AS waiting
            FROM (SELECT FROM (
                      SELECT action.action_id FROM postcall.action WHERE action.agent = pause.agent
                      UNION ALL
                      SELECT action_id FROM unnest(($5::bigint[])[pause.first:pause.last]) AS action_id
                  ) AS lane
                  CROSS JOIN LATERAL (
                      SELECT FROM postcall.waiting WHERE waiting.action_id = lane.action_id
                      ORDER BY waiting.action_id, waiting.delivery_id LIMIT $6) AS held_back
                  LIMIT $6) AS held_back
        ) AS counted
        "#,
        &lanes.pause_ids,
        &lanes.agents as &[Option<String>],
        &lanes.first,
        &lanes.last,
        &lanes.action_ids,
        most + 1,
    )
    .fetch_all(snapshot)
    .await?;
    let counts: HashMap<i64, i64> = rows.into_iter().map(|row| (row.pause_id, row.waiting)).collect();
    let paused = pauses.into_iter().map(|pause| {
        let mut waiting = Count::up_to(most, counts.get(&pause.pause_id).copied().unwrap_or(0));
        waiting.is_more |= of_hosts.is_more && matches!(pause.target, NamedTarget::Host(_));
        HeldPause { pause, waiting }
    });
    Ok(paused.collect())
}

/// The age of the oldest delivery that waits and that none of these pauses holds back, in seconds; `None` if there is none. If there are
/// more than 50,000 actions, those of paused hosts that were not found count as not paused.
pub(super) async fn oldest_unpaused(
    connection: &mut PgConnection,
    pauses: Vec<Pause>,
) -> Result<Option<f64>, sqlx::Error> {
    if pauses.is_empty() {
        return Ok(oldest_waiting(connection).await?.map(|oldest| oldest.age_ms as f64 / 1_000.0));
    }
    let (mut agents, mut action_ids, mut patterns) = (Vec::new(), Vec::new(), Vec::new());
    for Pause { pause_id, target } in pauses {
        match target {
            PauseTarget::Agent(agent) => agents.push(agent.to_string()),
            PauseTarget::Action(action_id) => action_ids.push(action_id),
            PauseTarget::Host(pattern) => patterns.push((pause_id, pattern)),
        }
    }
    action_ids.extend(actions_of_hosts(connection, &patterns).await?.found.into_values().flatten());
    // A loose index scan: from each lane, one look-up finds the next, and another its oldest delivery. So it costs by the number of lanes
    // in which something waits, however much is paused. The ids are compared by hashing.
    sqlx::query_scalar!(
        r#"
        WITH RECURSIVE lane (action_id) AS (
            (SELECT action_id FROM postcall.waiting ORDER BY action_id, delivery_id LIMIT 1)
            UNION ALL
            SELECT (SELECT waiting.action_id FROM postcall.waiting WHERE waiting.action_id > lane.action_id
                    ORDER BY waiting.action_id, waiting.delivery_id LIMIT 1)
            FROM lane WHERE lane.action_id IS NOT NULL
        )
        SELECT greatest(0, date_part('epoch', clock_timestamp() - min(oldest.created_at))) AS age
        FROM (SELECT action_id FROM lane WHERE action_id IS NOT NULL LIMIT $3) AS lane
        LEFT JOIN postcall.action USING (action_id)
        CROSS JOIN LATERAL (
            SELECT created_at FROM postcall.waiting WHERE waiting.action_id = lane.action_id
            ORDER BY waiting.action_id, waiting.delivery_id LIMIT 1
        ) AS oldest
        WHERE lane.action_id <> ALL ($1) AND (action.agent IS NULL OR action.agent <> ALL ($2))
        HAVING min(oldest.created_at) IS NOT NULL
        "#,
        &action_ids,
        &agents,
        MOST_ACTIONS,
    )
    .fetch_optional(connection)
    .await
    .map(Option::flatten)
}

/// Pauses as parameters of a statement: each is an agent, or the slice of `action_ids` from `first` to `last`, counted
/// from 1.
#[derive(Default)]
struct Lanes {
    pause_ids: Vec<i64>,
    agents: Vec<Option<String>>,
    first: Vec<i32>,
    last: Vec<i32>,
    action_ids: Vec<i64>,
}

impl Lanes {
    fn push(&mut self, pause: &PauseRecord, of_host: &[i64]) {
        let end = |ids: &[i64]| i32::try_from(ids.len()).unwrap_or(i32::MAX);
        self.pause_ids.push(pause.pause_id);
        self.agents.push(match &pause.target {
            NamedTarget::Agent(agent) => Some(agent.clone()),
            NamedTarget::Action { .. } | NamedTarget::Host(_) => None,
        });
        self.first.push(end(&self.action_ids).saturating_add(1));
        self.action_ids.extend(pause.action_id);
        self.action_ids.extend_from_slice(of_host);
        self.last.push(end(&self.action_ids));
    }
}

/// Which actions go to paused hosts.
#[derive(Default)]
struct OfHosts {
    /// The action ids, by the id of the pause.
    found: HashMap<i64, Vec<i64>>,
    /// Whether there are actions that were not read.
    is_more: bool,
}

/// The actions that go to the hosts of these pauses.
async fn actions_of_hosts(
    snapshot: &mut PgConnection,
    patterns: &[(i64, HostPattern)],
) -> Result<OfHosts, sqlx::Error> {
    if patterns.is_empty() {
        return Ok(OfHosts::default());
    }
    // The database does not know which names mean the same host, so all actions are read, grouped by the target in
    // their URLs: one millisecond for a thousand of them.
    let rows = sqlx::query!(
        r#"
        SELECT target, array_agg(action_id) AS "action_ids!"
        FROM (SELECT action_id, target FROM postcall.action_target LIMIT $1) AS read
        GROUP BY target
        "#,
        MOST_ACTIONS + 1,
    )
    .fetch_all(snapshot)
    .await?;
    let read: usize = rows.iter().map(|row| row.action_ids.len()).sum();
    let is_more = Count::up_to(MOST_ACTIONS, i64::try_from(read).unwrap_or(i64::MAX)).is_more;
    let mut of_hosts = OfHosts { found: HashMap::new(), is_more };
    for row in rows {
        let Some(host) = row.target.as_deref().and_then(Host::of_url) else { continue };
        for (pause_id, _) in patterns.iter().filter(|(_, pattern)| pattern.matches(&host)) {
            of_hosts.found.entry(*pause_id).or_default().extend(&row.action_ids);
        }
    }
    Ok(of_hosts)
}
