//! Names, against real name servers: which names are found, what is reported about the others, and that one name in
//! trouble does not hold up another.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;
use postcall::domain::delivery::Failure;
use postcall::webhook::Webhook;

use crate::support::attempt::{AMPLE_MS, OK, SHORT_MS, assert_failed};
use crate::support::name_server::{
    Asked, Crowd, HERE, NameFiles, NameServer, assert_delivered, send_to, silent_about_the_dead, two_servers, until,
};
use crate::support::receiver::Receiver;

/// Places of one domain, and of all new names together.
const OPEN_PER_DOMAIN: usize = 32;
const OPEN: usize = 512;

/// After this an answer that may not be kept is asked for again.
const STALE: Duration = Duration::from_millis(1100);
/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// A pace for trying again.
const PACE: Duration = Duration::from_millis(50);

/// A delivery in full, after which the connection is not kept: every attempt looks for its name.
const OK_AND_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

/// Sends until the name is found.
async fn delivered_at_last(webhook: &Webhook, host: &str, receiver: &Receiver) {
    let delivered = async {
        loop {
            let attempt = send_to(webhook, host, receiver, AMPLE_MS).await;
            if attempt.timing.connected.is_some() {
                break assert_delivered(&attempt);
            }
            assert_failed(&attempt, Failure::Dns);
            tokio::time::sleep(PACE).await;
        }
    };
    tokio::time::timeout(PATIENCE, delivered).await.expect("the name is found at last");
}

// One name's trouble is nobody else's.

#[tokio::test]
async fn a_silent_name_server_holds_up_nobody_else() {
    let (server, receiver) = (NameServer::start(silent_about_the_dead).await, Receiver::answering(OK).await);
    let files = NameFiles::naming(&server, "options timeout:30");
    let webhook = Arc::new(files.webhook());
    let crowd = Crowd::of(&webhook, (0..2000).map(|_| "dead.test".to_owned()));
    server.was_asked("the dead name is asked for", |asked| asked.is_in("dead.test")).await;
    let honest = (0..50).map(|number| format!("live-{number}.test"));
    let attempts = honest.map(async |host| send_to(&webhook, &host, &receiver, AMPLE_MS).await);
    join_all(attempts).await.iter().for_each(assert_delivered);
    assert_eq!((crowd.finished(), server.open_sockets()), (0, 1), "all of the crowd share one question");
    assert_eq!(server.names_in("dead.test").len(), 1);
}

#[tokio::test]
async fn many_silent_names_of_one_domain_leave_the_places_to_others() {
    let (server, receiver) = (NameServer::start(silent_about_the_dead).await, Receiver::answering(OK).await);
    let files = NameFiles::naming(&server, "");
    let webhook = Arc::new(files.webhook());
    let _crowd = Crowd::of(&webhook, (0..900).map(|number| format!("{number}.dead.test")));
    until("the domain has all its places", || server.open_sockets() == OPEN_PER_DOMAIN).await;
    for number in 0..50 {
        assert_delivered(&send_to(&webhook, &format!("live-{number}.test"), &receiver, AMPLE_MS).await);
        assert!(server.open_sockets() <= OPEN_PER_DOMAIN);
    }
}

#[tokio::test]
async fn many_silent_domains_hold_up_no_newcomer_and_even_less_a_name_that_has_answered_before() {
    let known_for_a_moment = |asked: &Asked| match asked.name.as_str() {
        "known.test." => asked.addresses(HERE, 0),
        _ => silent_about_the_dead(asked),
    };
    let receiver = Receiver::answering(OK_AND_CLOSE).await;
    let server = NameServer::start(known_for_a_moment).await;
    let files = NameFiles::naming(&server, "options timeout:30");
    let webhook = Arc::new(files.webhook());
    assert_delivered(&send_to(&webhook, "known.test", &receiver, AMPLE_MS).await);
    tokio::time::sleep(STALE).await;
    let _crowd = Crowd::of(&webhook, (0..2000).map(|number| format!("dead-{number}.test")));
    until("all places are taken", || server.open_sockets() >= OPEN).await;
    let newcomer = send_to(&webhook, "newcomer.test", &receiver, AMPLE_MS);
    let known = send_to(&webhook, "known.test", &receiver, AMPLE_MS);
    let (newcomer, known) = tokio::join!(newcomer, known);
    assert_delivered(&newcomer);
    assert_delivered(&known);
    assert_eq!(server.names_in("known.test").len(), 2, "it was asked for again");
    let asked: Vec<String> = server.asked().into_iter().map(|asked| asked.name).collect();
    let [known, newcomer] = ["known.test.", "newcomer.test."].map(|name| asked.iter().rposition(|asked| asked == name));
    assert!(known < newcomer, "a known name does not wait behind new ones: {known:?} {newcomer:?}");
    assert!(server.open_sockets() <= OPEN + 1);
}

#[tokio::test]
async fn when_nobody_waits_any_more_nothing_is_asked_any_more() {
    let server = NameServer::start(silent_about_the_dead).await;
    let files = NameFiles::naming(&server, "options timeout:30");
    let webhook = Arc::new(files.webhook());
    let first = Crowd::of(&webhook, (0..3).map(|_| "dead.test".to_owned()));
    until("a question is open", || server.open_sockets() == 1).await;
    let second = Crowd::of(&webhook, (0..3).map(|_| "dead.test".to_owned()));
    drop(first);
    server.was_asked("it is asked for again although those who began are gone", |asked| asked.is_in("dead.test")).await;
    assert_eq!((server.open_sockets(), second.finished()), (1, 0));
    drop(second);
    until("the question is closed", || server.open_sockets() == 0).await;
}

#[tokio::test]
async fn an_attempt_that_runs_out_of_time_closes_its_question() {
    let (server, receiver) = (NameServer::start(silent_about_the_dead).await, Receiver::answering(OK).await);
    let files = NameFiles::naming(&server, "options timeout:30 attempts:5");
    let webhook = files.webhook();
    let attempt = send_to(&webhook, "dead.test", &receiver, SHORT_MS).await;
    assert_eq!(assert_failed(&attempt, Failure::Dns), "the deadline passed before the host's name was resolved");
    until("the question is closed", || server.open_sockets() == 0).await;
}

#[tokio::test]
async fn a_name_is_asked_for_once_while_its_answer_is_fresh() {
    let (server, receiver) = (NameServer::start(silent_about_the_dead).await, Receiver::answering(OK_AND_CLOSE).await);
    let files = NameFiles::naming(&server, "");
    let webhook = files.webhook();
    for _ in 0..20 {
        let attempts = (0..20).map(|_| send_to(&webhook, "live.test", &receiver, AMPLE_MS));
        join_all(attempts).await.iter().for_each(assert_delivered);
    }
    assert_eq!(server.names_in("live.test").len(), 1);
}

// What the machine's configuration says.

#[tokio::test]
async fn the_hosts_file_goes_before_name_servers_and_is_read_again_when_it_changes() {
    let server = NameServer::start(|asked| asked.code(ResponseCode::NXDomain)).await;
    let receiver = Receiver::answering(OK).await;
    let files = NameFiles::naming(&server, "");
    files.write_hosts("127.0.0.1 other.test Written.Test # comment\n");
    let webhook = files.webhook();
    assert_delivered(&send_to(&webhook, "written.test", &receiver, AMPLE_MS).await);
    assert!(server.asked().is_empty());
    files.write_hosts("127.0.0.1 later.test\n");
    delivered_at_last(&webhook, "later.test", &receiver).await;
}

#[tokio::test]
async fn short_names_are_looked_for_in_the_search_domains() {
    let only_there = |asked: &Asked| match asked.name.as_str() {
        "service.two.test." => asked.addresses(HERE, 60),
        _ => asked.code(ResponseCode::NXDomain),
    };
    let (server, receiver) = (NameServer::start(only_there).await, Receiver::answering(OK).await);
    let files = NameFiles::naming(&server, "search one.test two.test");
    let webhook = files.webhook();
    assert_delivered(&send_to(&webhook, "service", &receiver, AMPLE_MS).await);
    assert_eq!(server.names_in("test"), ["service.one.test.", "service.two.test."]);
    assert_failed(&send_to(&webhook, "service.", &receiver, AMPLE_MS).await, Failure::Dns);
}

#[tokio::test]
async fn a_failing_name_server_does_not_lead_on_to_another_host() {
    let trap = |asked: &Asked| match asked.name.as_str() {
        "bank.test." => asked.code(ResponseCode::ServFail),
        _ => asked.addresses(HERE, 60),
    };
    let (server, receiver) = (NameServer::start(trap).await, Receiver::answering(OK).await);
    let files = NameFiles::naming(&server, "search trap.test");
    let attempt = send_to(&files.webhook(), "bank.test", &receiver, AMPLE_MS).await;
    assert_eq!(assert_failed(&attempt, Failure::Dns), "the name servers could not answer");
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn a_failing_search_domain_leaves_the_name_as_it_was_written() {
    let by_name = |asked: &Asked| match asked.name.as_str() {
        "bank.test.one.test." => asked.code(ResponseCode::ServFail),
        "bank.test." | "bank.test.two.test." => asked.addresses(HERE, 60),
        _ => asked.code(ResponseCode::NXDomain),
    };
    let (server, receiver) = (NameServer::start(by_name).await, Receiver::answering(OK).await);
    let files = NameFiles::naming(&server, "search one.test two.test\noptions ndots:5 attempts:1");
    assert_delivered(&send_to(&files.webhook(), "bank.test", &receiver, AMPLE_MS).await);
    assert_eq!(server.names_in("test"), ["bank.test.one.test.", "bank.test."]);
}

#[tokio::test]
async fn a_changed_resolver_configuration_is_heeded_while_the_program_runs() {
    let (first, second) = two_servers(|asked| asked.code(ResponseCode::NXDomain), silent_about_the_dead).await;
    let receiver = Receiver::answering(OK).await;
    let files = NameFiles::naming(&first, "");
    let webhook = files.webhook();
    assert_failed(&send_to(&webhook, "moved.test", &receiver, AMPLE_MS).await, Failure::Dns);
    files.write_resolv_conf(&format!("nameserver {}\n", second.address().ip()));
    delivered_at_last(&webhook, "moved.test", &receiver).await;
    assert_eq!(second.names_in("moved.test").len(), 1);
}
