//! Shows a problem to people: the message, and the line of the text with a caret under the position.
//!
//! ```text
//! error[invalid_json_body]: expected `,` or `}` after this value: is a comma missing here?
//!  --> body:9:35
//!   |
//! 9 |   "leadId": "${context.leadId}"
//!   |                                ^
//! ```

use unicode_width::UnicodeWidthChar;

use crate::domain::problem::{Position, Problem};

/// The largest width of the shown part of a line, in terminal columns.
const MAX_WIDTH: usize = 100;
/// The largest width of the part before the caret, in terminal columns.
const MAX_BEFORE: usize = 60;
/// The largest number of characters on each side of the caret. Some characters have no width, and a line can hold 64
/// KiB of them.
const MAX_CHARS: usize = 200;
/// A tab is shown as these spaces.
const TAB: &str = "    ";
const CUT: &str = "…";

/// Shows `problem`, which is in `text`: the field's template, or the action file for a problem of the file itself.
/// Returns several lines, the last one without a line break. Control characters of `text` are replaced.
pub fn show(problem: &Problem, text: &str) -> String {
    let head = format!("error[{}]: {}", problem.code, problem.message);
    match problem.position {
        None => format!("{head}\n --> {}", problem.field),
        Some(position) => format!("{head}\n{}", excerpt(problem, position, text)),
    }
}

fn excerpt(problem: &Problem, position: Position, text: &str) -> String {
    let line = text.split('\n').nth(position.line.saturating_sub(1)).unwrap_or_default();
    let (shown, caret) = around(line.trim_end_matches('\r'), position.column.saturating_sub(1));
    let number = position.line.to_string();
    let margin = " ".repeat(number.len());
    let pad = " ".repeat(caret);
    let location = format!("{margin}--> {}:{}:{}", problem.field, position.line, position.column);
    format!("{location}\n{margin} |\n{number} | {shown}\n{margin} | {pad}^")
}

/// The part of `line` that is shown, and the terminal column in it at which the character `index` begins.
fn around(line: &str, index: usize) -> (String, usize) {
    let at = line.char_indices().nth(index).map_or(line.len(), |(at, _)| at);
    let (before, after) = line.split_at(at);
    let (mut kept_before, caret, cut_before) = fitting(before.chars().rev(), MAX_BEFORE);
    let (kept_after, _, cut_after) = fitting(after.chars(), MAX_WIDTH - caret);
    kept_before.reverse();
    let mut shown = String::from(if cut_before { CUT } else { "" });
    shown.extend(kept_before.into_iter().chain(kept_after));
    shown.push_str(if cut_after { CUT } else { "" });
    (shown, caret + usize::from(cut_before))
}

/// How `c` is shown, and how many columns that takes.
fn cell(c: char) -> (String, usize) {
    match c {
        '\t' => (TAB.to_owned(), TAB.len()),
        _ => match c.width() {
            Some(width) if !is_direction_mark(c) => (c.to_string(), width),
            _ => (char::REPLACEMENT_CHARACTER.to_string(), 1),
        },
    }
}

/// Marks that would reverse the direction of the line, so that the caret would be under another character.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The first of `chars` that fit into `limit` columns, as they are shown; how many columns they take; and whether there
/// were more.
fn fitting(chars: impl Iterator<Item = char>, limit: usize) -> (Vec<String>, usize, bool) {
    let mut kept = Vec::new();
    let mut used = 0;
    for c in chars {
        let (text, width) = cell(c);
        if used + width > limit || kept.len() == MAX_CHARS {
            return (kept, used, true);
        }
        used += width;
        kept.push(text);
    }
    (kept, used, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::problem::{Code, Field};

    fn shown(text: &str, line: usize, column: usize) -> String {
        let mut problem = Problem::new(Code::InvalidJsonBody, Field::Body, "a comma is missing");
        problem.position = Some(Position { line, column });
        show(&problem, text)
    }

    fn last_lines(text: &str, line: usize, column: usize) -> (String, String) {
        let shown = shown(text, line, column);
        let mut lines = shown.lines().rev().map(str::to_owned);
        let caret = lines.next().unwrap();
        (lines.next().unwrap(), caret)
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        let expected = "error[invalid_json_body]: a comma is missing\n \
                        --> body:2:9\n  \
                          |\n\
                        2 |   \"a\": 1\n  \
                          |         ^";
        assert_eq!(shown("{\n  \"a\": 1\n  \"b\": 2\n}", 2, 9), expected);
    }

    #[test]
    fn the_margin_is_as_wide_as_the_line_number() {
        let (line, caret) = last_lines(&"x\n".repeat(120), 100, 1);
        assert_eq!((line.as_str(), caret.as_str()), ("100 | x", "    | ^"));
    }

    #[test]
    fn tabs_and_wide_and_combining_characters_take_their_columns() {
        let (line, caret) = last_lines("\t漢e\u{301}x", 1, 5);
        assert_eq!(line, "1 |     漢e\u{301}x");
        assert_eq!(caret, format!("  | {}^", " ".repeat(7)));
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let (line, caret) = last_lines(&text, 1, 501);
        assert_eq!(line, format!("1 | …{}X{}…", "a".repeat(60), "b".repeat(39)));
        assert_eq!(caret, format!("  | {}^", " ".repeat(61)));
    }

    #[test]
    fn a_line_of_any_length_is_shown_in_little_text() {
        for character in ["a", "\u{301}", "\t", "漢", "\0"] {
            let text = character.repeat(60_000);
            for column in [1, 30_000, 60_000, 60_001] {
                let text = shown(&text, 1, column);
                assert!(text.len() < 2000, "{} bytes for {character:?}", text.len());
            }
        }
    }

    #[test]
    fn nothing_in_the_text_reaches_the_terminal_as_a_command() {
        let (line, _) = last_lines("\u{1b}[2J\u{202e}x\r", 1, 1);
        assert_eq!(line, "1 | \u{fffd}[2J\u{fffd}x");
    }

    #[test]
    fn a_place_past_the_end_is_the_end() {
        assert_eq!(last_lines("ab", 1, 3).1, "  |   ^");
        assert_eq!(last_lines("", 1, 1), ("1 | ".to_owned(), "  | ^".to_owned()));
        assert_eq!(last_lines("a", 7, 9), ("7 | ".to_owned(), "  | ^".to_owned()));
    }

    #[test]
    fn without_a_place_only_the_field_is_named() {
        let problem = Problem::new(Code::TooLarge, Field::Url, "too long");
        assert_eq!(show(&problem, "x"), "error[too_large]: too long\n --> url");
    }
}
