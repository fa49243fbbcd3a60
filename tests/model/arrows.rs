//! The arrows of the diagram of a delivery's life (docs/architecture.md). Each has one name for: a statement in `src/store`, a
//! change in `src/domain`, a step of the model, a line in docs/architecture.md, and a test. None of them can be added alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::protocol::actions::Action;
use crate::protocol::explore::Protocol;
use crate::protocol::scenario::Scenario;
use crate::protocol::state::{Row, World};
use crate::protocol::steps::beginning;
use crate::scenarios::{ALL, EVERY_PAIR};

/// A move of a delivery from table to table, or of what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    pub name: &'static str,
    pub from: &'static str,
    pub to: &'static str,
}

const fn arrow(name: &'static str, from: &'static str, to: &'static str) -> Arrow {
    Arrow { name, from, to }
}

const CLAIM: Arrow = arrow("claim", "waiting", "sending");
const REVOKE: Arrow = arrow("revoke", "sending", "waiting");
const RELEASE: Arrow = arrow("release", "sending", "waiting");
const FINISH: Arrow = arrow("finish", "sending", "delivery");
const GIVE_UP: Arrow = arrow("give_up", "sending", "delivery");
const EVIDENCE: Arrow = arrow("evidence", "delivery", "resolution");
const UNSENT: Arrow = arrow("unsent", "delivery", "resolution");
const UNSENT_CLAIM: Arrow = arrow("unsent_claim", "delivery", "resolution");
const RESOLVE: Arrow = arrow("resolve", "delivery", "resolution");
const REPLAY: Arrow = arrow("replay", "delivery", "waiting");

/// The arrows along which a step may move something. `Insert` is not among them: it is the platform's own statement.
fn arrows(action: Action) -> &'static [Arrow] {
    use Action::*;
    match action {
        CommitClaim(_) | CrashAfterCommits => &[CLAIM],
        TakeBack(_) | LoseTakeBack(_) => &[REVOKE, UNSENT_CLAIM],
        Release(..) | LoseRelease(..) => &[RELEASE, UNSENT],
        Finish(..) | LoseFinish(..) => &[FINISH],
        GiveUp(_) => &[GIVE_UP],
        Evidence(..) | LoseEvidence(..) => &[EVIDENCE],
        Settle(_) => &[RESOLVE, REPLAY],
        _ => &[],
    }
}

/// All arrows of the model.
fn of_the_model() -> Vec<Arrow> {
    vec![CLAIM, REVOKE, RELEASE, FINISH, GIVE_UP, EVIDENCE, UNSENT, UNSENT_CLAIM, RESOLVE, REPLAY]
}

fn table(row: &Row) -> &'static str {
    match (row.waiting, row.sending, row.ended) {
        (true, ..) => "waiting",
        (_, Some(_), _) => "sending",
        (.., Some(_)) => "delivery",
        (false, None, None) => "outbox",
    }
}

/// What a step has moved.
fn moves(before: &World, after: &World) -> Vec<(&'static str, &'static str)> {
    let mut moves = Vec::new();
    for (before, after) in before.database.rows.iter().zip(&after.database.rows) {
        let (from, to) = (table(before), table(after));
        if from != to {
            moves.push(if after.replay_of != before.replay_of { ("delivery", to) } else { (from, to) });
        }
        if before.evidence != after.evidence || before.finding != after.finding {
            moves.push(("delivery", "resolution"));
        }
    }
    moves
}

/// Adds the arrows that are taken in a scenario.
fn take_all(scenario: Scenario, taken: &mut BTreeSet<Arrow>) {
    let protocol = Protocol::of(scenario);
    let first = beginning(&protocol.scenario);
    let (mut seen, mut due) = (HashSet::from([first.common_number()]), vec![first]);
    while let Some(world) = due.pop() {
        for action in protocol.steps(&world) {
            let next = protocol.after(&world, action);
            for (from, to) in moves(&world, &next) {
                let along = arrows(action).iter().find(|arrow| (arrow.from, arrow.to) == (from, to));
                taken.insert(*along.unwrap_or_else(|| panic!("{action} moves from {from} to {to}")));
            }
            if seen.insert(next.common_number()) {
                due.push(next);
            }
        }
    }
}

#[test]
fn no_step_moves_a_delivery_but_along_its_arrows_and_each_arrow_is_taken() {
    let mut taken = BTreeSet::new();
    take_all(EVERY_PAIR, &mut taken);
    take_all(Scenario { orders: 1, ..ALL }, &mut taken);
    assert_eq!(taken, of_the_model().into_iter().collect());
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let files = fs::read_dir(root().join(room)).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The names that comments of these sources mark as "Arrow `name`", with how often each is marked.
fn marked(room: &str) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for (_, source) in sources(room) {
        for line in source.lines().filter(|line| line.trim_start().starts_with("//")) {
            for after in line.split("rrow `").skip(1) {
                *names.entry(after.split('`').next().unwrap().to_owned()).or_default() += 1;
            }
        }
    }
    names
}

/// The lines of the table of arrows: the cells of each.
fn lines() -> Vec<Vec<String>> {
    let document = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let table = document.split("| Arrow | ").nth(1).unwrap();
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    lines.map(cells).collect()
}

#[test]
fn an_arrow_is_in_the_store_the_domain_the_model_and_the_document_or_in_none_of_them() {
    let of_the_model: BTreeMap<String, usize> = of_the_model().iter().map(|arrow| (arrow.name.to_owned(), 1)).collect();
    assert_eq!(marked("src/store"), of_the_model, "in src/store, each marked once");
    assert_eq!(marked("src/domain"), of_the_model, "in src/domain, each marked once");
    let documented: BTreeMap<String, usize> = lines().into_iter().map(|line| (line[0].clone(), 1)).collect();
    assert_eq!(documented, of_the_model, "in docs/architecture.md");
}

#[test]
fn what_the_document_says_of_an_arrow_is_there() {
    let steps = fs::read_to_string(root().join("tests/model/protocol/actions.rs")).unwrap();
    let (store, domain) = (sources("src/store"), sources("src/domain"));
    let defined = |sources: &[(PathBuf, String)], name: &str| {
        let name = name.rsplit("::").next().unwrap();
        let forms = [
            format!("fn {name}("),
            format!("struct {name} "),
            format!("    {name} = "),
            format!("    {name}("),
            format!("pub {name}: "),
        ];
        sources.iter().any(|(_, source)| forms.iter().any(|form| source.contains(form)))
    };
    for line in lines() {
        let [name, from, to, statement, change, step, test] = &line[..] else { panic!("{line:?}") };
        let arrow = of_the_model().into_iter().find(|arrow| arrow.name == *name).unwrap();
        assert_eq!((from.as_str(), to.as_str()), (arrow.from, arrow.to), "{name}");
        assert!(defined(&store, statement), "{name}: {statement} is not in src/store");
        assert!(defined(&domain, change), "{name}: {change} is not in src/domain");
        assert!(steps.contains(&format!("    {step}(u8")), "{name}: {step} is no step of the model");
        let (module, function) = test.rsplit_once("::").unwrap();
        let file = root().join("tests/it").join(module.replace("::", "/")).with_extension("rs");
        let source = fs::read_to_string(file).unwrap();
        assert!(source.contains(&format!("fn {function}(")), "{name}: the test {test} does not exist");
    }
}

/// Functions whose statements write to the tables of deliveries, and are no arrow.
const NO_ARROW: [(&str, &str); 1] =
    [("drop_doubles", "takes a row out of the queue that somebody put there by hand although it is in flight")];

#[test]
fn no_statement_moves_a_delivery_without_an_arrow() {
    let tables = ["waiting", "sending", "delivery", "resolution", "replay"];
    let verbs = ["INSERT INTO", "DELETE FROM", "UPDATE"];
    let writes: Vec<String> =
        verbs.iter().flat_map(|verb| tables.iter().map(move |table| format!("{verb} postcall.{table}"))).collect();
    let is_write = |line: &str| {
        writes.iter().any(|write| {
            let rest = line.split(write.as_str()).nth(1);
            rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
        })
    };
    for (path, source) in sources("src/store") {
        // The comments above the function in which we are, and its name.
        let (mut comments, mut above, mut function) = (String::new(), String::new(), "");
        for line in source.lines() {
            let text = line.trim_start();
            if text.starts_with("//") {
                comments.push_str(text);
            } else if let Some((before, after)) = text.split_once("fn ")
                && before.split(' ').all(|word| word.is_empty() || word.starts_with("pub") || word == "async")
            {
                function = after.split(['(', '<']).next().unwrap();
                above = std::mem::take(&mut comments);
            } else if !text.starts_with('#') {
                comments.clear();
            }
            if is_write(text) && !text.starts_with("//") && !NO_ARROW.iter().any(|(name, _)| *name == function) {
                assert!(above.contains("rrow `"), "{}: {function} moves deliveries, and has no arrow", path.display());
            }
        }
    }
}
