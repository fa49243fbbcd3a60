//! `postcall action …`: checks, publishes and shows actions.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::action_outlines;
use super::action_seal::SealArguments;
use super::action_source::ActionSource;
use super::action_test::{TestArguments, TestsArguments};
use super::action_versions::{DiffArguments, VersionsArguments};
use super::attribution::OptionalAttribution;
use super::key_file::KeyFile;
use super::signing::SigningArguments;
use super::table::{Table, print_json, time};
use super::unknown::no_such_action;
use super::{CliError, Database, Format, ONE_CONNECTION, print_line, unknown};
use crate::domain::action;
use crate::domain::action_file::{ActionFile, ActionText};
use crate::domain::visible::{visible, visible_lines};
use crate::service::examination::{
    LocatedWarning, NotPublishable, Storage, examine_to_publish, look_at, shown, warnings,
};
use crate::service::publishing;
use crate::service::remarks::remarks;
use crate::service::secrets;
use crate::service::stored_action::{as_file, described};
use crate::service::told;
use crate::store::Store;
use crate::store::publish::{Publication, Switching};

/// Check, publish and look at actions: what is sent for an agent's calls.
///
/// An action file is JSON with the fields of the platform's form:
///
///   {"method": "POST", "url": "https://example.com/hook?id=${callInfo.callSid}", "timeout": 15000,
///    "headers": {"authorization": "Bearer …"}, "body": "{\"from\": \"${callInfo.from}\"}",
///    "enabled": true}
///
/// or TOML with the same fields, if the file's name ends in .toml, or if standard input does not
/// begin with `{`. In TOML a body needs no escapes: body = '''{"from": "${callInfo.from}"}'''
///
/// method (GET, POST, PUT) and url are required. timeout is in milliseconds. headers may also be
/// template text. body is template text; without one the whole call is sent.
#[derive(Args)]
#[command(verbatim_doc_comment)]
#[allow(rustdoc::bare_urls, reason = "this text is the help, where a link would be noise")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Report all problems of an action file. Needs no database.
    ///
    /// An error keeps the action from being published; the exit status is 1 then. A warning does not: it names what is
    /// probably a slip, such as a placeholder that no documented call has. If your calls have it, nothing is wrong.
    Check {
        /// The action file, JSON or TOML; `-` for standard input.
        file: PathBuf,
        /// Print errors and warnings as JSON instead.
        ///
        /// One object with the array `problems`; each element has severity (error or warning), code, field, message,
        /// hint, range, line and column. The range is {"start", "end"}: characters from 0 in the field's own text (that of
        /// action, method and timeout is the file), without the end. What does not apply is null.
        #[arg(long)]
        json: bool,
        /// The key file with which it will be published: then nothing is said of secrets that are typed into it, because they are
        /// sealed. It is not read.
        #[arg(long, env = "POSTCALL_KEY_FILE", value_name = "FILE", default_value = "", hide_default_value = true)]
        key_file: String,
    },
    /// Check an action file and make it the newest version of an agent's action.
    ///
    /// From now on this version is sent, also for calls that already wait. Versions are immutable:
    /// to go back, publish the older file again. If the newest version is the same, none is made, and this is
    /// said. `enabled` is set all the same.
    ///
    /// With --key-file, the URL, headers and body are stored encrypted (sealed), and only with the key file can a dispatcher
    /// send them and anybody see them. Once one version is sealed, none is published without the key file. An action that names a
    /// secret is published with the key file only.
    Publish {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        key_file: KeyFile,
        /// The action file, JSON or TOML; `-` for standard input.
        file: PathBuf,
        #[command(flatten)]
        attribution: OptionalAttribution,
    },
    /// List actions, of one agent or of all. Auditors see where each goes, and a digest instead of its templates.
    List {
        /// Only the actions of this agent.
        agent: Option<String>,
        #[command(flatten)]
        key_file: KeyFile,
        /// How to print them.
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
        #[command(flatten)]
        database: Database,
    },
    /// Print one version of an action as a file that can be published again.
    Show {
        #[command(flatten)]
        which: Which,
        /// The version to print. By default the newest.
        #[arg(long, value_name = "N")]
        version: Option<i32>,
        #[command(flatten)]
        key_file: KeyFile,
    },
    /// List the versions of an action, the newest first: when, by whom and why each was published, and what it changed.
    Versions(VersionsArguments),
    /// Show what differs between two versions of an action.
    Diff(DiffArguments),
    /// Send one real request, to see what the receiver answers. It is a test, and no delivery.
    ///
    /// The request goes the same way as that of a dispatcher: the same guard against addresses that must not be called, the same
    /// deadline. What may be called is said by the same settings (--allow-target, --allow-http). The test is recorded before
    /// the request begins, with who and why, and has a webhook-id of its own. It is sent at most once: if it is stopped in the
    /// middle, it is shown as `unknown`, and never sent again. It appears in no history and in no count of deliveries.
    ///
    /// The call is the documented sample (docs/actions.md shows it), unless --call or --call-file gives another one. A disabled action
    /// can be tested; what is paused cannot. Of one agent, 2 tests may be in flight, and 10 may begin within a minute.
    ///
    /// The exit status is 1 unless the receiver answered with 2xx.
    Test(Box<TestArguments>),
    /// List the tests of an agent's actions, the newest first.
    Tests(TestsArguments),
    Signing(Box<SigningArguments>),
    Seal(SealArguments),
    /// Enable an action, so that it is sent for new calls.
    Enable(Switch),
    /// Disable an action, so that it is no longer sent. Deliveries that already wait are recorded as skipped.
    Disable(Switch),
}

/// One action, and who enables or disables it.
#[derive(Args)]
struct Switch {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    attribution: OptionalAttribution,
}

/// The agent and name of one action.
#[derive(Args)]
pub(super) struct Which {
    /// The agent whose calls it is sent for.
    pub(super) agent: String,
    /// Its name among the agent's actions.
    #[arg(long, default_value = action::DEFAULT_NAME)]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) database: Database,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Check { file, json, key_file } => {
                check(ActionSource::read(&file)?.text(), json, Storage::with_key_file(!key_file.is_empty()))
            }
            Command::Publish { which, key_file, file, attribution } => {
                publish(which, &key_file, &attribution, ActionSource::read(&file)?.text()).await
            }
            Command::List { agent, key_file, format, database } => {
                let store = key_file.with_keys(database.open(ONE_CONNECTION).await?)?;
                list(&store, agent.as_deref(), format).await
            }
            Command::Show { which, version, key_file } => show(which, version, &key_file).await,
            Command::Versions(arguments) => arguments.run().await,
            Command::Diff(arguments) => arguments.run().await,
            Command::Test(arguments) => arguments.run().await,
            Command::Tests(arguments) => arguments.run().await,
            Command::Signing(arguments) => arguments.run().await,
            Command::Seal(arguments) => arguments.run().await,
            Command::Enable(action) => switch(action, true).await,
            Command::Disable(action) => switch(action, false).await,
        }
    }

    /// Whether the rights of an auditor suffice.
    pub(super) fn only_reads(&self) -> bool {
        match &self.command {
            Command::Tests(_) | Command::List { .. } | Command::Versions(_) => true,
            Command::Signing(arguments) => arguments.only_reads(),
            _ => false,
        }
    }

    /// Whether the command needs the owner of the schema.
    pub(super) fn needs_owner(&self) -> bool {
        matches!(self.command, Command::Seal(_))
    }
}

/// Prints all problems and warnings, or says that there are none.
fn check(text: ActionText<'_>, as_json: bool, storage: Storage) -> Result<(), CliError> {
    let examination = look_at(text, storage);
    if as_json {
        print_json(&json!({ "problems": remarks(&examination) }))?;
    } else {
        if !examination.problems.is_empty() {
            eprintln!("{}", visible_lines(&shown(&examination.problems)));
        }
        warn(&examination.warnings);
    }
    match examination.file {
        Some(_) if as_json => Ok(()),
        Some(_) => print_line("the action is well formed"),
        None => Err(CliError::Said),
    }
}

async fn publish(
    which: Which,
    key_file: &KeyFile,
    attribution: &OptionalAttribution,
    text: ActionText<'_>,
) -> Result<(), CliError> {
    let by = attribution.by()?;
    let ActionFile { spec, enabled } = check_quietly(&which, text, key_file.storage(), "not published")?;
    warn(&warnings(&spec, key_file.storage()));
    let store = key_file.with_keys(which.database.open(ONE_CONNECTION).await?)?;
    for name in secrets::unset(&store, &which.agent, &spec).await? {
        eprintln!(
            "warning: agent {0} has no secret `{name}`: until `postcall secret set {0} {name}`, its deliveries fail",
            visible(&which.agent)
        );
    }
    unknown::warn_of_new(&store, &which).await?;
    let reason = attribution.reason.as_deref();
    let publication = Publication { agent: &which.agent, name: &which.name, spec: &spec, enabled, by: &by, reason };
    let published = publishing::publish(&store, &publication).await?;
    print_line(&told::published(&which.agent, &which.name, enabled, published))
}

/// As [`check`], but prints nothing, no warning either, if there are no problems; `refused` says what is not done if there are some.
pub(super) fn check_quietly(
    which: &Which,
    text: ActionText<'_>,
    storage: Storage,
    refused: &str,
) -> Result<ActionFile, CliError> {
    let NotPublishable { naming, problems } = match examine_to_publish(&which.agent, &which.name, text) {
        Ok(file) => return Ok(file),
        Err(wrong) => wrong,
    };
    for problem in &naming {
        eprintln!("error: {}", visible(problem));
    }
    if !problems.is_empty() {
        eprintln!("{}", visible_lines(&shown(&problems)));
    }
    // Whoever mends the errors can mend these at the same time.
    warn(&look_at(text, storage).warnings);
    Err(CliError::Problem(refused.to_owned()))
}

pub(super) fn warn(warnings: &[LocatedWarning]) {
    for warning in warnings {
        eprintln!("warning: {}", visible(&warning.shown()));
    }
}

async fn list(store: &Store, agent: Option<&str>, format: Format) -> Result<(), CliError> {
    if !store.may_read_templates().await? {
        let outlines = store.action_outlines(agent).await?;
        action_outlines::print(&outlines, format)?;
        if outlines.is_empty() {
            unknown::say(store, agent, None).await?;
        }
        return Ok(());
    }
    let actions = store.actions(agent, None, None).await?;
    let mut table = Table::new(&["agent", "action", "version", "enabled", "method", "url", "timeout ms", "published"]);
    for action in &actions {
        let (method, url, timeout_ms) = match &action.spec {
            Ok(spec) => (spec.method, spec.url.clone(), spec.timeout_ms),
            Err(sealed) => (sealed.method, format!("{}/… (sealed)", sealed.origin), sealed.timeout_ms),
        };
        table.row(vec![
            action.agent.clone(),
            action.name.clone(),
            action.version.to_string(),
            action.enabled.to_string(),
            method.to_string(),
            url,
            timeout_ms.to_string(),
            time(action.changes.published_at),
        ]);
    }
    let objects: Vec<Value> = actions.iter().map(described).collect();
    table.print(format, &objects)?;
    if actions.is_empty() {
        unknown::say(store, agent, None).await?;
    }
    if let Some(sealed) = actions.iter().find_map(|action| action.spec.as_ref().err()) {
        eprintln!("(sealed): {sealed}");
    }
    Ok(())
}

async fn show(which: Which, version: Option<i32>, key_file: &KeyFile) -> Result<(), CliError> {
    let store = key_file.with_keys(which.database.open(ONE_CONNECTION).await?)?;
    let found = store.actions(Some(&which.agent), Some(&which.name), version).await?.into_iter().next();
    let Some(action) = found else { return Err(no_such_action(&store, &which, version).await) };
    eprintln!(
        "{} {} version {} of {}, published {} by {}{}",
        visible(&action.agent),
        visible(&action.name),
        action.version,
        action.newest_version,
        action.changes.published_at,
        visible(&attribution(Some(&action.changes.published_by), action.changes.published_db_user.as_deref())),
        visible(&because(action.changes.published_reason.as_deref())),
    );
    if let Some(at) = action.changes.switched_at {
        let state = if action.enabled { "enabled" } else { "disabled" };
        let by = attribution(action.changes.switched_by.as_deref(), action.changes.switched_db_user.as_deref());
        let why = because(action.changes.switched_reason.as_deref());
        eprintln!("{state} since {at} by {}{}", visible(&by), visible(&why));
    }
    print_json(&as_file(action.spec.as_ref()?, action.enabled))
}

/// Who did something: the name that the person gave, and the database user, which the person cannot choose.
pub(super) fn attribution(person: Option<&str>, db_user: Option<&str>) -> String {
    match (person, db_user) {
        (Some(person), Some(user)) => format!("{person} (database user {user})"),
        (Some(person), None) => person.to_owned(),
        (None, Some(user)) => format!("database user {user}"),
        (None, None) => "an unknown person".to_owned(),
    }
}

/// The end of a sentence that says why, if somebody said so.
pub(super) fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}

async fn switch(Switch { which, attribution }: Switch, enabled: bool) -> Result<(), CliError> {
    let by = attribution.by()?;
    let store = which.database.open(ONE_CONNECTION).await?;
    let reason = attribution.reason.as_deref();
    let switching = Switching { agent: &which.agent, name: &which.name, enabled, by: &by, reason };
    match told::switched(&which.agent, &which.name, enabled, store.switch(&switching).await?) {
        Some(switched) => print_line(&switched),
        None => Err(no_such_action(&store, &which, None).await),
    }
}
