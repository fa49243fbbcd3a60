//! CSV (RFC 4180, with plain line feeds) whose cells a spreadsheet does not run as formulas.

use std::borrow::Cow;
use std::io::Write;

use serde_json::Value;

use super::export::without_effect;
use crate::domain::visible::acts;

/// If a cell begins with one of these characters, a spreadsheet may run it as a formula, or strip the character and
/// then find a formula: the four signs, their full-width forms, which spreadsheets in some languages treat alike, tab
/// and carriage return.
const RUN: [char; 10] = ['=', '+', '-', '@', '＝', '＋', '－', '＠', '\t', '\r'];

/// Writes one record. The form of a cell depends on its type:
///
/// - a number, true or false is written unchanged, and null as nothing;
/// - text is written in quotes, so that no separator of any language splits it. If it begins with one of the characters that run a formula, or
///   with apostrophes and then one of them, an apostrophe is put before it; a program that reads the file removes one
///   apostrophe from each such cell. Text that is a plain number (`-5`) needs none. Characters that act on a terminal, are invisible or turn
///   the direction of what stands beside them are written as escapes (`\u{202e}`); line breaks and tabs are kept;
/// - anything else (a list) is written as JSON, as text.
///
/// # Errors
/// Those of `out`.
pub fn write_record<'v>(out: &mut impl Write, cells: impl IntoIterator<Item = &'v Value>) -> std::io::Result<()> {
    for (number, value) in cells.into_iter().enumerate() {
        let separator = if number == 0 { "" } else { "," };
        write!(out, "{separator}{}", cell(value))?;
    }
    out.write_all(b"\n")
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(_) | Value::Object(_) => quoted(&without_effect(&value.to_string())),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", plain(&harmless(text)).replace('"', "\"\""))
}

/// `text` without characters that act on whoever looks at the file. Within the quotes, line breaks and tabs stand for themselves.
fn plain(text: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| acts(c) && !matches!(c, '\n' | '\r' | '\t');
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| if is_escaped(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escaped).collect())
}

/// `text` in a form that no spreadsheet runs.
fn harmless(text: &str) -> Cow<'_, str> {
    let would_run = text.trim_start_matches('\'').starts_with(RUN) && !is_plain_number(text);
    if would_run { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

fn is_plain_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(cells: &[Value]) -> String {
        let mut out = Vec::new();
        write_record(&mut out, cells).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_cell_is_a_formula_and_numbers_stay_numbers() {
        for text in ["=1+1", "+15551234567", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "'=1", "-", "''+1"] {
            assert_eq!(record(&[json!(text)]), format!("\"'{text}\"\n"));
        }
        assert_eq!(record(&[json!(-5), json!(1.5), json!(true), json!(null), json!("-5")]), "-5,1.5,true,,\"-5\"\n");
    }

    #[test]
    fn other_text_is_kept_and_cannot_leave_its_cell() {
        let texts = ["", "a,b;c", "say \"hi\"", "two\nlines\r\n", "'s-Hertogenbosch", "1=1", " =1"];
        for text in texts {
            let line = record(&[json!(text), json!(7)]);
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
            let read = reader.records().next().unwrap().unwrap();
            assert_eq!((&read[0], &read[1]), (text, "7"), "{line}");
        }
    }

    #[test]
    fn no_character_of_a_cell_turns_hides_or_acts_on_what_stands_beside_it() {
        for (text, cell) in [
            ("\u{202e}fdp.x", r"\u{202e}fdp.x"),
            ("a\u{200b}\u{2066}b", r"a\u{200b}\u{2066}b"),
            ("\u{1b}[2J", r"\u{1b}[2J"),
        ] {
            assert_eq!(record(&[json!(text)]), format!("\"{cell}\"\n"));
        }
        assert_eq!(record(&[json!(["\u{202e}"])]), "\"[\"\"\\u202e\"\"]\"\n", "JSON in its cell stays JSON");
        assert_eq!(record(&[json!("שלום, two\nlines\t")]), "\"שלום, two\nlines\t\"\n");
    }

    #[test]
    fn a_list_is_json_in_its_cell() {
        assert_eq!(record(&[json!(["a b", "c\"d"])]), "\"[\"\"a b\"\",\"\"c\\\"\"d\"\"]\"\n");
    }
}
