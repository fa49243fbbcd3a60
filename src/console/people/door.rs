//! Finds out who a visitor is, and lets people log in and out.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{self, HeaderValue};
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};

use super::links::{Link, LinkKey, LinkRefused};
use super::passwords::LONGEST_PASSWORD;
use super::proxy::{Named, is_in, origin};
use super::sessions::{ABSOLUTE, Sessions};
use super::tries::Tries;
use super::users::UsersFile;
use super::visit::{Scope, Visitor};
use super::{Auth, Role};
use crate::console::databases::Databases;
use crate::console::frame;
use crate::console::site::Site;
use crate::console::words::agent_address;

/// The most passwords that are checked at the same time: each takes a core, and up to 64 MiB.
const HASHING: usize = 2;
/// How long a log-in waits for its turn to be checked.
const HASHING_WAIT: Duration = Duration::from_secs(5);
/// The longest name that is looked up, in characters.
const LONGEST_NAME: usize = 200;

/// The console's door.
pub(in crate::console) struct Door {
    auth: Auth,
    site: Site,
    links: Option<LinkKey>,
    /// The networks of the proxies that are believed.
    proxies: Vec<IpNet>,
    /// Whose time links go by.
    databases: Arc<Databases>,
    sessions: Mutex<Sessions>,
    tries: Mutex<Tries>,
    hashing: Arc<Semaphore>,
}

/// Why there is no visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum NoVisitor {
    /// Nobody has logged in by this browser.
    LogIn,
    /// The connection does not come from the proxy.
    NotByProxy,
    /// The proxy names nobody.
    Unnamed,
    /// The proxy names somebody who has no role here.
    WithoutRole,
}

/// Why somebody was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum NotLetIn {
    /// Name and password do not belong together.
    Wrong,
    /// There were too many tries.
    Wait(Duration),
    /// Too many others log in at this moment, or something else went wrong.
    Busy,
}

impl Door {
    /// A door of the console at `site`, to these databases.
    pub(in crate::console) fn new(
        auth: Auth,
        site: Site,
        links: Option<LinkKey>,
        proxies: Vec<IpNet>,
        databases: Arc<Databases>,
    ) -> Door {
        let (sessions, tries) = (Mutex::new(Sessions::default()), Mutex::new(Tries::new(Instant::now())));
        Door { auth, site, links, proxies, databases, sessions, tries, hashing: Arc::new(Semaphore::new(HASHING)) }
    }

    /// The console's own place, which requests must name.
    pub(in crate::console) fn site(&self) -> &Site {
        &self.site
    }

    /// Whether people log in and out here.
    pub(in crate::console) fn has_log_in(&self) -> bool {
        matches!(self.auth, Auth::Users(_))
    }

    /// Whether visitors are told apart, so that their roles decide and not the console's database user alone.
    pub(in crate::console) fn knows_people(&self) -> bool {
        !matches!(self.auth, Auth::Nobody(_))
    }

    /// Who sends this request.
    pub(in crate::console) fn visitor(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Visitor, NoVisitor> {
        let person =
            |name, role, has_session| Visitor { name, role, scope: Scope::Everything, database: None, has_session };
        let absent = match &self.auth {
            Auth::Nobody(name) => return Ok(person(name.clone(), Role::Publisher, false)),
            Auth::Users(users) => match self.logged_in(users, headers) {
                Some((name, role)) => return Ok(person(Some(name), role, true)),
                None => NoVisitor::LogIn,
            },
            Auth::Proxy(_) if !is_in(&self.proxies, peer) => return Err(NoVisitor::NotByProxy),
            Auth::Proxy(proxy) => match proxy.named(headers) {
                Named::Person(name, role) => return Ok(person(Some(name), role, false)),
                Named::WithoutRole => return Err(NoVisitor::WithoutRole),
                Named::Nobody => NoVisitor::Unnamed,
            },
        };
        let link = cookie(headers, &self.site.cookie("link")).and_then(|token| self.link(token).ok());
        let link = link.ok_or(absent)?;
        let Link { database, agent, .. } = link;
        Ok(Visitor { name: None, role: Role::Auditor, scope: Scope::Agent(agent), database, has_session: false })
    }

    fn logged_in(&self, users: &UsersFile, headers: &HeaderMap) -> Option<(String, Role)> {
        let token = cookie(headers, &self.site.cookie("session"))?;
        let (name, digest) = held(&self.sessions).of(token, Instant::now())?;
        // Whoever was removed, or has another password or other roles, has to log in again.
        let users = users.current();
        let user = users.get(&name).filter(|user| user.digest == digest)?;
        Some((name, user.role))
    }

    /// What the link with this token shows.
    fn link(&self, token: &str) -> Result<Link, LinkRefused> {
        self.links.as_ref().ok_or(LinkRefused::Forged)?.link(token, |database| self.databases.now_of(database))
    }

    /// Takes a link: where it leads, and the cookie that stands for it from now on.
    pub(in crate::console) fn enter(&self, token: &str) -> Result<(String, HeaderValue), LinkRefused> {
        let link = self.link(token)?;
        let cookie = self.site.set_cookie("link", token, link.left).ok_or(LinkRefused::Forged)?;
        let database = self.databases.named(link.database.as_deref()).ok_or(LinkRefused::Forged)?;
        Ok((frame::under(database.root(), || agent_address(&link.agent)), cookie))
    }

    /// Lets somebody in who gives the right name and password, and returns the cookie of the session.
    pub(in crate::console) async fn log_in(
        &self,
        name: &str,
        password: &str,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<HeaderValue, NotLetIn> {
        let Auth::Users(file) = &self.auth else { return Err(NotLetIn::Wrong) };
        if name.chars().count() > LONGEST_NAME || password.len() > LONGEST_PASSWORD {
            return Err(NotLetIn::Wrong);
        }
        let address = origin(&self.proxies, peer, headers);
        let tried = held(&self.tries).take(name, address, Instant::now()).map_err(NotLetIn::Wait)?;
        let users = file.current();
        let (hash, exists) = users.hash_for(name).map(|(hash, exists)| (hash.clone(), exists)).ok_or(NotLetIn::Busy)?;
        // The semaphore is never closed.
        let turn = Arc::clone(&self.hashing).acquire_owned();
        let turn = timeout(HASHING_WAIT, turn).await.map_err(|_| NotLetIn::Busy)?;
        let password = password.to_owned();
        let checked = spawn_blocking(move || {
            // Held until it is checked, even if whoever asked has gone.
            let _turn = turn;
            hash.is_of(&password)
        });
        let checked = checked.await;
        let is_right = checked.map_err(|_| NotLetIn::Busy)?;
        let user = users.get(name).filter(|_| exists && is_right);
        let Some(user) = user else {
            // No name: it may be a password that was typed into the wrong field.
            warn!("somebody was not let in: name and password do not belong together");
            return Err(NotLetIn::Wrong);
        };
        held(&self.tries).went_well(tried, Instant::now());
        let token = held(&self.sessions).begin(name, user.digest, Instant::now()).ok_or(NotLetIn::Busy)?;
        info!(role = %user.role, "somebody has logged in");
        let most = i64::try_from(ABSOLUTE.as_secs()).unwrap_or(i64::MAX);
        self.site.set_cookie("session", &token, most).ok_or(NotLetIn::Busy)
    }

    /// Ends the session of this browser, and returns cookies that take the place of its own.
    pub(in crate::console) fn log_out(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        if let Some(token) = cookie(headers, &self.site.cookie("session")) {
            held(&self.sessions).end(token);
        }
        ["session", "link"].iter().filter_map(|name| self.site.set_cookie(name, "", 0)).collect()
    }
}

/// The lock. Nobody panics while they hold it; and what is in it would be whole.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of a cookie that is there exactly once.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut values = pairs
        .flat_map(|pairs| pairs.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(of, _)| *of == name)
        .map(|(_, value)| value);
    values.next().filter(|_| values.next().is_none())
}
