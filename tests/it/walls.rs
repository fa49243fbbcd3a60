//! The walls between the rooms of the program (docs/architecture.md): who may know whom, and what each does without. Read from
//! the sources; no database is needed. What is absent from the whole program stands in `clippy.toml`.

use std::collections::BTreeSet;
use std::path::Path;

use Rooms::{AllBut, Only};

use crate::support::sources::{CodePath, Source, root, sources};

/// Who may know whom. Whoever is known stands further up, so there is no circle. A new room is one line here, and one in
/// the table of rooms in docs/architecture.md.
const ARROWS: [(&str, &[&str]); 15] = [
    ("domain", &[]),
    ("render", &["domain"]),
    ("webhook", &["domain"]),
    ("operator", &[]),
    ("store", &["domain"]),
    ("seal", &["domain"]),
    ("scheduler", &["domain"]),
    ("vault", &["domain"]),
    ("metrics", &["domain", "store"]),
    ("spans", &["domain", "metrics", "operator"]),
    (
        "dispatcher",
        &["domain", "render", "webhook", "operator", "store", "seal", "scheduler", "vault", "metrics", "spans"],
    ),
    ("service", &["domain", "render", "webhook", "store", "seal", "vault"]),
    ("console", &["domain", "store", "service"]),
    (
        "cli",
        &[
            "domain",
            "webhook",
            "operator",
            "store",
            "seal",
            "scheduler",
            "vault",
            "metrics",
            "spans",
            "dispatcher",
            "service",
            "console",
        ],
    ),
    ("main", &["cli"]),
];

/// The rooms that compute and do nothing else.
const PURE: [&str; 4] = ["domain", "render", "scheduler", "seal"];

/// What only some rooms may use. A crate is written with `::` behind it; anything else is meant wherever it stands in a path.
/// Tests may use all of it anywhere.
const RESERVED: [Reserved; 16] = [
    Reserved { what: &["sqlx::"], by: Only(&["store"]), why: "SQL stands only in `store`" },
    Reserved {
        what: &["http_body::", "reqwest::", "socket2::", "UdpSocket"],
        by: Only(&["webhook"]),
        why: "requests go out by the one HTTP client in `webhook`, through its guard",
    },
    Reserved {
        what: &["hyper::client", "TcpStream"],
        by: Only(&["webhook", "operator"]),
        why: "requests go out by the one HTTP client in `webhook`, through its guard; `operator` calls what the operator has chosen",
    },
    Reserved {
        what: &["rustls::", "rustls_native_certs::", "hickory_proto::", "resolv_conf::", "lookup_host"],
        by: Only(&["webhook"]),
        why: "names and certificates belong to the HTTP client in `webhook`",
    },
    Reserved {
        what: &["tokio_rustls::"],
        by: Only(&["webhook", "operator"]),
        why: "TLS belongs to the HTTP client in `webhook`, and to the one in `operator`",
    },
    Reserved {
        what: &["opentelemetry::", "opentelemetry_sdk::", "opentelemetry_otlp::", "opentelemetry_http::"],
        by: Only(&["spans"]),
        why: "spans and their format belong to `spans`",
    },
    Reserved {
        what: &["hyper::", "hyper_util::"],
        by: Only(&["webhook", "operator", "metrics", "console", "cli"]),
        why: "HTTP belongs to the clients in `webhook` and `operator`, to the server in `metrics`, to the pages in `console`, and to the \
              demo's receiver in `cli`",
    },
    Reserved {
        what: &["clap::", "comfy_table::", "indicatif::", "tracing_subscriber::"],
        by: Only(&["cli", "main"]),
        why: "arguments, terminals and the log's form belong to `cli`",
    },
    Reserved {
        what: &["prometheus_client::"],
        by: Only(&["metrics"]),
        why: "the format of metrics belongs to `metrics`",
    },
    Reserved {
        what: &["TcpListener"],
        by: Only(&["metrics", "console", "cli"]),
        why: "only the servers in `metrics` and `console`, and the demo's receiver in `cli`, listen",
    },
    Reserved { what: &["chacha20poly1305::"], by: Only(&["vault"]), why: "ciphers and keys belong to `vault`" },
    Reserved { what: &["askama::"], by: Only(&["console"]), why: "pages belong to `console`" },
    Reserved {
        what: &["io::stdout", "io::stderr", "io::stdin"],
        by: Only(&["cli", "main"]),
        why: "a room returns what is to be said; only `cli` prints",
    },
    Reserved {
        what: &["env::var", "env::var_os", "env::vars", "env::args"],
        by: Only(&["cli"]),
        why: "`cli` reads the settings and hands them to the others",
    },
    Reserved {
        what: &[
            "tokio::",
            "tokio_util::",
            "tracing::",
            "fastrand::",
            "std::fs",
            "std::thread",
            "std::process",
            "std::env",
        ],
        by: AllBut(&PURE),
        why: "it is pure: it has no I/O, no tasks, no log and no chance",
    },
    Reserved {
        what: &["Instant::now", "elapsed", "SystemTime", "Utc::now", "Uuid::now_v7", "Uuid::new_v4"],
        by: AllBut(&PURE),
        why: "time and identity are handed to it, so that the same input always gives the same",
    },
];

/// The most lines of a file of `src/`. (That a function fits a screen is held by clippy, see `clippy.toml`.)
const LINES: usize = 400;

/// Longer files, with the reason.
const LONGER: [(&str, &str); 1] = [("scheduler/tests.rs", "the scenarios of one scheduler, which share their helpers")];

enum Rooms {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

struct Reserved {
    what: &'static [&'static str],
    by: Rooms,
    why: &'static str,
}

/// What is wrong in one file: where, what, and why.
fn violations(source: &Source) -> Vec<String> {
    let (room, place) = (source.room(), |path: &CodePath| format!("src/{}:{}", source.path.display(), path.line));
    let mut found = Vec::new();
    for path in source.paths(true) {
        if let Some(why) = forbidden_arrow(&room, &path) {
            found.push(format!("{}: {} is not allowed: {why}", place(&path), path.segments.join("::")));
        }
    }
    for path in source.paths(false) {
        for Reserved { by, why, .. } in RESERVED.iter().filter(|reserved| reserved.names(&path)) {
            if !by.contain(&room) {
                found.push(format!("{}: {} is not allowed in {room}: {why}", place(&path), path.segments.join("::")));
            }
        }
    }
    found
}

/// Why a room may not know what this path leads to.
fn forbidden_arrow(room: &str, path: &CodePath) -> Option<String> {
    let [first, known, ..] = &path.segments[..] else { return None };
    // `lib.rs` names the rooms, and knows nothing of what is in them.
    if known == room || room == "lib" || !["crate", "postcall"].contains(&first.as_str()) {
        return None;
    }
    let (_, knows) = ARROWS.iter().find(|(name, _)| *name == room)?;
    let knows_it = knows.contains(&known.as_str());
    (!knows_it).then(|| format!("{room} knows {} (ARROWS in tests/it/walls.rs)", listed(knows)))
}

fn listed(rooms: &[&str]) -> String {
    if rooms.is_empty() { "no other room".to_owned() } else { format!("only {}", rooms.join(", ")) }
}

impl Rooms {
    fn contain(&self, room: &str) -> bool {
        match self {
            Only(rooms) => rooms.contains(&room),
            AllBut(rooms) => !rooms.contains(&room),
        }
    }
}

impl Reserved {
    fn names(&self, path: &CodePath) -> bool {
        self.what.iter().any(|what| match what.strip_suffix("::") {
            Some(name) => path.segments[0] == name,
            None => {
                let wanted: Vec<&str> = what.split("::").collect();
                path.segments.windows(wanted.len()).any(|part| part == wanted)
            }
        })
    }
}

#[test]
fn no_room_knows_more_than_it_may_and_none_uses_what_belongs_to_another() {
    let sources = sources();
    let found: Vec<String> = sources.iter().flat_map(violations).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    // A reader that sees nothing would find nothing wrong.
    let arrows: usize =
        sources.iter().map(|source| source.paths(true).iter().filter(|path| leads_out(path)).count()).sum();
    assert!(sources.len() > 100 && arrows > 200, "{} files, {arrows} arrows", sources.len());
}

fn leads_out(path: &CodePath) -> bool {
    path.segments[0] == "crate" && path.segments.len() > 1
}

#[test]
fn a_wrong_import_is_found_however_it_is_written() {
    let wrong = [
        (
            "store/a.rs",
            "use crate::render::CompiledAction;",
            "src/store/a.rs:1: crate::render::CompiledAction is not allowed",
        ),
        (
            "store/a.rs",
            "\n\nfn f(a: &crate::webhook::Webhook) {}",
            "src/store/a.rs:3: crate::webhook::Webhook is not allowed",
        ),
        (
            "webhook/a.rs",
            "use crate::{domain::host::Host,\n    store::{Store, StoreError}};",
            "src/webhook/a.rs:2: crate::store::Store ",
        ),
        ("domain/mod.rs", "use super::scheduler::Limits;", "src/domain/mod.rs:1: crate::scheduler::Limits "),
        ("domain/a.rs", "mod inner { use super::super::super::cli; }", "src/domain/a.rs:1: crate::cli "),
        (
            "scheduler/a.rs",
            "#[cfg(test)]\nmod tests { use crate::dispatcher::run; }",
            "src/scheduler/a.rs:2: crate::dispatcher::run ",
        ),
        ("render/tests.rs", "fn f() { assert!(crate::store::x()); }", "src/render/tests.rs:1: crate::store::x "),
        ("main.rs", "use postcall::store::Store;", "src/main.rs:1: postcall::store::Store "),
        (
            "cli/a.rs",
            "fn f() { sqlx::query!(\"SELECT 1\"); }",
            "src/cli/a.rs:1: sqlx::query is not allowed in cli: SQL stands only in `store`",
        ),
        (
            "render/a.rs",
            "use std::time::{Duration, Instant};\nfn f() -> Instant { Instant::now() }",
            "src/render/a.rs:2: Instant::now ",
        ),
        ("domain/a.rs", "fn f() { println!(\"{:?}\", std::{env, fs}::X) }", "src/domain/a.rs:1: std::env "),
        ("dispatcher/a.rs", "#[derive(clap::Args)]\nstruct A;", "src/dispatcher/a.rs:1: clap::Args "),
    ];
    for (path, text, said) in wrong {
        let found = violations(&Source { path: path.into(), text: text.to_owned() });
        assert!(found.first().is_some_and(|first| first.starts_with(said)), "{path}: {text}\n{found:?}");
    }
    let right = [
        (
            "store/a.rs",
            "use super::session; use crate::store::Store; // use crate::render::X;\n/// [`crate::cli`]\nstruct A;",
        ),
        ("cli/a.rs", "mod render; use super::render::X; fn f() { let _ = \"crate::main\"; }"),
        ("cli/demo/a.rs", "use super::super::render::X; use super::receiver;"),
        ("dispatcher/a.rs", "#[cfg(test)]\nmod tests { use sqlx::Connection; }\nuse crate::store::Store;"),
        ("scheduler/tests.rs", "use std::time::Instant; fn now() -> Instant { Instant::now() }"),
        ("webhook/a.rs", "pub(crate) fn f() {} pub(in crate::webhook) fn g() {}"),
    ];
    for (path, text) in right {
        let found = violations(&Source { path: path.into(), text: text.to_owned() });
        assert!(found.is_empty(), "{path}: {text}\n{found:?}");
    }
}

#[test]
fn the_rooms_are_those_of_the_program_and_of_its_map_and_no_arrow_goes_up() {
    let rooms: BTreeSet<String> = sources().iter().map(Source::room).filter(|room| room != "lib").collect();
    assert_eq!(rooms, ARROWS.iter().map(|(room, _)| (*room).to_owned()).collect(), "the rooms of src/ and ARROWS");
    for (place, (room, knows)) in ARROWS.iter().enumerate() {
        let further_up = |known: &&str| ARROWS[..place].iter().any(|(name, _)| name == known);
        assert!(knows.iter().all(further_up), "{room} knows a room that does not stand above it in ARROWS");
    }
    let map = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for (room, knows) in ARROWS {
        let row = map.lines().find(|line| line.starts_with(&format!("| `src/{room}")));
        let cell = row.and_then(|row| row.trim_end_matches([' ', '|']).rsplit('|').next()).unwrap_or_default().trim();
        let stated: BTreeSet<&str> = match cell {
            "all" => ARROWS.iter().map(|(name, _)| *name).take_while(|name| *name != room).collect(),
            cell => cell.split('`').skip(1).step_by(2).collect(),
        };
        assert_eq!(stated, knows.iter().copied().collect(), "what {room} knows, by docs/architecture.md and by ARROWS");
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_keep_in_mind() {
    let is_longer = |source: &Source| source.text.lines().count() > LINES;
    let longer: BTreeSet<_> = sources().into_iter().filter(is_longer).map(|source| source.path).collect();
    let excepted: BTreeSet<_> = LONGER.iter().map(|(path, _)| Path::new(path).to_owned()).collect();
    assert_eq!(longer, excepted, "the files of src/ with more than {LINES} lines, and LONGER");
}
