//! The fields of a TOML file.
//!
//! A multi-line body needs no escapes in TOML: what stands between `'''` and `'''` is the template as it is. Headers may be a
//! table. It becomes the text of a JSON object, with one header a line, so that all that is true of a headers template is true
//! of it, too.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::fields::{FIELDS, Given, MAX_NAMES_TOLD, Value, bad_action};
use crate::domain::problem::{Code, Field, Positions, Problem};

/// What the parser says of a key that is given twice.
const DUPLICATE: &str = "duplicate key";
/// Only this many characters of a name that is given twice are shown.
const MAX_SHOWN_CHARS: usize = 40;

/// The fields of `text` in their order, and the problems that still let them be read: names that are given twice.
///
/// # Errors
/// The first place at which the text is not TOML.
pub(super) fn read(text: &str) -> Result<(Vec<Given>, Vec<Problem>), Problem> {
    // What can be read beside an error is asked for only if the first one is a name that is given twice. In another text, each
    // character may be an error, and all of them would be kept.
    let (table, errors) = match DeTable::parse(text) {
        Ok(table) => (table, Vec::new()),
        Err(error) if error.message() != DUPLICATE => return Err(not_readable(text, &error)),
        Err(_) => DeTable::parse_recoverable(text),
    };
    if let Some(error) = errors.iter().find(|error| error.message() != DUPLICATE) {
        return Err(not_readable(text, error));
    }
    let mut positions = Positions::new(text);
    let mut problems: Vec<Problem> = errors
        .iter()
        .take(MAX_NAMES_TOLD)
        .filter_map(toml::de::Error::span)
        .map(|span| {
            let name = text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\'']);
            let shown: String = name.chars().take(MAX_SHOWN_CHARS).collect();
            let mut problem = bad_action(format!("`{}` is given twice: remove one", shown.escape_debug()));
            problem.position = Some(positions.of(span.start));
            problem
        })
        .collect();
    let mut given = Vec::new();
    for (name, value) in in_order(table.get_ref()) {
        let at = value.span().start;
        if let ("headers", DeValue::Table(headers)) = (name.get_ref().as_ref(), value.get_ref()) {
            problems.extend(misplaced(headers).map(|(name, at)| misplaced_field(name).at(text, at)));
        }
        given.push(Given { name: name.get_ref().to_string(), value: told_apart(value.get_ref()), at });
    }
    Ok((given, problems))
}

fn not_readable(text: &str, error: &toml::de::Error) -> Problem {
    let problem = bad_action(format!("the file is not TOML: {}", error.message()));
    match error.span() {
        Some(span) => problem.at(text, span.start),
        None => problem,
    }
}

/// The entries of a table in the order of the file.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn told_apart(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Value::Word(number.as_str().to_owned()),
        DeValue::Float(number) => Value::Word(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Value::Word(truth.to_string()),
        DeValue::Table(table) => Value::Object(object(table)),
        DeValue::Integer(_) | DeValue::Datetime(_) | DeValue::Array(_) => Value::Other,
    }
}

/// The fields of the file that stand below `[headers]`. They would be sent as headers, and a body that is not read would have
/// the whole call sent.
fn misplaced<'t>(headers: &'t DeTable<'_>) -> impl Iterator<Item = (&'static str, usize)> + 't {
    let field = |name: &str| FIELDS.into_iter().find(|field| *field == name);
    in_order(headers).into_iter().filter_map(move |(name, _)| Some((field(name.get_ref())?, name.span().start)))
}

fn misplaced_field(name: &str) -> Problem {
    let message = format!(
        "`{name}` stands below `[headers]`, and would be a header: move it above that line; for a header with this name, write \
         `headers` as the text of a JSON object"
    );
    Problem::new(Code::BadAction, Field::Action, message)
}

/// A table of headers as the text of a JSON object, with one header a line. A value that no header can have stays what it is,
/// so that it is refused where all headers are checked.
fn object(table: &DeTable<'_>) -> String {
    let entry = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        format!("\n  {}: {}", quoted(name.get_ref()), header(value.get_ref()))
    };
    let entries: Vec<String> = in_order(table).into_iter().map(entry).collect();
    if entries.is_empty() { "{}".to_owned() } else { format!("{{{}\n}}", entries.join(",")) }
}

fn header(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Integer(number) => quoted(&number.to_string()),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => quoted(&time.to_string()),
        DeValue::Array(_) => "[]".to_owned(),
        DeValue::Table(_) => "{}".to_owned(),
    }
}

/// `text` as a JSON string in a template. Placeholders, and the backslash of a literal `\${`, stay as they are.
fn quoted(text: &str) -> String {
    let mut json = String::from("\"");
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let taken = match next {
            '\\' if rest.starts_with("\\${") => "\\${".len(),
            '$' => placeholder(rest).unwrap_or(1),
            _ => 0,
        };
        let (as_it_is, after) = rest.split_at(taken);
        json.push_str(as_it_is);
        if taken == 0 {
            push_escaped(&mut json, next);
        }
        rest = after.get(if taken == 0 { next.len_utf8() } else { 0 }..).unwrap_or_default();
    }
    json.push('"');
    json
}

fn push_escaped(json: &mut String, c: char) {
    match c {
        '"' | '\\' => json.extend(['\\', c]),
        c if c < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => json.push(c),
    }
}

/// The length of the placeholder with which `text` begins, without its last `}`. In a quoted key, `}` does not end it.
fn placeholder(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("${")?;
    let mut quote = None;
    for (at, c) in inner.char_indices() {
        match (c, quote) {
            ('\n' | '\r', _) => return None,
            ('}', None) => return Some("${".len() + at),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{ActionFile, ActionText, Notation};
    use super::*;
    use crate::domain::action::Method;

    fn parse(text: &str) -> Result<ActionFile, Vec<Problem>> {
        ActionFile::parse(ActionText { text, notation: Notation::Toml })
    }

    fn with(field: &str) -> String {
        format!("method = \"POST\"\nurl = \"https://h/\"\n{field}")
    }

    /// Code, line and column, and message of a problem.
    type Told = (Code, Option<(usize, usize)>, String);

    fn wrong(text: &str) -> Vec<Told> {
        let place = |problem: &Problem| problem.position.map(|position| (position.line, position.column));
        parse(text).unwrap_err().into_iter().map(|problem| (problem.code, place(&problem), problem.message)).collect()
    }

    #[test]
    fn a_toml_file_says_the_same_as_the_json_file_with_its_fields() {
        let toml = "# The CRM.\nmethod = \"PUT\"\nurl = 'https://h/${callInfo.callSid}'\ntimeout = 5_000\nenabled = false\n\
                    headers = '{\"x\": 1}'\nbody = '''\n{\n  \"a\": \"\\${b}\"\n}'''\n";
        let json = r#"{"method": "PUT", "url": "https://h/${callInfo.callSid}", "timeout": 5000, "enabled": false,
                       "headers": "{\"x\": 1}", "body": "{\n  \"a\": \"\\${b}\"\n}"}"#;
        assert_eq!(parse(toml).unwrap(), ActionFile::parse(json).unwrap());
        let least = parse("method = 'GET'\nurl = 'https://h/'").unwrap();
        assert_eq!(least, ActionFile::parse(r#"{"method": "GET", "url": "https://h/"}"#).unwrap());
        assert_eq!(least.spec.method, Method::Get);
    }

    #[test]
    fn a_table_of_headers_is_the_text_of_a_json_object_with_a_header_a_line() {
        let table = "[headers]\nX-B = 'a\"b\\c'\n\"x a\" = 1.50\nn = -2\nt = true\nd = 2026-11-28\nh = 0x1F\n\
                     p = '''${a[\"}\"]}\"${b['']}\" \\${c} \\\\${d} $ ${\"'''\nc = \"\\u0001é\"";
        let expected = [
            "{",
            r#"  "X-B": "a\"b\\c","#,
            r#"  "x a": 1.50,"#,
            r#"  "n": -2,"#,
            r#"  "t": true,"#,
            r#"  "d": "2026-11-28","#,
            r#"  "h": "0x1F","#,
            r#"  "p": "${a["}"]}\"${b['']}\" \${c} \\\${d} $ ${\"","#,
            r#"  "c": "\u0001é""#,
            "}",
        ];
        assert_eq!(parse(&with(table)).unwrap().spec.headers.unwrap(), expected.join("\n"));
        let headers = |text: &str| parse(&with(text)).unwrap().spec.headers;
        assert_eq!(headers("headers = {}").as_deref(), Some("{}"));
        assert_eq!(headers("headers = {a = [1], b = {c = 1}}").as_deref(), Some("{\n  \"a\": [],\n  \"b\": {}\n}"));
        assert_eq!(headers("headers.a = 1\nheaders.B = '2'").as_deref(), Some("{\n  \"a\": 1,\n  \"B\": \"2\"\n}"));
        assert_eq!(headers(""), None);
    }

    #[test]
    fn a_wrong_type_is_refused_at_its_value_as_in_json() {
        let timeout = "`timeout` must be whole milliseconds from 100 to 120000, as a number without quotes";
        let body = "`body` must be template text in a string: put the JSON between `'''` and `'''`";
        let headers = "`headers` must be a table, or the text of a JSON object in a string: leave it out to send none";
        let enabled = "`enabled` must be true or false, without quotes";
        for (field, code, place, message) in [
            ("timeout = '15000'", Code::BadTimeout, Some((3, 11)), timeout),
            ("timeout = 1.5e4", Code::BadTimeout, Some((3, 11)), timeout),
            ("timeout = 0x1000", Code::BadTimeout, Some((3, 11)), timeout),
            ("timeout = 0x3A98", Code::BadTimeout, Some((3, 11)), timeout),
            ("timeout = 2026-11-28", Code::BadTimeout, Some((3, 11)), timeout),
            ("body = 1", Code::BadAction, Some((3, 8)), body),
            ("body = {a = 1}", Code::BadAction, Some((3, 8)), body),
            ("headers = 'é'\nbody = [1]", Code::BadAction, Some((4, 8)), body),
            ("headers = 1", Code::HeadersNotObject, None, headers),
            ("[[headers]]", Code::HeadersNotObject, None, headers),
            ("enabled = 'true'", Code::BadAction, Some((3, 11)), enabled),
        ] {
            assert_eq!(wrong(&with(field)), [(code, place, message.to_owned())], "{field}");
        }
        let method = "`method` must be \"GET\", \"POST\" or \"PUT\"".to_owned();
        assert_eq!(wrong("method = 1\nurl = ''"), [(Code::BadMethod, Some((1, 10)), method)]);
    }

    #[test]
    fn a_field_that_is_unknown_given_twice_or_below_the_headers_is_told_with_all_else_that_is_wrong() {
        let text =
            with("heders = ''\n timeout = 5\nurl = 'https://i/'\n'url' = ''\n[headers]\na = 1\nbody = ''\na = 2");
        let found = wrong(&text);
        let expected = [
            ((5, 1), "`url` is given twice: remove one"),
            ((6, 1), "`url` is given twice: remove one"),
            ((10, 1), "`a` is given twice: remove one"),
            ((9, 1), "`body` stands below `[headers]`, and would be a header"),
            ((3, 10), "there is no field `heders`: did you mean `headers`?"),
            ((4, 12), "`timeout` must be whole milliseconds"),
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for ((_, place, message), (expected, words)) in found.iter().zip(expected) {
            assert!(*place == Some(expected) && message.starts_with(words), "{place:?} {message}");
        }
    }

    #[test]
    fn what_is_no_toml_is_refused_with_line_and_column() {
        for (text, place) in [
            ("method = \"POST\"\nurl = https://h/", (2, 7)),
            ("method = \"POST\"\nurl", (2, 4)),
            ("method = 'POST", (1, 15)),
            ("body = '''\n{", (2, 2)),
            ("{\"method\": \"POST\"}", (1, 1)),
        ] {
            let found = wrong(text);
            assert_eq!((found.len(), found[0].0, found[0].1), (1, Code::BadAction, Some(place)), "{text}: {found:?}");
            assert!(found[0].2.starts_with("the file is not TOML: "), "{found:?}");
        }
        let missing: Vec<Code> = wrong("").into_iter().map(|one| one.0).collect();
        assert_eq!(missing, [Code::BadMethod, Code::BadAction]);
    }

    #[test]
    fn a_file_is_as_large_as_in_json_and_one_with_very_many_slips_is_refused_with_few_words() {
        let padded = |bytes: usize| with("timeout = 1000\n#") + &" ".repeat(bytes);
        let room = super::super::MAX_ACTION_FILE_BYTES - padded(0).len();
        assert!(parse(&padded(room)).is_ok());
        assert_eq!(wrong(&padded(room + 1))[0].0, Code::TooLarge);
        let unknown: String = (0..30_000).map(|number| format!("x{number} = 1\n")).collect();
        let twice = "timeout = 1000\n".repeat(30_000);
        let long = format!("{0} = 1\n{0} = 1\n", "x".repeat(200_000));
        for many in [unknown, twice, long, "[".repeat(500_000), "a.".repeat(250_000), "=\n".repeat(200_000)] {
            let found = wrong(&with(&many));
            assert!(found.len() <= 2 * MAX_NAMES_TOLD + 1, "{}", found.len());
            assert!(found.iter().all(|one| one.2.len() < 300), "{found:?}");
        }
    }

    #[test]
    fn a_placeholder_ends_neither_in_a_quoted_key_nor_on_another_line() {
        for (text, json) in [
            (r#"${a["'x}"]}""#, r#""${a["'x}"]}\"""#),
            (r#"${"a"}""#, r#""${"a"}\"""#),
            ("${a\n}", r#""${a\u000a}""#),
            ("${a[\"\r\"]}", r#""${a[\"\u000d\"]}""#),
        ] {
            assert_eq!(quoted(text), json);
        }
    }
}
