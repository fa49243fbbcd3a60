//! The body of a request: a form, as browsers send one. It is bounded in size, in fields and in time, and is read only
//! after the gate has admitted the request.

use std::time::Duration;

use http::{HeaderMap, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::failure::Trouble;

/// The largest body, in bytes. Three templates of 64 KiB take 576 KiB if every byte of them is percent-encoded.
pub(super) const MOST_FORM_BYTES: u64 = 640 * 1024;
/// The most fields of a form.
const MOST_FIELDS: usize = 64;
/// How long a body may take to arrive.
const FORM_TIME: Duration = Duration::from_secs(10);
/// What a form's body is.
const KIND: &str = "application/x-www-form-urlencoded";

/// The fields of a form, in their order. Line breaks are single characters, as in a text area, and not as they are sent.
#[derive(Debug, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the body of an admitted request.
    pub(super) async fn read(headers: &HeaderMap, body: Incoming) -> Result<Form, Trouble> {
        if !is_form(headers) {
            return Err(Trouble::NoForm);
        }
        // Told at once, before the first byte of it is read.
        if body.size_hint().lower() > MOST_FORM_BYTES {
            return Err(Trouble::TooLarge);
        }
        let most = usize::try_from(MOST_FORM_BYTES).unwrap_or(usize::MAX);
        let whole =
            timeout(FORM_TIME, Limited::new(body, most).collect()).await.map_err(|_| Trouble::TooSlowToArrive)?;
        let bytes = whole.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
            true => Trouble::TooLarge,
            // Its sender has gone.
            false => Trouble::TooSlowToArrive,
        })?;
        Form::of(&bytes.to_bytes())
    }

    /// The fields of a body.
    fn of(bytes: &[u8]) -> Result<Form, Trouble> {
        let fields = url::form_urlencoded::parse(bytes).take(MOST_FIELDS + 1);
        let fields: Vec<(String, String)> =
            fields.map(|(name, value)| (name.into_owned(), value.replace("\r\n", "\n"))).collect();
        if fields.len() > MOST_FIELDS {
            return Err(Trouble::Wrong(format!("The form has more than {MOST_FIELDS} fields.")));
        }
        if fields.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
            return Err(Trouble::Wrong("A field has a NUL character, which nothing in the database has.".to_owned()));
        }
        Ok(Form(fields))
    }

    /// The value of a field as it was typed; `None` if the form does not have it. A field that is given more than once
    /// counts as absent: nobody typed that into a form of the console.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(of, _)| of == name).map(|(_, value)| value.as_str());
        values.next().filter(|_| values.next().is_none())
    }

    /// As [`Form::text`], for a field that the console's own forms always have.
    pub(super) fn needed(&self, name: &str) -> Result<&str, Trouble> {
        self.text(name).ok_or_else(|| Trouble::Wrong(format!("The form has not exactly one field {name}.")))
    }

    /// Whether a box is checked.
    pub(super) fn is_checked(&self, name: &str) -> bool {
        self.text(name) == Some("yes")
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(header::CONTENT_TYPE).into_iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else { return false };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case(KIND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_were_typed_and_what_no_form_of_the_console_sends_is_refused() {
        let form = Form::of(b"a=1&b=x%0D%0Ay+z&c=&c=2&d=yes").unwrap();
        assert_eq!((form.text("a"), form.text("b")), (Some("1"), Some("x\ny z")));
        assert_eq!((form.text("c"), form.text("e")), (None, None));
        assert!(form.is_checked("d") && !form.is_checked("a"));
        assert!(matches!(form.needed("e"), Err(Trouble::Wrong(why)) if why.contains("field e")));
        assert!(matches!(Form::of(b"a=%00"), Err(Trouble::Wrong(_))));
        assert!(matches!(Form::of("a=1&".repeat(65).as_bytes()), Err(Trouble::Wrong(_))));
    }
}
