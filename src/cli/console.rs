//! `postcall console`: shows what goes on in a browser, from reading its settings to its end.

use clap::Args;

use super::signals::stop_on_signals;
use super::{CliError, Database, migrate, print_line};
use crate::console::{self, Console, Loopback};
use crate::dispatcher::StopTokens;
use crate::store::Store;

/// Show in a browser what goes on: what needs somebody, deliveries with their stories, agents.
///
/// It only reads, and listens on this machine only, because nobody can log in yet. To reach it from elsewhere, make a
/// tunnel with the same port at both ends: `ssh -L 8088:127.0.0.1:8088 THIS_MACHINE`.
///
/// It shows what its database user may read, and says on the page which role the rest needs. The role
/// postcall_auditor shows everything but templates and calls. Pages show personal data to everybody who can reach this
/// address, so give it no more rights than its readers have.
///
/// It ends with SIGTERM, SIGINT, SIGHUP or SIGQUIT. `/health` answers 200 if the database answers.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    database: Database,

    /// The loopback address and port to listen on. With port 0, the system chooses one, which is printed.
    #[arg(long, env = "POSTCALL_CONSOLE_LISTEN", default_value = "127.0.0.1:8088", value_name = "ADDRESS")]
    listen: Loopback,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = Store::connect_to_read(&self.database.url, console::CONNECTIONS, console::PATIENCE).await?;
        migrate::require_current(&store).await?;
        let stop = StopTokens::default();
        stop_on_signals(stop.clone())?;
        let console = Console::listen(self.listen, store.clone());
        let console = console.await.map_err(|source| CliError::System { what: "listen for browsers", source })?;
        print_line(&format!("the console is at http://{}/", console.address()))?;
        tokio::select! {
            () = console.serve(stop.drain) => {}
            () = stop.cut.cancelled() => {}
        }
        store.close().await;
        Ok(())
    }
}
