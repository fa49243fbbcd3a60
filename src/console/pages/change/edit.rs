//! The form of an action: it is checked as `postcall action check` does, compared with the version before, and published. Nothing
//! that was typed is lost on the way: each page holds all of it.

use askama::Template;
use http::StatusCode;

use super::editor::{Help, Preview};
use super::{reason, reason_if_any, sentence};
use crate::console::answer::Answer;
use crate::console::failure::Trouble;
use crate::console::form::Form;
use crate::console::pages::agent::SwitchView;
use crate::console::pages::written;
use crate::console::people::{Role, Visit};
use crate::console::policy::Policy;
use crate::console::query::Parameters;
use crate::console::words::{Here, agent_address, shown, shown_lines};
use crate::domain::action::{DEFAULT_NAME, Method};
use crate::domain::action_file::ActionFile;
use crate::domain::problem::Field;
use crate::service::action_form::ActionForm;
use crate::service::comparison;
use crate::service::examination::{NotPublishable, Storage, look_at, warnings};
use crate::service::{publishing, secrets, told};
use crate::store::Store;
use crate::store::actions::ActionRecord;
use crate::store::publish::Publication;

/// Everything that was typed, and over which version it is published.
pub(super) struct Typed {
    agent: String,
    name: String,
    pub(super) form: ActionForm,
    reason: String,
    /// The call to show the request for, as it was typed.
    call: String,
    /// The newest version that its author has seen; `None` for an action that there was not.
    over: Option<i32>,
}

#[derive(Template)]
#[template(path = "edit.html")]
struct EditPage {
    here: Here,
    typed: Typed,
    methods: Vec<(&'static str, bool)>,
    /// Whether the action exists, so that its names stay.
    is_known: bool,
    notice: String,
    wrong: Vec<Wrong>,
    /// Who disabled the action, if it is disabled.
    disabled: Option<SwitchView>,
    help: Help,
}

/// A problem, and the field it is in; empty for the names.
struct Wrong {
    field: &'static str,
    what: String,
}

#[derive(Template)]
#[template(path = "review.html")]
struct ReviewPage {
    here: Here,
    typed: Typed,
    notice: String,
    warnings: Vec<String>,
    diff: Vec<(&'static str, String)>,
    left_out: usize,
    switches: Option<&'static str>,
    /// Whether publishing would change nothing at all.
    is_nothing: bool,
}

impl EditPage {
    fn new(typed: Typed, is_known: bool, help: Help) -> EditPage {
        let methods = Method::ALL.map(|method| (method.as_str(), method.as_str() == typed.form.method)).to_vec();
        let (here, notice) = (Here::Agents, String::new());
        EditPage { here, typed, methods, is_known, notice, wrong: Vec::new(), disabled: None, help }
    }

    /// The page, on which the editor may run.
    fn answer(self, status: StatusCode) -> Result<Answer, Trouble> {
        Ok(Answer::page(status, self.render()?).allowing(Policy::Edited))
    }

    /// What is wrong with a field.
    fn of(&self, field: &str) -> Vec<&str> {
        self.wrong.iter().filter(|wrong| wrong.field == field).map(|wrong| wrong.what.as_str()).collect()
    }
}

/// The newest version of an action, if there is one; or one of its earlier versions.
async fn stored(store: &Store, agent: &str, name: &str, version: Option<i32>) -> Result<Option<ActionRecord>, Trouble> {
    Ok(store.actions(Some(agent), Some(name), version).await?.into_iter().next())
}

/// The form, with an action as it is, or as it was in a version; or empty.
pub(in crate::console::pages) async fn form(query: &str, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Publisher)?;
    let mut all = Parameters::of(query)?;
    let (agent, name) = (all.one("agent")?.unwrap_or_default(), all.one("name")?);
    let version = all.one("version")?.map(|version| version.parse().map_err(|_| no_such_version(&version)));
    let version: Option<i32> = version.transpose()?;
    all.end()?;
    let known = match &name {
        Some(name) => stored(change.store, &agent, name, version).await?,
        None => None,
    };
    if let (Some(version), None) = (version, &known) {
        let action = format!("{} {}", shown(&agent), shown(name.as_deref().unwrap_or_default()));
        return Err(Trouble::Missing(format!("There is no version {version} of an action {action}.")));
    }
    let name = name.unwrap_or_else(|| DEFAULT_NAME.to_owned());
    let Some(known) = known else {
        let typed =
            Typed { agent, name, form: ActionForm::new(), reason: String::new(), call: String::new(), over: None };
        let help = Help::of(visit, &typed.agent, None).await;
        return EditPage::new(typed, false, help).answer(StatusCode::OK);
    };
    let is_old = known.version != known.newest_version;
    let reason = if is_old { format!("back to version {}", known.version) } else { String::new() };
    let form = ActionForm::of(known.spec.as_ref()?, known.enabled);
    let disabled = disabled(change.store, &agent, &name).await?;
    let help = Help::of(visit, &agent, None).await;
    let typed = Typed { agent, name, form, reason, call: String::new(), over: Some(known.newest_version) };
    let mut page = EditPage::new(typed, true, help);
    page.disabled = disabled;
    if is_old {
        page.notice = format!("This is version {} as it was. The newest is {}.", known.version, known.newest_version);
    }
    page.answer(StatusCode::OK)
}

/// How what is published by this console is stored.
pub(super) fn storage(store: &Store) -> Storage {
    Storage::with_key_file(store.keys().is_some())
}

/// Who disabled an action; `None` if it is enabled.
pub(super) async fn disabled(store: &Store, agent: &str, name: &str) -> Result<Option<SwitchView>, Trouble> {
    let switches = store.last_switches(agent, &[name.to_owned()]).await?;
    Ok(switches.iter().find(|switch| !switch.enabled).map(SwitchView::of))
}

pub(super) fn no_such_version(version: &str) -> Trouble {
    Trouble::Wrong(format!(
        "version: expected a number, and not {}.",
        shown(&version.chars().take(20).collect::<String>())
    ))
}

pub(super) fn typed(form: &Form) -> Result<Typed, Trouble> {
    let text = |name| form.needed(name).map(str::to_owned);
    let over = match form.needed("over")? {
        "" => None,
        version => Some(version.parse().map_err(|_| no_such_version(version))?),
    };
    let fields = ActionForm {
        method: text("method")?,
        url: text("url")?,
        timeout: text("timeout")?,
        headers: text("headers")?,
        body: text("body")?,
        client_certificate: form.text("client_certificate").unwrap_or_default().to_owned(),
        enabled: form.is_checked("enabled"),
    };
    let call = form.text("call").unwrap_or_default().trim().to_owned();
    Ok(Typed { agent: text("agent")?, name: text("name")?, form: fields, reason: text("reason")?, call, over })
}

/// Takes the form: shows it again, or what would be changed, or publishes.
pub(in crate::console::pages) async fn sent(form: &Form, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Publisher)?;
    let typed = typed(form)?;
    if form.needed("step")? == "edit" {
        let is_known = typed.over.is_some();
        let help = Help::of(visit, &typed.agent, Some(form)).await;
        return EditPage::new(typed, is_known, help).answer(StatusCode::OK);
    }
    let file = match typed.form.examine(&typed.agent, &typed.name) {
        Ok(file) => file,
        Err(refused) => {
            let help = Help::of(visit, &typed.agent, Some(form)).await;
            return refused_page(typed, refused, storage(change.store), help);
        }
    };
    if form.needed("step")? == "preview" {
        let help = Help::of(visit, &typed.agent, Some(form)).await;
        let help = help.with_preview(visit, &typed.agent, &typed.form).await?;
        let is_known = typed.over.is_some();
        return EditPage::new(typed, is_known, help).answer(StatusCode::OK);
    }
    let publishes = form.needed("step")? == "publish";
    // It may be typed beside the comparison, and is needed when it is published.
    let reason = if publishes { reason(form).map(Some) } else { reason_if_any(form) };
    let reason = match reason {
        Ok(reason) => reason,
        Err(Trouble::NotDone(why)) => return unreasoned(typed, form, why, visit).await,
        Err(other) => return Err(other),
    };
    if !publishes {
        return review(change.store, typed, &file, false).await;
    }
    let publication = Publication {
        agent: &typed.agent,
        name: &typed.name,
        spec: &file.spec,
        enabled: file.enabled,
        by: change.by,
        reason: reason.as_deref(),
    };
    match publishing::publish_over(change.store, &publication, typed.over).await? {
        Some(published) => {
            let done = told::published(&typed.agent, &typed.name, file.enabled, published);
            Ok(visit.done(&agent_address(&typed.agent), sentence(&done)))
        }
        None => match published_already(change.store, &typed, &file).await? {
            Some(done) => Ok(visit.done(&agent_address(&typed.agent), done)),
            None => review(change.store, typed, &file, true).await,
        },
    }
}

/// The form again, with what is wrong with the reason.
async fn unreasoned(typed: Typed, form: &Form, why: String, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let is_known = typed.over.is_some();
    let help = Help::of(visit, &typed.agent, Some(form)).await;
    let mut page = EditPage::new(typed, is_known, help);
    page.wrong.push(Wrong { field: "reason", what: why });
    page.answer(StatusCode::UNPROCESSABLE_ENTITY)
}

/// What is said if the newest version is what was sent, for instance because the form was sent twice.
async fn published_already(store: &Store, typed: &Typed, file: &ActionFile) -> Result<Option<String>, Trouble> {
    let Some(newest) = stored(store, &typed.agent, &typed.name, None).await? else { return Ok(None) };
    let is_same = newest.enabled == file.enabled && newest.spec.as_ref().is_ok_and(|spec| *spec == file.spec);
    let done = format!(
        "{} {} version {} is the same already, published by {}; nothing was published again.",
        shown(&typed.agent),
        shown(&typed.name),
        newest.version,
        shown(&newest.changes.published_by)
    );
    Ok(is_same.then_some(done))
}

/// That there is another newest version than the one over which somebody wants to publish, and whose it is.
fn published_meanwhile(newest: Option<&ActionRecord>, is_refused: bool) -> String {
    let what = match newest {
        Some(newest) => {
            let by = shown(&newest.changes.published_by);
            format!("Version {} was published in the meantime, by {by}", newest.version)
        }
        None => "This action does not exist, or not any more".to_owned(),
    };
    let so = if is_refused { ", so nothing was published" } else { "" };
    format!("{what}{so}. This is what you would change now.")
}

/// The lines of a difference, each with its tone, and how many bytes of it are left out.
pub(super) fn diff_lines(diff: &str) -> (Vec<(&'static str, String)>, usize) {
    let (text, left_out) = shown_lines(diff);
    let tone = |line: &str| match line.as_bytes().first() {
        Some(b'+') => "well",
        Some(b'-') => "trouble",
        _ => "",
    };
    (text.lines().map(|line| (tone(line), line.to_owned())).collect(), left_out)
}

/// The form again, with what is wrong beside its fields.
fn refused_page(typed: Typed, refused: NotPublishable<'_>, storage: Storage, help: Help) -> Result<Answer, Trouble> {
    let is_known = typed.over.is_some();
    let mut page = EditPage::new(typed, is_known, help);
    page.notice = "It cannot be published as it is.".to_owned();
    let naming = refused.naming.iter().map(|what| Wrong { field: "", what: shown(what).into_owned() });
    let problems = refused.problems.iter().map(|located| {
        let problem = &located.problem;
        let is_template = matches!(problem.field, Field::Url | Field::Headers | Field::Body);
        let place = problem.position.filter(|_| is_template);
        let place = place.map(|place| format!(" (line {}, column {})", place.line, place.column));
        Wrong {
            field: field_name(problem.field),
            what: format!("{}{}", shown(&problem.message), place.unwrap_or_default()),
        }
    });
    // Whoever mends the errors can mend these at the same time.
    let warnings = look_at(&page.typed.form.text(), storage).warnings;
    let warnings = warnings.iter().map(|located| Wrong {
        field: field_name(located.warning.field),
        what: format!("Warning: {}", shown(&located.shown())),
    });
    page.wrong = naming.chain(problems).chain(warnings).collect();
    page.answer(StatusCode::UNPROCESSABLE_ENTITY)
}

/// The field of the form; empty for what concerns none of them.
fn field_name(field: Field) -> &'static str {
    match field {
        Field::Method => "method",
        Field::Url => "url",
        Field::Timeout => "timeout",
        Field::Headers => "headers",
        Field::Body => "body",
        Field::Action | Field::Call => "",
    }
}

/// What would be changed, against the newest version of now.
async fn review(store: &Store, typed: Typed, file: &ActionFile, is_refused: bool) -> Result<Answer, Trouble> {
    let newest = stored(store, &typed.agent, &typed.name, None).await?;
    let is_other = newest.as_ref().map(|newest| newest.version) != typed.over;
    let notice = if is_other { published_meanwhile(newest.as_ref(), is_refused) } else { String::new() };
    let diff = newest.as_ref().map(|newest| newest.spec.as_ref()).transpose()?;
    let diff = diff.map_or_else(|| comparison::first(&file.spec), |newest| comparison::differences(newest, &file.spec));
    let (diff, left_out) = diff_lines(&diff);
    let switches = match newest.as_ref().map(|newest| newest.enabled) {
        Some(enabled) if enabled == file.enabled => None,
        _ if file.enabled => Some("It is enabled by this."),
        _ => Some("It is disabled by this."),
    };
    let mut warnings: Vec<String> =
        warnings(&file.spec, storage(store)).iter().map(|warning| shown(&warning.shown()).into_owned()).collect();
    let unset = secrets::unset(store, &typed.agent, &file.spec).await?;
    warnings.extend(
        unset.iter().map(|name| format!("The agent has no secret {name}: its deliveries fail until it is set.")),
    );
    let typed = Typed { over: newest.map(|newest| newest.version), ..typed };
    let is_nothing = diff.is_empty() && switches.is_none();
    written(&ReviewPage { here: Here::Agents, typed, notice, warnings, diff, left_out, switches, is_nothing })
}
