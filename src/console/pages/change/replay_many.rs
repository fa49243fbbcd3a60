//! Replays what a search finds: first it is shown how many, and then they are replayed.

use askama::Template;
use chrono::{DateTime, Utc};

use super::reason;
use crate::console::answer::Answer;
use crate::console::failure::Trouble;
use crate::console::form::Form;
use crate::console::pages::written;
use crate::console::people::{Role, Visit};
use crate::console::query::{Place, Search};
use crate::console::words::{Here, number, shown};
use crate::service::replay::{Judged, Made, Reason, Refused, judge, replay};
use crate::store::Store;
use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::replay::{Candidates, ReplayOrder};

/// The most deliveries that are replayed at once. The command line replays more.
const MOST: usize = 1_000;

#[derive(Template)]
#[template(path = "replay_many.html")]
struct ReplayManyPage {
    here: Here,
    /// The criteria, as the address of the search has them.
    query: String,
    back: String,
    until: String,
    count: String,
    is_any: bool,
    left_out: Vec<String>,
    include_delivered: bool,
    include_unknown: bool,
}

/// The criteria of a search, among what was created before this time: a replay that is made now is not found by them.
fn filter(query: &str, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<(HistoryFilter, Search), Trouble> {
    let search = Search::of(query)?;
    if search.q.is_some() || search.place != Place::Newest || !search.is_narrowed() {
        let why = "To replay several deliveries, give criteria other than an id, and begin at the newest.";
        return Err(Trouble::Wrong(why.to_owned()));
    }
    let filter = search.filter(now);
    let until = filter.until.map_or(until, |own| own.min(until));
    Ok((HistoryFilter { until: Some(until), ..filter }, search))
}

/// The deliveries that would be replayed, and what is left out.
async fn candidates(
    store: &Store,
    filter: &HistoryFilter,
    order: &ReplayOrder,
) -> Result<(Vec<HistoryRow>, Vec<String>), Trouble> {
    match store.replay_candidates(filter, order, MOST).await? {
        Candidates::Found { rows, left_out } => {
            let left_out = left_out.iter().map(|left| format!("{} {}", number(left.count), left.state)).collect();
            Ok((rows, left_out))
        }
        Candidates::TooMany => Err(Trouble::NotDone(format!(
            "More than {} deliveries match. Narrow the search, or use `postcall replay`.",
            number(i64::try_from(MOST).unwrap_or(i64::MAX))
        ))),
    }
}

fn reasons(refused: &Refused) -> Vec<String> {
    refused.reasons().map(|(Reason { words, .. }, count)| format!("{count}: {}", shown(words))).collect()
}

/// The dry run.
pub(in crate::console::pages) async fn asked(query: &str, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Operator)?;
    let mut pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let mut take = |name: &str| pairs.extract_if(.., |(of, _)| of == name).any(|(_, value)| value == "yes");
    let (include_delivered, include_unknown) = (take("include_delivered"), take("include_unknown"));
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let now = visit.now().await?;
    let (filter, search) = filter(&query, now, now)?;
    let order = ReplayOrder { by: change.by.to_owned(), reason: String::new(), include_delivered, include_unknown };
    let (rows, mut left_out) = candidates(change.store, &filter, &order).await?;
    let Judged { allowed, refused } = judge(change.store, rows, &order).await?;
    left_out.extend(reasons(&refused));
    written(&ReplayManyPage {
        here: Here::Deliveries,
        back: search.address_with(&[]),
        query,
        until: now.to_rfc3339(),
        count: number(i64::try_from(allowed.len()).unwrap_or(i64::MAX)),
        is_any: !allowed.is_empty(),
        left_out,
        include_delivered,
        include_unknown,
    })
}

/// Replays them.
pub(in crate::console::pages) async fn sent(form: &Form, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Operator)?;
    let reason = reason(form)?;
    let wrong = |_| Trouble::Wrong("until: expected a time with an offset.".to_owned());
    let until = DateTime::parse_from_rfc3339(form.needed("until")?).map_err(wrong)?.to_utc();
    // What was meant by "2 hours ago" was so at the dry run.
    let (filter, search) = filter(form.needed("query")?, until, until)?;
    let order = ReplayOrder {
        by: change.by.to_owned(),
        reason,
        include_delivered: form.is_checked("include_delivered"),
        include_unknown: form.is_checked("include_unknown"),
    };
    let (rows, _) = candidates(change.store, &filter, &order).await?;
    let made = replay(change.store, &rows, &order, |_| {}).await;
    let Made { made, refused } = made.map_err(|interrupted| Trouble::from(interrupted.source))?;
    let left_out = reasons(&refused);
    let left_out = if left_out.is_empty() { String::new() } else { format!(" Left out: {}.", left_out.join("; ")) };
    Ok(visit.done(&search.address_with(&[]), format!("{made} deliveries were replayed.{left_out}")))
}
