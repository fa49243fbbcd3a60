//! `postcall audit`: lists what people did.

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};

use super::action::attribution;
use super::audit_seal::{CheckArguments, NewKeyArguments, ProveArguments, VerifyArguments};
use super::database::ReadDatabase;
use super::listing::{Listed, Listing};
use super::moment::{parse_moment, resolved, say_nothing_between};
use super::table::{Table, time};
use super::{CliError, Format, ONE_CONNECTION, unknown};
use crate::domain::act::{Act, ActKey};
use crate::domain::moment::Moment;
use crate::service::audit::{WholeAudit, object};
use crate::store::Store;
use crate::store::acts::{ActFilter, ActRow, ActsFound};

/// List what people did, the newest first: who published, enabled, disabled, paused, resumed, replayed, resolved and tested, and why.
///
///   published             a version of an action
///   enabled, disabled     an action; its first version enables it, or leaves it disabled
///   paused, resumed       an agent, an action or a host
///   replayed              a delivery, as another one
///   resolved              an unknown delivery, by what a person found out
///   tested                an action or an action file, with what became of the test
///
/// Who did it stands there twice: the name that the person gave, and the user who was logged into the
/// database, whom the person cannot choose. What was done before this was recorded has neither. Nothing
/// of it can be changed or deleted, as long as it is kept; replays and findings go when the history
/// goes that they belong to.
///
/// One look reads at most 10,000 acts; if fewer than a page match among them, stderr says how to go
/// on. --all prints everything. The role postcall_auditor suffices; a user who has only the role
/// postcall_dispatcher sees no tests.
///
/// The commands below are about history that proves itself (docs/auditing.md): `verify` names every row
/// that is not as it was when it was sealed, `prove` writes a proof for one delivery, `check` checks it
/// without a database, and `new-key` makes the key that seals.
#[derive(Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    listing: ListingArguments,
}

#[derive(Subcommand)]
enum Command {
    Verify(VerifyArguments),
    Prove(ProveArguments),
    Check(CheckArguments),
    NewKey(NewKeyArguments),
}

/// What is listed.
#[derive(Args)]
struct ListingArguments {
    #[command(flatten)]
    database: ReadDatabase,

    /// What was done; may be given more than once.
    #[arg(long = "act", value_name = "ACT", value_enum)]
    acts: Vec<Act>,

    /// The agent whose actions or deliveries it was done to.
    #[arg(long)]
    agent: Option<String>,

    /// Who did it: the person's name as it was given, or the database user.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    /// Done at this time or later: a day, a time with an offset, or a span back from now (30m, 1h, 2d).
    #[arg(long, visible_alias = "from", value_name = "TIME|SPAN", value_parser = parse_moment)]
    since: Option<Moment>,

    /// Done before this time; as --since.
    #[arg(long, visible_alias = "to", value_name = "TIME|SPAN", value_parser = parse_moment)]
    until: Option<Moment>,

    /// The largest number of rows in a page.
    #[arg(long, default_value_t = 50, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    limit: usize,

    /// Begin after this act: the next page of an earlier listing.
    #[arg(long, value_name = "KEY")]
    after: Option<ActKey>,

    /// Print the whole result instead of a page.
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// How to print them. JSON and CSV have every field.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Some(Command::Verify(arguments)) => arguments.run().await,
            Some(Command::Prove(arguments)) => arguments.run().await,
            Some(Command::Check(arguments)) => arguments.run(),
            Some(Command::NewKey(arguments)) => arguments.run(),
            None => self.listing.run().await,
        }
    }
}

impl ListingArguments {
    async fn run(self) -> Result<(), CliError> {
        let store = self.database.open(ONE_CONNECTION).await?;
        let [since, until] = resolved(&store, [self.since, self.until]).await?;
        say_nothing_between(since, until);
        let acts = Some(self.acts).filter(|acts| !acts.is_empty());
        let filter = ActFilter { acts, agent: self.agent, by: self.by, since, until };
        let agent = filter.agent.clone();
        if self.all {
            let found = print_whole(&store, WholeAudit::new(filter, self.after), self.format).await?;
            if found == 0 {
                unknown::say(&store, agent.as_deref(), None).await?;
            }
            return Ok(());
        }
        let ActsFound { acts, rest_after } = store.acts(&filter, self.after.as_ref(), self.limit).await?;
        print(&acts, self.format)?;
        if acts.is_empty() {
            unknown::say(&store, agent.as_deref(), None).await?;
        }
        if let Some(last) = rest_after {
            eprintln!("there may be more: repeat with --after {last}");
        }
        Ok(())
    }
}

/// Returns how many were printed.
async fn print_whole(store: &Store, mut whole: WholeAudit, format: Format) -> Result<usize, CliError> {
    let mut listing = Listing::new(format);
    while let Some(rows) = whole.step(store).await? {
        listing.add(&rows)?;
    }
    listing.end()
}

fn print(rows: &[ActRow], format: Format) -> Result<(), CliError> {
    if format == Format::Csv {
        let mut listing = Listing::new(format);
        listing.add(rows)?;
        listing.end()?;
        return Ok(());
    }
    let mut table = Table::new(ActRow::HEADER);
    for row in rows {
        table.row(row.cells());
    }
    table.print(format, rows)
}

impl Listed for ActRow {
    const HEADER: &'static [&'static str] = &["at", "act", "agent", "what", "by", "reason", "delivery"];

    fn cells(&self) -> Vec<String> {
        vec![
            time(self.at),
            self.act.to_string(),
            self.agent.clone().unwrap_or_default(),
            object(self),
            attribution(self.person.as_deref(), self.db_user.as_deref()),
            self.reason.clone().unwrap_or_default(),
            self.delivery_id.map(|id| id.to_string()).unwrap_or_default(),
        ]
    }
}
