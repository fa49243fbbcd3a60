//! `postcall console`: shows what goes on in a browser, from reading its settings to its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use http::HeaderName;
use ipnet::IpNet;

use super::attribution::named;
use super::console_people::{HashArguments, LinkArguments};
use super::database::read_from;
use super::key_file::KeyFile;
use super::signals::stop_on_signals;
use super::targets::TargetArguments;
use super::{CliError, migrate, print_line};
use crate::console::{
    Auth, CONNECTIONS, Console, LinkKey, Loopback, NotLoopback, PATIENCE, Proxy, PublicUrl, Role, Settings, Stores,
    UsersFile,
};
use crate::dispatcher::StopTokens;
use crate::domain::chain::chain;
use crate::service::action_test::Tester;
use crate::store::{Access, Store};
use crate::vault::Keyring;

/// Show in a browser what goes on: what needs somebody, deliveries with their stories, agents.
///
/// By default it only reads, nobody logs in, and it listens on this machine only. To reach it from elsewhere, make a
/// tunnel with the same port at both ends: `ssh -L 8088:127.0.0.1:8088 THIS_MACHINE`. It then shows what its database user
/// may read: postcall_auditor shows everything but templates and calls. Give it no more rights than its readers have.
///
/// With `--auth basic` people log in with a password from a file, and with `--auth proxy` a proxy in front of it says who
/// they are. Each has roles: viewer, auditor, operator, publisher. Every page is read and every change made with the
/// database role of that name, so the console's database user has to be a member of these. It may then listen on any
/// address; `--public-url` names the one by which browsers reach it. docs/console.md shows the whole set-up.
///
/// With `--write` the pages have forms that pause, resume, enable, disable, replay, resolve, publish and test. Each change is
/// recorded with the name of the person. Tests may call what the dispatchers may: give the console the same settings of
/// targets as them. An action that names a secret is tested only with `--key-file`: then the process of the console can open
/// every secret of every agent, and each time that it does is recorded.
///
/// It ends with SIGTERM, SIGINT, SIGHUP or SIGQUIT. `/health` answers 200 if the database answers.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    run: RunArguments,
}

#[derive(Subcommand)]
enum Command {
    HashPassword(HashArguments),
    Link(LinkArguments),
}

/// How the console is run.
#[derive(Args)]
struct RunArguments {
    /// Postgres URL, such as postgres://user@host:5432/database.
    // Not as elsewhere: the commands below this one have one of their own, or none.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL", required = true)]
    database_url: Option<String>,

    /// Read pages from this server: a hot standby of the other one. Each page says how far it is behind; what is changed is changed at
    /// --database-url, and seen when the standby has it.
    #[arg(long, env = "POSTCALL_READ_URL", hide_env_values = true, value_name = "URL")]
    read_url: Option<String>,

    /// The address and port to listen on. With port 0, the system chooses one, which is printed. Without a log-in, only a
    /// loopback address.
    #[arg(long, env = "POSTCALL_CONSOLE_LISTEN", default_value = "127.0.0.1:8088", value_name = "ADDRESS",
          value_parser = address)]
    listen: SocketAddr,

    /// How the console knows who visits it.
    #[arg(long, env = "POSTCALL_CONSOLE_AUTH", value_enum, default_value = "none", value_name = "HOW")]
    auth: How,

    /// Let people change things.
    #[arg(long, env = "POSTCALL_CONSOLE_WRITE")]
    write: bool,

    /// With `--auth none`: the name that is recorded with what is changed.
    #[arg(long = "as", env = "POSTCALL_CONSOLE_AS", value_name = "NAME", value_parser = named)]
    name: Option<String>,

    /// With `--auth basic`: the file of those who may log in, with a line `name:role[,role]:hash` for each. It is read again
    /// when it has changed.
    #[arg(long, env = "POSTCALL_CONSOLE_USERS", value_name = "FILE")]
    users: Option<PathBuf>,

    /// The address by which browsers reach the console, such as `https://console.example`. Requests must name it, and forms
    /// come from it. By default the loopback.
    #[arg(long, env = "POSTCALL_CONSOLE_PUBLIC_URL", value_name = "URL")]
    public_url: Option<PublicUrl>,

    /// With `--auth proxy`: the header in which the proxy says the name of the visitor.
    #[arg(long, env = "POSTCALL_CONSOLE_PROXY_USER_HEADER", value_name = "NAME")]
    proxy_user_header: Option<HeaderName>,

    /// With `--auth proxy`: the header in which the proxy says the visitor's roles, separated by commas.
    #[arg(long, env = "POSTCALL_CONSOLE_PROXY_ROLES_HEADER", value_name = "NAME")]
    proxy_roles_header: Option<HeaderName>,

    /// The networks from which the proxy connects. From elsewhere, nothing that it could say is believed. With `--auth basic`,
    /// the last address in the header `x-forwarded-for` of these is the one that tries to log in.
    #[arg(long, env = "POSTCALL_CONSOLE_PROXY_FROM", value_name = "NET,…", value_delimiter = ',')]
    proxy_from: Vec<IpNet>,

    /// The file with the key of links that show one agent (`postcall console link`).
    #[arg(long, env = "POSTCALL_CONSOLE_LINK_KEY_FILE", value_name = "FILE")]
    link_key_file: Option<PathBuf>,

    /// What tests may call, with `--write`. Nothing else of the console calls anything.
    #[command(flatten)]
    targets: TargetArguments,

    /// For templates that are sealed: with it, publishers see and change them. With `--write`, also for tests of actions that name
    /// a secret. Without it, both are refused.
    #[command(flatten)]
    key_file: KeyFile,
}

/// How the console knows who visits it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// It does not: whoever reaches its address has the rights of its database user.
    None,
    /// People log in with name and password.
    Basic,
    /// A proxy says who they are.
    Proxy,
}

fn address(text: &str) -> Result<SocketAddr, NotLoopback> {
    text.parse().map_err(|_| NotLoopback::Unreadable)
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Some(Command::HashPassword(arguments)) => arguments.run(),
            Some(Command::Link(arguments)) => arguments.run().await,
            None => self.run.run().await,
        }
    }
}

impl RunArguments {
    async fn run(self) -> Result<(), CliError> {
        let settings = self.settings()?;
        let stores = self.stores(&settings.auth, &self.key_file.keyring()?.map(Arc::new)).await?;
        let stop = StopTokens::default();
        stop_on_signals(stop.clone())?;
        let public = settings.public.clone();
        let now = stores.now().await?;
        let console = Console::listen(settings, stores, now);
        let console = console.await.map_err(|source| CliError::System { what: "listen for browsers", source })?;
        match public {
            Some(public) => {
                let listens = console.address();
                print_line(&format!("the console is at {}, and listens on {listens}", public.of("/")))?;
            }
            None => print_line(&format!("the console is at http://{}/", console.address()))?,
        }
        tokio::select! {
            () = console.serve(stop.drain) => {}
            () = stop.cut.cancelled() => {}
        }
        Ok(())
    }

    /// The settings, if they go together.
    fn settings(&self) -> Result<Settings, CliError> {
        let auth = match self.auth {
            How::None => self.nobody()?,
            How::Basic => {
                let file = self.users.as_deref().ok_or(CliError::Usage("--auth basic needs --users FILE"))?;
                Auth::Users(UsersFile::open(file).map_err(told)?)
            }
            How::Proxy => self.proxy()?,
        };
        if self.public_url.is_none() {
            Loopback::of(self.listen).map_err(|refused| match self.auth {
                How::None => CliError::WrongUsage(refused.to_string()),
                How::Basic | How::Proxy => CliError::Usage(
                    "an address that other machines can reach needs --public-url: the address by which browsers reach the console",
                ),
            })?;
        }
        let links = self.link_key_file.as_deref().map(read_key).transpose()?;
        let (public, proxies) = (self.public_url.clone(), self.proxy_from.clone());
        let tester = if self.write { Some(self.tester()?) } else { None };
        Ok(Settings { listen: self.listen, auth, public, proxies, links, tester })
    }

    fn tester(&self) -> Result<Tester, CliError> {
        let (webhook, _policy) = self.targets.clone().webhook(false, false)?;
        Ok(Tester::new(webhook, self.key_file.keyring()?.map(Arc::new)))
    }

    fn nobody(&self) -> Result<Auth, CliError> {
        Loopback::of(self.listen).map_err(|refused| CliError::WrongUsage(refused.to_string()))?;
        if self.users.is_some() || self.link_key_file.is_some() || self.public_url.is_some() {
            return Err(CliError::Usage("--users, --link-key-file and --public-url need --auth basic or --auth proxy"));
        }
        if self.write && self.name.is_none() {
            return Err(CliError::Usage(
                "--write needs to know who changes something: --as NAME, or a log-in (--auth basic or --auth proxy)",
            ));
        }
        Ok(Auth::Nobody(self.name.clone()))
    }

    fn proxy(&self) -> Result<Auth, CliError> {
        let missing = "--auth proxy needs --proxy-user-header, --proxy-roles-header and --proxy-from";
        let (Some(user), Some(roles), false) =
            (&self.proxy_user_header, &self.proxy_roles_header, self.proxy_from.is_empty())
        else {
            return Err(CliError::Usage(missing));
        };
        Ok(Auth::Proxy(Proxy { user: user.clone(), roles: roles.clone() }))
    }

    /// The database by sessions for each role. Where nobody is told apart, all have the rights of the user who logs in.
    async fn stores(&self, auth: &Auth, keys: &Option<Arc<Keyring>>) -> Result<Stores, CliError> {
        let primary = self.database_url.as_deref().unwrap_or_default();
        let url = read_from(&self.read_url, &self.database_url);
        let health = Store::connect_to_read(url, 1, PATIENCE).await?;
        if let Auth::Nobody(_) = auth {
            let all = async |url: &str, writes: bool| {
                let store = Store::connect_as(url, CONNECTIONS, PATIENCE, Access { role: None, writes }).await;
                store.map(|store| store.with_keys(keys.clone()))
            };
            let reading = all(url, false).await?;
            migrate::require_current(&reading).await?;
            let writing = if self.write { Some(all(primary, true).await?) } else { None };
            let writing = writing.map(|store| [store.clone(), store]);
            let tail = Store::connect_to_read(url, 1, PATIENCE).await?;
            return Ok(Stores::new(std::array::from_fn(|_| reading.clone()), writing, health, tail));
        }
        let reading = [
            as_role(url, Role::Viewer, false).await?,
            as_role(url, Role::Auditor, false).await?,
            as_role(url, Role::Operator, false).await?,
            as_role(url, Role::Publisher, false).await?.with_keys(keys.clone()),
        ];
        migrate::require_current(&reading[0]).await?;
        let writing = if self.write {
            let publisher = as_role(primary, Role::Publisher, true).await?;
            Some([as_role(primary, Role::Operator, true).await?, publisher.with_keys(keys.clone())])
        } else {
            None
        };
        let tail = connected(url, Role::Auditor, 1, false).await?;
        Ok(Stores::new(reading, writing, health, tail))
    }
}

async fn as_role(url: &str, role: Role, writes: bool) -> Result<Store, CliError> {
    connected(url, role, CONNECTIONS, writes).await
}

async fn connected(url: &str, role: Role, connections: u32, writes: bool) -> Result<Store, CliError> {
    let access = Access { role: Some(role.of_database()), writes };
    Store::connect_as(url, connections, PATIENCE, access).await.map_err(|error| {
        if error.is_forbidden() || error.is_about_the_data() {
            let role = role.of_database();
            return CliError::Problem(format!(
                "{}. The console's database user has to be a member of the roles of its visitors: GRANT {role} TO …",
                chain(&error)
            ));
        }
        error.into()
    })
}

/// A problem with what a setting names.
pub(super) fn told(error: impl std::error::Error + 'static) -> CliError {
    CliError::Problem(chain(&error).to_string())
}

pub(super) fn read_key(file: &Path) -> Result<LinkKey, CliError> {
    LinkKey::read(file).map_err(told)
}
