//! The versions of an action: when, by whom and why each was published, what it changed, and the way back to it.

use std::time::Duration;

use askama::Template;

use super::edit::{diff_lines, disabled, no_such_version};
use crate::console::answer::Answer;
use crate::console::failure::Trouble;
use crate::console::frame;
use crate::console::pages::agent::{SwitchView, TEMPLATE_READER};
use crate::console::pages::written;
use crate::console::part::Part;
use crate::console::people::{Role, Visit};
use crate::console::query::Parameters;
use crate::console::words::{Here, Time, agent_address, shown};
use crate::service::comparison::differences_within;
use crate::store::versions::{VersionRecord, VersionSpecs};

/// Versions on a page.
const VERSIONS: i32 = 20;
/// How long the shortest difference of two versions is looked for, so that a page of them is there at once.
const DIFF_TIME: Duration = Duration::from_millis(2);
/// The largest part of a difference that is shown, in bytes.
const LONGEST_DIFF: usize = 16 * 1024;

#[derive(Template)]
#[template(path = "versions.html")]
struct VersionsPage {
    here: Here,
    agent: String,
    agent_address: String,
    name: String,
    versions: Vec<VersionView>,
    /// Who disabled the action, if it is disabled.
    disabled: Option<SwitchView>,
    /// Why it is not shown what each changed, if it is not.
    withheld: Option<String>,
    next: Option<String>,
}

struct VersionView {
    version: i32,
    at: Time,
    by: String,
    reason: String,
    /// Where it is used again; `None` for the newest version, and for those who may not publish.
    edit: Option<String>,
    is_newest: bool,
    /// What it changed; `None` for the first version.
    changed: Option<Changed>,
}

/// What a version changed, compared with the one before it.
struct Changed {
    from: i32,
    /// Each line with its tone.
    diff: Vec<(&'static str, String)>,
    /// How many bytes of it are left out.
    left_out: usize,
    /// Why it cannot be shown, if it cannot.
    withheld: Option<&'static str>,
}

/// The versions of an action, the newest first.
pub(in crate::console::pages) async fn versions(query: &str, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let mut all = Parameters::of(query)?;
    let (agent, name) = (all.one("agent")?.unwrap_or_default(), all.one("name")?.unwrap_or_default());
    let before = all.one("before")?.map(|before| before.parse().map_err(|_| no_such_version(&before))).transpose()?;
    all.end()?;
    let store = visit.agent(&agent)?;
    let versions = store.versions(&agent, &name, before, VERSIONS).await?;
    let Some(first) = versions.first().map(|first| first.version) else {
        return match before {
            None => Err(Trouble::Missing(format!("Agent {} has no action {}.", shown(&agent), shown(&name)))),
            Some(_) => Err(Trouble::Missing("There is no older version.".to_owned())),
        };
    };
    // One more, with which the last of the page is compared.
    let specs = Part::of(store.version_specs(&agent, &name, first, VERSIONS + 1).await, TEMPLATE_READER)?;
    let withheld = if let Part::Withheld(why) = &specs { Some(why.clone()) } else { None };
    let address = |path: &str, more: &str, value: i32| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("agent", &agent).append_pair("name", &name).append_pair(more, &value.to_string());
        frame::inside(&format!("{path}?{}", query.finish()))
    };
    let next = versions.last().map(|last| last.version).filter(|last| *last > 1);
    // On the first page, the first version is the newest.
    let is_newest = |version: &VersionRecord| before.is_none() && version.version == first;
    let may_publish = visit.may(Role::Publisher);
    let view = |version: &VersionRecord| VersionView {
        version: version.version,
        at: Time(version.published_at),
        by: shown(&version.published_by).into_owned(),
        reason: version.reason.as_deref().map(shown).unwrap_or_default().into_owned(),
        edit: (may_publish && !is_newest(version)).then(|| address("/change/action", "version", version.version)),
        is_newest: is_newest(version),
        changed: specs.shown().and_then(|specs| Changed::of(version.version, specs)),
    };
    written(&VersionsPage {
        here: Here::Agents,
        versions: versions.iter().map(view).collect(),
        disabled: disabled(store, &agent, &name).await?,
        withheld,
        next: next.map(|last| address("/versions", "before", last)),
        agent_address: agent_address(&agent),
        agent: shown(&agent).into_owned(),
        name: shown(&name).into_owned(),
    })
}

impl Changed {
    fn of(version: i32, specs: &VersionSpecs) -> Option<Changed> {
        let from = version.checked_sub(1)?;
        let (older, newer) = match (specs.get(&from)?, specs.get(&version)?) {
            (Ok(older), Ok(newer)) => (older, newer),
            (Err(unopened), _) | (_, Err(unopened)) => {
                return Some(Changed { from, diff: Vec::new(), left_out: 0, withheld: Some(unopened.why()) });
            }
        };
        let text = differences_within(older, newer, DIFF_TIME);
        let shown = &text[..text.floor_char_boundary(LONGEST_DIFF)];
        let (diff, left_out) = diff_lines(shown);
        Some(Changed { from, diff, left_out: left_out + text.len() - shown.len(), withheld: None })
    }
}
