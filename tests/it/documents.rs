//! The documents: README.md, CONTRIBUTING.md, CHANGELOG.md and docs/. Their statements run under the roles they name, their
//! settings, states and error kinds are those of the program, the tests and files that they cite exist, and their links
//! lead somewhere.
//!
//! They are read when the test runs: a changed document needs no compilation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use clap::Parser;
use clap::error::{ContextKind, ContextValue};
use postcall::cli::Cli;
use postcall::domain::delivery::{Failure, State, UnknownReason};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::database::Database;
use crate::support::process::{postcall, stdout};

/// So many of each there are at least: a change of the markup that hides them from these tests is missed by these counts.
const SQL_BLOCKS: usize = 15;
const LINKS: usize = 60;
const COMMANDS: usize = 75;
const PROMISES: usize = 50;
const PATHS: usize = 60;

/// Lines that README.md has at most: one screen of what and why, and where to read on.
const README_LINES: usize = 150;

/// Directories of the repository that documents name files of.
const NAMED: [&str; 9] =
    ["src/", "deploy/", "tests/", "migrations/", "scripts/", "benches/", "docs/", "examples/", ".ci/"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A document, taken apart.
struct Document {
    /// What stands outside of fenced blocks.
    prose: String,
    /// The fenced blocks with their languages.
    blocks: Vec<(String, String)>,
}

impl Document {
    fn read(path: &Path) -> Document {
        let text =
            std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Document::of(&text)
    }

    fn of(text: &str) -> Document {
        let mut document = Document { prose: String::new(), blocks: Vec::new() };
        let mut is_fenced = false;
        for line in text.lines() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                is_fenced = !is_fenced;
                if is_fenced {
                    document.blocks.push((language.trim().to_owned(), String::new()));
                }
            } else {
                let into = match document.blocks.last_mut() {
                    Some((_, block)) if is_fenced => block,
                    _ => &mut document.prose,
                };
                into.push_str(line);
                into.push('\n');
            }
        }
        assert!(!is_fenced, "a fenced block is not closed");
        document
    }

    /// The anchors of its headings, as GitHub makes them.
    fn anchors(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let headings = self.prose.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|heading| {
                let heading = heading.trim_start_matches('#').trim().to_lowercase();
                let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
                let earlier = seen.entry(anchor.clone()).or_default();
                *earlier += 1;
                if *earlier == 1 { anchor } else { format!("{anchor}-{}", *earlier - 1) }
            })
            .collect()
    }

    /// The lines from the heading up to the next one.
    fn section(&self, heading: &str) -> Vec<&str> {
        let lines = self.prose.lines().skip_while(|line| *line != heading).skip(1);
        lines.take_while(|line| !line.starts_with('#')).collect()
    }

    /// The tables of a section, each with the cells of its rows, their heads left out.
    fn tables(&self, heading: &str) -> Vec<Vec<Vec<&str>>> {
        let lines = self.section(heading);
        let tables = lines.split(|line| !line.starts_with('|')).filter(|rows| !rows.is_empty());
        tables
            .map(|rows| {
                rows.iter().skip(2).map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
            })
            .collect()
    }

    /// Its prose in two parts: what stands in code spans, and the rest.
    fn spans(&self) -> (Vec<String>, String) {
        let (mut code, mut rest, mut text) = (Vec::new(), String::new(), self.prose.as_str());
        while let Some(start) = text.find('`') {
            rest.push_str(&text[..start]);
            let ticks = text[start..].chars().take_while(|c| *c == '`').count();
            let inside = &text[start + ticks..];
            match closing(inside, ticks) {
                Some(end) => {
                    code.push(inside[..end].trim().to_owned());
                    text = &inside[end + ticks..];
                }
                None => text = inside,
            }
        }
        rest.push_str(text);
        (code, rest)
    }

    /// Where its links lead.
    fn links(&self) -> Vec<String> {
        let (_, text) = self.spans();
        text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
    }
}

/// Where the run of exactly so many backticks begins that closes a code span.
fn closing(text: &str, ticks: usize) -> Option<usize> {
    let mut from = 0;
    while let Some(start) = text[from..].find('`').map(|start| from + start) {
        let run = text[start..].chars().take_while(|c| *c == '`').count();
        if run == ticks {
            return Some(start);
        }
        from = start + run;
    }
    None
}

/// All documents by their paths in the repository.
fn documents() -> BTreeMap<PathBuf, Document> {
    let mut paths: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from).into();
    let mut directories = vec![PathBuf::from("docs")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(root().join(&directory)).unwrap().map(Result::unwrap) {
            let path = directory.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths.into_iter().map(|path| (path.clone(), Document::read(&path))).collect()
}

/// `path` without `.` and `..`; `None` if it leaves the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => normal.pop().then_some(())?,
            Component::Normal(name) => normal.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(normal)
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[tokio::test]
async fn every_statement_of_the_documents_runs_under_the_role_that_it_names() {
    let database = Database::new().await;
    // The example agent has an action, so that the example inserts go all their way.
    database.publish("agent_7f3k2", "default", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    let mut count = 0;
    for (path, document) in documents() {
        for (_, block) in document.blocks.iter().filter(|(language, _)| language == "sql") {
            let place = format!("{}\n{block}", path.display());
            let role = block.lines().next().and_then(|line| line.strip_prefix("-- as ")).expect(&place);
            // A superuser has every right, so the role is what shows that its own rights suffice.
            let role = if role == "the owner of the schema" { "NONE" } else { role };
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            let script = format!("BEGIN; SET LOCAL ROLE {role}; {block}; ROLLBACK");
            let ran = sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection).await;
            assert!(ran.is_ok(), "{}\n{place}", ran.unwrap_err());
            count += 1;
        }
    }
    assert!(count >= SQL_BLOCKS, "{count}");
}

/// The commands of a line of a shell, each with its words. Comments, redirections and variables before a command are left out.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    for c in line.chars().chain(['\n']) {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\n') => words.extend(word.take()),
            (None, '|' | ';' | '&' | '(' | ')' | '<' | '>') => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    commands.push(words);
    let is_setting = |word: &String| word.split_once('=').is_some_and(|(name, _)| name == name.to_uppercase());
    commands.into_iter().map(|words| words.into_iter().skip_while(is_setting).collect()).collect()
}

#[test]
fn every_command_that_a_document_gives_is_one_that_the_program_takes() {
    const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
    let mut count = 0;
    for (path, document) in documents() {
        let blocks = document.blocks.iter().filter(|(language, _)| language == "console");
        let text = blocks.map(|(_, block)| block.replace("\\\n", " ")).collect::<String>();
        let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("$ "));
        for words in lines.flat_map(commands).filter(|words| words.first().is_some_and(|word| word == "postcall")) {
            let id = |word: String| if word.ends_with("_ID") { NOBODY.to_owned() } else { word };
            let words: Vec<String> = words.into_iter().map(id).collect();
            let told = match Cli::try_parse_from(&words) {
                Ok(_) => String::new(),
                // The database comes by the environment.
                Err(error) => match error.get(ContextKind::InvalidArg) {
                    Some(ContextValue::Strings(missing)) if *missing == ["--database-url <URL>"] => String::new(),
                    _ => error.to_string(),
                },
            };
            assert_eq!(told, "", "{}: {}", path.display(), words.join(" "));
            count += 1;
        }
    }
    assert!(count >= COMMANDS, "{count}");
}

#[test]
fn the_documented_settings_of_run_are_its_own_with_their_variables_and_defaults() {
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
    let operating = Document::read(Path::new("docs/operating.md"));
    let tables = operating.tables("## Settings of `postcall run`");
    let stated: Vec<[String; 3]> = tables
        .concat()
        .into_iter()
        .map(|cells| [cells[0], cells[1], cells[2]].map(|cell| quoted(cell).next().unwrap_or_default().to_owned()))
        .collect();
    assert!(expected.len() >= 7, "{help}");
    assert_eq!(stated, expected);
}

#[test]
fn the_documented_states_and_error_kinds_are_those_of_a_delivery() {
    let operating = Document::read(Path::new("docs/operating.md"));
    let tables = operating.tables("## States and what to do");
    let [states, kinds] = &tables[..] else { panic!("{} tables", tables.len()) };
    let first = |row: &Vec<&str>| quoted(row[0]).next().unwrap_or_default().to_owned();
    assert_eq!(states.iter().map(first).collect::<Vec<_>>(), State::ALL.map(State::as_str));
    let failed = Failure::ALL.map(|kind| (kind.as_str().to_owned(), State::Failed.as_str()));
    let unknown = UnknownReason::ALL.map(|kind| (kind.as_str().to_owned(), State::Unknown.as_str()));
    let stated: Vec<(String, &str)> = kinds.iter().map(|row| (first(row), row[1])).collect();
    assert_eq!(stated, failed.into_iter().chain(unknown).collect::<Vec<_>>());
}

#[test]
fn every_promise_is_shown_by_a_test_and_every_test_that_a_document_cites_exists() {
    let promise = Document::read(Path::new("docs/promise.md"));
    let rows = promise.tables("## Promises and their tests").concat();
    assert!(rows.len() >= PROMISES, "{}", rows.len());
    for row in rows {
        assert!(quoted(row[1]).next().is_some(), "no test shows: {}", row[0]);
        quoted(row[1]).for_each(|test| assert!(exists(test), "docs/promise.md: there is no test {test}"));
    }
    for (path, document) in documents() {
        for code in document.spans().0 {
            let name = code.rsplit_once("::").map_or("", |(_, name)| name);
            // Names of tests are sentences.
            if name.matches('_').count() > 2 && code.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c)) {
                assert!(exists(&code), "{}: there is no test {code}", path.display());
            }
        }
    }
}

/// Whether there is a test of that name, as `cargo test` prints it: unit tests say `tests` before their own name.
fn exists(test: &str) -> bool {
    let Some((place, name)) = test.rsplit_once("::") else { return false };
    let file = match place.strip_suffix("::tests") {
        Some(module) => {
            let path = format!("src/{}", module.replace("::", "/"));
            let own_file = format!("{path}/tests.rs");
            if root().join(&own_file).exists() { own_file } else { format!("{path}.rs") }
        }
        None => format!("tests/it/{}.rs", place.replace("::", "/")),
    };
    std::fs::read_to_string(root().join(&file)).is_ok_and(|source| source.contains(&format!("fn {name}(")))
}

#[test]
fn every_link_of_the_documents_leads_somewhere_and_every_document_is_linked() {
    let documents = documents();
    let (mut count, mut linked) = (0, BTreeSet::from([PathBuf::from("README.md")]));
    for (path, document) in &documents {
        for link in document.links() {
            if link.starts_with("https://") {
                continue;
            }
            let place = format!("{}: a link to {link}", path.display());
            let (file, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let target = match file {
                "" => path.clone(),
                file => normal(&path.parent().unwrap().join(file))
                    .unwrap_or_else(|| panic!("{place} leaves the repository")),
            };
            assert!(root().join(&target).exists(), "{place} leads to no file");
            if let Some(anchor) = anchor {
                let anchors = documents.get(&target).map(Document::anchors).unwrap_or_default();
                assert!(anchors.contains(anchor), "{place} leads to no heading; there are {anchors:?}");
            }
            if target != *path {
                linked.insert(target);
            }
            count += 1;
        }
    }
    assert!(count >= LINKS, "{count}");
    for path in documents.keys() {
        assert!(linked.contains(path), "no document links to {}", path.display());
    }
}

#[test]
fn every_file_of_the_repository_that_a_document_names_exists() {
    let mut count = 0;
    for (path, document) in documents() {
        let blocks = document.blocks.iter().filter(|(language, _)| language == "console");
        let typed: Vec<String> =
            blocks.flat_map(|(_, block)| block.lines().map(|line| line.replace("$ ", ""))).collect();
        for code in document.spans().0.into_iter().chain(typed) {
            let named = code.split_whitespace().next().unwrap_or_default();
            // A pattern names no single file.
            if NAMED.iter().any(|directory| named.starts_with(directory))
                && !named.contains(['*', '…'])
                && !named.contains("YYYY")
            {
                assert!(root().join(named).exists(), "{} names {named}, which does not exist", path.display());
                count += 1;
            }
        }
    }
    assert!(count >= PATHS, "{count}");
}

#[test]
fn the_readme_is_one_screen() {
    let lines = std::fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines; at most {README_LINES} are wanted");
}
