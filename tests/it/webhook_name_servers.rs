//! What name servers may do, and what the client reports about it.

use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use postcall::domain::delivery::Failure;
use tokio::net::UdpSocket;

use crate::support::attempt::{AMPLE_MS, OK, assert_failed};
use crate::support::name_server::{
    Asked, Crowd, HERE, NameFiles, NameServer, Replies, address, alias, assert_delivered, send_to,
    silent_about_the_dead, two_servers,
};
use crate::support::receiver::Receiver;

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
