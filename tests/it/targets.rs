//! What may be called: each target of a table is blocked without one packet, or called; and what the operator's rules do.

use std::collections::HashMap;
use std::future::pending;
use std::process::Command;
use std::sync::Arc;

use postcall::domain::delivery::{Ending, Failure, Outcome};
use postcall::webhook::{NameSources, SendGate, TargetRules, Webhook, WebhookSettings};
use url::Url;
use uuid::Uuid;

use crate::support::attempt::{AMPLE_MS, OK, answer, assert_failed, post};
use crate::support::name_server::{NameFiles, NameServer, address, alias};
use crate::support::namespace::World;
use crate::support::receiver::Receiver;

/// One line of the table: whether it must be blocked, its URL, and what a name server answers for its name.
type Line = (bool, &'static str, Vec<&'static str>);

fn table() -> Vec<Line> {
    let lines = include_str!("data/targets.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let answers = words.get(2).map(|answers| answers.split(',').collect()).unwrap_or_default();
            (words[0] == "blocked", words[1], answers)
        })
        .collect()
}

/// Answers what the table says for a name.
async fn name_server(table: &[Line]) -> NameServer {
    let host = |url: &str| Url::parse(url).ok()?.domain().map(|name| format!("{}.", name.trim_end_matches('.')));
    let answers: HashMap<String, Vec<&'static str>> =
        table.iter().filter_map(|(_, url, answers)| Some((host(url)?, answers.clone()))).collect();
    let answers = Arc::new(answers);
    NameServer::start(move |asked| {
        let (mut owner, mut records) = (asked.name.clone(), Vec::new());
        for answer in answers.get(&asked.name).into_iter().flatten() {
            match answer.strip_prefix("alias=") {
                Some(target) => {
                    records.push(alias(&owner, &format!("{target}.")));
                    owner = format!("{target}.");
                }
                None => records.push(address(&owner, answer, 60)),
            }
        }
        records.retain(|record| [asked.kind, hickory_proto::rr::RecordType::CNAME].contains(&record.record_type()));
        asked.changed(|message| message.insert_answers(records))
    })
    .await
}

/// How many TCP connections were attempted in this network namespace: the SYNs that the kernel sent (RFC 4022,
/// tcpActiveOpens).
fn attempted_connections() -> u64 {
    let counters = std::fs::read_to_string("/proc/self/net/snmp").unwrap();
    let mut lines = counters.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split(' ').position(|name| name == "ActiveOpens").unwrap();
    values.split(' ').nth(place).unwrap().parse().unwrap()
}

/// Every address of the world is made one of this namespace, so that each SYN is counted and refused.
fn own_all_addresses() {
    for family in ["-4", "-6"] {
        let added = Command::new("ip").args([family, "route", "add", "local", "default", "dev", "lo"]).status();
        assert!(added.unwrap().success(), "{family}");
    }
}

#[tokio::test]
async fn each_target_of_the_table_is_blocked_without_a_packet_or_called() {
    if !World::default().enter("targets::each_target_of_the_table_is_blocked_without_a_packet_or_called").await {
        return;
    }
    own_all_addresses();
    let table = table();
    assert!(table.len() >= 250);
    let server = name_server(&table).await;
    let files = NameFiles::naming(&server, "");
    let [resolv_conf, hosts] = files.paths();
    let names = Some(NameSources { resolv_conf, hosts, name_server_port: server.address().port() });
    let webhook = Webhook::new(WebhookSettings { names: names.clone(), ..WebhookSettings::default() }).unwrap();
    // A proxy at which nobody listens: what is blocked is not even asked of it.
    let egress_proxy = Some("http://127.0.0.1:9".parse().unwrap());
    let through = Webhook::new(WebhookSettings { names, egress_proxy, ..WebhookSettings::default() }).unwrap();
    for (webhook, (is_blocked, url, _)) in
        [webhook, through].iter().flat_map(|one| table.iter().map(move |line| (one, line)))
    {
        let before = attempted_connections();
        let attempt = webhook.send(&post(url, AMPLE_MS), Uuid::now_v7(), &SendGate::open(), pending()).await;
        let attempted = attempted_connections() - before;
        let Ending::Final(Outcome::Failed { kind, detail }) = attempt.ending else {
            panic!("{url}: {:?}", attempt.ending)
        };
        let expected = if *is_blocked { (Failure::Blocked, true) } else { (Failure::Connect, false) };
        assert_eq!((kind, attempted == 0), expected, "{url}: {detail}, {attempted} attempted");
    }
}

fn with_rules(rules: TargetRules) -> Webhook {
    let allow_targets = vec!["127.0.0.0/8".parse().unwrap()];
    let targets = TargetRules { allow_http: true, allow_targets, ..rules };
    Webhook::new(WebhookSettings { targets, ..WebhookSettings::default() }).unwrap()
}

#[tokio::test]
async fn what_the_operator_denies_is_not_called_although_its_range_is_allowed() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address().port();
    let denying =
        |target: &str| with_rules(TargetRules { deny_targets: vec![target.parse().unwrap()], ..Default::default() });
    let send = async |webhook: Webhook, host: &str| {
        let request = post(&format!("http://{host}:{port}/"), AMPLE_MS);
        webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await
    };
    for (denied, host) in [("127.0.0.1", "127.0.0.1"), ("127.0.0.0/30", "localhost"), ("localhost", "LocalHost.")] {
        let detail = assert_failed(&send(denying(denied), host).await, Failure::Blocked);
        assert_eq!(detail, "the operator refuses this host (--deny-target)", "{denied}");
    }
    assert!(receiver.received().is_empty());
    assert_eq!(answer(&send(denying("127.0.0.2"), "127.0.0.1").await).response_code, 200);
}

#[tokio::test]
async fn a_list_of_the_only_ports_closes_all_others() {
    let receiver = Receiver::answering(OK).await;
    let request = post(&receiver.url("/"), AMPLE_MS);
    let only = |ports: &str| with_rules(TargetRules { only_ports: vec![ports.parse().unwrap()], ..Default::default() });
    let refused = only("443").send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
    assert!(assert_failed(&refused, Failure::Blocked).contains("--only-port"));
    assert!(receiver.received().is_empty());
    let permitted = only("1024-65535").send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await;
    assert_eq!(answer(&permitted).response_code, 200);
}
