//! What people did, page by page, and what keeps it as it was written.

use askama::Template;
use chrono::{DateTime, Utc};

use super::written;
use crate::console::answer::Answer;
use crate::console::export::Exported;
use crate::console::failure::{READER, Trouble};
use crate::console::frame;
use crate::console::part::Part;
use crate::console::people::Visit;
use crate::console::query::Parameters;
use crate::console::words::{Here, Icon, Mark, ShortTime, Tone, agent_address, shown};
use crate::domain::act::{Act, ActKey};
use crate::domain::checkup::{Check, Verdict};
use crate::domain::moment::Moment;
use crate::service::audit::{WholeAudit, object, who};
use crate::service::doctor::at_a_glance;
use crate::store::acts::{ActFilter, ActRow, ActsFound};
use crate::store::{Store, StoreError};

/// Acts on a page.
const PAGE: usize = 50;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    here: Here,
    search: AuditSearch,
    list: Part<List>,
    checks: Part<Vec<CheckView>>,
}

/// What a person searches for among acts.
struct AuditSearch {
    acts: Vec<Act>,
    agent: Option<String>,
    by: Option<String>,
    since: Option<Moment>,
    until: Option<Moment>,
    since_text: Option<String>,
    until_text: Option<String>,
    after: Option<ActKey>,
}

struct List {
    rows: Vec<Row>,
    query: String,
    newest: Option<String>,
    older: Option<String>,
    /// That the look ended before it found a page full.
    is_partial: bool,
}

struct Row {
    at: ShortTime,
    act: Mark,
    agent: String,
    agent_address: String,
    what: String,
    delivery: Option<String>,
    replay: Option<String>,
    test: Option<String>,
    by: String,
    db_user: String,
    reason: String,
}

struct CheckView {
    verdict: Mark,
    found: String,
    cure: String,
}

pub(super) async fn page(query: &str, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let (search, store) = (AuditSearch::of(query)?, visit.everything()?);
    let filter = search.filter(store.now().await?);
    let list = Part::of(list(store, &search, &filter).await, READER)?;
    let checks = Part::of(at_a_glance(store).await, READER)?.map(|checks| checks.iter().map(CheckView::of).collect());
    written(&AuditPage { here: Here::Audit, search, list, checks })
}

/// The whole result, for an export.
pub(super) async fn whole(query: &str, visit: &Visit<'_>) -> Result<Exported, Trouble> {
    let (search, store) = (AuditSearch::of(query)?, visit.everything()?);
    let filter = search.filter(store.now().await?);
    Ok(Exported::Acts(WholeAudit::new(filter, search.after), store.clone()))
}

async fn list(store: &Store, search: &AuditSearch, filter: &ActFilter) -> Result<List, StoreError> {
    let ActsFound { acts, rest_after } = store.acts(filter, search.after.as_ref(), PAGE).await?;
    let is_partial = acts.len() < PAGE && rest_after.is_some();
    let older = rest_after.map(|key| frame::inside(&format!("/audit?{}", search.query_with(Some(&key)))));
    let newest = search.after.is_some().then(|| frame::inside(&format!("/audit?{}", search.query_with(None))));
    Ok(List { rows: acts.iter().map(Row::of).collect(), query: search.query_with(None), newest, older, is_partial })
}

impl AuditSearch {
    fn of(query: &str) -> Result<AuditSearch, Trouble> {
        let mut all = Parameters::of(query)?;
        let wrong = || {
            let acts: Vec<&str> = Act::ALL.into_iter().map(Act::as_str).collect();
            Trouble::Wrong(format!("act: expected one of {}.", acts.join(", ")))
        };
        let acts = all.all("act").iter().map(|name| Act::named(name).ok_or_else(wrong)).collect::<Result<_, _>>()?;
        let [(since, since_text), (until, until_text)] = all.span()?;
        let after =
            all.parsed("after", "the key of an act, as a link to older ones names it", |text| text.parse().ok())?;
        let (agent, by) = (all.one("agent")?, all.one("by")?);
        all.end()?;
        Ok(AuditSearch { acts, agent, by, since, until, since_text, until_text, after })
    }

    fn filter(&self, now: DateTime<Utc>) -> ActFilter {
        ActFilter {
            acts: Some(self.acts.clone()).filter(|acts| !acts.is_empty()),
            agent: self.agent.clone(),
            by: self.by.clone(),
            since: self.since.map(|since| since.at(now)),
            until: self.until.map(|until| until.at(now)),
        }
    }

    /// The criteria as a query, behind this act.
    fn query_with(&self, after: Option<&ActKey>) -> String {
        let own = [
            ("agent", &self.agent),
            ("by", &self.by),
            ("since", &self.since_text),
            ("until", &self.until_text),
            ("after", &after.map(ToString::to_string)),
        ];
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.acts.iter().map(|act| ("act", act.as_str())));
        query.extend_pairs(own.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value))));
        query.finish()
    }

    fn is_any(&self) -> bool {
        !self.query_with(None).is_empty()
    }

    /// Whether one of the criteria is given that the form shows only when it is unfolded.
    fn is_narrowed(&self) -> bool {
        self.agent.is_some() || self.by.is_some() || self.since.is_some() || self.until.is_some()
    }

    fn boxes(&self) -> Vec<(Act, Mark, bool)> {
        Act::ALL.map(|act| (act, Mark::from(act), self.acts.contains(&act))).to_vec()
    }

    fn text(value: &Option<String>) -> &str {
        value.as_deref().unwrap_or_default()
    }
}

impl Row {
    fn of(row: &ActRow) -> Row {
        let agent = row.agent.as_deref().unwrap_or_default();
        let db_user = row.db_user.as_deref().filter(|user| Some(*user) != row.person.as_deref());
        Row {
            at: ShortTime(row.at),
            act: row.act.into(),
            agent: shown(agent).into_owned(),
            agent_address: agent_address(agent),
            // Its id is behind the link.
            what: if row.act == Act::Replayed { "a delivery".to_owned() } else { object(row) },
            delivery: row.delivery_id.map(|id| id.to_string()),
            replay: row.replayed_as.map(|id| id.to_string()),
            test: row.test_id.map(|id| id.to_string()),
            by: shown(who(row)).into_owned(),
            db_user: db_user.map(shown).filter(|_| row.person.is_some()).unwrap_or_default().into_owned(),
            reason: row.reason.as_deref().map(shown).unwrap_or_default().into_owned(),
        }
    }
}

impl From<Act> for Mark {
    fn from(act: Act) -> Mark {
        let (icon, tone) = match act {
            Act::Published => (Icon::ARROW, Tone::Plain),
            Act::Enabled => (Icon::WELL, Tone::Plain),
            Act::Disabled => (Icon::DASH, Tone::Plain),
            Act::Paused => (Icon::PAUSE, Tone::Plain),
            Act::Resumed => (Icon::ARROW, Tone::Plain),
            Act::Replayed => (Icon::CLOCK, Tone::Plain),
            Act::Resolved => (Icon::ASK, Tone::Plain),
            Act::Tested => (Icon::DOT, Tone::Plain),
            Act::SigningEnabled => (Icon::WELL, Tone::Plain),
            Act::SigningRotated => (Icon::ARROW, Tone::Plain),
            Act::SigningDisabled => (Icon::DASH, Tone::Plain),
        };
        Mark { icon, tone, word: act.as_str() }
    }
}

impl CheckView {
    fn of(check: &Check) -> CheckView {
        let (icon, tone) = match check.verdict {
            Verdict::Ok => (Icon::WELL, Tone::Well),
            Verdict::Warning => (Icon::WARN, Tone::Doubt),
            Verdict::Problem => (Icon::CROSS, Tone::Trouble),
        };
        CheckView {
            verdict: Mark { icon, tone, word: check.verdict.as_str() },
            found: shown(&check.found).into_owned(),
            cure: check.cure.as_deref().map(shown).unwrap_or_default().into_owned(),
        }
    }
}
