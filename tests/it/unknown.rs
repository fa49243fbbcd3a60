//! Where an agent or an action does not exist, whoever asks for it is told so, and which one was probably meant; and what is made under a
//! name that is like another one is made with a word about it.

use std::process::Output;

use serde_json::json;

use crate::several_databases::listed;
use crate::support::database::Database;
use crate::support::endings::end_all;
use crate::support::keys::{key_file, new_key, secret};
use crate::support::process::{file, postcall, postcall_at, postcall_on, stderr, stdout};

const MEANT: &str =
    "agent agent_goood has no actions: did you mean agent_good?; `postcall action list` shows the agents that have\n";

async fn with_agents() -> Database {
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": "https://receiver.example/"});
    for agent in ["agent_good", "agent_notfound", "agent_off"] {
        database.publish(agent, "default", &action).await;
    }
    database.publish("agent_good", "crm", &action).await;
    database
}

#[tokio::test]
async fn a_list_in_which_nothing_is_because_its_agent_does_not_exist_says_so_to_every_reader() {
    let database = with_agents().await;
    let auditor = database.login(&["postcall_auditor"]).await;
    for arguments in [
        &["history", "--agent"][..],
        &["history", "--all", "--agent"],
        &["history", "--format", "csv", "--agent"],
        &["calls", "--agent"],
        &["audit", "--agent"],
        &["audit", "--all", "--agent"],
        &["action", "list"],
        &["action", "tests"],
        &["secret", "list"],
    ] {
        for url in [&auditor, &database.url] {
            let output = postcall_at(url, &[arguments, &["agent_goood"]].concat());
            assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
            assert!(
                stderr(&output).starts_with(MEANT) || stderr(&output).ends_with(MEANT),
                "{arguments:?}: {}",
                stderr(&output)
            );
            let output = postcall_at(url, &[arguments, &["agent_good"]].concat());
            assert!(!stderr(&output).contains("has no action"), "{arguments:?}: {}", stderr(&output));
        }
    }
    let replay = postcall_on(&database, &["replay", "--agent", "agent_goood", "--reason", "r"]);
    assert_eq!((stdout(&replay), stderr(&replay)), ("no delivery matches\n".to_owned(), MEANT.to_owned()));
    // Nobody is meant who is only called alike.
    for agent in ["agent_none", "agent_9"] {
        let said = stderr(&postcall_on(&database, &["history", "--agent", agent]));
        assert_eq!(said, format!("agent {agent} has no actions; `postcall action list` shows the agents that have\n"));
    }
    // Nothing is read of actions by those who may not.
    let platform = database.login(&["postcall_platform"]).await;
    assert!(!stderr(&postcall_at(&platform, &["history", "--agent", "agent_goood"])).contains("did you mean"));
}

#[tokio::test]
async fn an_action_or_a_version_that_does_not_exist_is_told_with_what_shows_those_that_do() {
    let database = with_agents().await;
    let said = |arguments: &[&str]| stderr(&postcall_on(&database, arguments));
    let crm =
        "agent agent_good has no action crn: did you mean crm?; `postcall action list agent_good` shows what it has\n";
    assert_eq!(said(&["history", "--agent", "agent_good", "--action", "crn"]), crm);
    assert_eq!(said(&["action", "tests", "agent_good", "--name", "crn"]), crm);
    let test = ["action", "test", "agent_good", "--name", "crn", "--by", "Ada", "--reason", "r"];
    for arguments in [
        &["action", "show", "agent_good", "--name", "crn"][..],
        &["action", "versions", "agent_good", "--name", "crn"],
        &["action", "diff", "agent_good", "1", "2", "--name", "crn"],
        &["action", "disable", "agent_good", "--name", "crn"],
        &test,
    ] {
        assert_eq!(said(arguments), format!("postcall: {crm}"), "{arguments:?}");
    }
    assert_eq!(said(&["action", "show", "agent_goood"]), format!("postcall: {MEANT}"));
    for (name, argument) in [("default", ""), ("crm", " --name crm")] {
        let version = format!(
            "postcall: agent agent_good has no action {name} version 9; `postcall action versions agent_good{argument}` shows what it has\n"
        );
        assert_eq!(said(&["action", "diff", "agent_good", "1", "9", "--name", name]), version);
        assert_eq!(said(&["action", "show", "agent_good", "--version", "9", "--name", name]), version);
    }
}

#[tokio::test]
async fn several_databases_have_an_agent_if_one_of_them_has_it() {
    let (one, other) = (with_agents().await, Database::new().await);
    let list = listed(&[("one", &one.url), ("other", &other.url)]);
    let said = |agent: &str, more: &[&str]| {
        let arguments = ["history", "--databases", list.path().to_str().unwrap(), "--agent", agent];
        stderr(&postcall(&[&arguments[..], more].concat()))
    };
    assert_eq!(said("agent_good", &[]), "");
    for all in [&[][..], &["--all"]] {
        assert_eq!(said("agent_goood", all), MEANT);
    }
    assert!(said("agent_good", &["--action", "crn"]).contains("did you mean crm?"));
}

#[tokio::test]
async fn what_is_made_under_a_name_like_another_one_is_told_of_that_one() {
    let database = with_agents().await;
    let file = file(&json!({"method": "POST", "url": "https://receiver.example/"}).to_string());
    let publish = |agent: &str, name: &str| -> Output {
        let path = file.path().to_str().unwrap();
        postcall_on(&database, &["action", "publish", agent, path, "--name", name, "--by", "Ada"])
    };
    for (agent, name, warning) in [
        (
            "agent_goood",
            "default",
            "warning: agent agent_goood is new: did you mean agent_good? If so, `postcall action disable agent_goood`\n",
        ),
        (
            "agent_good",
            "defualt",
            "warning: action defualt of agent agent_good is new, and is sent beside the others: did you mean default? If so, \
             `postcall action disable agent_good --name defualt`\n",
        ),
        // What exists is meant, and so is what is called quite differently.
        ("agent_goood", "default", ""),
        ("agent_good", "billing", ""),
        ("reception", "default", ""),
        ("agent_none", "default", ""),
    ] {
        let output = publish(agent, name);
        assert!(output.status.success() && stderr(&output) == warning, "{agent} {name}: {}", stderr(&output));
    }
    let keys = key_file(&[&new_key()]);
    let set = |agent: &str| stderr(&secret(&database.url, &keys, &["set", agent, "TOKEN", "--by", "Ada"], "value"));
    assert_eq!(set("agent_offf"), "warning: agent agent_offf has no actions: did you mean agent_off?\n");
    assert_eq!(set("agent_off"), "");
}

#[tokio::test]
async fn an_id_of_something_else_and_a_user_without_the_right_are_told_before_anything_is_said_to_begin() {
    let database = with_agents().await;
    let call = database.insert_call("agent_off", &json!({"callInfo": {"callSid": "CA1"}})).await.to_string();
    end_all(&database, "failed").await;
    let replay = postcall_on(&database, &["replay", &call, "--reason", "r"]);
    let told =
        format!("there is no such delivery; if it is the id of a call, `postcall show {call}` names its deliveries");
    assert!(stderr(&replay).contains(&told), "{}", stderr(&replay));
    let auditor = database.login(&["postcall_auditor"]).await;
    let refused = postcall_at(&auditor, &["replay", "--state", "failed", "--reason", "r"]);
    assert_eq!((refused.status.code(), stdout(&refused)), (Some(1), String::new()));
    let said = stderr(&refused);
    assert!(
        said.starts_with("postcall: ")
            && said.ends_with("This needs a database user with the role postcall_publisher\n"),
        "{said}"
    );
}

#[tokio::test]
async fn a_span_that_ends_before_it_begins_is_told_as_the_reason_why_nothing_is_found() {
    let database = Database::new().await;
    for (span, is_told) in [(["2026-12-01", "2026-11-01"], true), (["1h", "1h"], true), (["2h", "1h"], false)] {
        for command in ["calls", "audit"] {
            let output = postcall_on(&database, &[command, "--since", span[0], "--until", span[1]]);
            let said = "the time since which is not before the time until which, so nothing can be found\n";
            assert_eq!(stderr(&output), if is_told { said } else { "" }, "{command} {span:?}");
        }
    }
}

#[tokio::test]
async fn what_a_table_prints_into_a_pipe_is_one_line_a_row_and_names_the_person_and_the_database_user() {
    let database = with_agents().await;
    database.insert_call("agent_off", &json!({"callInfo": {"callSid": "CA1"}})).await;
    let delivery = end_all(&database, "failed").await.remove(0);
    let publisher = database.login(&["postcall_publisher"]).await;
    let reason = "the receiver was down for an hour, and says that it has mended what was the matter";
    let replayed = postcall_at(&publisher, &["replay", &delivery, "--by", "Ada", "--reason", reason]);
    assert!(replayed.status.success(), "{}", stderr(&replayed));
    let replay = database.text("SELECT delivery_id::text FROM postcall.replay").await.unwrap();
    let listed = stdout(&postcall_on(&database, &["audit", "--act", "replayed"]));
    let user = publisher.split("//").nth(1).and_then(|rest| rest.split('@').next()).unwrap();
    let [_, row] = listed.lines().collect::<Vec<_>>()[..] else { panic!("{listed}") };
    for part in
        [&delivery, &format!("a delivery, as {replay}"), &format!("Ada (database user {user})"), &reason.to_owned()]
    {
        assert!(row.contains(part.as_str()), "no {part:?} in {row}");
    }
    assert_eq!(stdout(&postcall_on(&database, &["audit", "--act", "replayed", "--all"])).lines().count(), 2);
}
