//! Names, against real name servers: which are found, what is said of those that are not, and that the trouble of one
//! name is not the trouble of another.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use postcall::domain::delivery::{BodyEnd, Failure};
use postcall::webhook::{Attempt, Fence, Webhook};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::attempt::{AMPLE_MS, OK, SHORT_MS, assert_answered, assert_failed, post};
use crate::support::name_server::{Asked, NameFiles, NameServer, Replies, address, alias, until};
use crate::support::receiver::Receiver;

/// Longer than any of these tests takes.
const ENDLESS_MS: u32 = 600_000;
/// Places of one domain, and of all new names together.
const OPEN_PER_DOMAIN: usize = 32;
const OPEN: usize = 512;

/// After this an answer that may not be kept is asked for again.
const STALE: Duration = Duration::from_millis(1100);
/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// A pace for trying again.
const PACE: Duration = Duration::from_millis(50);

/// Where the receivers of these tests are.
const HERE: &[&str] = &["127.0.0.1"];

/// Silent about what is in `dead.test` or `dead-*.test`; everything else is here.
fn silent_about_the_dead(asked: &Asked) -> Replies {
    let is_dead = asked.name.split('.').any(|label| label.starts_with("dead"));
    if is_dead { Vec::new() } else { asked.addresses(HERE, 60) }
}

async fn send_to(webhook: &Webhook, host: &str, receiver: &Receiver, timeout_ms: u32) -> Attempt {
    let url = format!("http://{host}:{}/", receiver.address().port());
    webhook.send(&post(&url, timeout_ms), Uuid::now_v7(), &Fence::open(), pending()).await
}

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

#[track_caller]
fn assert_delivered(attempt: &Attempt) {
    assert_answered(attempt, 200, b"ok", BodyEnd::Complete);
}

/// Attempts to reach these hosts, which go on beside the test; aborted when the value is dropped.
struct Crowd(Vec<JoinHandle<Attempt>>);

impl Crowd {
    fn of(webhook: &Arc<Webhook>, hosts: impl Iterator<Item = String>) -> Crowd {
        let attempt = |host: String| {
            let webhook = Arc::clone(webhook);
            let request = post(&format!("http://{host}/"), ENDLESS_MS);
            tokio::spawn(async move { webhook.send(&request, Uuid::now_v7(), &Fence::open(), pending()).await })
        };
        Crowd(hosts.map(attempt).collect())
    }

    fn finished(&self) -> usize {
        self.0.iter().filter(|attempt| attempt.is_finished()).count()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
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
    // The question is sent again every second, and not by each who waits for it.
    assert!(server.names_in("dead.test").len() < 60, "{}", server.names_in("dead.test").len());
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
    // Its connections are not kept, so that every attempt looks for its name.
    let receiver = Receiver::answering(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
    let server = NameServer::start(known_for_a_moment).await;
    let files = NameFiles::naming(&server, "");
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
    assert!(server.names_in("known.test").len() >= 2, "it was asked for again");
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
    let files = NameFiles::naming(&server, "options timeout:30");
    let webhook = files.webhook();
    let attempt = send_to(&webhook, "dead.test", &receiver, SHORT_MS).await;
    assert_eq!(assert_failed(&attempt, Failure::Dns), "the deadline passed before the host's name was resolved");
    until("the question is closed", || server.open_sockets() == 0).await;
}

#[tokio::test]
async fn a_name_is_asked_for_once_while_its_answer_is_fresh() {
    let (server, receiver) = (NameServer::start(silent_about_the_dead).await, Receiver::answering(OK).await);
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

/// Two name servers at different addresses and the same port.
async fn two_servers(
    first: impl Fn(&Asked) -> Replies + Send + Sync + 'static,
    second: impl Fn(&Asked) -> Replies + Send + Sync + 'static,
) -> (NameServer, NameServer) {
    let first = NameServer::start(first).await;
    let beside = SocketAddr::new("127.0.0.2".parse().unwrap(), first.address().port());
    let second = NameServer::start_at(beside, second).await;
    (first, second)
}

#[tokio::test]
async fn the_next_name_server_is_asked_when_one_is_silent_or_fails() {
    let first: [fn(&Asked) -> Replies; 2] = [|_| Vec::new(), |asked| asked.code(ResponseCode::ServFail)];
    for first in first {
        let (first, second) = two_servers(first, silent_about_the_dead).await;
        let receiver = Receiver::answering(OK).await;
        let files = NameFiles::naming(&first, "nameserver 127.0.0.2\noptions timeout:1");
        let webhook = files.webhook();
        assert_delivered(&send_to(&webhook, "live.test", &receiver, AMPLE_MS).await);
        assert_eq!((first.names_in("live.test").is_empty(), second.names_in("live.test").len()), (false, 1));
    }
}

#[tokio::test]
async fn a_closed_port_leads_to_the_next_name_server_at_once() {
    let (server, receiver) = (NameServer::start(silent_about_the_dead).await, Receiver::answering(OK).await);
    let resolv_conf = "nameserver 127.0.0.3\nnameserver 127.0.0.1\noptions timeout:30\n";
    let files = NameFiles::at(server.address().port(), resolv_conf);
    assert_delivered(&send_to(&files.webhook(), "live.test", &receiver, AMPLE_MS).await);
}

#[tokio::test]
async fn a_name_server_is_asked_last_once_another_has_known_what_it_was_silent_about() {
    let silent_at_first = |asked: &Asked| if asked.is_in("b.test") { asked.addresses(HERE, 60) } else { Vec::new() };
    let (first, second) = two_servers(silent_at_first, silent_about_the_dead).await;
    let receiver = Receiver::answering(OK).await;
    let files = NameFiles::naming(&first, "nameserver 127.0.0.2\noptions timeout:1 attempts:1");
    let webhook = files.webhook();
    // Silence of both proves nothing.
    assert_failed(&send_to(&webhook, "dead.test", &receiver, AMPLE_MS).await, Failure::Dns);
    assert_delivered(&send_to(&webhook, "b.test", &receiver, AMPLE_MS).await);
    assert_eq!((first.names_in("b.test").len(), second.names_in("b.test").len()), (1, 0));
    for host in ["a.test", "c.test"] {
        assert_delivered(&send_to(&webhook, host, &receiver, AMPLE_MS).await);
    }
    assert_eq!((first.names_in("a.test").is_empty(), first.names_in("c.test").is_empty()), (false, true));
}

// What is said about it.

#[tokio::test]
async fn the_detail_says_whether_the_name_or_the_name_server_is_at_fault() {
    let by_name = |asked: &Asked| match asked.name.as_str() {
        "missing.test." => asked.code(ResponseCode::NXDomain),
        "empty.test." => asked.code(ResponseCode::NoError),
        "failing.test." => asked.code(ResponseCode::ServFail),
        "refused.test." => asked.code(ResponseCode::Refused),
        _ => Vec::new(),
    };
    let (server, receiver) = (NameServer::start(by_name).await, Receiver::answering(OK).await);
    let files = NameFiles::naming(&server, "options timeout:1 attempts:1");
    let webhook = files.webhook();
    let label = "x".repeat(64);
    let cases = [
        ("missing.test", "the host's name does not exist"),
        ("empty.test", "the host's name has no address"),
        ("failing.test", "the name servers could not answer"),
        ("refused.test", "the name servers could not answer"),
        ("silent.test", "no name server answered"),
        ("nowhere.invalid", "the host's name does not exist"),
        (&format!("{label}.test"), "the host's name is not a name that can be looked up"),
    ];
    for (host, detail) in cases {
        let attempt = send_to(&webhook, host, &receiver, AMPLE_MS).await;
        assert_eq!(assert_failed(&attempt, Failure::Dns), detail, "{host}");
    }
    assert!(receiver.received().is_empty());
    assert!(!server.asked().iter().any(|asked| asked.is_in("invalid")));
}

// What name servers may do.

#[tokio::test]
async fn what_does_not_fit_into_a_datagram_is_asked_for_over_tcp() {
    let only_over_tcp = |asked: &Asked| match asked.over_tcp {
        true => {
            let many: Vec<String> = (1..=255).map(|last| format!("127.0.0.{last}")).collect();
            asked.addresses(&many.iter().map(String::as_str).collect::<Vec<_>>(), 60)
        }
        false => asked.truncated(),
    };
    let (server, receiver) = (NameServer::start(only_over_tcp).await, Receiver::answering(OK).await);
    let files = NameFiles::naming(&server, "");
    assert_delivered(&send_to(&files.webhook(), "large.test", &receiver, AMPLE_MS).await);
    assert!(server.asked().iter().any(|asked| asked.over_tcp && asked.kind == RecordType::A));
}

#[tokio::test]
async fn a_name_server_that_is_silent_over_tcp_holds_up_nobody_else() {
    let silent_over_tcp = |asked: &Asked| match (asked.is_in("dead.test"), asked.over_tcp) {
        (true, false) => asked.truncated(),
        (true, true) => Vec::new(),
        (false, false) => asked.truncated(),
        (false, true) => asked.addresses(HERE, 60),
    };
    let (server, receiver) = (NameServer::start(silent_over_tcp).await, Receiver::answering(OK).await);
    let files = NameFiles::naming(&server, "options timeout:30");
    let webhook = Arc::new(files.webhook());
    let _crowd = Crowd::of(&webhook, (0..100).map(|number| format!("{number}.dead.test")));
    server.was_asked("a dead name is asked for over TCP", |asked| asked.over_tcp).await;
    for number in 0..20 {
        assert_delivered(&send_to(&webhook, &format!("live-{number}.test"), &receiver, AMPLE_MS).await);
    }
}

#[tokio::test]
async fn half_an_answer_is_enough_when_the_other_half_does_not_come() {
    let (server, receiver) = (
        NameServer::start(|asked| match asked.kind {
            RecordType::A => asked.addresses(HERE, 60),
            _ => Vec::new(),
        })
        .await,
        Receiver::answering(OK).await,
    );
    let files = NameFiles::naming(&server, "options timeout:30");
    assert_delivered(&send_to(&files.webhook(), "half.test", &receiver, AMPLE_MS).await);
}

#[tokio::test]
async fn lies_and_noise_are_passed_over() {
    let liar = |asked: &Asked| {
        let elsewhere = Name::from_ascii("elsewhere.test.").unwrap();
        let other_id = asked.changed(|message| message.metadata.id = message.metadata.id.wrapping_add(1));
        let other_question = asked.changed(|message: &mut Message| message.queries[0].name = elsewhere);
        let truth = asked.changed(|message| {
            message.insert_answers(vec![address("elsewhere.test.", "127.0.0.66", 60), alias(&asked.name, "b.test.")]);
            message.add_answers((asked.kind == RecordType::A).then(|| address("b.test.", "127.0.0.1", 60)));
        });
        let noise: Replies = vec![Vec::new(), vec![0xff; 3], vec![0; 4096], b"HTTP/1.1 200 OK\r\n\r\n".to_vec()];
        [noise, other_id, other_question, truth].concat()
    };
    let (server, receiver) = (NameServer::start(liar).await, Receiver::answering(OK).await);
    let files = NameFiles::naming(&server, "");
    assert_delivered(&send_to(&files.webhook(), "lied-about.test", &receiver, AMPLE_MS).await);
}

#[tokio::test]
async fn a_flood_of_noise_and_aliases_without_end_are_failures_of_the_name_server() {
    let endless = |asked: &Asked| match asked.name.as_str() {
        "circle.test." => asked.changed(|message| {
            message.insert_answers(vec![alias("circle.test.", "b.test."), alias("b.test.", "circle.test.")]);
        }),
        _ => vec![vec![0; 64]; 500],
    };
    let (server, receiver) = (NameServer::start(endless).await, Receiver::answering(OK).await);
    let files = NameFiles::naming(&server, "options timeout:30 attempts:1");
    let webhook = files.webhook();
    for (host, detail) in [("circle.test", "the name servers could not answer"), ("x.test", "no name server answered")]
    {
        let attempt = send_to(&webhook, host, &receiver, AMPLE_MS).await;
        assert_eq!(assert_failed(&attempt, Failure::Dns), detail, "{host}");
    }
}

#[tokio::test]
async fn an_answer_from_elsewhere_is_not_believed() {
    // A second socket answers first, with what it was shown; the name server itself says where the host really is.
    let forger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let question_sockets = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address_of_server = question_sockets.local_addr().unwrap();
    let receiver = Receiver::answering(OK).await;
    let port = address_of_server.port();
    let answering = tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let (count, peer) = question_sockets.recv_from(&mut buffer).await.unwrap();
            let asked = Asked::read(&buffer[..count], false);
            forger.send_to(&asked.addresses(&["127.0.0.66"], 60).concat(), peer).unwrap();
            question_sockets.send_to(&asked.addresses(HERE, 60).concat(), peer).await.unwrap();
        }
    });
    let files = NameFiles::at(port, "nameserver 127.0.0.1");
    assert_delivered(&send_to(&files.webhook(), "forged.test", &receiver, AMPLE_MS).await);
    answering.abort();
}
