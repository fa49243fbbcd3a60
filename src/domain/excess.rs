//! What a database user may do that a dispatcher does not need: least privilege, told to whoever starts one.

use super::closed_set::closed_set;

closed_set! {
    /// A right that no dispatcher needs.
    pub enum Excess {
        /// It is a superuser, or may become one.
        Superuser = "superuser",
        /// It owns the schema.
        Owner = "owner",
        /// Row-level security does not hold for it.
        BypassRls = "bypassrls",
        /// It may make and grant roles.
        CreateRole = "createrole",
        /// It may copy the whole server.
        Replication = "replication",
        /// It has one of the server's roles that read or write everything, or the files of the server.
        Server = "server",
        /// It may create schemas in the database.
        Create = "create",
        /// It has the role of publishers.
        Publisher = "postcall_publisher",
        /// It has the role of auditors.
        Auditor = "postcall_auditor",
        /// It has the role of the platform.
        Platform = "postcall_platform",
        /// It has the console's role for operators.
        ConsoleOperator = "postcall_console_operator",
        /// It has the console's role for viewers.
        ConsoleViewer = "postcall_console_viewer",
    }
}

impl Excess {
    /// Whether it is one of postcall's own roles: too much for a dispatcher, and right for somebody else.
    pub const fn is_role(self) -> bool {
        use Excess::{Auditor, ConsoleOperator, ConsoleViewer, Platform, Publisher};
        matches!(self, Publisher | Auditor | Platform | ConsoleOperator | ConsoleViewer)
    }

    /// What was found, for the sentence "the database user …".
    pub const fn found(self) -> &'static str {
        match self {
            Excess::Superuser => "is a superuser, or may become one, and nothing in the database holds it back",
            Excess::Owner => "owns the schema, and may change what is recorded",
            Excess::BypassRls => "has BYPASSRLS: it reads all rows, whatever row-level security hides",
            Excess::CreateRole => "has CREATEROLE: it may make users, and give itself roles",
            Excess::Replication => "has REPLICATION: it may copy the whole server",
            Excess::Server => "has a role of the server that reads or writes everything (such as pg_read_all_data)",
            Excess::Create => "may create schemas in this database (CREATE)",
            Excess::Publisher => "has the role postcall_publisher: it may publish, replay and set secrets",
            Excess::Auditor => "has the role postcall_auditor, which is for people",
            Excess::Platform => "has the role postcall_platform: it may insert calls",
            Excess::ConsoleOperator => "has the role postcall_console_operator: it may replay, resolve and pause",
            Excess::ConsoleViewer => "has the role postcall_console_viewer, which is for people",
        }
    }

    /// What to do about it.
    pub const fn cure(self) -> &'static str {
        match self {
            Excess::Superuser | Excess::Owner => {
                "let dispatchers log in as a user of their own: CREATE ROLE … LOGIN; GRANT postcall_dispatcher TO …"
            }
            Excess::BypassRls => "ALTER ROLE … NOBYPASSRLS",
            Excess::CreateRole => "ALTER ROLE … NOCREATEROLE",
            Excess::Replication => "ALTER ROLE … NOREPLICATION",
            Excess::Server => "REVOKE the roles whose names begin with pg_ FROM it",
            Excess::Create => {
                "REVOKE CREATE ON DATABASE … FROM it, or from PUBLIC, and let another user own the database"
            }
            Excess::Publisher => "REVOKE postcall_publisher FROM it",
            Excess::Auditor => "REVOKE postcall_auditor FROM it",
            Excess::Platform => "REVOKE postcall_platform FROM it",
            Excess::ConsoleOperator => "REVOKE postcall_console_operator FROM it",
            Excess::ConsoleViewer => "REVOKE postcall_console_viewer FROM it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_of_postcall_is_named_where_it_is_found_and_taken_away_as_the_cure() {
        for excess in Excess::ALL {
            let (found, cure) = (excess.found(), excess.cure());
            assert!(found.contains(' ') && cure.contains(' '), "{excess}");
            assert_eq!(excess.is_role(), excess.as_str().starts_with("postcall_"), "{excess}");
            if excess.is_role() {
                assert!(found.starts_with(&format!("has the role {excess}")), "{excess}: {found}");
                assert_eq!(cure, format!("REVOKE {excess} FROM it"));
            }
        }
    }
}
