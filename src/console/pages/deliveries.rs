//! The search for deliveries, page by page.

use askama::Template;
use http::StatusCode;
use uuid::Uuid;

use super::search_form::Form;
use super::written;
use crate::console::answer::Answer;
use crate::console::export::Exported;
use crate::console::failure::{READER, Trouble};
use crate::console::frame;
use crate::console::part::Part;
use crate::console::people::{Role, Visit};
use crate::console::query::{Place, Search};
use crate::console::words::{Here, Mark, ShortTime, agent_address, number, shown};
use crate::domain::delivery::State;
use crate::service::history::{Next, Whole, page_within};
use crate::service::whole_of_all::OfOne;
use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::search::Patience;
use crate::store::{Store, StoreError};

/// Deliveries on a page.
pub(super) const PAGE: usize = 50;

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    here: Here,
    form: Form,
    wrong: String,
    list: Part<List>,
    /// Where what is found is replayed; `None` for those who may not, and where no criteria are given.
    replay: Option<String>,
    /// Where it is said what became of what is unknown of it; `None` as well where nothing on the page is.
    resolve: Option<String>,
    /// Where the call is looked for that was named, because it may have no delivery; `None` for those who see one agent.
    calls: Option<String>,
}

/// A page of deliveries.
#[derive(Default)]
struct List {
    rows: Vec<Row>,
    /// Whether one of them is unknown.
    has_unknown: bool,
    newest: Option<String>,
    newer: Option<String>,
    older: Option<String>,
    /// The criteria as a query, for the exports.
    query: String,
    /// How far back was searched, if there was no time for the rest, and where the search goes on.
    reached: Option<(ShortTime, String)>,
}

/// A delivery in a list.
pub(in crate::console) struct Row {
    pub(in crate::console) id: Uuid,
    pub(in crate::console) address: String,
    pub(in crate::console) created: ShortTime,
    pub(in crate::console) state: Mark,
    pub(in crate::console) agent: String,
    pub(in crate::console) agent_address: String,
    pub(in crate::console) action: String,
    pub(in crate::console) result: String,
    pub(in crate::console) ms: String,
    pub(in crate::console) call_sid: String,
}

impl Row {
    pub(in crate::console) fn of(row: &HistoryRow) -> Row {
        let code = row.response_code.map(|code| code.to_string());
        Row {
            id: row.delivery_id,
            address: frame::inside(&format!("/deliveries/{}", row.delivery_id)),
            created: ShortTime(row.created_at),
            state: row.state.into(),
            agent: shown(&row.agent).into_owned(),
            agent_address: agent_address(&row.agent),
            action: shown(&row.action).into_owned(),
            result: code.or(row.error_kind.map(|kind| kind.to_string())).unwrap_or_default(),
            ms: row.latency_ms.map(|ms| number(ms.into())).unwrap_or_default(),
            call_sid: row.call_sid.as_deref().map(shown).unwrap_or_default().into_owned(),
        }
    }
}

pub(super) async fn page(query: &str, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let search = match Search::of(query) {
        Ok(search) => search,
        // The form stays, so that it can be corrected.
        Err(Trouble::Wrong(wrong)) => {
            let (form, list) = (Form::of(None), Part::Shown(List::default()));
            let page =
                DeliveriesPage { here: Here::Deliveries, form, wrong, list, replay: None, resolve: None, calls: None };
            return Ok(Answer::page(StatusCode::BAD_REQUEST, page.render()?));
        }
        Err(trouble) => return Err(trouble),
    };
    if let Some(id) = search.q.as_ref().and_then(|q| q.parse().ok())
        && leads_to_a_delivery(visit, id).await?
    {
        return Ok(Answer::elsewhere(&frame::inside(&format!("/deliveries/{id}"))));
    }
    let (filter, store) = visit.deliveries(criteria(&search, visit).await?)?;
    let list = Part::of(list(store, &search, &filter).await, READER)?;
    let with_all = |form: &str| {
        (visit.may(Role::Operator) && search.is_narrowed() && search.q.is_none())
            .then(|| frame::inside(&format!("/change/{form}?{}", search.query_with(&[]))))
    };
    let is_any_unknown = matches!(&list, Part::Shown(list) if list.has_unknown);
    let (replay, resolve) = (with_all("replay-many"), with_all("resolve-many").filter(|_| is_any_unknown));
    let calls = search.q.as_ref().filter(|_| visit.only_agent().is_none()).map(|q| {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("q", q).finish();
        frame::inside(&format!("/calls?{query}"))
    });
    let form = Form::of(Some(&search));
    written(&DeliveriesPage { here: Here::Deliveries, form, wrong: String::new(), list, replay, resolve, calls })
}

/// All criteria, the first field included, which here stands for a call.
pub(super) async fn criteria(search: &Search, visit: &Visit<'_>) -> Result<HistoryFilter, Trouble> {
    let mut filter = search.filter(visit.now().await?);
    if let Some(q) = &search.q {
        match q.parse::<Uuid>() {
            Ok(id) => filter.call_id = Some(id),
            Err(_) => filter.call_sid = Some(q.clone()),
        }
    }
    Ok(filter)
}

/// The whole result, for an export: from the newest delivery on, or behind one that is named.
pub(super) async fn whole(query: &str, visit: &Visit<'_>) -> Result<Exported, Trouble> {
    let (search, after) = exported(query)?;
    Ok(Exported::Deliveries(matching(&search, after, visit).await?))
}

/// What is searched for an export, and behind which delivery it begins.
pub(super) fn exported(query: &str) -> Result<(Search, Option<Uuid>), Trouble> {
    let search = Search::of(query)?;
    let after = match search.place {
        Place::Newest => None,
        Place::After(id) => Some(id),
        Place::Before(_) => {
            return Err(Trouble::Wrong("before: an export goes from the newest to the oldest.".to_owned()));
        }
    };
    Ok((search, after))
}

/// All deliveries of a database that match, behind `after`.
pub(super) async fn matching(search: &Search, after: Option<Uuid>, visit: &Visit<'_>) -> Result<OfOne, Trouble> {
    let (filter, store) = visit.deliveries(criteria(search, visit).await?)?;
    Ok(OfOne { store: store.clone(), whole: Whole::new(filter, after) })
}

async fn leads_to_a_delivery(visit: &Visit<'_>, id: Uuid) -> Result<bool, Trouble> {
    match visit.delivery(id).await {
        Ok(_) => Ok(true),
        // The list says which right is missing.
        Err(Trouble::Missing(_) | Trouble::Forbidden) => Ok(false),
        Err(trouble) => Err(trouble),
    }
}

async fn list(store: &Store, search: &Search, filter: &HistoryFilter) -> Result<List, StoreError> {
    let address = |name, id: Uuid| search.address_with(&[(name, &id.to_string())]);
    let (rows, newer, older, reached) = match search.place {
        Place::Before(before) => {
            // One more than a page shows whether there are any that are newer still.
            let mut rows = store.newer(filter, before, PAGE + 1).await?;
            let is_more = rows.len() > PAGE;
            if is_more {
                rows.remove(0);
            }
            let newer = rows.first().filter(|_| is_more).map(|row| address("before", row.delivery_id));
            // What is older than this page begins where the last one began, even if that delivery is gone.
            let older = rows.last().map(|row| address("after", row.delivery_id));
            (rows, newer, older, None)
        }
        Place::Newest | Place::After(_) => {
            let after = if let Place::After(id) = search.place { Some(id) } else { None };
            let patience = if search.longer { Patience::Search } else { Patience::Glance };
            let page = page_within(store, filter, after, PAGE, patience).await?;
            let newer = page.rows.first().filter(|_| after.is_some()).map(|row| address("before", row.delivery_id));
            let (older, reached) = match page.next {
                Next::Nothing => (None, None),
                Next::After(id) => (Some(address("after", id)), None),
                Next::Until(until) => {
                    let further = until.format("%Y-%m-%dT%H:%M:%SZ").to_string();
                    (None, Some((ShortTime(until), search.address_with(&[("until", &further), ("longer", "1")]))))
                }
            };
            (page.rows, newer, older, reached)
        }
    };
    let newest = (search.place != Place::Newest).then(|| search.address_with(&[]));
    let has_unknown = rows.iter().any(|row| row.state == State::Unknown);
    let (rows, query) = (rows.iter().map(Row::of).collect(), search.query_with(&[]));
    Ok(List { rows, has_unknown, newest, newer, older, query, reached })
}
