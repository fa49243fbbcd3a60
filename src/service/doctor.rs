//! What an installation needs in order to work, looked at one by one.

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::checkup::Check;
use crate::domain::excess::Excess;
use crate::store::checkup::{Living, Login};
use crate::store::keys::KeyInUse;
use crate::store::partitions::Headroom;
use crate::store::seal_log::SealState;
use crate::store::sealed_versions::VersionCounts;
use crate::store::{Store, StoreError};
use crate::webhook::root_certificates;

/// The oldest server that is tested.
const OLDEST_SERVER: i32 = 150_000;
/// With less headroom than this, partitions should have been made long ago.
const LITTLE_HEADROOM: TimeDelta = TimeDelta::days(7);
/// With less headroom than this, rows go into the default partition soon.
const NO_HEADROOM: TimeDelta = TimeDelta::days(1);
/// How far this machine's clock may be from the database's. Certificates are judged by this machine's.
const CLOCKS_APART: TimeDelta = TimeDelta::seconds(60);
/// How old the oldest row may be that is not sealed: several rounds of a sealer.
const SEALED_WITHIN: TimeDelta = TimeDelta::seconds(60);
/// How old the oldest checkpoint may be that was not exported to a URL: some tries.
const EXPORTED_WITHIN: TimeDelta = TimeDelta::seconds(300);
/// The largest number of guards that are named.
const NAMED: usize = 5;

/// Looks at the server, the user and the clocks. `here` is the time by this machine's clock.
/// `is_schema_there` says whether any migration was applied.
pub fn of_login(login: &Login, here: DateTime<Utc>, is_schema_there: bool) -> Vec<Check> {
    vec![of_server(login), of_user(login, is_schema_there), of_clocks(here - login.now)]
}

/// Looks at what the user may do beyond what it is for. A user with the role of dispatchers needs no other.
pub fn of_rights(login: &Login, excess: &[Excess]) -> Vec<Check> {
    if login.is_owner {
        // That is said of the user already.
        return Vec::new();
    }
    let is_dispatcher = login.roles.iter().any(|role| role == "postcall_dispatcher");
    let beyond = excess.iter().filter(|excess| is_dispatcher || !excess.is_role());
    let checks: Vec<Check> = beyond
        .map(|excess| Check::warning("rights", format!("{} {}", login.user, excess.found()), excess.cure()))
        .collect();
    if checks.is_empty() { vec![Check::ok("rights", "the user may do no more than its role is for")] } else { checks }
}

/// Looks at what the schema holds; it must be the one of this program.
///
/// # Errors
/// Only those of the database.
pub async fn of_schema(store: &Store) -> Result<Vec<Check>, StoreError> {
    let mut checks = vec![of_guards(&store.guard_faults().await?)];
    for headroom in store.headroom().await? {
        let default_bytes = store.default_partition_bytes(&headroom.table).await?;
        checks.push(of_partitions(&headroom, default_bytes));
    }
    let living = store.living_dispatchers().await?;
    let nobody_sends = living.is_empty() && store.lag().await?.oldest_waiting.is_some();
    checks.push(if nobody_sends { nothing_is_sent() } else { policies(&living) });
    checks.push(of_seals(&store.sealing().await?));
    checks.push(of_templates(store.version_counts(None).await?));
    Ok(checks)
}

/// Looks at what can be looked at any time, on a page that is shown often: no whole table is read, and no lock is waited for.
///
/// # Errors
/// Only those of the database.
pub async fn at_a_glance(store: &Store) -> Result<Vec<Check>, StoreError> {
    let mut checks = vec![of_guards(&store.guard_faults().await?), of_stuck(store.stuck().await?)];
    checks.extend(store.headroom().await?.iter().map(|headroom| of_partitions(headroom, 0)));
    Ok(checks)
}

/// Looks at the certificates that this machine trusts.
pub fn of_roots() -> Check {
    match root_certificates() {
        0 => Check::problem(
            "tls roots",
            "this machine has no root certificates: a dispatcher that runs here fails every https webhook",
            "install the package ca-certificates, or name a file of them by SSL_CERT_FILE",
        ),
        count => Check::ok("tls roots", format!("this machine trusts {count} root certificates")),
    }
}

/// That deliveries wait, and no dispatcher lives.
fn nothing_is_sent() -> Check {
    let found = "no dispatcher runs, and deliveries wait: nothing is sent";
    Check::problem("dispatchers", found, "start one with `postcall run`")
}

fn of_server(login: &Login) -> Check {
    let found = format!("PostgreSQL {}", login.server_version);
    if login.server_version_num < OLDEST_SERVER {
        return Check::problem("server", found, "install PostgreSQL 15 or newer; older ones are not tested");
    }
    Check::ok("server", found)
}

fn of_user(login: &Login, is_schema_there: bool) -> Check {
    let user = &login.user;
    if login.is_owner {
        return Check::warning(
            "user",
            format!("{user} owns the schema, or is a superuser, and may do everything"),
            "use this user for `postcall migrate`; let dispatchers and people log in as users with one role, such as \
             GRANT postcall_dispatcher TO …",
        );
    }
    if !is_schema_there && login.roles.is_empty() {
        // Nor do postcall's roles, as a rule: there is nothing to be granted.
        return Check::ok(
            "user",
            format!("{user}; the schema does not exist yet, and nobody needs a role until it does"),
        );
    }
    if login.roles.is_empty() {
        return Check::problem(
            "user",
            format!("{user} has none of postcall's roles"),
            "let the owner GRANT postcall_dispatcher, postcall_publisher or postcall_auditor to it",
        );
    }
    Check::ok("user", format!("{user} has {}", login.roles.join(", ")))
}

fn of_clocks(difference: TimeDelta) -> Check {
    let apart = difference.abs();
    let found = format!("this machine's clock and the database's are {} ms apart", apart.num_milliseconds());
    if apart > CLOCKS_APART {
        return Check::warning(
            "clocks",
            found,
            "set both by NTP. postcall goes by the database's, but certificates are judged by this machine's",
        );
    }
    Check::ok("clocks", found)
}

fn of_guards(faults: &[String]) -> Check {
    if faults.is_empty() {
        return Check::ok("guards", "all triggers and constraints that keep rows as they were are on");
    }
    let named = faults.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    let more = match faults.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let cure = "find out who changed it and why, put it back, and run `postcall check-invariants`";
    Check::problem("guards", format!("{named}{more}"), cure)
}

fn of_seals(sealing: &SealState) -> Check {
    let cure = "start a dispatcher with --seal-key-file (docs/auditing.md), or look at the log of the one that has it: it says why \
                nothing is sealed. A transaction that writes and does not end holds up sealing, too";
    match (sealing.sealed_at, sealing.oldest_unsealed) {
        (None, _) => Check::warning(
            "seals",
            "history is not sealed: whoever owns the database can change it, and nothing shows it",
            "make a key by `postcall audit new-key`, and start a dispatcher with --seal-key-file (docs/auditing.md)",
        ),
        (Some(_), Some(age)) if age > SEALED_WITHIN => {
            let found = format!("the oldest delivery that is not sealed ended {} s ago", age.num_seconds());
            Check::warning("seals", found, cure)
        }
        (Some(_), _) if sealing.oldest_unexported.is_some_and(|age| age > EXPORTED_WITHIN) => {
            let age = sealing.oldest_unexported.unwrap_or_default().num_seconds();
            Check::warning(
                "seals",
                format!("history is sealed, but a checkpoint of {age} s ago was not exported to --checkpoint-url"),
                "look at the log of the dispatcher that seals: it says why (docs/auditing.md). If no dispatcher has --checkpoint-url any \
                 more, let the owner run UPDATE postcall.seal_turn SET exported_size = NULL",
            )
        }
        (Some(at), _) => Check::ok("seals", format!("history is sealed, last at {}", at.format("%Y-%m-%dT%H:%M:%SZ"))),
    }
}

fn of_templates(VersionCounts { sealed, clear }: VersionCounts) -> Check {
    match (sealed, clear) {
        (0, _) => {
            Check::ok("templates", format!("{clear} versions of actions, none of which is sealed (docs/secrets.md)"))
        }
        (_, 0) => Check::ok("templates", format!("{sealed} versions of actions, all of which are sealed")),
        _ => Check::warning(
            "templates",
            format!("{clear} versions of actions are in clear, and {sealed} are sealed"),
            "seal the others, as the owner of the schema: postcall action seal --key-file FILE",
        ),
    }
}

/// Looks at the keys with which something is encrypted. `of_file` are the ids of the key file's keys, the one that encrypts first; `None`
/// if no key file is named.
pub fn of_keys(in_use: &[KeyInUse], of_file: Option<&[String]>) -> Check {
    if in_use.is_empty() {
        return Check::ok("keys", "no secret, no key that signs and no version is encrypted");
    }
    let told = |keys: &[&KeyInUse]| {
        let counted = |KeyInUse { key_id, secrets, signing_keys, versions }: &KeyInUse| {
            format!("{key_id} ({secrets} secrets, {signing_keys} keys that sign, {versions} versions)")
        };
        keys.iter().map(|key| counted(key)).collect::<Vec<_>>().join(", ")
    };
    let all = told(&in_use.iter().collect::<Vec<_>>());
    let Some(of_file) = of_file else {
        let found = format!("in use are {all}; no key file is named (--key-file), so nothing is compared with it");
        return Check::ok("keys", found);
    };
    let lacking: Vec<&KeyInUse> = in_use.iter().filter(|key| !of_file.contains(&key.key_id)).collect();
    if !lacking.is_empty() {
        let cure = "name the key file that has them, or put the lacking keys into it below the first one: deliveries fail \
                    (`no_secret`, `no_signing_key`) wherever a dispatcher has no other. If they are lost, set, publish and rotate anew \
                    (docs/secrets.md)";
        return Check::problem("keys", format!("in use are {all}; the key file lacks {}", told(&lacking)), cure);
    }
    match of_file.first().filter(|first| in_use.iter().any(|key| key.key_id != **first)) {
        None => Check::ok("keys", format!("in use is {all}, which the key file has")),
        Some(first) => Check::warning(
            "keys",
            format!("in use are {all}; the key file has them all, and its first is {first}"),
            "when every dispatcher has the first key, too, encrypt everything with it, as the owner of the schema: postcall secret rekey",
        ),
    }
}

fn of_stuck(stuck: i64) -> Check {
    if stuck == 0 {
        return Check::ok("in flight", "no delivery is in flight for too long");
    }
    let cure = "a dispatcher that runs gives up what others left behind; if one runs, look at its log, and run \
                `postcall check-invariants`";
    Check::problem("in flight", format!("{stuck} deliveries are in flight for too long"), cure)
}

fn of_partitions(Headroom { table, until, seconds }: &Headroom, default_bytes: i64) -> Check {
    let cure = "partitions are made by a dispatcher that runs (`postcall run`), or by SELECT postcall.make_partitions(); its \
                log says why one could not be made";
    let headroom = TimeDelta::seconds(*seconds as i64);
    let found = match until {
        Some(until) => format!("{table} has partitions until {}", until.format("%Y-%m-%d")),
        None => format!("{table} has no partition for the present"),
    };
    if headroom < NO_HEADROOM {
        return Check::problem("partitions", found, cure);
    }
    if headroom < LITTLE_HEADROOM {
        return Check::warning("partitions", found, cure);
    }
    if default_bytes > 0 {
        let found = format!("{found}; its default partition has held rows ({default_bytes} bytes)");
        return Check::warning("partitions", found, "`postcall prune` lets them go when they are old enough");
    }
    Check::ok("partitions", found)
}

/// Whether the dispatchers that live have the same policy.
pub fn policies(living: &[Living]) -> Check {
    let Some((first, others)) = living.split_first() else {
        return Check::warning("dispatchers", "no dispatcher runs", "start one with `postcall run`");
    };
    for other in others {
        let (Some(here), Some(there)) = (&first.policy, &other.policy) else { continue };
        let differences = here.differences(there);
        if !differences.is_empty() {
            let told = differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Check::problem(
                "dispatchers",
                format!(
                    "dispatchers {} and {} have different policies: {told}",
                    first.dispatcher_id, other.dispatcher_id
                ),
                "give all dispatchers the same --allow-… settings and start them again, one after the other",
            );
        }
    }
    match living.iter().find(|dispatcher| dispatcher.policy.is_none()) {
        Some(Living { dispatcher_id, name, .. }) => Check::warning(
            "dispatchers",
            format!("dispatcher {dispatcher_id} ({name}) has recorded no policy that this release can read"),
            "see that it has the same --allow-… settings as the others; let all be of one release",
        ),
        None => Check::ok("dispatchers", format!("{} run, with the same policy", living.len())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::checkup::Verdict;
    use crate::domain::policy::Policy;

    fn login(is_owner: bool, roles: &[&str]) -> Login {
        Login {
            server_version: "15.4".to_owned(),
            server_version_num: 150_004,
            now: DateTime::UNIX_EPOCH,
            user: "ann".to_owned(),
            is_owner,
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
        }
    }

    fn living(dispatcher_id: i32, policy: Option<Policy>) -> Living {
        Living { dispatcher_id, name: "host:1".to_owned(), policy }
    }

    fn in_use(ids: &[&str]) -> Vec<KeyInUse> {
        let key = |id: &&str| KeyInUse { key_id: (*id).to_owned(), secrets: 2, signing_keys: 0, versions: 1 };
        ids.iter().map(key).collect()
    }

    #[test]
    fn a_key_file_is_told_exactly_which_of_the_keys_in_use_it_lacks() {
        let check = of_keys(&in_use(&["aa", "bb", "cc"]), Some(&["dd".to_owned(), "bb".to_owned()]));
        let (_, lacking) = check.found.split_once("lacks").unwrap();
        assert!(lacking.contains("aa (2 secrets") && lacking.contains("cc") && !lacking.contains("bb"), "{lacking}");
    }

    #[test]
    fn whatever_is_wrong_has_a_cure_and_what_is_right_has_none() {
        let headroom = |days: i64, default_bytes| {
            let until = Some(DateTime::UNIX_EPOCH);
            let headroom = Headroom { table: "outbox".to_owned(), until, seconds: (days * 86_400) as f64 };
            of_partitions(&headroom, default_bytes)
        };
        let sealed =
            || SealState { sealed_at: Some(DateTime::UNIX_EPOCH), oldest_unsealed: None, oldest_unexported: None };
        let ago = |seconds| Some(TimeDelta::seconds(seconds));
        let sealed_but = |seconds| SealState { oldest_unsealed: ago(seconds), ..sealed() };
        let exported_but = |seconds| SealState { oldest_unexported: ago(seconds), ..sealed() };
        let http = || Policy::default().with("allow_http", json!(true));
        let (ok, warning, problem) = (Verdict::Ok, Verdict::Warning, Verdict::Problem);
        let old = Login { server_version_num: 140_000, ..login(false, &[]) };
        for (check, verdict) in [
            (of_server(&login(false, &[])), ok),
            (of_server(&old), problem),
            (of_user(&login(false, &["postcall_auditor"]), true), ok),
            (of_user(&login(true, &[]), true), warning),
            (of_user(&login(false, &[]), true), problem),
            (of_user(&login(false, &[]), false), ok),
            (of_clocks(TimeDelta::milliseconds(-5)), ok),
            (of_clocks(TimeDelta::seconds(-61)), warning),
            (of_rights(&login(false, &["postcall_auditor"]), &[Excess::Auditor]).remove(0), ok),
            (of_rights(&login(false, &["postcall_auditor"]), &[Excess::BypassRls]).remove(0), warning),
            (of_rights(&login(false, &["postcall_dispatcher"]), &[Excess::Auditor]).remove(0), warning),
            (nothing_is_sent(), problem),
            (of_guards(&[]), ok),
            (of_guards(&vec!["a is missing".to_owned(); 7]), problem),
            (headroom(14, 0), ok),
            (headroom(14, 8192), warning),
            (headroom(6, 0), warning),
            (headroom(0, 0), problem),
            (of_seals(&SealState { sealed_at: None, ..sealed() }), warning),
            (of_seals(&sealed()), ok),
            (of_seals(&sealed_but(59)), ok),
            (of_seals(&sealed_but(61)), warning),
            (of_seals(&exported_but(299)), ok),
            (of_seals(&exported_but(301)), warning),
            (of_keys(&[], None), ok),
            (of_keys(&[], Some(&["a".to_owned()])), ok),
            (of_keys(&in_use(&["a", "b"]), None), ok),
            (of_keys(&in_use(&["a"]), Some(&["a".to_owned()])), ok),
            (of_keys(&in_use(&["a"]), Some(&["b".to_owned(), "a".to_owned()])), warning),
            (of_keys(&in_use(&["a", "b"]), Some(&["a".to_owned(), "b".to_owned()])), warning),
            (of_keys(&in_use(&["a", "b"]), Some(&["a".to_owned(), "c".to_owned()])), problem),
            (policies(&[]), warning),
            (policies(&[living(1, Some(http())), living(2, Some(http()))]), ok),
            (policies(&[living(1, Some(http())), living(2, Some(Policy::default()))]), problem),
            (policies(&[living(1, Some(http())), living(2, None)]), warning),
        ] {
            assert_eq!((check.verdict, check.cure.is_some()), (verdict, verdict != ok), "{check:?}");
        }
    }
}
