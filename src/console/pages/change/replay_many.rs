//! Replays what a search finds: first it is shown how many and which, and then they are replayed.

use askama::Template;

use super::many::{Chosen, Shown, filter, until_of};
use super::reason;
use crate::console::answer::Answer;
use crate::console::failure::Trouble;
use crate::console::form::Form;
use crate::console::pages::written;
use crate::console::people::{Role, Visit};
use crate::console::words::{Here, shown};
use crate::service::replay::{Judged, Made, Reason, Refused, judge, replay};
use crate::store::replay::ReplayOrder;

#[derive(Template)]
#[template(path = "replay_many.html")]
struct ReplayManyPage {
    here: Here,
    /// The criteria, as the address of the search has them.
    query: String,
    back: String,
    until: String,
    found: Shown,
    left_out: Vec<String>,
    include_delivered: bool,
    include_unknown: bool,
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
    let Chosen { rows, mut left_out } =
        Chosen::of(change.store, &filter, |state| order.allows(state), "replay").await?;
    let Judged { allowed, refused } = judge(change.store, rows, &order).await?;
    left_out.extend(reasons(&refused));
    written(&ReplayManyPage {
        here: Here::Deliveries,
        back: search.address_with(&[]),
        query,
        until: now.to_rfc3339(),
        found: Shown::of(&allowed),
        left_out,
        include_delivered,
        include_unknown,
    })
}

/// Replays them.
pub(in crate::console::pages) async fn sent(form: &Form, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Operator)?;
    let reason = reason(form)?;
    let until = until_of(form)?;
    let (filter, search) = filter(form.needed("query")?, until, until)?;
    let order = ReplayOrder {
        by: change.by.to_owned(),
        reason,
        include_delivered: form.is_checked("include_delivered"),
        include_unknown: form.is_checked("include_unknown"),
    };
    let chosen = Chosen::of(change.store, &filter, |state| order.allows(state), "replay").await?;
    let rows = chosen.that_were_shown(until);
    let made = replay(change.store, &rows, &order, |_| {}).await;
    let Made { made, refused } = made.map_err(|interrupted| Trouble::from(interrupted.source))?;
    let left_out = reasons(&refused);
    let left_out = if left_out.is_empty() { String::new() } else { format!(" Left out: {}.", left_out.join("; ")) };
    Ok(visit.done(&search.address_with(&[]), format!("{made} deliveries were replayed.{left_out}")))
}
