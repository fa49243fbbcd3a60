//! `postcall run` says what its database user may do that no dispatcher needs, and `postcall doctor` says it, too.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::support::database::Database;
use crate::support::process::{Dispatcher, POSTCALL, postcall_at, stdout};

/// What is given to a dispatcher's user in addition, and what is said about it. `USER` and `DATABASE` stand for theirs.
const EXCESSES: [(&str, &str, &str); 9] = [
    ("ALTER ROLE USER BYPASSRLS", "has BYPASSRLS", "NOBYPASSRLS"),
    ("ALTER ROLE USER CREATEROLE", "has CREATEROLE", "NOCREATEROLE"),
    ("ALTER ROLE USER REPLICATION", "has REPLICATION", "NOREPLICATION"),
    ("GRANT pg_read_all_data TO USER", "has a role of the server", "REVOKE the roles"),
    ("GRANT CREATE ON DATABASE DATABASE TO USER", "may create schemas", "REVOKE CREATE ON DATABASE"),
    ("GRANT postcall_publisher TO USER", "has the role postcall_publisher", "REVOKE postcall_publisher"),
    ("GRANT postcall_auditor TO USER", "has the role postcall_auditor", "REVOKE postcall_auditor"),
    ("GRANT postcall_platform TO USER", "has the role postcall_platform", "REVOKE postcall_platform"),
    (
        "GRANT postcall_console_operator TO USER",
        "has the role postcall_console_operator",
        "REVOKE postcall_console_operator",
    ),
];

/// The lines about excess that a dispatcher logs when it starts as this user.
async fn warnings(url: &str) -> Vec<String> {
    let mut dispatcher = Dispatcher::spawned(&mut Dispatcher::command(url));
    let mut lines = dispatcher.lines_until("dispatching").await;
    dispatcher.signal(Signal::SIGTERM);
    let (well, rest) = dispatcher.ended_saying().await;
    lines.extend(rest);
    assert!(well, "{lines:#?}");
    lines.retain(|line| line.contains("WARN") && line.contains("the database user "));
    lines
}

#[tokio::test]
async fn a_dispatcher_s_user_that_may_do_more_than_it_needs_is_named_at_the_start_with_the_cure() {
    let database = Database::new().await;
    let url = database.login(&["postcall_dispatcher", "postcall_sealer"]).await;
    assert_eq!(warnings(&url).await, Vec::<String>::new(), "what it needs is no excess");
    let (user, name) = (url.split(['/', '@']).nth(2).unwrap(), url.rsplit('/').next().unwrap());
    for (grant, ..) in EXCESSES {
        database.execute(&grant.replace("DATABASE DATABASE", &format!("DATABASE {name}")).replace("USER", user)).await;
    }
    let lines = warnings(&url).await;
    assert_eq!(lines.len(), EXCESSES.len(), "a line for each: {lines:#?}");
    for (_, found, cure) in EXCESSES {
        assert!(lines.iter().any(|line| line.contains(found) && line.contains(cure)), "{found}: {lines:#?}");
    }
    let doctor = stdout(&postcall_at(&url, &["doctor"]));
    for (_, found, _) in EXCESSES {
        assert!(
            doctor.lines().any(|line| line.starts_with("warning  rights") && line.contains(found)),
            "{found}: {doctor}"
        );
    }
}

#[tokio::test]
async fn a_superuser_and_the_owner_of_the_schema_are_named_as_such() {
    let database = Database::new().await;
    let lines = warnings(&database.url).await;
    assert!(lines.len() == 1 && lines[0].contains("is a superuser"), "{lines:#?}");
    let url = database.login(&["postcall_dispatcher"]).await;
    let user = url.split(['/', '@']).nth(2).unwrap();
    // An owner of the schema who is no superuser, by a role that it can take on.
    database.execute(&format!("CREATE ROLE owner_of_{user}; ALTER SCHEMA postcall OWNER TO owner_of_{user}; GRANT owner_of_{user} TO {user}")).await;
    let lines = warnings(&url).await;
    assert!(lines.len() == 1 && lines[0].contains("owns the schema"), "{lines:#?}");
}

#[tokio::test]
async fn the_memory_of_the_program_is_written_into_no_core_dump() {
    let database = Database::new().await;
    let mut command = Dispatcher::command(&database.url);
    // As somebody who is not root: its files in /proc belong to root as soon as nobody may look into its memory. That user may not
    // reach the program where it was built.
    let directory = tempfile::tempdir().unwrap();
    if nix::unistd::geteuid().is_root() {
        let program = directory.path().join("postcall");
        std::fs::copy(POSTCALL, &program).unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        command = Command::new(program);
        command.args(["run", "--log", "info"]).env("DATABASE_URL", &database.url).stdout(Stdio::null()).uid(65_534);
    }
    let mut dispatcher = Dispatcher::spawned(&mut command);
    dispatcher.says("dispatching").await;
    let directory = format!("/proc/{}", dispatcher.pid());
    let limits = std::fs::read_to_string(format!("{directory}/limits")).unwrap();
    let core: Vec<&str> =
        limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap().split_whitespace().collect();
    assert_eq!(core[..2], ["0", "0"], "{limits}");
    assert_eq!(
        std::fs::metadata(format!("{directory}/mem")).unwrap().uid(),
        0,
        "others of the same user cannot read it"
    );
}
