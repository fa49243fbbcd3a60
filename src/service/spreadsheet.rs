//! CSV (RFC 4180, with plain line feeds) whose cells a spreadsheet does not run as formulas.

use std::borrow::Cow;
use std::io::Write;

use serde_json::Value;

/// If a cell begins with one of these characters, a spreadsheet may run it as a formula, or strip the character and
/// then find a formula: the four signs, their full-width forms, which spreadsheets in some languages treat alike, tab
/// and carriage return.
const RUN: [char; 10] = ['=', '+', '-', '@', '＝', '＋', '－', '＠', '\t', '\r'];

/// Writes one record. The form of a cell depends on its type:
///
/// - a number, true or false is written unchanged, and null as nothing;
/// - text is written in quotes, so that no separator of any language splits it. If it begins with one of the characters that run a formula, or
///   with apostrophes and then one of them, an apostrophe is put before it; a program that reads the file removes one
///   apostrophe from each such cell. Text that is a plain number (`-5`) needs none;
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
        Value::Array(_) | Value::Object(_) => quoted(&value.to_string()),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", harmless(text).replace('"', "\"\""))
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
    fn a_list_is_json_in_its_cell() {
        assert_eq!(record(&[json!(["a b", "c\"d"])]), "\"[\"\"a b\"\",\"\"c\\\"\"d\"\"]\"\n");
    }
}
