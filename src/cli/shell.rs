//! `postcall completions` and `postcall man`: what a shell and a manual know about the command line. Both are made from the
//! definitions of the commands, so they are always those of this program.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, CliError, print_bytes};

/// The name of the program, as it is typed.
const PROGRAM: &str = "postcall";

/// Print a script that completes commands and options in a shell.
///
/// For bash: postcall completions bash > ~/.local/share/bash-completion/completions/postcall
/// For zsh, a directory of $fpath: postcall completions zsh > DIRECTORY/_postcall
/// For fish: postcall completions fish > ~/.config/fish/completions/postcall.fish
///
/// Needs no database.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct CompletionsArguments {
    /// The shell.
    shell: Shell,
}

/// Print a manual page.
///
/// Without arguments, the page of postcall; with the name of a command, that of the command: `postcall man action publish | man -l -`.
/// Needs no database.
#[derive(Args)]
pub struct ManArguments {
    /// The command, such as `run` or `action publish`.
    command: Vec<String>,
}

impl CompletionsArguments {
    pub(super) fn run(self) -> Result<(), CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), PROGRAM, &mut script);
        print_bytes(&script)
    }
}

impl ManArguments {
    pub(super) fn run(self) -> Result<(), CliError> {
        let mut command = Cli::command();
        // Makes the full name of each command, such as `postcall action publish`.
        command.build();
        for name in &self.command {
            let below = command.find_subcommand(name).cloned();
            command = below.ok_or_else(|| {
                CliError::Problem(format!(
                    "there is no command `{}`; `postcall --help` lists them",
                    self.command.join(" ")
                ))
            })?;
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(CliError::Output)?;
        print_bytes(&page)
    }
}
