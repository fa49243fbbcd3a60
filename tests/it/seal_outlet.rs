//! `run --checkpoint-url`: each checkpoint gets to where the database's owner cannot reach it, whatever happens on the way, and an
//! auditor verifies with what was collected there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use postcall::seal::key::Signer;
use postcall::seal::note::Checkpoint;
use serde_json::{Value, json};

use crate::support::bucket::{Bucket, Manner};
use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, postcall_at, postcall_on, stderr, stdout};
use crate::support::scrape;
use crate::support::sealing::{database_with, key, public, seal, unguarded};

/// What proves who asks.
const TOKEN: &str = "Xyzzy-7391";
const NOT_EXPORTED: &str = "checkpoints are not exported to --checkpoint-url";

/// A database with three checkpoints, none of which was exported, as if a sealer with a URL had died at its beginning.
pub async fn with_three_checkpoints() -> Database {
    let database = database_with(2).await;
    for _ in 0..2 {
        seal(&database, None).await;
        ended(&database, "delivered", 2).await;
    }
    seal(&database, None).await;
    database.execute("UPDATE postcall.seal_turn SET exported_size = 0, held_until = NULL").await;
    assert_eq!(logged(&database).await.len(), 3);
    database
}

/// The checkpoints of the log, in order.
pub async fn logged(database: &Database) -> Vec<String> {
    let all = "SELECT string_agg(checkpoint, '|' ORDER BY size) FROM postcall.seal_slice";
    database.text(all).await.unwrap().split('|').map(str::to_owned).collect()
}

/// What the bucket holds, in the order of names, which must be that of sizes.
fn held(bucket: &Bucket) -> Vec<String> {
    bucket.files().into_iter().map(|(_, body)| String::from_utf8(body).unwrap()).collect()
}

pub fn private(path: &Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The files that a dispatcher is given, and the arguments that name them.
struct Given(tempfile::TempDir, Vec<String>);

impl Given {
    fn new(url: &str) -> Given {
        let directory = tempfile::tempdir().unwrap();
        let seal_key = private(&directory.path().join("seal.key"), &key().text_of(&[7; 32]));
        let headers =
            private(&directory.path().join("headers"), &format!("# who asks\nauthorization: Bearer {TOKEN}\n"));
        let words = ["--seal-key-file", &seal_key, "--checkpoint-url", url, "--checkpoint-headers-file", &headers];
        let words = words.map(str::to_owned).to_vec();
        Given(directory, words)
    }

    fn arguments(&self) -> Vec<&str> {
        self.1.iter().map(String::as_str).collect()
    }
}

async fn start(database: &Database, given: &Given) -> Dispatcher {
    let url = database.login(&["postcall_dispatcher", "postcall_sealer"]).await;
    Dispatcher::start_at(&url, &given.arguments()).await
}

async fn until_noted(database: &Database) {
    database.until("SELECT exported_size = (SELECT max(size) FROM postcall.seal_slice) FROM postcall.seal_turn").await;
}

/// Verifies with what was downloaded from the bucket.
pub fn verified(database: &Database, bucket: &Bucket) -> (bool, Value) {
    let directory = tempfile::tempdir().unwrap();
    for (path, body) in bucket.files() {
        std::fs::write(directory.path().join(path.rsplit('/').next().unwrap()), body).unwrap();
    }
    let checkpoints = directory.path().to_str().unwrap();
    let arguments = ["audit", "verify", "--json", "--key", &public(), "--checkpoints", checkpoints];
    let output = postcall_on(database, &arguments);
    (output.status.success(), serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output))))
}

#[tokio::test]
async fn each_checkpoint_gets_to_the_bucket_in_order_and_what_was_collected_there_shows_a_restored_backup() {
    let (database, bucket) = (with_three_checkpoints().await, Bucket::start(Manner::Stores).await);
    let given = Given::new(&bucket.url("/log/"));
    let dispatcher = start(&database, &given).await;
    until_noted(&database).await;
    assert_eq!(held(&bucket), logged(&database).await);
    let requests = bucket.requests();
    let paths: Vec<&String> = requests.iter().map(|request| &request.path).collect();
    assert!(paths.is_sorted() && paths.len() == 3, "{paths:?}");
    for request in &requests {
        let name = request.path.strip_prefix("/log/").unwrap();
        assert!(name.starts_with("checkpoint-0000000000000000000") && name.ends_with(".txt"), "{name}");
        for header in [
            "if-none-match: *".to_owned(),
            "content-type: text/plain; charset=utf-8".to_owned(),
            format!("authorization: bearer {}", TOKEN.to_ascii_lowercase()),
            format!("postcall-checkpoint: {name}"),
        ] {
            assert!(request.method == "PUT" && request.head.contains(&header), "{header}: {}", request.head);
        }
    }
    dispatcher.signal(Signal::SIGTERM);
    let (well, lines) = dispatcher.ended_saying().await;
    assert!(well && lines.iter().all(|line| !line.contains(TOKEN) && !line.contains("/log/")), "{lines:#?}");

    // Another one exports the newest again, and nothing else: it stands there, and is the same.
    let second = start(&database, &given).await;
    bucket.until(|bucket| bucket.requests().len() == 5).await;
    let again: Vec<_> =
        bucket.requests()[3..].iter().map(|request| (request.method.clone(), request.path.clone())).collect();
    assert_eq!(again, ["PUT", "GET"].map(|method| (method.to_owned(), paths[2].clone())));
    drop(second);

    let (holds, found) = verified(&database, &bucket);
    assert!(holds && found["exported"] == 3, "{found}");
    let size = database.number("SELECT max(size) FROM postcall.seal_slice").await;
    unguarded(
        &database,
        &format!("DELETE FROM postcall.seal_slice WHERE size = {size}; DELETE FROM postcall.seal_node"),
    )
    .await;
    let (holds, found) = verified(&database, &bucket);
    assert!(!holds && found["named"].to_string().contains(&format!("{size} leaves in checkpoint-")), "{found}");
    assert!(found["named"].to_string().contains("ahead of the log"), "{found}");
}

#[tokio::test]
async fn a_url_in_trouble_delays_neither_sealing_nor_deliveries_and_gets_every_checkpoint_when_it_is_back() {
    let manners = [
        Manner::Refuses,
        Manner::Hangs,
        Manner::StoresAndHangs,
        Manner::StoresAndDies,
        Manner::Moves,
        Manner::Babbles,
        Manner::NeverEnds,
    ];
    futures_util::future::join_all(manners.map(beside_a_bucket_that)).await;
}

async fn beside_a_bucket_that(manner: Manner) {
    let (database, inbox) = (with_three_checkpoints().await, Inbox::open().await);
    let bucket = Bucket::start(manner).await;
    database.publish("b", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    let given = Given::new(&bucket.url("/log/"));
    let url = database.login(&["postcall_dispatcher", "postcall_sealer"]).await;
    let (mut dispatcher, scraper) = scrape::start(&url, &given.arguments()).await;
    let line = dispatcher.says(NOT_EXPORTED).await;
    // Each for its own reason: otherwise a bound is held by another one.
    let why = match manner {
        Manner::Refuses => "--checkpoint-url answered 500",
        Manner::Moves => "--checkpoint-url answered 307",
        Manner::Hangs | Manner::StoresAndHangs => "--checkpoint-url did not answer in time",
        Manner::NeverEnds => "is larger than 64 KiB",
        _ => "--checkpoint-url gave no answer",
    };
    assert!(line.contains(why), "{manner:?}: {line}");
    assert!(!line.contains(TOKEN) && !line.contains("planted") && !line.contains("/log/"), "{manner:?}: {line}");
    // While it goes on: a call is delivered, and sealed.
    database.insert_call("b", &json!({})).await;
    database.settled().await;
    database.until("SELECT count(*) >= 5 FROM postcall.seal_slice").await;
    assert_eq!(inbox.received().len(), 1, "{manner:?}");
    let scrape = scraper.scrape().await;
    assert!(scrape.value("postcall_checkpoint_exports_failed_total", &[]) >= 1.0, "{manner:?}");
    bucket.behaves(Manner::Stores);
    dispatcher.says("checkpoints are exported to --checkpoint-url again").await;
    until_noted(&database).await;
    assert_eq!(held(&bucket), logged(&database).await, "{manner:?}");
    let exported = logged(&database).await.len() as f64;
    scraper.until(|scrape| scrape.value("postcall_checkpoints_exported_total", &[]) >= exported).await;
    // Each was asked for in its turn, and nothing but its own place.
    let requests = bucket.requests();
    let puts: Vec<&String> = requests.iter().filter(|request| request.method == "PUT").map(|put| &put.path).collect();
    assert!(puts.is_sorted() && puts.iter().all(|path| path.starts_with("/log/checkpoint-")), "{manner:?}: {puts:?}");
    dispatcher.signal(Signal::SIGTERM);
    let (well, lines) = dispatcher.ended_saying().await;
    // Where a first checkpoint is taken in trouble, there is a second trouble.
    let takes = [Manner::StoresAndHangs, Manner::StoresAndDies].contains(&manner);
    let told = lines.iter().any(|line| line.contains(NOT_EXPORTED));
    assert!(well && (takes || !told), "it is said once: {manner:?}: {lines:#?}");
}

#[tokio::test]
async fn whoever_dies_in_the_middle_has_skipped_nothing_and_whoever_hangs_does_not_hold_up_the_end() {
    let (database, bucket) = (with_three_checkpoints().await, Bucket::start(Manner::StoresAndHangs).await);
    let given = Given::new(&bucket.url("/log/"));
    let first = start(&database, &given).await;
    bucket.until(|bucket| bucket.requests().len() == 1).await;
    first.signal(Signal::SIGKILL);
    assert!(!first.ended().await.0);
    database.execute("UPDATE postcall.seal_turn SET held_until = now()").await;
    let second = start(&database, &given).await;
    bucket.until(|bucket| bucket.requests().len() >= 2).await;
    // In the middle of a request that is never answered.
    second.signal(Signal::SIGTERM);
    assert!(second.ended().await.0);
    assert_eq!(database.number("SELECT exported_size FROM postcall.seal_turn").await, 0);
    bucket.behaves(Manner::WriteOnly);
    let _third = start(&database, &given).await;
    until_noted(&database).await;
    assert_eq!(held(&bucket), logged(&database).await);
}

#[tokio::test]
async fn what_no_trusted_key_signed_is_not_exported_and_no_note_in_the_database_keeps_the_newest_back() {
    let (database, bucket) = (with_three_checkpoints().await, Bucket::start(Manner::Stores).await);
    // The owner writes a text of theirs into the log, and the checkpoint of another size.
    let others = logged(&database).await;
    let first = Checkpoint::unverified(&others[0]).unwrap();
    let theirs = first.signed_by(&Signer::from_seed("test.example/history", &[8; 32]).unwrap());
    let forge = "UPDATE postcall.seal_slice SET checkpoint = '$theirs' WHERE size = (SELECT min(size) FROM postcall.seal_slice);
                 UPDATE postcall.seal_slice AS moved SET checkpoint = newest.checkpoint
                 FROM (SELECT checkpoint FROM postcall.seal_slice ORDER BY size DESC LIMIT 1) AS newest
                 WHERE moved.size = (SELECT size FROM postcall.seal_slice ORDER BY size LIMIT 1 OFFSET 1)";
    unguarded(&database, &forge.replace("$theirs", &theirs)).await;
    let given = Given::new(&bucket.url("/log/"));
    let mut dispatcher = start(&database, &given).await;
    dispatcher.says("not what a trusted key has signed: it is not exported").await;
    until_noted(&database).await;
    assert_eq!((held(&bucket), bucket.requests().len()), (vec![others[2].clone()], 1));
    drop(dispatcher);

    // They write that all was exported, and the place whence the newest was.
    for ahead in ["9223372036854775807", "-5", "(SELECT max(size) FROM postcall.seal_slice)"] {
        let bucket = Bucket::start(Manner::Stores).await;
        database.execute(&format!("UPDATE postcall.seal_turn SET exported_size = {ahead}, held_until = now()")).await;
        let _dispatcher = start(&database, &Given::new(&bucket.url("/log/"))).await;
        bucket.until(|bucket| bucket.files().len() == 1).await;
        assert_eq!(held(&bucket), [others[2].clone()], "{ahead}");
    }
}

#[tokio::test]
async fn what_stands_there_already_is_compared_and_another_text_is_named_and_holds_up_nothing() {
    let database = with_three_checkpoints().await;
    let names: Vec<String> = {
        let bucket = Bucket::start(Manner::Stores).await;
        let _dispatcher = start(&database, &Given::new(&bucket.url("/log/"))).await;
        until_noted(&database).await;
        bucket.files().into_iter().map(|(path, _)| path).collect()
    };
    let others = logged(&database).await;
    // `None`: it cannot be known whether it is there, so it is tried again.
    for (manner, planted, said) in [
        (Manner::Stores, "planted", Some("another text stands at --checkpoint-url")),
        (Manner::Stores, others[1].as_str(), None),
        (Manner::WriteOnly, "planted", None),
        (Manner::Conflicts, others[1].as_str(), Some(NOT_EXPORTED)),
    ] {
        let bucket = Bucket::start(manner).await;
        bucket.plant(&names[1], planted);
        database.execute("UPDATE postcall.seal_turn SET exported_size = 0, held_until = now()").await;
        let mut dispatcher = start(&database, &Given::new(&bucket.url("/log/"))).await;
        if let Some(said) = said {
            dispatcher.says(said).await;
        }
        if manner == Manner::Conflicts {
            assert_eq!(bucket.files().len(), 2, "it does not go on behind it");
            bucket.behaves(Manner::Stores);
        }
        until_noted(&database).await;
        assert_eq!(held(&bucket), [&others[0], planted, &others[2]], "{manner:?}");
        dispatcher.signal(Signal::SIGTERM);
        let (_, lines) = dispatcher.ended_saying().await;
        let named = lines.iter().any(|line| line.contains("another text"));
        assert!(!named, "{manner:?}: {lines:#?}");
    }
}

#[tokio::test]
async fn a_webhook_gets_each_checkpoint_by_its_name_and_may_say_that_it_has_it() {
    let (database, bucket) = (with_three_checkpoints().await, Bucket::start(Manner::Stores).await);
    let _dispatcher = start(&database, &Given::new(&bucket.url("/hook?of=crm"))).await;
    until_noted(&database).await;
    assert_eq!(held(&bucket), logged(&database).await);
    for request in bucket.requests() {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook?of=crm"));
        assert!(!request.head.contains("if-none-match"), "{}", request.head);
    }
}

#[tokio::test]
async fn settings_that_cannot_be_meant_are_refused_and_doctor_says_what_was_not_exported() {
    let database = with_three_checkpoints().await;
    let given = Given::new("https://b.example/log/");
    let [_, key, _, _, _, headers] = given.arguments()[..] else { panic!("six words") };
    let (wrong, open) = (given.0.path().join("wrong"), given.0.path().join("open"));
    let wrong = private(&wrong, &format!("authorization: {TOKEN}\nhost: {TOKEN}\n"));
    std::fs::write(&open, TOKEN).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let both = database.login(&["postcall_dispatcher", "postcall_sealer"]).await;
    let url = ["--checkpoint-url", "https://b.example/"];
    for (arguments, code, words) in [
        (vec![url[0], url[1]], 2, "--checkpoint-url needs --seal-key-file"),
        (vec!["--seal-key-file", key, "--checkpoint-headers-file", headers], 2, "needs --checkpoint-url"),
        (vec!["--checkpoint-url", "s3://bucket/"], 2, "give an http or https URL"),
        (vec!["--seal-key-file", key, url[0], url[1], "--checkpoint-headers-file", &wrong], 1, "line 2 names a header"),
        (
            vec!["--seal-key-file", key, url[0], url[1], "--checkpoint-headers-file", open.to_str().unwrap()],
            1,
            "others may read the file of headers",
        ),
    ] {
        let output = postcall_at(&both, &[vec!["run"], arguments].concat());
        let said = stderr(&output);
        assert_eq!(
            (output.status.code(), said.contains(words), said.contains(TOKEN)),
            (Some(code), true, false),
            "{said}"
        );
    }

    let of_seals = |url: &str| {
        let doctor = stdout(&postcall_at(url, &["doctor"]));
        doctor.lines().find(|line| line.contains(" seals ")).unwrap_or_else(|| panic!("{doctor}")).to_owned()
    };
    for role in ["postcall_auditor", "postcall_publisher", "postcall_dispatcher"] {
        let login = database.login(&[role]).await;
        for (noted, age, verdict) in [("0", "10 min", "warning"), ("0", "1 s", "ok"), ("NULL", "10 min", "ok")] {
            unguarded(
                &database,
                &format!(
                    "UPDATE postcall.seal_turn SET exported_size = {noted};
                     UPDATE postcall.seal_slice SET sealed_at = now() - interval '{age}'"
                ),
            )
            .await;
            let line = of_seals(&login);
            assert!(line.starts_with(verdict), "{role} {noted} {age}: {line}");
            assert_eq!(line.contains("not exported to --checkpoint-url"), verdict == "warning", "{line}");
        }
    }
}

#[tokio::test]
async fn a_checkpoint_that_its_owner_takes_out_of_the_log_before_it_was_exported_is_exported_all_the_same() {
    let (database, bucket) = (with_three_checkpoints().await, Bucket::start(Manner::Refuses).await);
    let all = logged(&database).await;
    let mut dispatcher = start(&database, &Given::new(&bucket.url("/log/"))).await;
    dispatcher.says(NOT_EXPORTED).await;
    let newest = "DELETE FROM postcall.seal_slice WHERE size = (SELECT max(size) FROM postcall.seal_slice);
                  DELETE FROM postcall.seal_node";
    unguarded(&database, newest).await;
    assert_eq!(logged(&database).await.len(), 2);
    dispatcher.says("history is not sealed").await;
    bucket.behaves(Manner::Stores);
    bucket.until(|bucket| bucket.files().len() == 3).await;
    assert_eq!(held(&bucket), all);
}

/// What the owner takes out of the log. `$first` and `$newest` are the sizes of the exported checkpoint and of the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deletion {
    /// The one in the middle.
    Middle,
    /// As before, and says that its leaves are those of the next one.
    MiddleHidden,
    /// All behind the exported one.
    End,
}

impl Deletion {
    fn sql(self) -> &'static str {
        match self {
            Deletion::Middle => "DELETE FROM postcall.seal_slice WHERE size > $first AND size < $newest",
            Deletion::MiddleHidden => {
                "CREATE TEMP TABLE middle AS SELECT * FROM postcall.seal_slice WHERE size > $first AND size < $newest;
                 DELETE FROM postcall.seal_slice WHERE size > $first AND size < $newest;
                 UPDATE postcall.seal_slice AS glued SET first_leaf = middle.first_leaf, kinds = middle.kinds || glued.kinds,
                     ids = middle.ids || glued.ids, hashes = middle.hashes || glued.hashes
                 FROM middle WHERE glued.size = $newest"
            }
            Deletion::End => "DELETE FROM postcall.seal_slice WHERE size > $first; DELETE FROM postcall.seal_node",
        }
    }

    /// What verifying names, beside what the exported checkpoints say.
    fn named(self) -> Option<&'static str> {
        match self {
            Deletion::Middle => Some("leaves are missing behind number $first: what follows cannot be verified"),
            Deletion::MiddleHidden => {
                Some("the rows of the leaves up to number $newest are not those that were signed")
            }
            Deletion::End => None,
        }
    }

    /// What the newest checkpoint says, if it was exported from the memory of its sealer.
    fn exported(self) -> Option<&'static str> {
        match self {
            Deletion::Middle => Some("says that there were $behind more leaves than could be verified"),
            Deletion::MiddleHidden => None,
            Deletion::End => Some("is ahead of the log, which has $first"),
        }
    }
}

#[tokio::test]
async fn checkpoints_that_their_owner_deletes_before_they_were_exported_are_named_with_what_the_exported_ones_say() {
    let deletions = [Deletion::Middle, Deletion::MiddleHidden, Deletion::End];
    let both = deletions.into_iter().flat_map(|deletion| [(deletion, false), (deletion, true)]);
    futures_util::future::join_all(both.map(|(deletion, dies)| deleted_before_export(deletion, dies))).await;
}

/// The first of three checkpoints is exported. The URL takes none while the others are made and deleted; the sealer dies meanwhile or not.
async fn deleted_before_export(deletion: Deletion, dies: bool) {
    let (database, bucket) = (database_with(2).await, Bucket::start(Manner::Stores).await);
    let given = Given::new(&bucket.url("/log/"));
    seal(&database, None).await;
    database.execute("UPDATE postcall.seal_turn SET exported_size = 0, held_until = NULL").await;
    let before = start(&database, &given).await;
    until_noted(&database).await;
    drop(before);
    bucket.behaves(Manner::Refuses);
    for _ in 0..2 {
        ended(&database, "delivered", 2).await;
        seal(&database, None).await;
    }
    database.execute("UPDATE postcall.seal_turn SET held_until = NULL").await;
    let mut sealer = start(&database, &given).await;
    sealer.says(NOT_EXPORTED).await;
    let size = async |which: &str| database.number(&format!("SELECT {which}(size) FROM postcall.seal_slice")).await;
    let (first, newest) = (size("min").await, size("max").await);
    let filled = |text: &str| {
        let behind = (newest - first).to_string();
        text.replace("$first", &first.to_string()).replace("$newest", &newest.to_string()).replace("$behind", &behind)
    };
    if dies {
        sealer.signal(Signal::SIGKILL);
        assert!(!sealer.ended().await.0);
        unguarded(&database, &filled(deletion.sql())).await;
        bucket.behaves(Manner::Stores);
    } else {
        unguarded(&database, &filled(deletion.sql())).await;
        bucket.behaves(Manner::Stores);
        bucket.until(|bucket| bucket.files().len() == 2).await;
    }
    let (holds, found) = verified(&database, &bucket);
    let named = found["named"].to_string();
    let words = [deletion.named(), deletion.exported().filter(|_| !dies)];
    for words in words.into_iter().flatten().map(filled) {
        assert!(!holds && named.contains(&words), "{deletion:?} {dies} {words}: {found}");
    }
    // What nobody outside has seen, nobody misses; but it is said up to where somebody has.
    assert_eq!(holds, dies && deletion == Deletion::End, "{deletion:?} {dies}: {found}");
    let said = if dies { first } else { newest };
    assert_eq!(found["exported_leaves"], said, "{deletion:?} {dies}: {found}");
}
