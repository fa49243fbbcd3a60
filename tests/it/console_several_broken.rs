//! The console over several databases, some of which are stopped, frozen, of another version or without a role: the pages of the
//! others are answered, and each trouble is said where it is.

use futures_util::future::join_all;
use serde_json::json;

use crate::console_several::{console_of, until_shown};
use crate::several_databases::listed;
use crate::support::cluster::Cluster;
use crate::support::console::{Console, PASSWORD, ROLES, users};
use crate::support::database::Database;
use crate::support::endings::ended;

async fn with_delivery(database: &Database) -> String {
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    ended(database, "failed", 1).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_are_stopped_or_frozen_touch_no_page_of_another_and_are_shown_again_when_they_answer() {
    let (mut stopped, frozen) = (Cluster::start().await, Cluster::start().await);
    let of_stopped = Database::on(&stopped.server(), "").await;
    let of_frozen = Database::on(&frozen.server(), "").await;
    let well = Database::new().await;
    let mut ids = Vec::new();
    for database in [&of_stopped, &of_frozen, &well] {
        ids.push(with_delivery(database).await);
    }
    let all = [("stopped", &*of_stopped.url), ("frozen", &*of_frozen.url), ("well", &*well.url)];
    let console = console_of(&all, &[]).await;
    // Sessions are there that will never be answered.
    for path in ["/", "/deliveries", "/in/frozen/deliveries", "/in/stopped/deliveries"] {
        console.page(path).await;
    }
    frozen.freeze();
    stopped.stop_immediately().await;

    // As many look at the frozen one as can, and more: those that are too many are told so, and the others hang.
    let (told, mut refused) = tokio::sync::mpsc::unbounded_channel();
    let hanging = join_all((0..40).map(|_| async {
        let answer = console.get("/in/frozen/deliveries").await;
        told.send(answer.status).unwrap();
    }));
    let others = async {
        for _ in 0..20 {
            assert_eq!(refused.recv().await, Some(503));
        }
        for path in ["/in/well/", "/in/well/deliveries", "/in/well/calls", "/in/well/agents/a", "/in/well/audit"] {
            console.page(path).await;
        }
        let mut live = console.follow_at("/in/well/live", None).await;
        live.until("Live: what comes to an end appears here.").await;
        assert_eq!(console.get("/health").await.status, 200);
        let overview = console.page("/").await;
        let words = overview.words();
        assert!(words.contains("2 of 3 databases cannot be shown.") && words.contains("does not answer"), "{words}");
        assert!(
            overview.body.contains("href=\"/in/well/deliveries?state=failed&#38;since=1h\">1</a>"),
            "{}",
            overview.body
        );
        let list = console.page("/deliveries").await;
        let words = list.words();
        for name in ["stopped", "frozen"] {
            assert!(words.contains(&format!("The deliveries of {name} are not in this list.")), "{words}");
        }
        assert!(list.body.contains(&format!("/in/well/deliveries/{}", ids[2])), "{words}");
        let found = console.get(&format!("/deliveries?q={}", ids[2])).await;
        assert_eq!(found.header("location"), Some(&*format!("/in/well/deliveries/{}", ids[2])));
        let page = console.get("/in/stopped/").await;
        assert!(page.status == 503 && page.words().contains("The database does not answer"), "{}", page.words());
    };
    tokio::join!(hanging, others);

    frozen.thaw();
    stopped.start_again().await;
    for name in ["stopped", "frozen"] {
        until_shown(&console, "", &format!("/in/{name}/deliveries")).await;
    }
    let list = console.page("/deliveries").await;
    assert!(!list.words().contains("not in this list"), "{}", list.words());
    assert!(ids.iter().all(|id| list.body.contains(id)), "{}", list.words());
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_said_on_stderr_and_served_once_it_can_be() {
    let (here, late, foreign) = (Database::new().await, Database::empty().await, Database::new().await);
    let (users, id) = (users(), with_delivery(&here).await);
    let unmigrated = late.login(&[]).await;
    // Its user is a member of none of the console's roles.
    let (roleless, login) = (foreign.login(&[]).await, here.login(&ROLES).await);
    let list = listed(&[
        ("here", &login),
        ("late", &unmigrated),
        ("foreign", &roleless),
        ("nowhere", "postgres://postgres:Xyzzy-7391@127.0.0.1:1/postcall"),
    ]);
    let settings =
        ["--databases", list.path().to_str().unwrap(), "--auth", "basic", "--users", users.path().to_str().unwrap()];
    let (console, mut says) = Console::start_saying("", &settings).await;
    let mut said = String::new();
    while !["late", "foreign", "nowhere"].iter().all(|name| said.contains(&format!("postcall: {name}: "))) {
        said += &(says.next_line().await.unwrap().expect("it goes on") + "\n");
    }
    assert!(said.contains("is not served, and is tried again every 5 s"), "{said}");
    assert!(!said.contains("postcall: here") && !said.contains("Xyzzy"), "{said}");
    let cookie = console.log_in("publisher", PASSWORD).await;
    until_shown(&console, &cookie, &format!("/in/here/deliveries/{id}")).await;
    for name in ["late", "foreign", "nowhere"] {
        let page = console.get_as(&cookie, &format!("/in/{name}/deliveries")).await;
        assert!(page.status == 503 && page.words().contains("This database is not served"), "{}", page.words());
    }
    let overview = console.get_as(&cookie, "/").await;
    assert!(overview.words().contains("3 of 4 databases cannot be shown."), "{}", overview.words());
    assert_eq!(console.get("/health").await.status, 200);

    let members = ROLES.join(", ");
    let user = roleless.split("://").nth(1).unwrap().split([':', '@']).next().unwrap();
    foreign.execute(&format!("GRANT {members} TO \"{user}\"")).await;
    while !said.contains("postcall: foreign: it is served now") {
        said += &(says.next_line().await.unwrap().expect("it goes on") + "\n");
    }
    let page = console.get_as(&cookie, "/in/foreign/deliveries").await;
    assert_eq!(page.status, 200, "{}", page.words());
}
