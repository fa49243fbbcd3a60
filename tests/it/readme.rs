//! The README: its statements run under the roles it names, its settings are those of the program, and the tests that it
//! cites exist. What it says about a killed dispatcher is shown here too.

use std::path::Path;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::database::Database;
use crate::support::process::{postcall, stdout};

const README: &str = include_str!("../../README.md");

/// A block that a change of the markup would hide from these tests is missed by this count.
const SQL_BLOCKS: usize = 14;

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    README.split(&opening).skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default()).collect()
}

/// The lines from one that begins with `heading` up to the next heading.
fn section(heading: &str) -> Vec<&'static str> {
    let lines = README.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
    lines.take_while(|line| !line.starts_with('#')).collect()
}

/// The cells of each row of a section's table, its head left out.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let lines = section(heading).into_iter().filter(|line| line.starts_with('|'));
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    lines.skip(2).map(cells).collect()
}

/// What stands between backticks.
fn quoted(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split('`').skip(1).step_by(2)
}

#[tokio::test]
async fn every_statement_of_the_readme_runs_under_the_role_that_it_names() {
    let database = Database::new().await;
    // The example agent has an action, so that the example inserts go all their way.
    database.publish("agent_7f3k2", "default", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    let blocks = blocks("sql");
    assert!(blocks.len() >= SQL_BLOCKS, "{}", blocks.len());
    for block in blocks {
        let role = block.lines().next().and_then(|line| line.strip_prefix("-- as ")).expect(block);
        // A superuser has every right, so the role is what shows that its own rights suffice.
        let role = if role == "the owner of the schema" { "NONE" } else { role };
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        let script = format!("BEGIN; SET LOCAL ROLE {role}; {block}; ROLLBACK");
        let ran = sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection).await;
        assert!(ran.is_ok(), "{}\n{block}", ran.unwrap_err());
    }
}

#[test]
fn the_readme_lists_the_settings_of_run_with_their_variables_and_defaults() {
    let help = stdout(&postcall(&["run", "--help"]));
    let mut expected: Vec<[String; 3]> = Vec::new();
    for line in help.lines().map(str::trim) {
        let bracketed = |name: &str| Some(line.strip_prefix(name)?.split(['=', ']']).next()?.trim().to_owned());
        if line.starts_with("--") {
            let flag = line.split_whitespace().next().unwrap_or_default();
            expected.push([flag.to_owned(), String::new(), String::new()]);
        } else if let (Some([_, variable, default]), Some(setting)) = (
            expected.last_mut(),
            bracketed("[env: ").map(|name| (0, name)).or_else(|| bracketed("[default: ").map(|text| (1, text))),
        ) {
            match setting {
                (0, name) => *variable = name,
                (_, text) => *default = text,
            }
        }
    }
    let stated: Vec<[String; 3]> = rows("### Settings of `postcall run`")
        .into_iter()
        .map(|cells| [cells[0], cells[1], cells[2]].map(|cell| quoted(cell).next().unwrap_or_default().to_owned()))
        .collect();
    assert!(expected.len() >= 7, "{help}");
    assert_eq!(stated, expected);
}

#[test]
fn every_test_that_the_readme_cites_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = rows("## The promise");
    assert!(rows.len() >= 15, "{}", rows.len());
    for row in rows {
        let cited: Vec<&str> = quoted(row[1]).collect();
        assert!(!cited.is_empty(), "no test shows: {}", row[0]);
        for test in cited {
            // Named as `cargo test` prints it: unit tests say `tests` before their own name.
            let (place, name) = test.rsplit_once("::").expect(test);
            let file = match place.strip_suffix("::tests") {
                Some(module) => {
                    let path = format!("src/{}", module.replace("::", "/"));
                    let own_file = format!("{path}/tests.rs");
                    if root.join(&own_file).exists() { own_file } else { format!("{path}.rs") }
                }
                None => format!("tests/it/{}.rs", place.replace("::", "/")),
            };
            let source = std::fs::read_to_string(root.join(&file)).expect(&file);
            assert!(source.contains(&format!("fn {name}(")), "{file} has no test {name}");
        }
    }
}
