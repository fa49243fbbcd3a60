//! `run --timestamp-url`: an authority timestamps checkpoints, and openssl verifies what is kept.

use std::path::{Path, PathBuf};

use crate::seal_outlet::{private, verified, with_three_checkpoints};
use crate::support::authority::{Authority, Manner};
use crate::support::bucket::{self, Bucket};
use crate::support::database::Database;
use crate::support::not_tested::impossible;
use crate::support::process::{Dispatcher, postcall_at, postcall_on, stderr, stdout};
use crate::support::sealing::{key, public};

const NOT_STAMPED: &str = "checkpoints are not timestamped by --timestamp-url";

/// The files of a directory with this ending.
fn ending(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

async fn until_there(directory: &Path, what: &str) -> PathBuf {
    let mut look = tokio::time::interval(std::time::Duration::from_millis(20));
    for _ in 0..3_000 {
        look.tick().await;
        if let [one] = &ending(directory, what)[..] {
            return one.clone();
        }
    }
    panic!("waited a minute for a file {what}");
}

#[tokio::test]
async fn what_is_kept_is_a_timestamp_of_the_checkpoint_whatever_the_authority_says_before() {
    let cases = [
        (Manner::Refuses, "--timestamp-url answered 503"),
        (Manner::Rejects, "the authority granted no timestamp: status 2"),
        (Manner::OfAnother, "the timestamp is of another text"),
        (Manner::NotOurs, "the timestamp answers another request"),
        (Manner::Babbles, "the answer has not the form of a timestamp"),
    ];
    let done = cases.map(|(manner, words)| beside_an_authority_that(manner, words));
    if futures_util::future::join_all(done).await.contains(&None) {
        impossible("timestamps of an authority; there is no openssl");
    }
}

async fn beside_an_authority_that(manner: Manner, words: &str) -> Option<()> {
    let authority = Authority::start(manner).await?;
    let (database, directory) = (with_three_checkpoints().await, tempfile::tempdir().unwrap());
    let bucket = Bucket::start(bucket::Manner::Stores).await;
    let kept = directory.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    let mut dispatcher = start(&database, directory.path(), &bucket, &authority).await;
    let line = dispatcher.says(NOT_STAMPED).await;
    assert!(line.contains(words) && !line.contains("planted"), "{manner:?}: {line}");
    assert!(ending(&kept, ".tsr").is_empty(), "{manner:?}");
    authority.behaves(Manner::Grants);
    dispatcher.says("checkpoints are timestamped by --timestamp-url again").await;
    let reply = until_there(&kept, ".tsr").await;
    let text = reply.with_extension("txt");
    assert!(authority.verifies(&text, &reply), "{manner:?}");
    let newest = database.text("SELECT checkpoint FROM postcall.seal_slice ORDER BY size DESC LIMIT 1").await.unwrap();
    assert_eq!(std::fs::read_to_string(&text).unwrap(), newest, "{manner:?}");
    // The bucket has both as well.
    let stands = |path: &Path| {
        let (name, body) = (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap());
        move |bucket: &Bucket| bucket.files().contains(&(format!("/log/{name}"), body.clone()))
    };
    bucket.until(stands(&text)).await;
    bucket.until(stands(&reply)).await;
    // What is kept beside the checkpoints disturbs nobody who verifies.
    let arguments = ["audit", "verify", "--json", "--key", &public(), "--checkpoints", kept.to_str().unwrap()];
    let output = postcall_on(&database, &arguments);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert!(verified(&database, &bucket).0);
    // One that is kept is not asked for again, and another sealer, which asks, replaces none.
    let (asked, before) = (authority.asked(), std::fs::read(&reply).unwrap());
    drop(dispatcher);
    database.execute("UPDATE postcall.seal_turn SET held_until = now()").await;
    let second = start(&database, directory.path(), &bucket, &authority).await;
    bucket
        .until(|bucket| {
            bucket.requests().iter().filter(|put| put.method == "PUT" && put.path.ends_with(".tsr")).count() == 2
        })
        .await;
    drop(second);
    assert_eq!((authority.asked(), std::fs::read(&reply).unwrap()), (asked + 1, before), "{manner:?}");
    Some(())
}

async fn start(database: &Database, files: &Path, bucket: &Bucket, authority: &Authority) -> Dispatcher {
    let seal_key = private(&files.join("seal.key"), &key().text_of(&[7; 32]));
    let kept = files.join("kept");
    let stamps = format!("http://{}/tsa", authority.address);
    let url = database.login(&["postcall_dispatcher", "postcall_sealer"]).await;
    let arguments = [
        "--seal-key-file",
        &seal_key,
        "--checkpoint-dir",
        kept.to_str().unwrap(),
        "--checkpoint-url",
        &bucket.url("/log/"),
        "--timestamp-url",
        &stamps,
    ];
    Dispatcher::start_at(&url, &arguments).await
}

#[tokio::test]
async fn a_timestamp_needs_a_place_where_it_is_kept() {
    let database = Database::new().await;
    let directory = tempfile::tempdir().unwrap();
    let seal_key = private(&directory.path().join("seal.key"), &key().text_of(&[7; 32]));
    let arguments = ["run", "--seal-key-file", &seal_key, "--timestamp-url", "http://tsa.example/"];
    let output = postcall_at(&database.url, &arguments);
    let said = stderr(&output);
    assert!(output.status.code() == Some(2) && said.contains("--timestamp-url needs --checkpoint-dir"), "{said}");
}
