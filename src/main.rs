//! The command line: parse, log, run, exit status. What the commands do is in `postcall::cli`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use postcall::cli::Cli;

/// What a delivery allocates on one thread is often freed on another, which this allocator takes well. It keeps more memory
/// for that: a dispatcher's peak is 40 MB instead of 16.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.start_logging();
    match cli.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_silent() {
                // Unlike `eprintln!`, this does not panic where nobody reads on.
                writeln!(std::io::stderr(), "postcall: {}", error.for_people()).ok();
            }
            ExitCode::FAILURE
        }
    }
}
