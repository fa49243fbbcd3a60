//! What is shipped for monitoring (docs/operating.md, deploy/): it names the metrics that a dispatcher really has, and the
//! alerts fire when they must and not before.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::not_tested::uninstalled;
use crate::support::scrape::{Family, Scrape, start};
use crate::support::sealing::{database_with, seal};
use crate::support::sources::root;
use crate::support::tools::of_prometheus;

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const DASHBOARD: &str = "deploy/grafana/postcall.json";
/// Labels that Prometheus and histograms add, and a process that serves several databases (`several_databases.rs`).
const ADDED: [&str; 3] = ["instance", "le", "database"];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// A scrape with everything that there is.
async fn whole_scrape() -> Scrape {
    let database = database_with(1).await;
    seal(&database, None).await;
    let (_dispatcher, scraper) = start(&database.url, &[]).await;
    scraper.until(|scrape| scrape.families.contains_key("postcall_invariant_violations")).await
}

/// The first table below this heading, each row by the texts of its cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let operating = read("docs/operating.md");
    let section = operating.lines().skip_while(|line| *line != heading).skip(1);
    let rows = section.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_documented_metrics_are_those_of_a_scrape_with_their_types_and_labels() {
    let scrape = whole_scrape().await;
    let documented: Vec<(String, String, Vec<String>)> = table("### All metrics")
        .into_iter()
        .map(|row| (quoted(&row[0]).concat(), row[1].clone(), quoted(&row[2])))
        .collect();
    let described = |(name, family): (&String, &Family)| {
        (name.clone(), family.kind.clone(), family.labels.iter().cloned().collect::<Vec<_>>())
    };
    let mut sorted = documented.clone();
    sorted.sort();
    assert_eq!(sorted, scrape.families.iter().map(described).collect::<Vec<_>>());
    for (name, family) in &scrape.families {
        assert!(family.help.len() > 15 && name.starts_with("postcall_"), "{name}: {}", family.help);
    }
}

#[tokio::test]
async fn every_metric_label_and_value_that_an_alert_or_the_dashboard_names_is_in_a_scrape() {
    let scrape = whole_scrape().await;
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut expressions = Vec::new();
    collect(&dashboard, &mut expressions);
    assert!(expressions.len() > 30, "{expressions:#?}");
    expressions.push(read(ALERTS));
    let (mut names, mut wrong) = (BTreeSet::new(), Vec::new());
    for expression in &expressions {
        wrong.extend(unknown_groups(&scrape, expression));
        for (name, selector) in selectors(expression) {
            wrong.extend(why_not(&scrape, &name, &selector));
            names.insert(name);
        }
    }
    assert!(wrong.is_empty() && names.len() > 25, "{wrong:#?}\n{names:#?}");
    // Nothing is measured that nobody looks at.
    let is_seen = |name: &String| names.iter().any(|used| used == name || is_part_of(used, name));
    let unseen: Vec<_> = scrape.families.keys().filter(|name| !is_seen(name)).collect();
    assert!(unseen.is_empty(), "neither an alert nor the dashboard uses {unseen:?}");
}

#[test]
fn the_documented_alerts_are_those_that_are_shipped() {
    let documented: Vec<String> = table("### Alerts").iter().flat_map(|row| quoted(&row[0])).collect();
    let alerts = read(ALERTS);
    let shipped = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    assert_eq!(documented, shipped.collect::<Vec<_>>());
}

#[test]
fn every_alert_leads_to_what_to_do_about_it() {
    let alerts = read(ALERTS);
    let rules: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    let named: Vec<&str> = rules.iter().filter_map(|rule| rule.lines().next()).collect();
    for (name, rule) in named.iter().zip(&rules) {
        let runbook = format!("runbook: docs/alerts.md#{}\n", name.to_lowercase());
        assert!(rule.contains(&runbook), "{name} has no {runbook}");
    }
    let told = read("docs/alerts.md");
    let headings: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(headings, named);
}

#[tokio::test]
async fn promtool_accepts_a_scrape_and_each_alert_fires_when_it_must_and_not_before() {
    let Some(promtool) = of_prometheus("promtool") else {
        uninstalled("the alert rules; there is no promtool (scripts/install-promtool)");
        return;
    };
    let directory = root().join("deploy/prometheus");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(&directory).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    let output = checked(&promtool, &whole_scrape().await.text);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(!checked(&promtool, "postcall_x{ 1\n").status.success(), "it would see a wrong scrape");
}

fn checked(promtool: &Path, scrape: &str) -> Output {
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(scrape.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// All expressions of a dashboard.
fn collect(value: &Value, expressions: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str().filter(|_| ["expr", "definition"].contains(&name.as_str())) {
                    Some(expression) => expressions.push(expression.to_owned()),
                    None => collect(field, expressions),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, expressions)),
        _ => {}
    }
}

/// A label, and the values that an expression lets it have.
type Condition = (String, Vec<String>);

/// The metrics that an expression names, each with its conditions.
fn selectors(expression: &str) -> Vec<(String, Vec<Condition>)> {
    let mut found = Vec::new();
    for (start, _) in expression.match_indices("postcall_") {
        let rest = &expression[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let conditions = rest[end..].strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let condition = |text: &str| {
            let (label, value) = text.split_once(['=', '!']).unwrap();
            let values = value.trim_matches(['=', '~', '"', '!']).split('|').map(str::to_owned);
            (label.to_owned(), values.collect())
        };
        let conditions = conditions.split(',').filter(|text| !text.is_empty()).map(condition).collect();
        found.push((rest[..end].to_owned(), conditions));
    }
    found
}

/// Why a scrape does not have what an expression names.
fn why_not(scrape: &Scrape, name: &str, conditions: &[Condition]) -> Vec<String> {
    let samples: Vec<_> = scrape.samples.iter().filter(|(of, _, _)| of == name).collect();
    if samples.is_empty() {
        return vec![format!("there is no {name}")];
    }
    let mut wrong = Vec::new();
    for (label, values) in conditions.iter().filter(|(label, _)| !ADDED.contains(&label.as_str())) {
        for value in values {
            if !samples.iter().any(|(_, labels, _)| labels.get(label) == Some(value)) {
                wrong.push(format!("there is no {name}{{{label}={value:?}}}"));
            }
        }
    }
    wrong
}

/// The labels by which an expression groups, and that none of its metrics has.
fn unknown_groups(scrape: &Scrape, expression: &str) -> Vec<String> {
    let names: Vec<String> = selectors(expression).into_iter().map(|(name, _)| name).collect();
    let of_names = scrape.samples.iter().filter(|(name, _, _)| names.contains(name));
    let known: BTreeSet<&str> = of_names.flat_map(|(_, labels, _)| labels.keys().map(String::as_str)).collect();
    let groups = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    let labels = groups.flat_map(|group| group.split(',')).map(str::trim).filter(|label| *label != "…");
    let unknown = labels.filter(|label| !known.contains(label) && !ADDED.contains(label));
    unknown.map(|label| format!("no metric has the label {label}: {expression}")).collect()
}

fn is_part_of(sample: &str, family: &str) -> bool {
    sample.strip_prefix(family).is_some_and(|end| ["_bucket", "_sum", "_count"].contains(&end))
}

#[test]
fn what_an_expression_names_is_found() {
    let found = selectors(r#"sum(postcall_a{b="c",d=~"e|f",g!=""}) / max(postcall_h) > 1"#);
    let condition = |label: &str, values: &[&str]| {
        (label.to_owned(), values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
    };
    let conditions = vec![condition("b", &["c"]), condition("d", &["e", "f"]), condition("g", &[""])];
    assert_eq!(found, [("postcall_a".to_owned(), conditions), ("postcall_h".to_owned(), vec![])]);
}
