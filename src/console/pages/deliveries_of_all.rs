//! The search for deliveries in several databases at once. The ids of deliveries grow with time in all of them, so the newest come
//! first, whichever they are in. A page shows no delivery that is older than what was not searched in one of them: so none is missed
//! between two pages. Of a database that does not answer, nothing is shown, and the page says so.

use std::cmp::Reverse;

use askama::Template;
use http::StatusCode;
use uuid::Uuid;

use super::deliveries::{PAGE, Row, criteria, exported, matching};
use super::search_form::Form;
use super::written;
use crate::console::answer::Answer;
use crate::console::databases::Database;
use crate::console::export::{Exported, together};
use crate::console::failure::Trouble;
use crate::console::frame;
use crate::console::people::Visit;
use crate::console::query::{Place, Search};
use crate::console::together::{ANSWER_TIME, All, Answered};
use crate::console::words::{Here, ShortTime, shown};
use crate::service::history::{Next, page_within};
use crate::service::merged::merged;
use crate::store::history::HistoryRow;
use crate::store::search::Patience;

#[derive(Template)]
#[template(path = "deliveries_of_all.html")]
struct Page {
    here: Here,
    form: Form,
    wrong: String,
    list: List,
}

/// A page of deliveries of all databases.
#[derive(Default)]
struct List {
    rows: Vec<LocatedRow>,
    newest: Option<String>,
    newer: Option<String>,
    older: Option<String>,
    /// How far back all were searched, if there was no time for the rest, and where the search goes on.
    reached: Option<(ShortTime, String)>,
    /// The criteria as a query, for the exports.
    query: String,
    /// The databases whose deliveries are not here, and why.
    missing: Vec<Missing>,
    /// The same search in each database: its name and address.
    each: Vec<(String, String)>,
}

/// A delivery, and where it is.
struct LocatedRow {
    database: String,
    address: String,
    row: Row,
}

/// The name of a database that is not in a list, and why.
type Missing = (String, &'static str);
/// A delivery, and in which database.
type Located<'s> = (&'s Database, HistoryRow);

pub(super) async fn page(query: &str, all: &All<'_>) -> Result<Answer, Trouble> {
    if let Some(_own) = &all.visitor.database {
        return Err(Trouble::OneAgentOnly);
    }
    let search = match Search::of(query) {
        Ok(search) => search,
        // The form stays, so that it can be corrected.
        Err(Trouble::Wrong(wrong)) => {
            let page = Page { here: Here::Deliveries, form: Form::of(None), wrong, list: List::default() };
            return Ok(Answer::page(StatusCode::BAD_REQUEST, page.render()?));
        }
        Err(trouble) => return Err(trouble),
    };
    if let Some(id) = search.q.as_ref().and_then(|q| q.parse().ok())
        && let Some(address) = address_of(all, id).await
    {
        return Ok(Answer::elsewhere(&address));
    }
    let list = match search.place {
        Place::Before(before) => newer(all, &search, before).await,
        Place::Newest => older(all, &search, None).await,
        Place::After(after) => older(all, &search, Some(after)).await,
    };
    written(&Page { here: Here::Deliveries, form: Form::of(Some(&search)), wrong: String::new(), list })
}

/// The whole result, for an export: from the newest delivery on, or behind one that is named.
pub(super) async fn whole(query: &str, all: &All<'_>) -> Result<Exported, Trouble> {
    if let Some(_own) = &all.visitor.database {
        return Err(Trouble::OneAgentOnly);
    }
    let (search, after) = exported(query)?;
    let search = &search;
    let question = |database| async move {
        let database: &Database = database;
        // It has a place for an export, and so a session, and takes none of the places of pages.
        let visit = Visit::new(all.visitor.clone(), database.stores()?, all.notes);
        let standby = visit.standby().await?;
        Ok((matching(search, after, &visit).await?, standby))
    };
    let answers = all.ask(question).await.into_iter();
    together(answers.map(|(database, answer)| (database.name().unwrap_or_default().to_owned(), answer)))
}

/// The address of the delivery with this id, if one of the databases that answer has it. A database that may not be read, or does
/// not answer, is said by the list.
async fn address_of(all: &All<'_>, id: Uuid) -> Option<String> {
    let answers = all.ask(|database| async move { all.enter(database).await?.visit.delivery(id).await.map(drop) });
    let found = answers.await.into_iter().find(|(_, answer)| answer.is_ok());
    found.map(|(database, _)| format!("{}/deliveries/{id}", database.root()))
}

/// The newest deliveries behind `after`.
async fn older(all: &All<'_>, search: &Search, after: Option<Uuid>) -> List {
    let patience = if search.longer { Patience::Search } else { Patience::Glance };
    let question = |database| async move {
        let entered = all.enter(database).await?;
        let (filter, store) = entered.visit.deliveries(criteria(search, &entered.visit).await?)?;
        Ok(page_within(store, &filter, after, PAGE, patience).await?)
    };
    let (pages, missing) = apart(all.ask(question).await);
    let pages = pages.into_iter().map(|(database, page)| (database, page.rows, page.next)).collect();
    let (rows, next) = merged(pages, PAGE);
    let address = |name, value: &str| search.address_with(&[(name, value)]);
    let (older, reached) = match next {
        Next::Nothing => (None, None),
        Next::After(id) => (Some(address("after", &id.to_string())), None),
        Next::Until(until) => {
            let further = until.format("%Y-%m-%dT%H:%M:%SZ").to_string();
            (None, Some((ShortTime(until), search.address_with(&[("until", &further), ("longer", "1")]))))
        }
    };
    let first = rows.first().filter(|_| after.is_some());
    let newer = first.map(|(_, row)| address("before", &row.delivery_id.to_string()));
    List { newer, older, reached, ..List::of(all, search, &rows, missing) }
}

/// Those next to `before` that are newer.
async fn newer(all: &All<'_>, search: &Search, before: Uuid) -> List {
    let question = |database| async move {
        let entered = all.enter(database).await?;
        let (filter, store) = entered.visit.deliveries(criteria(search, &entered.visit).await?)?;
        // One more than a page shows whether there are any that are newer still.
        Ok(store.newer(&filter, before, PAGE + 1).await?)
    };
    let (found, missing) = apart(all.ask(question).await);
    let mut rows: Vec<Located<'_>> =
        found.into_iter().flat_map(|(database, rows)| rows.into_iter().map(move |row| (database, row))).collect();
    rows.sort_by_key(|(_, row)| Reverse(row.delivery_id));
    // Those next to `before` are the last ones.
    let is_more = rows.len() > PAGE;
    let rows = rows.split_off(rows.len().saturating_sub(PAGE));
    let address = |name, row: &Located<'_>| search.address_with(&[(name, &row.1.delivery_id.to_string())]);
    let newer = rows.first().filter(|_| is_more).map(|row| address("before", row));
    let older = rows.last().map(|row| address("after", row));
    List { newer, older, ..List::of(all, search, &rows, missing) }
}

/// Those that answered, and the names of those that did not, with the reason.
fn apart<'s, T>(answers: Vec<Answered<'s, T>>) -> (Vec<(&'s Database, T)>, Vec<Missing>) {
    let (mut answered, mut missing) = (Vec::new(), Vec::new());
    for (database, answer) in answers {
        match answer {
            Ok(answer) => answered.push((database, answer)),
            Err(trouble) => missing.push((name_of(database), trouble.title())),
        }
    }
    (answered, missing)
}

fn name_of(database: &Database) -> String {
    shown(database.name().unwrap_or_default()).into_owned()
}

impl List {
    fn of(all: &All<'_>, search: &Search, rows: &[Located<'_>], missing: Vec<Missing>) -> List {
        let located = |(database, row): &Located<'_>| LocatedRow {
            database: name_of(database),
            address: format!("{}/", database.root()),
            row: frame::under(database.root(), || Row::of(row)),
        };
        let same = |database: &Database| frame::under(database.root(), || search.address_with(&[]));
        List {
            rows: rows.iter().map(located).collect(),
            newest: (search.place != Place::Newest).then(|| search.address_with(&[])),
            missing,
            query: search.query_with(&[]),
            each: all.databases.all().iter().map(|database| (name_of(database), same(database))).collect(),
            ..List::default()
        }
    }
}
