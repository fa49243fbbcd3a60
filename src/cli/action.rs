//! `postcall action …`: what is sent for an agent's calls.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::render::described;
use super::table::{Table, print_json, time};
use super::{CliError, Database, Format, ONE_CONNECTION, print_line, read_file};
use crate::domain::action::{self, ActionSpec};
use crate::domain::action_file::{ActionFile, MAX_ACTION_FILE_BYTES, warnings};
use crate::domain::problem::{Field, Problem};
use crate::render::{CompiledAction, diagnostic};
use crate::store::actions::{ActionRecord, Switched};

/// Check, publish and look at actions: what is sent for an agent's calls.
///
/// An action file is JSON with the fields of the platform's form:
///
///   {"method": "POST", "url": "https://example.com/hook?id=${callInfo.callSid}", "timeout": 15000,
///    "headers": {"authorization": "Bearer …"}, "body": "{\"from\": \"${callInfo.from}\"}", "enabled": true}
///
/// method (GET, POST, PUT) and url are required. timeout is in milliseconds. headers may also be template
/// text. body is template text; without one the whole call is sent.
#[derive(Args)]
#[command(verbatim_doc_comment)]
#[allow(rustdoc::bare_urls, reason = "this text is the help, where a link would be noise")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say everything that is wrong with an action file. Needs no database.
    Check {
        /// The action file; `-` for standard input.
        file: PathBuf,
        /// Print problems as JSON instead.
        #[arg(long)]
        json: bool,
    },
    /// Check an action file and make it the newest version of an agent's action.
    ///
    /// From now on it is what is sent, also for calls that wait already. Versions are immutable:
    /// to go back, publish the older file again.
    Publish {
        #[command(flatten)]
        which: Which,
        /// The action file; `-` for standard input.
        file: PathBuf,
    },
    /// List actions, of one agent or of all.
    List {
        /// Only this agent's.
        agent: Option<String>,
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
        /// An older version than the newest.
        #[arg(long, value_name = "N")]
        version: Option<i32>,
    },
    /// Send an action again for new calls.
    Enable(Which),
    /// Send an action no more. Deliveries that wait already are recorded as skipped.
    Disable(Which),
}

/// One action.
#[derive(Args)]
struct Which {
    /// The agent whose calls it is sent for.
    agent: String,
    /// Its name among the agent's actions.
    #[arg(long, default_value = action::DEFAULT_NAME)]
    name: String,
    #[command(flatten)]
    database: Database,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Check { file, json } => check(&read_action(&file)?, json).map(drop),
            Command::Publish { which, file } => publish(which, &read_action(&file)?).await,
            Command::List { agent, format, database } => list(agent.as_deref(), format, &database).await,
            Command::Show { which, version } => show(which, version).await,
            Command::Enable(which) => switch(which, true).await,
            Command::Disable(which) => switch(which, false).await,
        }
    }
}

fn read_action(file: &Path) -> Result<String, CliError> {
    read_file(file, MAX_ACTION_FILE_BYTES)
}

/// Prints all problems, or that there are none.
fn check(text: &str, as_json: bool) -> Result<ActionFile, CliError> {
    match examine(text) {
        Ok(file) => {
            for warning in warnings(&file.spec) {
                eprintln!("warning: {warning}");
            }
            print_line(if as_json { "{\"problems\": []}" } else { "the action is well formed" })?;
            Ok(file)
        }
        Err(problems) if as_json => {
            let problems: Vec<Value> = problems.iter().map(|(problem, _)| described(problem)).collect();
            print_json(&json!({ "problems": problems }))?;
            Err(CliError::Said)
        }
        Err(problems) => {
            eprintln!("{}", shown(&problems));
            Err(CliError::Said)
        }
    }
}

/// A problem with the text in which its place is: the file's, which all problems of the file share, or a template's.
pub(super) type Located<'t> = (Problem, Cow<'t, str>);

/// Reads and compiles an action file; all problems with their texts.
pub(super) fn examine(text: &str) -> Result<ActionFile, Vec<Located<'_>>> {
    let in_file = |problem| (problem, Cow::Borrowed(text));
    let file = ActionFile::parse(text).map_err(|problems| problems.into_iter().map(in_file).collect::<Vec<_>>())?;
    let in_template = |problem: Problem| {
        let template = template(&file.spec, problem.field).to_owned();
        (problem, Cow::Owned(template))
    };
    match CompiledAction::compile(&file.spec) {
        Ok(_) => Ok(file),
        Err(problems) => Err(problems.into_iter().map(in_template).collect()),
    }
}

/// Problems as compilers show them.
pub(super) fn shown(problems: &[Located<'_>]) -> String {
    let parts: Vec<String> = problems.iter().map(|(problem, text)| diagnostic::show(problem, text)).collect();
    parts.join("\n")
}

fn template(spec: &ActionSpec, field: Field) -> &str {
    match field {
        Field::Url => &spec.url,
        Field::Headers => spec.headers.as_deref().unwrap_or_default(),
        Field::Body => spec.body.as_deref().unwrap_or_default(),
        Field::Action | Field::Method | Field::Timeout | Field::Call => "",
    }
}

async fn publish(which: Which, text: &str) -> Result<(), CliError> {
    let file = check_quietly(text)?;
    let store = which.database.open(ONE_CONNECTION).await?;
    let version = store.publish_action(&which.agent, &which.name, &file.spec, file.enabled).await?;
    let state = if file.enabled { "enabled" } else { "disabled" };
    print_line(&format!("published {} {} version {version} ({state})", which.agent, which.name))
}

/// As [`check`], but a good action is not remarked upon.
fn check_quietly(text: &str) -> Result<ActionFile, CliError> {
    let file = examine(text).map_err(|problems| {
        eprintln!("{}", shown(&problems));
        CliError::Problem("not published".to_owned())
    })?;
    for warning in warnings(&file.spec) {
        eprintln!("warning: {warning}");
    }
    Ok(file)
}

async fn list(agent: Option<&str>, format: Format, database: &Database) -> Result<(), CliError> {
    let actions = database.open(ONE_CONNECTION).await?.actions(agent, None, None).await?;
    let mut table = Table::new(&["agent", "action", "version", "enabled", "method", "url", "timeout ms", "published"]);
    for action in &actions {
        table.row(vec![
            action.agent.clone(),
            action.name.clone(),
            action.version.to_string(),
            action.enabled.to_string(),
            action.spec.method.to_string(),
            action.spec.url.clone(),
            action.spec.timeout_ms.to_string(),
            time(action.published_at),
        ]);
    }
    let objects: Vec<Value> = actions.iter().map(described_action).collect();
    table.print(format, &objects)
}

async fn show(which: Which, version: Option<i32>) -> Result<(), CliError> {
    let store = which.database.open(ONE_CONNECTION).await?;
    let found = store.actions(Some(&which.agent), Some(&which.name), version).await?.into_iter().next();
    let action = found.ok_or_else(|| no_such_action(&which, version))?;
    eprintln!(
        "{} {} version {} of {}, published {} by {}",
        action.agent, action.name, action.version, action.newest_version, action.published_at, action.published_by
    );
    print_json(&as_file(&action))
}

/// An action as programs read it: its file, and what the database knows beside it.
fn described_action(action: &ActionRecord) -> Value {
    let mut object = as_file(action);
    object["agent"] = json!(action.agent);
    object["name"] = json!(action.name);
    object["version"] = json!(action.version);
    object["published_at"] = json!(action.published_at);
    object["published_by"] = json!(action.published_by);
    object
}

/// An action in the form of an action file.
fn as_file(action: &ActionRecord) -> Value {
    let mut file = json!({ "method": action.spec.method, "url": action.spec.url, "timeout": action.spec.timeout_ms });
    for (field, text) in [("headers", &action.spec.headers), ("body", &action.spec.body)] {
        if let Some(text) = text {
            file[field] = json!(text);
        }
    }
    file["enabled"] = json!(action.enabled);
    file
}

async fn switch(which: Which, enabled: bool) -> Result<(), CliError> {
    let store = which.database.open(ONE_CONNECTION).await?;
    let state = if enabled { "enabled" } else { "disabled" };
    match store.switch_action(&which.agent, &which.name, enabled).await? {
        Switched::Changed => print_line(&format!("{} {} is now {state}", which.agent, which.name)),
        Switched::Already => print_line(&format!("{} {} was {state} already", which.agent, which.name)),
        Switched::NoSuchAction => Err(no_such_action(&which, None)),
    }
}

fn no_such_action(which: &Which, version: Option<i32>) -> CliError {
    let version = version.map(|version| format!(" version {version}")).unwrap_or_default();
    CliError::Problem(format!(
        "agent {} has no action {}{version}; `postcall action list {}` shows what it has",
        which.agent, which.name, which.agent
    ))
}
