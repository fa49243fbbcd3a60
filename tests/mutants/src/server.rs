//! A Postgres server of its own for each of those that run tests: what one mutant leaves there reaches no other one.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// The database that the tests copy, migrated without a mutant. So a mutant of the migration is tried by the tests that migrate.
const TEMPLATE: &str = "mutants_template";

/// Deletes what tests have left: their databases and their users.
const CLEAN: &str = r"
SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database
WHERE datname NOT IN ('postgres', 'template0', 'template1', 'postcall', 'mutants_template') \gexec
SELECT format('DROP ROLE %I', rolname) FROM pg_roles
WHERE oid >= 16384 AND oid NOT IN (SELECT oid FROM mutants_roles) \gexec
";

/// A running server. It ends when this is dropped, and also when this process is killed.
pub struct Server {
    script: Child,
    /// While it is open, the server runs.
    open: Option<ChildStdin>,
    /// As the tests find it.
    pub url: String,
    /// The directory of the server's programs.
    pub programs: String,
}

impl Server {
    /// A server with a migrated database. `program` is postcall, `tree` the package.
    pub fn start(tree: &Path, program: &Path) -> Result<Server, String> {
        let mut script = Command::new(tree.join("scripts/with-postgres"))
            .args(["sh", "-c", "echo \"$DATABASE_URL\"; echo \"$POSTGRES_BIN\"; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("scripts/with-postgres: {error}"))?;
        let open = script.stdin.take();
        let mut lines = BufReader::new(script.stdout.take().ok_or("no output")?).lines().map_while(Result::ok);
        let (url, programs) = lines.next().zip(lines.next()).ok_or("scripts/with-postgres starts no server")?;
        let server = Server { script, open, url, programs };
        server.psql(&format!("CREATE DATABASE {TEMPLATE} TEMPLATE template0"))?;
        let mut migrate = Command::new(program);
        migrate.arg("migrate").env("DATABASE_URL", server.template_url()).env_remove("POSTCALL_MUTANT");
        let output = migrate.output().map_err(|error| format!("{}: {error}", program.display()))?;
        if !output.status.success() {
            return Err(format!("postcall migrate: {}", String::from_utf8_lossy(&output.stderr)));
        }
        server.psql("CREATE TABLE mutants_roles AS SELECT oid FROM pg_roles")?;
        Ok(server)
    }

    /// Prepares a test: it finds the server.
    pub fn offer(&self, test: &mut Command) {
        test.env("DATABASE_URL", &self.url).env("POSTGRES_BIN", &self.programs).env("POSTCALL_TEST_TEMPLATE", TEMPLATE);
    }

    /// Deletes what tests have left.
    pub fn clean(&self) -> Result<(), String> {
        self.psql(CLEAN)
    }

    fn template_url(&self) -> String {
        let (server, _) = self.url.rsplit_once('/').unwrap_or((&self.url, ""));
        format!("{server}/{TEMPLATE}")
    }

    /// Runs statements one by one; those that fail change nothing.
    fn psql(&self, sql: &str) -> Result<(), String> {
        let mut psql = Command::new(Path::new(&self.programs).join("psql"));
        psql.args(["-qX", "-d", &self.url, "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let run = |mut child: Child| {
            if let Some(mut input) = child.stdin.take() {
                input.write_all(sql.as_bytes())?;
            }
            child.wait_with_output()
        };
        let output = psql.spawn().and_then(run).map_err(|error| format!("psql: {error}"))?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.open = None;
        let _ = self.script.wait();
    }
}
