//! `postcall action test` and `postcall action tests`: one real request, to see what a receiver answers.

use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::RangedI64ValueParser;
use clap::{Args, ValueEnum};
use serde_json::Value;
use uuid::Uuid;

use super::action::{Which, attribution, check_quietly, warn};
use super::action_source::ActionSource;
use super::attribution::Attribution;
use super::key_file::KeyFile;
use super::show::{digest, field, masked_lines};
use super::signals::first_stop;
use super::table::{Table, print_json, time};
use super::targets::TargetArguments;
use super::unknown::no_such_action;
use super::{CliError, Database, Format, ONE_CONNECTION, print_line, read_file, unknown};
use crate::domain::action::ActionSpec;
use crate::domain::action_file::ActionFile;
use crate::domain::action_test::{CallSource, TestState};
use crate::domain::body_digest;
use crate::domain::call::MAX_CALL_BYTES;
use crate::domain::delivery::BodyEnd;
use crate::domain::visible::visible;
use crate::domain::warning::WarningCode;
use crate::service::action_test::{NotTested, TestReport, Tester, What, Wish, in_words};
use crate::service::chosen_call::ChosenCall;
use crate::service::examination::{LocatedWarning, Storage, warnings};
use crate::store::Store;
use crate::store::action_tests::{MOST_TESTS, TestRecord};

#[derive(Args)]
pub(super) struct TestArguments {
    #[command(flatten)]
    which: Which,

    /// Test this version. By default the newest.
    #[arg(long, value_name = "N", conflicts_with = "file")]
    version: Option<i32>,

    /// Test this action file, JSON or TOML, which need not be published; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Test with this past call of the agent: its id in the outbox (`postcall calls`). Needs the right to read calls
    /// (postcall_dispatcher) in addition. By default the call is the documented sample.
    #[arg(long, value_name = "CALL_ID", conflicts_with = "call_file")]
    call: Option<Uuid>,

    /// Test with the call in this file, one JSON object; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    call_file: Option<PathBuf>,

    #[command(flatten)]
    attribution: Attribution,

    /// How to print the result.
    #[arg(long, value_enum, default_value = "text")]
    format: ReportFormat,

    #[command(flatten)]
    targets: TargetArguments,

    /// For an action that names a secret.
    #[command(flatten)]
    key_file: KeyFile,
}

#[derive(Args)]
pub(super) struct TestsArguments {
    /// The agent whose tests are listed.
    agent: String,
    /// Only the tests of the action with this name.
    #[arg(long)]
    name: Option<String>,
    /// The largest number of tests that are listed; the newest are listed.
    #[arg(long, default_value_t = 20, value_name = "N",
          value_parser = RangedI64ValueParser::<i64>::new().range(1..=MOST_TESTS))]
    limit: i64,
    /// Only tests before this one: the next page of an earlier listing.
    #[arg(long, value_name = "TEST_ID")]
    before: Option<Uuid>,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    database: Database,
}

/// How one result is printed.
#[derive(Clone, Copy, ValueEnum)]
enum ReportFormat {
    /// For people.
    Text,
    /// For programs: one JSON object.
    Json,
}

impl TestArguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let by = self.attribution.by()?;
        let call = match (&self.call, &self.call_file) {
            (Some(call_id), _) => ChosenCall::Past(*call_id),
            (None, Some(file)) => ChosenCall::Text(read_file(file, MAX_CALL_BYTES)?),
            (None, None) => ChosenCall::Sample,
        };
        let file = self.file.as_deref().map(ActionSource::read).transpose()?;
        let checked = file
            .as_ref()
            .map(|file| check_quietly(&self.which, file.text(), Storage::Sealed, "not tested"))
            .transpose()?;
        let what = match (&checked, &file) {
            (Some(ActionFile { spec, .. }), Some(file)) => What::File { spec, text: file.text().text },
            _ => What::Published(self.version),
        };
        let keys = self.key_file.keyring()?.map(Arc::new);
        if let Some(ActionFile { spec, .. }) = &checked {
            warn(&warnings_of_test(spec));
        }
        let (webhook, _policy) = self.targets.webhook(false, false, keys.as_deref())?;
        let store = self.which.database.open(ONE_CONNECTION).await?.with_keys(keys.clone());
        if let What::Published(version) = what {
            say_warnings(&store, &self.which, version).await?;
        }
        let reason = &self.attribution.reason;
        let wish = Wish { agent: &self.which.agent, action: &self.which.name, what, call: &call, by: &by, reason };
        let stop = first_stop()?;
        let report = Tester::new(webhook, keys).test(&store, &wish, stop).await;
        let report = match report {
            Ok(report) => report,
            Err(NotTested::NoSuchAction) => return Err(no_such_action(&store, &self.which, self.version).await),
            Err(refused) => return Err(in_cli_words(refused)),
        };
        for path in report.record.unresolved.iter().flatten() {
            eprintln!("warning: the call has nothing for the placeholder {}", visible(path));
        }
        match self.format {
            ReportFormat::Json => print_json(&as_json(&report))?,
            ReportFormat::Text => print_line(&as_text(&report))?,
        }
        if report.record.state == TestState::Delivered { Ok(()) } else { Err(CliError::Said) }
    }
}

/// The warnings that `publish` says, without those about targets: whether the target may be called is what the test tells.
fn warnings_of_test(spec: &ActionSpec) -> Vec<LocatedWarning> {
    let is_about_targets = |warning: &LocatedWarning| {
        matches!(
            warning.warning.code,
            WarningCode::PlainHttp
                | WarningCode::PrivateAddress
                | WarningCode::ForbiddenPort
                | WarningCode::UnlikelyHost
        )
    };
    // Nothing is stored of what is tested.
    warnings(spec, Storage::Sealed).into_iter().filter(|warning| !is_about_targets(warning)).collect()
}

/// Warnings of a published version.
async fn say_warnings(store: &Store, which: &Which, version: Option<i32>) -> Result<(), CliError> {
    let found = store.actions(Some(&which.agent), Some(&which.name), version).await?.pop();
    let Some(action) = found else { return Err(no_such_action(store, which, version).await) };
    warn(&warnings_of_test(action.spec.as_ref()?));
    Ok(())
}

/// Why there was no test, with the command that helps.
fn in_cli_words(refused: NotTested) -> CliError {
    match refused {
        NotTested::Store(error) => error.into(),
        NotTested::Paused(pause) => {
            let (target, by) = (&pause.target, attribution(Some(&pause.begun.by), Some(&pause.begun.db_user)));
            CliError::Problem(format!(
                "nothing was sent, because this is paused since {} by {}: {}. To test it, end the pause: postcall resume {}",
                time(pause.begun.at),
                visible(&by),
                visible(&pause.begun.reason),
                visible(&target.to_string()),
            ))
        }
        other => CliError::Problem(crate::domain::chain::chain(&other).to_string()),
    }
}

fn as_json(TestReport { record, request }: &TestReport) -> Value {
    let mut object = serde_json::to_value(record).unwrap_or_default();
    object["request"] = serde_json::to_value(request).unwrap_or_default();
    object
}

fn as_text(TestReport { record, request }: &TestReport) -> String {
    let mut lines = vec![format!("test {}  {}", record.test_id, record.state.as_str().to_uppercase())];
    let fields = [
        field("agent", Some(&record.agent)),
        field("action", Some(format!("{} {}", record.action, tested(record)))),
        field("call", Some(call(record))),
        field("webhook-id", Some(record.test_id)),
    ];
    lines.extend(fields.into_iter().flatten());
    lines.push(format!("\n{}", title(record.state)));
    match request {
        Some(request) => lines.extend(masked_lines(request)),
        None => lines.push("  no request could be made from this action and this call".to_owned()),
    }
    lines.push("\nwhat came back".to_owned());
    lines.extend(answer(record));
    lines.push(format!("\n{}", sentence(&in_words(record))));
    lines.join("\n")
}

/// What there is to say above the request: whether it left.
fn title(state: TestState) -> &'static str {
    match state {
        TestState::Delivered | TestState::Rejected => "what was sent",
        TestState::Failed | TestState::Unsent => "what would have been sent: no byte reached the receiver",
        TestState::Sending | TestState::Unknown => "what was sent: it is not known whether all of it arrived",
    }
}

fn answer(record: &TestRecord) -> Vec<String> {
    let body =
        record.response_bytes.map(|bytes| format!("{bytes} bytes, {}", record.body_end.map_or("", BodyEnd::as_str)));
    let after = |ms: Option<i32>| ms.map(|ms| format!("after {ms} ms"));
    let lines: Vec<String> = [
        field("status", record.response_code),
        field("body", body),
        digest("body", record.response_sha256.as_deref()),
        field("error", record.error_kind),
        field("name resolved", after(record.dns_ms)),
        field("connected", after(record.connected_ms)),
        field("response head", after(record.head_ms)),
        field("ended", after(record.latency_ms)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if lines.is_empty() { vec!["  nothing".to_owned()] } else { lines }
}

/// What was tested: a version, or a file by the beginning of its digest.
fn tested(record: &TestRecord) -> String {
    match (record.action_version, &record.file_sha256) {
        (Some(version), _) => format!("version {version}"),
        (None, Some(digest)) => format!("file {:.12}", body_digest::in_words(digest).1),
        (None, None) => String::new(),
    }
}

fn call(record: &TestRecord) -> String {
    match (record.call_source, record.call_id) {
        (CallSource::Outbox, Some(call_id)) => call_id.to_string(),
        (CallSource::File, _) => "a file".to_owned(),
        (CallSource::Sample | CallSource::Outbox, _) => "the sample".to_owned(),
    }
}

/// Words with a capital letter and a final period.
fn sentence(words: &str) -> String {
    let mut rest = words.chars();
    let first: String = rest.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", visible(rest.as_str()))
}

impl TestsArguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = self.database.open(ONE_CONNECTION).await?;
        let tests = store.tests(&self.agent, self.name.as_deref(), self.before, self.limit).await?;
        let mut table =
            Table::new(&["started", "action", "tested", "call", "state", "result", "ms", "by", "reason", "test"]);
        for test in &tests {
            let code = test.response_code.map(|code| code.to_string());
            table.row(vec![
                time(test.started_at),
                test.action.clone(),
                tested(test),
                call(test),
                test.state.to_string(),
                code.or(test.error_kind.map(|kind| kind.to_string())).unwrap_or_default(),
                test.latency_ms.map(|ms| ms.to_string()).unwrap_or_default(),
                attribution(Some(&test.tested_by), Some(&test.db_user)),
                test.reason.clone(),
                test.test_id.to_string(),
            ]);
        }
        table.print(self.format, &tests)?;
        if tests.is_empty() {
            unknown::say(&store, Some(&self.agent), self.name.as_deref()).await?;
        }
        let is_full = usize::try_from(self.limit).is_ok_and(|limit| tests.len() >= limit);
        if let Some(last) = tests.last().filter(|_| is_full) {
            eprintln!("more: repeat with --before {}", last.test_id);
        }
        Ok(())
    }
}
