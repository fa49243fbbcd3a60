//! The program: parses the command line, starts the log, runs the command and sets the exit status. The commands are in
//! `postcall::cli`.

use std::io::Write;
use std::process::ExitCode;

use mimalloc::MiMalloc;
use postcall::cli::{Cli, keep_private};

/// Memory that a delivery allocates on one thread is often freed on another; this allocator is fast at that. In return
/// it uses more memory: a dispatcher's peak is 40 MB instead of 16.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    keep_private();
    let cli = Cli::of_this_process();
    cli.start_logging();
    match cli.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_silent() {
                // Unlike `eprintln!`, this does not panic if stderr is closed.
                writeln!(std::io::stderr(), "postcall: {}", error.for_people()).ok();
            }
            ExitCode::from(error.exit_status())
        }
    }
}
