//! The guards of the schema: the triggers and constraints that keep rows as they were written. An owner can switch them
//! off or drop them. This module finds out which are off or missing at this moment. It cannot find out what was changed
//! while a guard was off.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

/// Every guard that the migrations create, one a line: its kind, table and name, and for a trigger also when it fires,
/// on what, and what it executes. For a trigger's function, the line holds the MD5 of its source, so that a changed
/// function is detected.
const SHIPPED: &str = include_str!("guards.list");

/// One guard as it is in the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guard {
    /// `trigger`, `constraint`, `function` (one that a trigger executes), `partition` or `detached` (a former
    /// partition).
    pub kind: String,
    /// The table it is on; empty for functions.
    pub table: String,
    /// The table that `table` is a partition of, or `table` itself.
    pub family: String,
    /// Its name.
    pub name: String,
    /// The part of its definition that is compared.
    pub how: String,
}

impl Guard {
    /// The guard as a line of [`shipped`]. A partition's guard has the line of its whole table.
    pub fn line(&self) -> String {
        let parts = [&self.kind, &self.family, &self.name, &self.how];
        parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// The lines of the shipped list, without its comments.
pub fn shipped() -> BTreeSet<&'static str> {
    SHIPPED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Returns one sentence for each guard that is not as shipped, in no particular order; empty if all are on.
pub fn faults(present: &[Guard]) -> Vec<String> {
    let mut tables: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for partition in present.iter().filter(|guard| guard.kind == "partition") {
        tables.entry(&partition.family).or_default().insert(&partition.table);
    }
    let mut faults: Vec<String> = present
        .iter()
        .filter(|guard| guard.kind == "detached")
        .map(|guard| format!("{} is no longer a partition: its rows are not searched and not checked", guard.table))
        .collect();
    for line in shipped() {
        let mut words = line.splitn(4, ' ');
        let (kind, first) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        // A function is on no table.
        let (family, name) = if kind == "function" { ("", first) } else { (first, words.next().unwrap_or_default()) };
        let partitions = tables.get(family).filter(|_| is_on_partitions(line)).into_iter().flatten().copied();
        for table in std::iter::once(family).chain(partitions) {
            let found = present.iter().find(|guard| guard.kind == kind && guard.table == table && guard.name == name);
            faults.extend(fault(line, kind, table, name, found));
        }
    }
    faults
}

/// Whether each partition has a guard of its own in addition to that of its table: row triggers and TRUNCATE triggers.
fn is_on_partitions(line: &str) -> bool {
    line.starts_with("trigger ") && (line.contains(" FOR EACH ROW ") || line.contains(" TRUNCATE "))
}

fn fault(line: &str, kind: &str, table: &str, name: &str, found: Option<&Guard>) -> Option<String> {
    let what = if table.is_empty() { format!("{kind} {name}") } else { format!("{table}: {kind} {name}") };
    match found {
        None => Some(format!("{what} is missing")),
        Some(guard) if side_by_side(&guard.line()) == side_by_side(line) => None,
        Some(guard) if guard.how.starts_with("off ") => Some(format!("{what} is switched off")),
        Some(_) => Some(format!("{what} is not the one that was shipped")),
    }
}

/// A trigger's line with the alternatives of its condition side by side: `((a OR b) OR c)` becomes `(a OR b OR c)`.
///
/// The server that reads a comparison of rows keeps alternatives within alternatives, and prints and dumps them so. A server
/// into which such a dump is restored keeps them side by side. The two mean the same, and only this difference is left out.
fn side_by_side(line: &str) -> String {
    let parts = line.split_once(" WHEN ").and_then(|(head, rest)| Some((head, rest.split_once(" EXECUTE ")?)));
    match parts {
        Some((head, (condition, tail))) => {
            format!("{head} WHEN ({}) EXECUTE {tail}", alternatives(condition).join(" OR "))
        }
        None => line.to_owned(),
    }
}

/// What a condition joins by OR, at any depth that holds nothing but OR.
fn alternatives(condition: &str) -> Vec<&str> {
    match (split_by_or(condition), enclosed(condition)) {
        (parts, _) if parts.len() > 1 => parts.into_iter().flat_map(alternatives).collect(),
        (_, Some(inside)) if enclosed(inside).is_some() || split_by_or(inside).len() > 1 => alternatives(inside),
        _ => vec![condition],
    }
}

/// What is inside of the parentheses, if one pair encloses all of the text.
fn enclosed(text: &str) -> Option<&str> {
    let closes_at = depths(text).find(|(_, depth)| *depth == 0).map(|(place, _)| place);
    if closes_at? + 1 == text.len() { text.strip_prefix('(')?.strip_suffix(')') } else { None }
}

/// The parts of a text between the ORs that stand in no parentheses.
fn split_by_or(text: &str) -> Vec<&str> {
    const OR: &str = " OR ";
    let (mut parts, mut begin) = (Vec::new(), 0);
    for (place, _) in depths(text).filter(|(place, depth)| *depth == 0 && text[*place..].starts_with(OR)) {
        parts.push(&text[begin..place]);
        begin = place + OR.len();
    }
    parts.push(&text[begin..]);
    parts
}

/// Each place of a text, with how many parentheses are open after it.
fn depths(text: &str) -> impl Iterator<Item = (usize, usize)> {
    text.char_indices().scan(0usize, |depth, (place, letter)| {
        match letter {
            '(' => *depth += 1,
            ')' => *depth = depth.saturating_sub(1),
            _ => {}
        }
        Some((place, *depth))
    })
}

/// Every guard that the database has, shipped or not.
pub(super) async fn present(connection: &mut PgConnection) -> Result<Vec<Guard>, sqlx::Error> {
    // Reads the catalogs, which every user may read.
    // - A trigger is compared by the definition that the server prints, without its table (which differs for each
    //   partition) and without its function's arguments (hints for people).
    // - The constraints of a partition are those of its table, and cannot be dropped separately.
    // - A table of the schema that is named like a partition but is not one was detached.
    sqlx::query_as!(
        Guard,
        r#"
        WITH relation AS (
            SELECT pg_class.oid, pg_class.relname::text AS name, relkind, relispartition,
                   coalesce((SELECT parent.relname::text FROM pg_inherits JOIN pg_class AS parent ON parent.oid = inhparent
                             WHERE inhrelid = pg_class.oid), pg_class.relname::text) AS family
            FROM pg_class
            WHERE relnamespace = 'postcall'::regnamespace AND relkind IN ('r', 'p')
              AND relname NOT LIKE '\_sqlx\_migrations%'
        )
        SELECT 'trigger' AS "kind!", relation.name AS "table!", family AS "family!", tgname::text AS "name!",
               CASE tgenabled WHEN 'A' THEN 'always ' WHEN 'O' THEN 'on ' WHEN 'D' THEN 'off ' ELSE 'replica ' END
               || regexp_replace(pg_get_triggerdef(pg_trigger.oid),
                                 '^CREATE (CONSTRAINT )?TRIGGER \S+ (.*) ON postcall\.\S+ (.*EXECUTE FUNCTION) postcall\.(\w+)\(.*$',
                                 '\1\2 \3 \4') AS "how!"
        FROM pg_trigger JOIN relation ON relation.oid = tgrelid
        WHERE NOT tgisinternal
        UNION ALL
        SELECT 'constraint', relation.name, family, conname::text, ''
        FROM pg_constraint JOIN relation ON relation.oid = conrelid
        WHERE contype IN ('c', 'f', 'p', 'u') AND NOT relispartition
        UNION ALL
        SELECT 'function', '', '', proname::text, md5(prosrc)
        FROM pg_proc WHERE pronamespace = 'postcall'::regnamespace AND prorettype = 'trigger'::regtype
        UNION ALL
        SELECT 'partition', name, family, '', '' FROM relation WHERE relispartition
        UNION ALL
        SELECT 'detached', name, family, '', '' FROM relation
        WHERE NOT relispartition AND relkind = 'r' AND name ~ '^(outbox|delivery)_'
        "#
    )
    .fetch_all(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guards as they are after all migrations, with one partition.
    fn whole() -> Vec<Guard> {
        let mut present = vec![guard("partition delivery", "delivery_20261101")];
        for line in shipped() {
            let family = if line.starts_with("function ") { "" } else { line.split(' ').nth(1).unwrap() };
            present.push(guard(line, family));
            if family == "delivery" && is_on_partitions(line) {
                present.push(guard(line, "delivery_20261101"));
            }
        }
        present
    }

    fn guard(line: &str, table: &str) -> Guard {
        let mut words = line.splitn(if table.is_empty() { 3 } else { 4 }, ' ').map(str::to_owned);
        let kind = words.next().unwrap();
        let family = if table.is_empty() { String::new() } else { words.next().unwrap() };
        let (name, how) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Guard { kind, table: table.to_owned(), family, name, how }
    }

    #[test]
    fn nothing_is_wrong_with_a_schema_as_shipped_whatever_is_added_to_it() {
        let mut present = whole();
        assert_eq!(faults(&present), Vec::<String>::new());
        present.push(guard("trigger delivery somebody_s_own always AFTER INSERT FOR EACH ROW own", "delivery"));
        assert_eq!(faults(&present), Vec::<String>::new());
    }

    #[test]
    fn alternatives_may_be_grouped_in_any_way_and_nothing_else_may() {
        let when = |condition: &str| {
            side_by_side(&format!("trigger t x on BEFORE UPDATE WHEN ({condition}) EXECUTE FUNCTION f"))
        };
        let shipped = when("(((a IS DISTINCT FROM b) OR (c <> d)) OR (e IS NULL))");
        assert_eq!(shipped, when("((a IS DISTINCT FROM b) OR (c <> d) OR (e IS NULL))"));
        assert_eq!(shipped, when("((a IS DISTINCT FROM b) OR ((c <> d) OR (e IS NULL)))"));
        for other in [
            "((a IS DISTINCT FROM b) OR (c <> d))",
            "((a IS DISTINCT FROM b) OR ((c <> d) AND (e IS NULL)))",
            "(((a IS DISTINCT FROM b) AND (c <> d)) OR (e IS NULL))",
            "(NOT ((a IS DISTINCT FROM b) OR (c <> d) OR (e IS NULL)))",
            "((a IS DISTINCT FROM b) OR (c <> d) OR (e IS NULL) OR (f > g))",
        ] {
            assert_ne!(shipped, when(other));
        }
        assert_ne!(when("((a OR b) AND c)"), when("(a OR (b AND c))"));
        assert_ne!(when("(x(a OR b) OR c)"), when("(x(a) OR b OR c)"));
    }

    #[test]
    fn each_guard_that_is_missing_off_or_other_is_named() {
        for left_out in 1..whole().len() {
            let mut present = whole();
            let gone = present.remove(left_out);
            let said = faults(&present);
            assert_eq!(said.len(), 1, "{gone:?}: {said:?}");
            assert!(said[0].contains(&gone.name) && said[0].ends_with("is missing"), "{gone:?}: {said:?}");
        }
        let mut present = whole();
        let on_partition =
            present.iter_mut().find(|guard| guard.table == "delivery_20261101" && guard.kind == "trigger");
        let on_partition = on_partition.unwrap();
        on_partition.how = on_partition.how.replacen("always ", "off ", 1);
        let expected = format!("delivery_20261101: trigger {} is switched off", on_partition.name);
        assert_eq!(faults(&present), [expected]);
        let mut present = whole();
        let function = present.iter_mut().find(|guard| guard.name == "refuse_change").unwrap();
        function.how = "hollow".to_owned();
        assert_eq!(faults(&present), ["function refuse_change is not the one that was shipped"]);
        let mut present = whole();
        present.push(guard("detached delivery_20261001", "delivery_20261001"));
        assert_eq!(faults(&present).len(), 1);
    }
}
