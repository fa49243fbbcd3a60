//! `postcall show`: shows everything that is known about one delivery, or what an id stands for.

use clap::Args;
use serde_json::{Value, json};

use super::databases::{NamedDatabase, ReadDatabases, print_json_of};
use super::key_file::KeyFile;
use super::table::{Table, time};
use super::{CliError, Format, ONE_CONNECTION, print_line};
use crate::domain::body_digest;
use crate::domain::delivery::{BodyEnd, ResolutionSource, State};
use crate::domain::excerpt::Excerpt;
use crate::domain::visible::visible;
use crate::service::calls::{Arrived, Without};
use crate::service::find::{Found, MOST_FOUND, find};
use crate::service::past_request::{MaskedRequest, PastRequest, render_again};
use crate::service::past_response::excerpt;
use crate::service::sending::Sending;
use crate::service::waiting::{Hold, holds};
use crate::store::Store;
use crate::store::calls::MOST_LOOKED_AT;
use crate::store::history::HistoryRow;

/// Show everything that is known about one delivery: its timeline, what was sent, what came back.
///
/// Name it by its id, by the id of its call, or by the provider's id of the call (callInfo.callSid). The `webhook-id`
/// that a receiver has seen is the id of the first delivery of the message. If there are several deliveries, they are
/// listed, each with the command that shows it. If a call has no delivery, it is said why.
///
/// The request is rendered again from the call and the action's version, which do not change, and compared with the
/// recorded digest. Values of headers and query parameters whose names look like secrets are masked. With the rights of
/// an auditor, only the data in history is shown.
#[derive(Args)]
pub struct Arguments {
    /// A delivery's id (webhook-id), a call's id, or the provider's id of a call.
    #[arg(value_name = "DELIVERY_ID|CALL_ID|CALL_SID")]
    id: String,

    /// Print one JSON object; for several deliveries or for calls without one, an array of objects.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    databases: ReadDatabases,

    /// For actions whose templates are sealed, and to compare digests that were made with a key.
    #[command(flatten)]
    key_file: KeyFile,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let databases = self.databases.all()?;
        if let [only] = &databases[..] {
            return self.show(&self.open(only).await?, None).await;
        }
        let mut found = 0;
        let mut without = Vec::new();
        for database in &databases {
            match self.show_in(database).await {
                Ok(()) => found += 1,
                Err(error) if error.is_silent() => return Err(error),
                Err(error) => without.push(format!("{}: {}", database.name, error.for_people())),
            }
        }
        // Where it is not is of interest only if it is nowhere.
        if found > 0 { Ok(()) } else { Err(CliError::Problem(without.join("\n"))) }
    }

    async fn show_in(&self, database: &NamedDatabase) -> Result<(), CliError> {
        self.show(&self.open(database).await?, Some(&database.name)).await
    }

    async fn open(&self, database: &NamedDatabase) -> Result<Store, CliError> {
        self.key_file.with_keys(database.open_to_read(ONE_CONNECTION).await?)
    }

    async fn show(&self, store: &Store, database: Option<&str>) -> Result<(), CliError> {
        let found = find(store, &self.id).await?;
        if let (Some(name), false, false) = (database, self.json, matches!(found, Found::Nothing { .. })) {
            print_line(&format!("== {name}"))?;
        }
        match found {
            Found::Delivery(row) => {
                let sent = render_again(store, &row).await;
                let excerpt = excerpt(store, &row).await?;
                let holds = holds(store, &row).await?;
                if self.json {
                    print_json_of(database, as_json(&row, &sent, excerpt.as_ref(), &holds))
                } else {
                    print_line(&as_text(&row, &sent, excerpt.as_ref(), &holds))
                }
            }
            Found::Deliveries(rows) if self.json => {
                print_json_of(database, serde_json::to_value(&rows).unwrap_or_default())
            }
            Found::Deliveries(rows) => list(&rows),
            Found::Calls(calls) if self.json => {
                print_json_of(database, serde_json::to_value(&calls).unwrap_or_default())
            }
            Found::Calls(calls) => calls.iter().try_for_each(|arrived| print_line(&without_delivery(arrived))),
            Found::Nothing { is_older_left } => {
                let id = visible(&self.id);
                if let Some(test) = self.test(store).await {
                    return Err(CliError::Problem(format!(
                        "{id} is a test and no delivery: postcall action tests {test}"
                    )));
                }
                let looked = if is_older_left { format!(" among the newest {MOST_LOOKED_AT}") } else { String::new() };
                Err(CliError::Problem(format!(
                    "there is no delivery with the id {id}, and no call{looked}. Either the transaction that inserted the call was not \
                     committed, or the call and its history are older than what is kept"
                )))
            }
        }
    }
}

impl Arguments {
    /// The agent of the test that has this id; `None` also for those who may read no tests.
    async fn test(&self, store: &Store) -> Option<String> {
        let test = store.test(self.id.parse().ok()?).await.ok()??;
        Some(visible(&test.agent).into_owned())
    }
}

/// Lists deliveries, each with the command that shows it.
fn list(rows: &[HistoryRow]) -> Result<(), CliError> {
    let mut table = Table::new(&["created", "agent", "action", "state", "result", "to see it"]);
    for row in rows {
        let code = row.response_code.map(|code| code.to_string());
        table.row(vec![
            time(row.created_at),
            row.agent.clone(),
            row.action.clone(),
            row.state.to_string(),
            code.or(row.error_kind.map(|kind| kind.to_string())).unwrap_or_default(),
            format!("postcall show {}", row.delivery_id),
        ]);
    }
    table.print(Format::Table, rows)?;
    if rows.len() >= MOST_FOUND {
        eprintln!("these are the newest {MOST_FOUND}; `postcall history` lists all of them");
    }
    Ok(())
}

fn without_delivery(Arrived { call, without }: &Arrived) -> String {
    let lines = [
        Some(format!("call {}  NO DELIVERY", call.call_id)),
        field("call sid", call.call_sid.as_ref()),
        field("agent", Some(&call.agent)),
        field("inserted", Some(call.created_at)),
        // In history, or pruned from it.
        field(
            "deliveries",
            call.deliveries.filter(|count| *count > 0).map(|count| format!("{count}, no longer in history")),
        ),
        field("because", without.as_ref().map(Without::in_words)),
        field(
            "by whom",
            matches!(without, Some(Without::NoneEnabled { .. }))
                .then(|| format!("postcall audit --act disabled --agent {}", call.agent)),
        ),
    ];
    lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn as_json(row: &HistoryRow, sent: &PastRequest, excerpt: Option<&Excerpt>, holds: &[Hold]) -> Value {
    let mut object = serde_json::to_value(row).unwrap_or_default();
    object["held_back_by"] = json!(holds);
    object["response_excerpt"] = excerpt.map(Excerpt::text).into();
    object["request"] = match sent {
        PastRequest::Rendered { request, compared, .. } => json!({
            "method": request.method,
            "url": request.url,
            "headers": request.headers,
            "body": request.body,
            "same_as_sent": compared.same(),
            "head_as_sent": compared.head,
            "body_as_sent": compared.body,
        }),
        PastRequest::Refused(problem) => json!({ "error": problem }),
        PastRequest::Gone(_) | PastRequest::Forbidden | PastRequest::TooLarge { .. } => json!({ "gone": gone(sent) }),
    };
    object
}

/// Why the request is not rendered again.
fn gone(sent: &PastRequest) -> &'static str {
    match sent {
        PastRequest::Gone(reason) => reason,
        PastRequest::Forbidden => PastRequest::FORBIDDEN,
        PastRequest::TooLarge { .. } => "the call's payload is too large",
        PastRequest::Rendered { .. } | PastRequest::Refused(_) => "",
    }
}

fn as_text(row: &HistoryRow, sent: &PastRequest, excerpt: Option<&Excerpt>, holds: &[Hold]) -> String {
    let mut lines = vec![format!("delivery {}  {}", row.delivery_id, row.state.as_str().to_uppercase())];
    lines.extend(identity(row));
    lines.extend(why_it_waits(row, holds));
    lines.push("\ntimeline".to_owned());
    lines.extend(timeline(row));
    lines.push(format!("\n{}", title_of_request(row)));
    lines.extend(request_lines(row, sent));
    lines.push("\nwhat came back".to_owned());
    lines.extend(answer(row));
    if let Some(excerpt) = excerpt {
        lines.push("\nfrom the response".to_owned());
        lines.extend(excerpt.text().lines().map(|line| format!("  {}", visible(line))));
    }
    lines.join("\n")
}

/// Why it waits, if it does.
fn why_it_waits(row: &HistoryRow, holds: &[Hold]) -> Vec<String> {
    if row.state != State::Waiting {
        return Vec::new();
    }
    let told = |hold: &Hold| match &hold.cure {
        Some(cure) => vec![format!("  {}", hold.words), format!("    {cure}")],
        None => vec![format!("  {}", hold.words)],
    };
    let nothing = holds.is_empty().then(|| "  its turn has not come; nothing is known that holds it back".to_owned());
    let title = "\nwhy it waits".to_owned();
    std::iter::once(title).chain(nothing).chain(holds.iter().flat_map(told)).collect()
}

/// What there is to say above the request: whether it left.
fn title_of_request(row: &HistoryRow) -> &'static str {
    match row.state {
        _ if row.resolved_from == Some(ResolutionSource::Person) => {
            "what was sent, or a part of it: a person found out what became of it"
        }
        State::Waiting => "what would be sent now",
        State::Sending => "what is being sent",
        State::Failed => "what would have been sent: nothing left, no byte reached the receiver",
        State::Skipped => "what would have been sent: nothing left, because the action was disabled",
        State::Unknown => "what was sent: it is not known whether all of it arrived",
        State::Delivered | State::Rejected => "what was sent",
    }
}

/// A line of a section: a label and its value; `None` if there is no value. Line breaks in the value are escaped.
pub(super) fn field(label: &str, value: Option<impl ToString>) -> Option<String> {
    value.map(|value| format!("  {label:<14} {}", visible(&value.to_string())))
}

fn identity(row: &HistoryRow) -> impl Iterator<Item = String> {
    let version = row.action_version.map(|version| format!(" version {version}")).unwrap_or_default();
    [
        field("call", Some(row.call_id)),
        field("call sid", row.call_sid.as_ref()),
        field("agent", Some(&row.agent)),
        field("action", Some(format!("{}{version}", row.action))),
        field("webhook-id", Some(row.message_id)),
        field("replay of", row.replay_of),
        field("replayed by", row.replayed_by.as_ref()),
        field("because", row.replay_reason.as_ref()),
        field("replayed as", row.replayed_as),
    ]
    .into_iter()
    .flatten()
}

fn timeline(row: &HistoryRow) -> impl Iterator<Item = String> {
    let by = row.dispatcher.as_ref().map(|name| format!("  by {name}")).unwrap_or_default();
    let after = |ms: Option<i32>| ms.map(|ms| format!("+{ms} ms"));
    [
        field("created", Some(row.created_at)),
        field("claimed", row.claimed_at.map(|at| format!("{at}  after {} ms in the queue{by}", row.queue_ms))),
        field("name resolved", after(row.dns_ms)),
        field("connected", after(row.connected_ms)),
        sent(row),
        field("response head", after(row.head_ms)),
        field("ended", after(row.latency_ms)),
        field("recorded", row.finished_at.map(|at| format!("{at}  as {}", recorded(row)))),
        field("resolved", row.resolved_at.map(|at| format!("{at}  as {}", row.state))),
        field("  by", row.resolved_by.as_ref()),
        field("  because", row.resolution_reason.as_ref()),
    ]
    .into_iter()
    .flatten()
}

/// That the request was sent, or that a part of it may have been.
fn sent(row: &HistoryRow) -> Option<String> {
    let sending = Sending::of(row)?;
    let what = if sending.is_certain { "sent" } else { "sent in part?" };
    let when = sending.connected_ms.map_or_else(|| "at once".to_owned(), |ms| format!("+{ms} ms"));
    field(what, Some(format!("{when}  {}", sending.connection())))
}

/// The state in which it ended, before anything was learnt later, with its error kind.
fn recorded(row: &HistoryRow) -> String {
    let state = row.recorded_state.map_or("", State::as_str);
    row.recorded_error_kind.map_or_else(|| state.to_owned(), |kind| format!("{state} ({kind})"))
}

fn request_lines(row: &HistoryRow, sent: &PastRequest) -> Vec<String> {
    let unresolved = row.unresolved.as_ref().map(|paths| format!("found nothing for {}", paths.join(", ")));
    let mut lines: Vec<String> = match sent {
        PastRequest::Rendered { request, compared, .. } => {
            let mut lines = masked_lines(request);
            lines.extend(compared.difference().map(|difference| format!("  WARNING: {difference}")));
            lines.extend(field("note", compared.not_compared()));
            lines
        }
        PastRequest::Refused(problem) => vec![format!("  nothing: {}", visible(&problem.to_string()))],
        PastRequest::Gone(_) | PastRequest::Forbidden | PastRequest::TooLarge { .. } => {
            let needed = match sent {
                PastRequest::Forbidden => "; it needs a user who may read postcall.outbox and the templates",
                _ => "",
            };
            let reason = gone(sent);
            let sent = row.method.as_ref().zip(row.url.as_ref());
            let request = sent.map(|(method, url)| format!("  {} {}", visible(method), visible(url)));
            request.into_iter().chain([format!("  (not rendered again: {reason}{needed})")]).collect()
        }
    };
    lines.extend(digest("head", row.request_head_hmac.as_deref()));
    lines.extend(digest("body", row.request_sha256.as_deref()));
    lines.extend(field("placeholders", unresolved));
    lines
}

/// A line with a recorded digest, labelled with what it is of and what kind it is.
pub(super) fn digest(of: &str, recorded: Option<&str>) -> Option<String> {
    let (name, digest) = body_digest::in_words(recorded?);
    field(&format!("{of} {}", if name == "SHA-256" { "sha256" } else { "hmac" }), Some(digest))
}

/// A request in lines: method and URL, the headers, and the body behind an empty line.
pub(super) fn masked_lines(request: &MaskedRequest) -> Vec<String> {
    let mut lines = vec![format!("  {} {}", request.method, visible(&request.url))];
    lines.extend(request.headers.iter().map(|(name, value)| format!("  {name}: {}", visible(value))));
    if let Some(body) = &request.body {
        lines.extend(std::iter::once(String::new()).chain(body.split('\n').map(|line| format!("  {}", visible(line)))));
    }
    lines
}

fn answer(row: &HistoryRow) -> Vec<String> {
    let body = row.response_bytes.map(|bytes| format!("{bytes} bytes, {}", row.body_end.map_or("", BodyEnd::as_str)));
    // What it ended with stays beside what was learnt later.
    let earlier = row.resolved_from.is_some();
    let lines: Vec<String> = [
        field("status", row.response_code),
        field("body", body),
        digest("body", row.response_sha256.as_deref()),
        field("error", row.error_kind),
        field("", row.error_detail.as_ref()),
        field("at first", row.recorded_error_kind.filter(|_| earlier)),
        field("", row.recorded_error_detail.as_ref().filter(|_| earlier)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if lines.is_empty() { vec!["  nothing".to_owned()] } else { lines }
}
