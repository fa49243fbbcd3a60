//! The command line, one file per command. Commands read arguments, call the other rooms and print; they decide
//! nothing. Results go to stdout, everything else to stderr. The exit status is 0 for success, 1 for a problem that is
//! named on stderr, and 2 for wrong usage.

#![expect(clippy::print_stderr, reason = "people are told here; stdout is written by `text`")]

use std::io::IsTerminal;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::domain::chain::chain;
use crate::domain::sealed_version::Unopened;
use crate::domain::visible::visible_lines;
use crate::store::StoreError;
use crate::vault::{KeyringError, SealError};
use crate::webhook::SetupError;

use database::Database;
pub use memory::keep_private;
use text::{Format, print_bytes, print_line, print_text, read_file};

mod action;
mod action_outlines;
mod action_seal;
mod action_source;
mod action_test;
mod action_versions;
mod attribution;
mod audit;
mod audit_seal;
mod calls;
mod check_invariants;
mod console;
mod console_opening;
mod console_people;
mod database;
mod databases;
mod demo;
mod doctor;
mod filter;
mod fleet;
mod following;
mod history;
mod history_of_all;
mod key_file;
mod limits;
mod listing;
mod many;
mod memory;
mod migrate;
mod moment;
mod pause;
mod private_file;
mod prune;
mod rekey;
mod render;
mod replay;
mod resolve;
mod run;
mod seal_key;
mod secret;
mod shell;
mod show;
mod signals;
mod signing;
mod spans;
mod status;
mod status_needs;
mod table;
mod targets;
mod text;
mod unknown;
mod usage;
mod values;

/// Sends each completed call to its webhooks at most once, and shows every unknown outcome.
///
/// A voice platform inserts completed calls into the table postcall.outbox, in its own transactions. postcall renders
/// the webhooks that each call's agent has configured, sends each once, and records the outcome.
///
/// First steps: `postcall migrate`, then `postcall action publish AGENT FILE`, then `postcall run`. `postcall demo`
/// shows all of it on an empty database.
#[derive(Parser)]
#[command(name = "postcall", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// How much postcall itself logs to stderr: off, error, warn, info, debug or trace.
    #[arg(long, env = "POSTCALL_LOG", default_value = "info", global = true, value_name = "LEVEL", display_order = LAST)]
    log: LevelFilter,

    /// How log lines are written.
    #[arg(long, env = "POSTCALL_LOG_FORMAT", default_value = "text", global = true, value_name = "FORMAT", display_order = LAST)]
    log_format: LogFormat,
}

/// The place of the options that all commands have: behind those of the command, however many there are.
const LAST: usize = 1_000;

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    Migrate(migrate::Arguments),
    Run(Box<run::Arguments>),
    Status(status::Arguments),
    Console(Box<console::Arguments>),
    Action(action::Arguments),
    Secret(secret::Arguments),
    Pause(pause::Arguments),
    Resume(pause::ResumeArguments),
    Render(render::Arguments),
    Calls(calls::Arguments),
    History(history::Arguments),
    Audit(audit::Arguments),
    Show(show::Arguments),
    Resolve(resolve::Arguments),
    Replay(replay::Arguments),
    Prune(prune::Arguments),
    CheckInvariants(check_invariants::Arguments),
    Doctor(doctor::Arguments),
    Demo(demo::Arguments),
    Completions(shell::CompletionsArguments),
    Man(shell::ManArguments),
}

/// The database user that commands need which change nothing.
const READER: &str = "a database user with the role postcall_auditor or postcall_publisher";

/// The number of connections of a command that does one thing at a time.
const ONE_CONNECTION: u32 = 1;

/// Why a command ends without success.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// An error of the database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database user may not do what the command does.
    #[error("This needs {needed}")]
    Forbidden {
        /// The database's error.
        source: StoreError,
        /// The database user that the command needs.
        needed: &'static str,
    },
    /// The database user may not even read which schema this is; [`Cli::run`] says what the command needs.
    #[error("permission denied: this database user may not read the schema postcall")]
    NoRole,
    /// A file could not be read.
    #[error("cannot read {path}")]
    File {
        /// The name of the file as given.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Writing to stdout failed. It is not made by `?`: an error of the system may be about anything else, too.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
    /// The system refused something that the command needs.
    #[error("cannot {what}")]
    System {
        /// What the command cannot do without it.
        what: &'static str,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The client for webhooks cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The key file cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A secret cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Arguments that clap cannot tell to exclude each other.
    #[error("{0}")]
    Usage(&'static str),
    /// Settings that do not go together, described in words.
    #[error("{0}")]
    WrongUsage(String),
    /// Any other problem, described in words.
    #[error("{0}")]
    Problem(String),
    /// The command has already printed the problem.
    #[error("")]
    Said,
}

impl From<&Unopened> for CliError {
    fn from(unopened: &Unopened) -> CliError {
        CliError::Problem(unopened.to_string())
    }
}

impl CliError {
    /// The message for a terminal; it contains no characters that act on a terminal.
    pub fn for_people(&self) -> String {
        let text = match self {
            // First what happened, and then what to do about it.
            CliError::Forbidden { source, .. } => format!("{}. {self}", chain(source)),
            other => chain(other).to_string(),
        };
        visible_lines(&text).into_owned()
    }

    /// The exit status: 2 for wrong usage, as clap has it, and 1 for everything else.
    pub fn exit_status(&self) -> u8 {
        match self {
            CliError::Usage(_) | CliError::WrongUsage(_) => 2,
            _ => 1,
        }
    }

    /// Whether no message must be printed: the command has already printed it, or the reader has closed the pipe.
    pub fn is_silent(&self) -> bool {
        match self {
            CliError::Said => true,
            CliError::Output(error) => error.kind() == std::io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}

impl Cli {
    /// Sends logs to stderr. Other crates log only warnings and errors, whatever the level, because their more detailed
    /// lines could quote requests. The driver's warnings about slow statements are logged only for `run`: other
    /// commands may be slow because they read a whole history.
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
            // If the log's reader is gone, the program must go on: reporting that error would panic.
            .log_internal_errors(false);
        let registry = tracing_subscriber::registry().with(filter);
        match self.log_format {
            LogFormat::Text => registry.with(lines).init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
        }
        std::panic::set_hook(Box::new(memory::log_panic));
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Any error; the exit status is then 1.
    pub async fn run(self) -> Result<(), CliError> {
        let needed = self.command.needed_user();
        self.command.run().await.map_err(|error| match error {
            CliError::Store(source) if source.is_forbidden() => CliError::Forbidden { source, needed },
            no_role @ CliError::NoRole => CliError::Problem(format!("{no_role}. This needs {needed}")),
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
            Command::Console(arguments) => arguments.run().await,
            Command::Action(arguments) => arguments.run().await,
            Command::Secret(arguments) => arguments.run().await,
            Command::Pause(arguments) => arguments.run().await,
            Command::Resume(arguments) => arguments.run().await,
            Command::Render(arguments) => arguments.run(),
            Command::Calls(arguments) => arguments.run().await,
            Command::History(arguments) => arguments.run().await,
            Command::Audit(arguments) => arguments.run().await,
            Command::Show(arguments) => arguments.run().await,
            Command::Resolve(arguments) => arguments.run().await,
            Command::Replay(arguments) => arguments.run().await,
            Command::Prune(arguments) => arguments.run().await,
            Command::CheckInvariants(arguments) => arguments.run().await,
            Command::Doctor(arguments) => arguments.run().await,
            Command::Demo(arguments) => arguments.run().await,
            Command::Completions(arguments) => arguments.run(),
            Command::Man(arguments) => arguments.run(),
        }
    }

    /// The database user that the command needs, for the message if another user tried it.
    fn needed_user(&self) -> &'static str {
        match self {
            Command::Migrate(_) | Command::Demo(_) => "the owner of the schema",
            // These ask no database.
            Command::Render(_) | Command::Completions(_) | Command::Man(_) => "the owner of the schema",
            Command::Prune(_) => {
                "the owner of the schema, or within the bounds of postcall.retention a database user with the role \
                 postcall_publisher or postcall_dispatcher"
            }
            Command::Run(_) => "a database user with the role postcall_dispatcher",
            Command::Pause(arguments) if arguments.only_reads() => READER,
            Command::Action(arguments) if arguments.only_reads() => READER,
            Command::Secret(arguments) if arguments.only_reads() => READER,
            Command::Secret(arguments) if arguments.needs_owner() => "the owner of the schema",
            Command::Action(arguments) if arguments.needs_owner() => "the owner of the schema",
            Command::Status(_)
            | Command::Console(_)
            | Command::Calls(_)
            | Command::Doctor(_)
            | Command::History(_)
            | Command::Audit(_)
            | Command::Show(_)
            | Command::CheckInvariants(_) => READER,
            Command::Action(_)
            | Command::Secret(_)
            | Command::Pause(_)
            | Command::Resume(_)
            | Command::Resolve(_)
            | Command::Replay(_) => "a database user with the role postcall_publisher",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use clap::CommandFactory;

    use super::*;

    /// The width at which `--help` is wrapped, as [`Cli`] says.
    const HELP_WIDTH: usize = 100;

    fn with_all_below(command: clap::Command) -> Vec<clap::Command> {
        let below = command.get_subcommands().cloned().flat_map(with_all_below).collect::<Vec<_>>();
        [vec![command], below].concat()
    }

    #[test]
    fn no_line_of_a_help_text_that_is_laid_out_by_hand_is_wrapped_again() {
        for command in with_all_below(Cli::command()) {
            let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            for part in about.split("\n\n").filter(|part| part.contains('\n')) {
                let too_long = part.lines().find(|line| line.chars().count() > HELP_WIDTH);
                assert_eq!(too_long, None, "{}", command.get_name());
            }
        }
    }

    /// Has two candidates for `()` if `T` can be made from an error of the system by `?`, so that naming it does not
    /// compile.
    trait NotFromIo<Candidate> {
        fn holds() {}
    }

    impl<T> NotFromIo<()> for T {}
    impl<T: From<io::Error>> NotFromIo<io::Error> for T {}

    #[test]
    fn no_error_of_the_system_becomes_one_of_the_command_without_being_told_what_failed() {
        <CliError as NotFromIo<_>>::holds();
    }

    #[test]
    fn an_error_is_told_with_all_its_causes_each_once() {
        let gone = || io::Error::other("it is gone");
        let setup = SetupError::Names { path: "/etc/hosts".into(), source: gone() };
        let forbidden = CliError::Forbidden { source: StoreError::Unanswered(Duration::from_secs(1)), needed: READER };
        for (error, told) in [
            (CliError::from(setup), "cannot read /etc/hosts: it is gone".to_owned()),
            (CliError::File { path: "a.json".to_owned(), source: gone() }, "cannot read a.json: it is gone".to_owned()),
            (CliError::Output(gone()), "cannot write the output: it is gone".to_owned()),
            (
                CliError::System { what: "handle signals", source: gone() },
                "cannot handle signals: it is gone".to_owned(),
            ),
            (forbidden, format!("database: no answer within 1000 ms. This needs {READER}")),
        ] {
            assert_eq!(error.for_people(), told);
        }
    }
}
