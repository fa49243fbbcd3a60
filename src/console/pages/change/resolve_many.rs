//! Says of all unknown deliveries that a search finds what became of them: first it is shown how many and which, and then it is recorded.

use askama::Template;

use super::many::{Chosen, Shown, filter, until_of};
use super::orders::finding;
use super::reason;
use crate::console::answer::Answer;
use crate::console::failure::Trouble;
use crate::console::form::Form;
use crate::console::pages::written;
use crate::console::people::{Role, Visit};
use crate::console::words::Here;
use crate::service::resolve::{Found, Judged, Made, Refused, allows, judge, resolve};

#[derive(Template)]
#[template(path = "resolve_many.html")]
struct ResolveManyPage {
    here: Here,
    /// The criteria, as the address of the search has them.
    query: String,
    back: String,
    until: String,
    found: Shown,
    left_out: Vec<String>,
}

fn reasons(refused: &Refused) -> impl Iterator<Item = String> {
    refused.iter().map(|(why, count)| format!("{count}: {why}"))
}

/// The dry run.
pub(in crate::console::pages) async fn asked(query: &str, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Operator)?;
    let now = visit.now().await?;
    let (filter, search) = filter(query, now, now)?;
    let Chosen { rows, mut left_out } = Chosen::of(change.store, &filter, allows, "resolve").await?;
    let Judged { allowed, refused } = judge(rows);
    left_out.extend(reasons(&refused));
    written(&ResolveManyPage {
        here: Here::Deliveries,
        back: search.address_with(&[]),
        query: search.query_with(&[]),
        until: now.to_rfc3339(),
        found: Shown::of(&allowed),
        left_out,
    })
}

/// Records it.
pub(in crate::console::pages) async fn sent(form: &Form, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Operator)?;
    let found = Found { finding: finding(form)?, by: change.by.to_owned(), reason: reason(form)? };
    let until = until_of(form)?;
    let (filter, search) = filter(form.needed("query")?, until, until)?;
    let rows = Chosen::of(change.store, &filter, allows, "resolve").await?.that_were_shown(until);
    let made = resolve(change.store, &rows, &found, |_| {}).await;
    let Made { made, refused } = made.map_err(|interrupted| Trouble::from(interrupted.source))?;
    let left_out: Vec<String> = reasons(&refused).collect();
    let left_out = if left_out.is_empty() { String::new() } else { format!(" Left out: {}.", left_out.join("; ")) };
    let done = format!("{made} deliveries are resolved as {}.{left_out}", found.finding.state());
    Ok(visit.done(&search.address_with(&[]), done))
}
