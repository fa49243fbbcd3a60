//! `postcall action versions` and `postcall action diff`: how an action became what it is.

use clap::Args;
use clap::builder::RangedI64ValueParser;
use serde_json::{Value, json};

use super::action::{Which, attribution, because};
use super::key_file::KeyFile;
use super::table::{Table, time};
use super::unknown::no_such_action;
use super::{CliError, Format, ONE_CONNECTION, print_line};
use crate::domain::visible::visible;
use crate::service::comparison::differences;
use crate::store::Store;
use crate::store::actions::ActionRecord;
use crate::store::versions::{Change, MOST_VERSIONS, VersionRecord};

#[derive(Args)]
pub(super) struct VersionsArguments {
    #[command(flatten)]
    which: Which,
    /// The largest number of versions that are listed.
    #[arg(long, default_value_t = 20, value_name = "N",
          value_parser = RangedI64ValueParser::<i32>::new().range(1..=i64::from(MOST_VERSIONS)))]
    limit: i32,
    /// Only versions before this one: the next page of an earlier listing.
    #[arg(long, value_name = "VERSION")]
    before: Option<i32>,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Args)]
pub(super) struct DiffArguments {
    #[command(flatten)]
    which: Which,
    /// The older version. By default the one before TO.
    from: Option<i32>,
    /// The newer version. By default the newest.
    to: Option<i32>,
    #[command(flatten)]
    key_file: KeyFile,
}

impl VersionsArguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = self.which.database.open(ONE_CONNECTION).await?;
        let versions = store.versions(&self.which.agent, &self.which.name, self.before, self.limit).await?;
        if versions.is_empty() && self.before.is_none() {
            return Err(no_such_action(&store, &self.which, None).await);
        }
        let mut table = Table::new(&["version", "published", "by", "reason", "changed"]);
        for version in &versions {
            table.row(vec![
                version.version.to_string(),
                time(version.published_at),
                attribution(Some(&version.published_by), version.db_user.as_deref()),
                version.reason.clone().unwrap_or_default(),
                version.change.as_ref().map_or("the first version".to_owned(), in_words),
            ]);
        }
        let objects: Vec<Value> = versions.iter().map(described).collect();
        table.print(self.format, &objects)?;
        if let Some(last) = versions.last().map(|last| last.version).filter(|version| *version > 1) {
            eprintln!("more: repeat with --before {last}");
        }
        Ok(())
    }
}

/// What a version changed, in one line.
fn in_words(change: &Change) -> String {
    let parts = [
        change.method.map(|(old, new)| format!("method {old} → {new}")),
        change.url.then(|| "url".to_owned()),
        change.timeout_ms.map(|(old, new)| format!("timeout {old} → {new} ms")),
        change.headers.then(|| "headers".to_owned()),
        change.body.then(|| "body".to_owned()),
        change.client_certificate.then(|| "client_certificate".to_owned()),
        change.templates.then(|| "templates".to_owned()),
        change.sealed.then(|| "perhaps its sealed templates (postcall action diff)".to_owned()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// A version as JSON. `changed` names the fields that differ from the version before; it is null for the first version.
/// `sealed` stands for url, headers and body of sealed versions, which are not compared, and `templates` for url, headers, body and
/// client_certificate, whichever of them differs, where the user may not read them.
fn described(version: &VersionRecord) -> Value {
    let changed = version.change.map(|change| {
        let fields = [
            ("method", change.method.is_some()),
            ("url", change.url),
            ("timeout", change.timeout_ms.is_some()),
            ("headers", change.headers),
            ("body", change.body),
            ("client_certificate", change.client_certificate),
            ("templates", change.templates),
            ("sealed", change.sealed),
        ];
        fields.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect::<Vec<_>>()
    });
    json!({
        "version": version.version,
        "published_at": version.published_at,
        "published_by": version.published_by,
        "published_db_user": version.db_user,
        "published_reason": version.reason,
        "changed": changed,
    })
}

impl DiffArguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = self.key_file.with_keys(self.which.database.open(ONE_CONNECTION).await?)?;
        let newer = version(&store, &self.which, self.to).await?;
        let before = newer.version.saturating_sub(1);
        if self.from.is_none() && before == 0 {
            return Err(CliError::Problem("version 1 is the first one; there is none to compare it with".to_owned()));
        }
        let older = version(&store, &self.which, Some(self.from.unwrap_or(before))).await?;
        let differences = differences(older.spec.as_ref()?, newer.spec.as_ref()?);
        if differences.is_empty() {
            return print_line(&format!("versions {} and {} are the same", older.version, newer.version));
        }
        print_line(&format!("--- {}\n+++ {}\n{}", headline(&older), headline(&newer), differences.trim_end()))
    }
}

async fn version(store: &Store, which: &Which, version: Option<i32>) -> Result<ActionRecord, CliError> {
    let found = store.actions(Some(&which.agent), Some(&which.name), version).await?.into_iter().next();
    match found {
        Some(action) => Ok(action),
        None => Err(no_such_action(store, which, version).await),
    }
}

/// Which version it is, when it was published, by whom and why, in one line.
fn headline(action: &ActionRecord) -> String {
    let by = attribution(Some(&action.changes.published_by), action.changes.published_db_user.as_deref());
    let why = because(action.changes.published_reason.as_deref());
    let line = format!(
        "{} {} version {}, published {} by {by}{why}",
        action.agent,
        action.name,
        action.version,
        time(action.changes.published_at)
    );
    visible(&line).into_owned()
}
