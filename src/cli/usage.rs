//! What is added to clap's words about wrong usage: where else an argument can be said, and what an id is.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, Error, Parser};

use super::{Cli, filter};
use crate::domain::visible::visible;

impl Cli {
    /// The command that this process's arguments say. If they say none, prints what is wrong with them, or the help that they ask for, and
    /// ends the process.
    pub fn of_this_process() -> Cli {
        Cli::try_parse().unwrap_or_else(|error| with_advice(error).exit())
    }
}

/// The same error, with what to do about it where clap cannot know that.
fn with_advice(error: Error) -> Error {
    match error.kind() {
        ErrorKind::MissingRequiredArgument => with_other_ways(error),
        ErrorKind::ValueValidation => of_id(&error).unwrap_or(error),
        _ => error,
    }
}

/// With the variables that say what is missing, and with the criteria that can stand in its place.
fn with_other_ways(mut error: Error) -> Error {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return error };
    let command = command_of(&error);
    let is_missing = |argument: &Arg| missing.iter().any(|missing| bare(missing) == bare(&argument.to_string()));
    let lacking = command.get_arguments().filter(|argument| is_missing(argument));
    let mut tips = Vec::new();
    for argument in lacking {
        if let Some(variable) = argument.get_env() {
            tips.push(format!("the variable {} says it, too", variable.display()));
        }
        if argument.is_positional() && command.get_groups().any(|group| group.get_id() == filter::GROUP) {
            let called = command.get_bin_name().unwrap_or_default();
            tips.push(format!(
                "criteria can stand in the place of ids, such as --state failed --since 1h (`{called} --help` lists them)"
            ));
        }
    }
    if !tips.is_empty() {
        let tips = tips.into_iter().map(StyledStr::from).collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

/// An argument as usage has it, whether it is marked as one that may be left out or not.
fn bare(argument: &str) -> &str {
    argument.trim_end_matches('.').trim_matches(['<', '>', '[', ']'])
}

/// That something else stands where an id is expected; `None` if the error is about something else.
fn of_id(error: &Error) -> Option<Error> {
    let (Some(ContextValue::String(argument)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return None;
    };
    let given = visible(value);
    let expected = if argument.contains("DELIVERY_ID") {
        format!(
            "the id of a delivery, which is a UUID. If it is the provider's id of a call, `postcall show {given}` gives the ids \
             of its deliveries"
        )
    } else if argument == "--call-id <UUID>" {
        format!("the id of a call in the outbox, which is a UUID. If it is the provider's id, say --call-sid {given}")
    } else if argument.contains("CALL_ID") {
        "the id of a call in the outbox, which is a UUID; `postcall calls` lists it beside the provider's".to_owned()
    } else if argument.contains("TEST_ID") {
        "the id of a test, which is a UUID; `postcall action tests AGENT` lists them".to_owned()
    } else {
        return None;
    };
    let message = format!(
        "invalid value '{given}' for '{argument}': expected {expected}\n\nFor more information, try '--help'.\n"
    );
    Some(Error::raw(ErrorKind::ValueValidation, message))
}

/// The command that an error is about: the one that its usage names.
fn command_of(error: &Error) -> Command {
    let mut command = Cli::command();
    command.build();
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return command };
    // Behind a title and the name of the program.
    for word in usage.to_string().split_whitespace().skip(2) {
        match command.find_subcommand(word) {
            Some(below) => command = below.clone(),
            None => break,
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL_SID: &str = "CA0123";

    fn told(arguments: &[&str]) -> String {
        let error = Cli::try_parse_from([&["postcall"], arguments].concat()).err().unwrap();
        let error = with_advice(error);
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }

    #[test]
    fn a_call_sid_in_the_place_of_an_id_is_told_what_is_expected_and_what_gives_it() {
        let at = ["--database-url", "postgres://h/d"];
        for (arguments, expected) in [
            (&["replay", CALL_SID, "--reason", "r"][..], "`postcall show CA0123` gives the ids of its deliveries"),
            (&["resolve", CALL_SID, "--as", "failed", "--reason", "r"], "`postcall show CA0123` gives the ids"),
            (&["history", "--after", CALL_SID], "`postcall show CA0123` gives the ids"),
            (&["audit", "prove", CALL_SID], "`postcall show CA0123` gives the ids"),
            (&["history", "--call-id", CALL_SID], "say --call-sid CA0123"),
            (&["calls", "--after", CALL_SID], "`postcall calls` lists it"),
            (&["action", "test", "a", "--call", CALL_SID, "--reason", "r"], "`postcall calls` lists it"),
            (&["action", "tests", "a", "--before", CALL_SID], "`postcall action tests AGENT` lists them"),
        ] {
            let told = told(&[arguments, &at].concat());
            assert!(told.contains(expected) && told.contains("which is a UUID"), "{told}");
            assert!(told.contains("'CA0123' for '") && !told.contains("invalid length"), "{told}");
        }
    }

    #[test]
    fn whoever_names_no_delivery_to_replay_is_told_of_the_criteria() {
        let told = told(&["replay", "--reason", "r", "--database-url", "postgres://h/d"]);
        let expected =
            "criteria can stand in the place of ids, such as --state failed --since 1h (`postcall replay --help`";
        assert!(told.contains("<DELIVERY_ID>...") && told.contains(expected), "{told}");
    }

    #[test]
    fn other_wrong_usage_is_told_in_clap_s_words() {
        for arguments in [&["replay", "--state", "nonsense"][..], &["history", "--limit", "0"], &["nonsense"]] {
            let error = || Cli::try_parse_from([&["postcall"], arguments].concat()).err().unwrap();
            assert_eq!(with_advice(error()).to_string(), error().to_string());
        }
    }
}
