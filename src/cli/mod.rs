//! The command line, one file per command. Commands read arguments, call the other rooms and print; they decide
//! nothing. Results go to stdout, everything else to stderr. Exit status: 0; 1 for a problem, named on stderr; 2 for
//! wrong usage.

#![expect(clippy::print_stderr, reason = "people are told here; stdout is written by `print_line` and `print_text`")]

use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::domain::visible::visible_lines;
use crate::store::{Store, StoreError};

mod action;
mod attribution;
mod check_invariants;
mod demo;
mod filter;
mod history;
mod limits;
mod migrate;
mod pause;
mod prune;
mod render;
mod replay;
mod resolve;
mod run;
mod show;
mod signals;
mod spreadsheet;
mod status;
mod table;

/// Sends each completed call to its webhooks at most once, and shows every doubt.
///
/// A voice platform inserts completed calls into the table postcall.outbox, in its own transactions. postcall renders
/// the webhook that each call's agent has configured, sends it once, and records what came of it.
///
/// First steps: `postcall migrate`, then `postcall action publish AGENT FILE`, then `postcall run`.
/// `postcall demo` shows all of it at once on an empty database.
#[derive(Parser)]
#[command(name = "postcall", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What postcall itself logs to stderr: off, error, warn, info, debug or trace.
    #[arg(long, env = "POSTCALL_LOG", default_value = "info", global = true, value_name = "LEVEL")]
    log: LevelFilter,

    /// How log lines are written.
    #[arg(long, env = "POSTCALL_LOG_FORMAT", default_value = "text", global = true, value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    Migrate(migrate::Arguments),
    Run(run::Arguments),
    Status(status::Arguments),
    Action(action::Arguments),
    Pause(pause::Arguments),
    Resume(pause::ResumeArguments),
    Render(render::Arguments),
    History(history::Arguments),
    Show(show::Arguments),
    Resolve(resolve::Arguments),
    Replay(replay::Arguments),
    Prune(prune::Arguments),
    CheckInvariants(check_invariants::Arguments),
    Demo(demo::Arguments),
}

/// Where the database is; shared by all commands that need one.
#[derive(Args)]
pub(crate) struct Database {
    /// Postgres URL, such as postgres://user@host:5432/database.
    #[arg(long = "database-url", env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    url: String,
}

impl Database {
    /// Connects, and makes sure that schema and program agree.
    async fn open(&self, connections: u32) -> Result<Store, CliError> {
        let store = self.connect(connections).await?;
        migrate::require_current(&store).await?;
        Ok(store)
    }

    /// Connects, whatever the schema.
    async fn connect(&self, connections: u32) -> Result<Store, CliError> {
        Ok(Store::connect(&self.url, connections).await?)
    }
}

/// As whom commands work that change nothing.
const READER: &str = "a database user with the role postcall_auditor or postcall_publisher";

/// Connections of a command that does one thing after the other.
const ONE_CONNECTION: u32 = 1;

/// Why a command ends with exit status 1.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database user may not do what the command does.
    #[error("{source}. This needs {needed}")]
    Forbidden {
        /// What the database says.
        source: StoreError,
        /// As whom the command works.
        needed: &'static str,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Its name as given.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// stdout cannot be written to.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
    /// Anything else, in words.
    #[error("{0}")]
    Problem(String),
    /// The command has already said what is wrong.
    #[error("")]
    Said,
}

impl CliError {
    /// What is to be said, for a terminal: nothing in it acts on that.
    pub fn for_people(&self) -> String {
        visible_lines(&self.to_string()).into_owned()
    }

    /// Whether there is nothing left to say: it has been said, or nobody reads on (a closed pipe).
    pub fn is_silent(&self) -> bool {
        match self {
            CliError::Said => true,
            CliError::Output(error) => error.kind() == std::io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}

impl Cli {
    /// Sends logs to stderr. Other crates only report warnings, at every level: their finer lines could quote requests. Of a
    /// slow statement the driver warns where it dispatches; a command that reads a whole history is slow by nature.
    pub fn start_logging(&self) {
        let statements = if matches!(self.command, Command::Run(_)) { LevelFilter::WARN } else { LevelFilter::OFF };
        let filter = Targets::new()
            .with_default(self.log.min(LevelFilter::WARN))
            .with_target("sqlx::query", self.log.min(statements))
            .with_target(env!("CARGO_CRATE_NAME"), self.log);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            // A log that nobody reads any more must not end what is logged: reporting that would panic.
            .log_internal_errors(false);
        let registry = tracing_subscriber::registry().with(filter);
        match self.log_format {
            LogFormat::Text => registry.with(lines).init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
        }
        std::panic::set_hook(Box::new(log_panic));
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Whatever makes the exit status 1.
    pub async fn run(self) -> Result<(), CliError> {
        let needed = self.command.needed_user();
        self.command.run().await.map_err(|error| match error {
            CliError::Store(source) if source.is_forbidden() => CliError::Forbidden { source, needed },
            other => other,
        })
    }
}

impl Command {
    async fn run(self) -> Result<(), CliError> {
        match self {
            Command::Migrate(arguments) => arguments.run().await,
            Command::Run(arguments) => arguments.run().await,
            Command::Status(arguments) => arguments.run().await,
            Command::Action(arguments) => arguments.run().await,
            Command::Pause(arguments) => arguments.run().await,
            Command::Resume(arguments) => arguments.run().await,
            Command::Render(arguments) => arguments.run(),
            Command::History(arguments) => arguments.run().await,
            Command::Show(arguments) => arguments.run().await,
            Command::Resolve(arguments) => arguments.run().await,
            Command::Replay(arguments) => arguments.run().await,
            Command::Prune(arguments) => arguments.run().await,
            Command::CheckInvariants(arguments) => arguments.run().await,
            Command::Demo(arguments) => arguments.run().await,
        }
    }

    /// As which database user the command works, for those who tried it as another.
    fn needed_user(&self) -> &'static str {
        match self {
            Command::Migrate(_) | Command::Demo(_) | Command::Render(_) => "the owner of the schema",
            Command::Prune(_) => {
                "the owner of the schema, or within the bounds of postcall.retention a database user with the role \
                 postcall_publisher or postcall_dispatcher"
            }
            Command::Run(_) => "a database user with the role postcall_dispatcher",
            Command::Pause(arguments) if arguments.only_reads() => READER,
            Command::Status(_) | Command::History(_) | Command::Show(_) | Command::CheckInvariants(_) => READER,
            Command::Action(_) | Command::Pause(_) | Command::Resume(_) | Command::Resolve(_) | Command::Replay(_) => {
                "a database user with the role postcall_publisher"
            }
        }
    }
}

/// Logs where a panic happened. Not its message: it may quote the text in which it happened, and that may be a call's.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "a defect of this program: a panic");
}

/// A file's text; `-` is standard input. Of a file that is longer than `max_bytes`, one byte more than that is read: enough
/// for whoever reads the text to see that it is too long.
fn read_file(path: &Path, max_bytes: usize) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    let text = read.and_then(|_| match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // Its last character may have been cut in two.
        Err(error) if error.as_bytes().len() > max_bytes => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Err(_) => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "its text is not UTF-8")),
    });
    text.map_err(|source| CliError::File { path: path.display().to_string(), source })
}

/// Prints lines for people to stdout: nothing in them acts on the terminal. A text of others that must not break its line
/// has to be made [`visible`](crate::domain::visible::visible) before.
fn print_line(text: &str) -> Result<(), CliError> {
    print_text(&visible_lines(text))
}

/// Prints text for programs to stdout, exactly. Unlike `println!`, a reader that has gone (`| head`) is an ordinary end.
fn print_text(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(())
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}
