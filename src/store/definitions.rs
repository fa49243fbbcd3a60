//! The views and functions of the schema: whether they are those that the migrations define. Whoever owns the schema can replace a view,
//! so that history looks different from what it is. What the migrations define is made beside it, as temporary views and functions in a
//! transaction that is rolled back, and compared as the server prints both: so it does not matter which version prints them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, PgConnection};

use super::schema::up_migrations;
use super::{Store, StoreError};

/// SQLSTATEs of a server on which nothing can be made: a standby, and a database in which this user may make nothing temporary.
const NOTHING_CAN_BE_MADE: [&str; 2] = ["25006", "42501"];
/// The kinds of what is compared, as migrations name them.
const KINDS: [&str; 2] = ["VIEW", "FUNCTION"];

/// What was found of the views and functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definitions {
    /// A sentence for each view or function that is not the one that was shipped, and for each table whose rows a rule or
    /// row-level security can hide.
    pub faults: Vec<String>,
    /// Whether views and functions were compared. They cannot be where nothing can be made, such as on a standby.
    pub compared: bool,
}

/// Kind and name of a view or a function, such as `view delivery_history`.
type Named = (String, String);

/// The statements of the migrations by which each view and function came to be as it is, for a temporary one of the same name.
static SHIPPED: LazyLock<BTreeMap<Named, Vec<String>>> = LazyLock::new(|| {
    let mut shipped = BTreeMap::new();
    up_migrations().for_each(|sql| read(sql, &mut shipped));
    shipped
});

/// Kind and name of each view and function that the migrations define, in order.
pub fn shipped() -> impl Iterator<Item = String> {
    SHIPPED.keys().map(|(kind, name)| format!("{kind} {name}"))
}

/// Notes what a migration does to views and functions. Each statement about one of them begins a line.
fn read(sql: &str, shipped: &mut BTreeMap<Named, Vec<String>>) {
    for (at, _) in std::iter::once((0, "")).chain(sql.match_indices('\n').map(|(at, line)| (at + 1, line))) {
        let statement = &sql[at..];
        let verbs = ["CREATE OR REPLACE ", "CREATE ", "ALTER ", "DROP "];
        let Some((verb, rest)) = verbs.iter().find_map(|verb| Some((*verb, statement.strip_prefix(verb)?))) else {
            continue;
        };
        let of_kind = |kind: &'static str| Some((kind, rest.strip_prefix(kind)?.strip_prefix(" postcall.")?));
        let Some((kind, rest)) = KINDS.into_iter().find_map(of_kind) else { continue };
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let text = &rest[..end(rest)];
        let named = (kind.to_lowercase(), name);
        match verb {
            "DROP " => drop(shipped.remove(&named)),
            "ALTER " => shipped.entry(named).or_default().push(format!("ALTER {kind} pg_temp.{text}")),
            _ => drop(shipped.insert(named, vec![format!("CREATE {kind} pg_temp.{text}")])),
        }
    }
}

/// Where a statement ends: behind the body of a function, or at the first semicolon that ends a line.
fn end(statement: &str) -> usize {
    let bodies = [(" AS $$", "\n$$;"), ("\nBEGIN ATOMIC", "\nEND;"), (";\n", "")];
    let body = bodies.iter().filter_map(|(opens, closes)| Some((statement.find(opens)?, opens.len(), *closes))).min();
    match body {
        Some((at, _, "")) => at + 1,
        Some((at, length, closes)) => {
            let from = at + length;
            statement[from..].find(closes).map_or(statement.len(), |found| from + found + closes.len())
        }
        None => statement.len(),
    }
}

/// A view or function as the server prints it.
struct Printed {
    kind: String,
    name: String,
    text: String,
}

impl Store {
    /// Looks whether the views and functions are those that the migrations define. Changes nothing. Every role may do it.
    pub async fn definitions(&self) -> Result<Definitions, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let mut faults = hidden(&mut transaction).await?;
        let compared = match compare(&mut transaction, &mut faults).await {
            Ok(()) => true,
            Err(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| NOTHING_CAN_BE_MADE.contains(&&*code)) =>
            {
                false
            }
            // A table lacks what a view shows, for example.
            Err(sqlx::Error::Database(error)) => {
                faults.push(format!(
                    "the views and functions that were shipped cannot be made beside those that are there: {error}"
                ));
                false
            }
            Err(error) => return Err(error.into()),
        };
        transaction.rollback().await?;
        faults.sort();
        Ok(Definitions { faults, compared })
    }
}

/// What can hide rows of a table from whoever reads it.
async fn hidden(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    // The catalog alone. A view has one rule, by which it is a view.
    sqlx::query_scalar!(
        r#"
        SELECT relname || ': row-level security is on, so that rows are hidden from some' AS "fault!"
        FROM pg_class WHERE relnamespace = 'postcall'::regnamespace AND relrowsecurity
        UNION ALL
        SELECT relname || ': the rule ' || rulename || ' is not one of postcall''s'
        FROM pg_rewrite JOIN pg_class ON pg_class.oid = ev_class
        WHERE relnamespace = 'postcall'::regnamespace AND rulename <> '_RETURN'
        "#
    )
    .fetch_all(connection)
    .await
}

/// Compares what is there with what was shipped.
async fn compare(connection: &mut PgConnection, faults: &mut Vec<String>) -> Result<(), sqlx::Error> {
    // The server qualifies names only if the search path does not contain their schema.
    sqlx::query!(
        r#"SELECT set_config('search_path', 'pg_catalog', true) AS "path", set_config('check_function_bodies', 'off', true) AS "bodies""#
    )
    .fetch_one(&mut *connection)
    .await?;
    let make: String = SHIPPED.values().flatten().map(|statement| format!("{statement}\n")).collect();
    make_beside(connection, make).await?;
    let (present, shipped) = (printed(connection, false).await?, printed(connection, true).await?);
    for ((kind, name), shipped) in SHIPPED.keys().zip(in_order(&shipped)) {
        let mut same = present.iter().filter(|printed| printed.kind == *kind && printed.name == *name);
        let fault = match (same.next(), same.next(), shipped) {
            (None, ..) => "is missing",
            (_, Some(_), _) => "is there more than once: which one is called depends on its arguments",
            (Some(present), None, Some(shipped)) if is_same(connection, present, shipped).await? => continue,
            (Some(_), None, _) => "is not the one that was shipped",
        };
        faults.push(format!("{kind} {name} {fault}"));
    }
    Ok(())
}

/// What was printed, in the order of [`SHIPPED`].
fn in_order(printed: &[Printed]) -> impl Iterator<Item = Option<&Printed>> {
    SHIPPED.keys().map(|(kind, name)| printed.iter().find(|one| one.kind == *kind && one.name == *name))
}

async fn make_beside(connection: &mut PgConnection, statements: String) -> Result<(), sqlx::Error> {
    // Only statements of the migrations, and what the server has printed of them.
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.map(drop)
}

/// Whether both are the same. A database into which a dump was restored has what the server printed of what was shipped, read again: a
/// third way to print it may come of that.
async fn is_same(connection: &mut PgConnection, present: &Printed, shipped: &Printed) -> Result<bool, sqlx::Error> {
    if present.text == shipped.text {
        return Ok(true);
    }
    let Printed { kind, name, text } = shipped;
    let again = if kind == "view" {
        format!("CREATE VIEW pg_temp.{name} AS {text}")
    } else {
        format!("CREATE FUNCTION pg_temp.{text}")
    };
    make_beside(connection, format!("DROP {kind} pg_temp.{name}; {again}")).await?;
    let again = printed(connection, true).await?;
    Ok(again.iter().any(|one| one.kind == *kind && one.name == *name && one.text == present.text))
}

/// The views and functions of the schema, or the temporary ones of this session.
async fn printed(connection: &mut PgConnection, temporary: bool) -> Result<Vec<Printed>, sqlx::Error> {
    // The catalog alone. An option of a view (security_barrier) is a part of it.
    sqlx::query_as!(
        Printed,
        r#"
        WITH place AS MATERIALIZED (
            SELECT CASE WHEN $1 THEN pg_my_temp_schema() ELSE 'postcall'::regnamespace::oid END AS oid
        )
        SELECT 'view' AS "kind!", relname::text AS "name!", pg_get_viewdef(pg_class.oid) || coalesce(reloptions::text, '') AS "text!"
        FROM pg_class JOIN place ON relnamespace = place.oid WHERE relkind = 'v'
        UNION ALL
        SELECT 'function', proname::text, regexp_replace(pg_get_functiondef(pg_proc.oid), '^CREATE OR REPLACE FUNCTION \w+\.', '')
        FROM pg_proc JOIN place ON pronamespace = place.oid WHERE prokind = 'f'
        "#,
        temporary
    )
    .fetch_all(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_read_statement_by_statement() {
        let mut shipped = BTreeMap::new();
        read(
            "CREATE VIEW postcall.v AS\nSELECT 1;\nCREATE FUNCTION postcall.f() RETURNS text\n    LANGUAGE plpgsql AS $$\nBEGIN\nRETURN 'x';\nEND\n$$;\n\
             CREATE FUNCTION postcall.g() RETURNS integer\nBEGIN ATOMIC\n    SELECT 1;\nEND;\nCREATE FUNCTION postcall.h() RETURNS integer RETURN 1;\n",
            &mut shipped,
        );
        read(
            "ALTER FUNCTION postcall.f() SET jit = off;\nDROP FUNCTION postcall.h();\nCREATE OR REPLACE VIEW postcall.v AS\nSELECT 2;",
            &mut shipped,
        );
        let of = |kind: &str, name: &str| shipped[&(kind.to_owned(), name.to_owned())].join(" ");
        assert_eq!(of("view", "v"), "CREATE VIEW pg_temp.v AS\nSELECT 2;");
        assert!(
            of("function", "f").ends_with("END\n$$; ALTER FUNCTION pg_temp.f() SET jit = off;"),
            "{}",
            of("function", "f")
        );
        assert!(of("function", "g").ends_with("SELECT 1;\nEND;"));
        assert_eq!(shipped.len(), 3);
    }
}
