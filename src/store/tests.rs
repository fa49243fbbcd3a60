//! What is read from an error of the database.

use std::fmt;

use super::*;

/// An error with this SQLSTATE, as the server reports it.
#[derive(Debug)]
struct Reported(&'static str);

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Reported {}

impl sqlx::error::DatabaseError for Reported {
    fn message(&self) -> &str {
        self.0
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.0.into())
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> sqlx::error::ErrorKind {
        sqlx::error::ErrorKind::Other
    }
}

/// The same, as the store gives it to others.
pub(super) fn reported(code: &'static str) -> StoreError {
    sqlx::Error::Database(Box::new(Reported(code))).into()
}

/// What holds of an error, by the first letters of the questions.
fn holds(error: &StoreError) -> String {
    let answers = [
        ('a', error.is_answer()),
        ('f', error.is_forbidden()),
        ('r', error.is_read_only()),
        ('s', error.is_serialization_failure()),
        ('c', error.is_cancelled()),
        ('d', error.is_about_the_data()),
        ('w', error.is_about_what_is_stored()),
        ('t', error.is_about_time()),
    ];
    answers.into_iter().filter(|(_, holds)| *holds).map(|(letter, _)| letter).collect()
}

#[test]
fn what_an_error_means_is_read_from_its_sqlstate() {
    for (code, expected) in [
        ("42501", "af"),
        ("25006", "ar"),
        ("40001", "as"),
        ("40P01", "a"),
        ("57014", "ct"),
        ("57P01", ""),
        ("21000", "adw"),
        ("22P02", "adw"),
        ("23505", "adw"),
        ("38000", "adw"),
        ("39000", "adw"),
        ("44000", "adw"),
        ("54000", "adw"),
        ("P0001", "adw"),
        ("XX001", "aw"),
        ("42P01", "a"),
    ] {
        assert_eq!(holds(&reported(code)), expected, "{code}");
    }
}

#[test]
fn what_the_driver_reports_itself_is_no_answer_of_the_server_unless_it_is_about_one() {
    let decode = || sqlx::Error::Decode("not a state".into());
    for (error, expected) in [
        (sqlx::Error::RowNotFound.into(), "a"),
        (sqlx::Error::PoolTimedOut.into(), ""),
        (sqlx::Error::ColumnDecode { index: "state".to_owned(), source: "not a state".into() }.into(), "w"),
        (decode().into(), "w"),
        (StoreError::Unanswered(Duration::from_secs(1)), "t"),
        (StoreError::Obstacle(Obstacle::Standby), "r"),
    ] {
        assert_eq!(holds(&error), expected, "{error:?}");
    }
    let migrating = |code| {
        StoreError::Migrate(DriverError(sqlx::migrate::MigrateError::Execute(sqlx::Error::Database(Box::new(
            Reported(code),
        )))))
    };
    assert!(migrating("42501").is_forbidden() && !migrating("42P01").is_forbidden());
}
