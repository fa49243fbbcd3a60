//! `postcall console`: shows what goes on in a browser, from reading its settings to its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use http::HeaderName;
use ipnet::IpNet;

use super::attribution::named;
use super::console_opening::{Opening, Source, keep_opening, names_in_addresses};
use super::console_people::{HashArguments, LinkArguments};
use super::databases::Databases;
use super::key_file::KeyFile;
use super::signals::stop_on_signals;
use super::targets::TargetArguments;
use super::{CliError, print_line};
use crate::console::{Auth, Console, LinkKey, Loopback, NotLoopback, Proxy, PublicUrl, Settings, UsersFile};
use crate::dispatcher::StopTokens;
use crate::domain::chain::chain;
use crate::service::action_test::Tester;

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
/// With several databases (`--database-url` more than once, or `--databases`), `/` is an overview of all, `/deliveries` searches
/// all, and the pages of each are below `/in/NAME/`. One that does not answer is shown as such, and tried again.
///
/// It ends with SIGTERM, SIGINT, SIGHUP or SIGQUIT. `/health` answers 200 if the database, or any of several, answers.
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
pub(super) struct RunArguments {
    #[command(flatten)]
    databases: Databases,

    /// Read pages from this server: a hot standby of the other one. Each page says how far it is behind; what is changed is changed at
    /// --database-url, and seen when the standby has it. Only if one database is served: of several that are only read, list the
    /// standbys in a file (--databases).
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
    pub(super) write: bool,

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
    pub(super) key_file: KeyFile,
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
        let opening = Arc::new(Opening::of(&self, &settings.auth)?);
        let mut databases = self.databases.all()?;
        let stop = StopTokens::default();
        stop_on_signals(stop.clone())?;
        let public = settings.public.clone();
        let listens = |source| CliError::System { what: "listen for browsers", source };
        let console = if databases.len() == 1 {
            let only = Source { primary: databases.swap_remove(0).url, read_url: self.read_url().map(str::to_owned) };
            let (stores, now) = opening.stores(&only).await?;
            Console::listen(settings, stores, now).await.map_err(listens)?
        } else {
            let names = names_in_addresses(&databases)?;
            if self.read_url().is_some() {
                return Err(CliError::Usage(
                    "--read-url is one server: for several databases, list their standbys in a file (--databases)",
                ));
            }
            Console::listen_for_several(settings, names).await.map_err(listens)?
        };
        // Empty if there is one only.
        for (database, served) in databases.into_iter().zip(console.databases().to_vec()) {
            tokio::spawn(stop.drain.clone().run_until_cancelled_owned(keep_opening(
                database,
                Arc::clone(&opening),
                served,
            )));
        }
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
        let keys = self.key_file.keyring()?.map(Arc::new);
        let (webhook, _policy) = self.targets.clone().webhook(false, false, keys.as_deref())?;
        Ok(Tester::new(webhook, keys))
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

    /// The server from which is read instead. An unset variable in a compose file is empty.
    fn read_url(&self) -> Option<&str> {
        self.read_url.as_deref().filter(|url| !url.is_empty())
    }
}

/// A problem with what a setting names.
pub(super) fn told(error: impl std::error::Error + 'static) -> CliError {
    CliError::Problem(chain(&error).to_string())
}

pub(super) fn read_key(file: &Path) -> Result<LinkKey, CliError> {
    LinkKey::read(file).map_err(told)
}
