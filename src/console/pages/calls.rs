//! The calls that have arrived, also those without a delivery, and why they have none; and how far behind the queue is.

use askama::Template;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::written;
use crate::console::answer::Answer;
use crate::console::failure::{READER, Trouble};
use crate::console::frame;
use crate::console::part::Part;
use crate::console::people::Visit;
use crate::console::query::Parameters;
use crate::console::words::{Here, Icon, Mark, ShortTime, Tone, agent_address, count, long, number, shown};
use crate::domain::moment::Moment;
use crate::service::calls::{Arrivals, Arrived, arrivals_within};
use crate::store::calls::CallFilter;
use crate::store::search::Patience;
use crate::store::status::Lag;
use crate::store::{Store, StoreError};

/// Calls on a page.
const PAGE: usize = 50;

#[derive(Template)]
#[template(path = "calls.html")]
struct CallsPage {
    here: Here,
    lag: Part<LagView>,
    search: CallSearch,
    list: Part<List>,
}

/// How far behind the queue is.
struct LagView {
    waiting: String,
    oldest: String,
}

/// What a person searches for among calls.
struct CallSearch {
    q: Option<String>,
    agent: Option<String>,
    since: Option<Moment>,
    until: Option<Moment>,
    since_text: Option<String>,
    until_text: Option<String>,
    without: bool,
    after: Option<Uuid>,
}

struct List {
    rows: Vec<Row>,
    newest: Option<String>,
    older: Option<String>,
    /// That the look ended before it found a page full, and after how many calls.
    looked_at: Option<String>,
}

struct Row {
    id: Uuid,
    created: ShortTime,
    agent: String,
    agent_address: String,
    call_sid: String,
    bytes: String,
    deliveries: String,
    /// Why it has no delivery.
    why: Option<String>,
    mark: Mark,
}

pub(super) async fn page(query: &str, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let (search, store) = (CallSearch::of(query)?, visit.everything()?);
    let filter = search.filter(store.now().await?);
    let lag = Part::of(store.lag().await, READER)?.map(|lag| LagView::of(&lag));
    let list = Part::of(list(store, &search, &filter).await, READER)?;
    written(&CallsPage { here: Here::Calls, lag, search, list })
}

async fn list(store: &Store, search: &CallSearch, filter: &CallFilter) -> Result<List, StoreError> {
    let Arrivals { calls, rest_after, looked_at } = match search.id() {
        // By its key, however old it is.
        Some(id) => {
            let call = store.call(id).await?.into_iter().collect();
            Arrivals { calls: crate::service::calls::explained(store, call).await?, rest_after: None, looked_at: 0 }
        }
        None => arrivals_within(store, filter, search.after, PAGE, Patience::Glance).await?,
    };
    let looked_at = (calls.len() < PAGE && rest_after.is_some()).then(|| number(looked_at));
    let older = rest_after.map(|id| frame::inside(&format!("/calls?{}", search.query_with(Some(id)))));
    let newest = search.after.is_some().then(|| frame::inside(&format!("/calls?{}", search.query_with(None))));
    Ok(List { rows: calls.iter().map(Row::of).collect(), newest, older, looked_at })
}

impl LagView {
    fn of(Lag { waiting, oldest_waiting }: &Lag) -> LagView {
        LagView {
            waiting: count(*waiting),
            oldest: oldest_waiting.as_ref().map_or_else(|| "none waits".to_owned(), |oldest| long(oldest.age_ms)),
        }
    }
}

impl CallSearch {
    fn of(query: &str) -> Result<CallSearch, Trouble> {
        let mut all = Parameters::of(query)?;
        let [(since, since_text), (until, until_text)] = all.span()?;
        let search = CallSearch {
            q: all.one("q")?.map(|q| q.trim().to_owned()).filter(|q| !q.is_empty()),
            agent: all.one("agent")?,
            since,
            until,
            since_text,
            until_text,
            without: all.checked("without")?,
            after: all.parsed("after", "the id of a call", |text| text.parse().ok())?,
        };
        all.end()?;
        Ok(search)
    }

    /// The call that is searched for, if its id is.
    fn id(&self) -> Option<Uuid> {
        self.q.as_ref().and_then(|q| q.parse().ok())
    }

    fn filter(&self, now: DateTime<Utc>) -> CallFilter {
        CallFilter {
            agent: self.agent.clone(),
            call_sid: self.q.clone(),
            since: self.since.map(|since| since.at(now)),
            until: self.until.map(|until| until.at(now)),
            without_deliveries: self.without,
        }
    }

    /// The criteria as a query, behind this call.
    fn query_with(&self, after: Option<Uuid>) -> String {
        let own = [
            ("q", self.q.clone()),
            ("agent", self.agent.clone()),
            ("since", self.since_text.clone()),
            ("until", self.until_text.clone()),
            ("without", self.without.then(|| "1".to_owned())),
            ("after", after.map(|id| id.to_string())),
        ];
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(own.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
        query.finish()
    }

    fn is_any(&self) -> bool {
        !self.query_with(None).is_empty()
    }

    fn is_narrowed(&self) -> bool {
        self.agent.is_some() || self.since.is_some() || self.until.is_some()
    }

    fn text(value: &Option<String>) -> &str {
        value.as_deref().unwrap_or_default()
    }
}

impl Row {
    fn of(Arrived { call, without }: &Arrived) -> Row {
        Row {
            id: call.call_id,
            created: ShortTime(call.created_at),
            agent: shown(&call.agent).into_owned(),
            agent_address: agent_address(&call.agent),
            call_sid: call.call_sid.as_deref().map(shown).unwrap_or_default().into_owned(),
            bytes: call.call_bytes.map(|bytes| number(bytes.into())).unwrap_or_default(),
            deliveries: call.deliveries.map(|count| number(count.into())).unwrap_or_default(),
            why: without.as_ref().map(|without| without.in_words()),
            mark: Mark { icon: Icon::DASH, tone: Tone::Doubt, word: "none" },
        }
    }
}
