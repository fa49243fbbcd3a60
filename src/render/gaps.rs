//! Where a request lacks values, for people who look at it. A dispatcher does not ask.

use super::CompiledAction;
use super::body::Body;
use super::json::canonical::canonical;
use super::paths::gaps::Notes;
use crate::domain::call::Call;
use crate::domain::problem::Problem;
use crate::domain::request::{Gaps, Request};
use crate::domain::secret::Secrets;

impl CompiledAction {
    /// As [`CompiledAction::render`], with the places at which a placeholder found no value. What is not sent has no place: the path
    /// of a header that is left out for want of a value is among [`Request::unresolved`] only. If there are any, the request is
    /// rendered a second time.
    ///
    /// # Errors
    /// As [`CompiledAction::render`].
    pub fn render_with_gaps(&self, call: Call<'_>) -> Result<(Request, Gaps), Problem> {
        let request = self.render(call)?;
        if request.unresolved.is_empty() {
            return Ok((request, Gaps::default()));
        }
        let (notes, masked, copy) = (Notes::default(), Secrets::Masked, canonical(call.text()));
        // As it was rendered: a text with a name twice stands for what its copy says.
        let first = self.find(call.text())?;
        let found = if first.needs_canonical() { self.find(&copy)? } else { first }.with(&masked)?.noting(&notes);
        found.end_text(&self.url.render(&found)?);
        self.headers.render(&found)?;
        let body = match &self.body {
            Body::Template(template) if self.method.has_body() => Some(template.render(&found)?),
            _ => None,
        };
        if let Some(body) = &body {
            found.end_text(body);
        }
        let mut texts = notes.take().into_iter();
        let url = texts.next().unwrap_or_default();
        let mut headers: Vec<_> = texts.collect();
        let body = body.and_then(|_| headers.pop()).unwrap_or_default();
        Ok((request, Gaps { url, headers, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::{ActionSpec, Method};

    /// What stands in each place that lacks a value, after the path of its placeholder: in the URL, the headers and the body.
    fn gaps(method: Method, body: Option<&str>, call: &str) -> [Vec<String>; 3] {
        let spec = ActionSpec {
            method,
            url: "https://h/?u=${u}&x=${x.y}".to_owned(),
            timeout_ms: 15_000,
            headers: Some(r#"{"a": " ${h}b", "c": "${x.y}"}"#.to_owned()),
            body: body.map(str::to_owned),
            client_certificate: None,
        };
        let action = CompiledAction::compile(&spec).unwrap();
        let call = Call::new(call).unwrap();
        let (request, gaps) = action.render_with_gaps(call).unwrap();
        assert_eq!(request, action.render(call).unwrap());
        let told = |text: &str, gaps: &[crate::domain::request::Gap]| -> Vec<String> {
            gaps.iter().map(|gap| format!("{} {}", gap.path, &text[gap.range.clone()])).collect()
        };
        let headers =
            request.headers.iter().zip(&gaps.headers).flat_map(|((_, text), gaps)| told(text, gaps)).collect();
        [told(&request.url, &gaps.url), headers, told(request.body.as_deref().unwrap_or_default(), &gaps.body)]
    }

    #[test]
    fn each_place_that_lacks_a_value_is_told_in_the_text_that_is_sent_and_nowhere_else() {
        let body = Some(r#"{"b": ${b}, "n": ${null}, "s": "${s}"}"#);
        let call = r#"{"x": {"y": 1}, "null": null}"#;
        assert_eq!(gaps(Method::Post, body, call), [vec!["u "], vec!["h "], vec!["b null", "s "]]);
        assert_eq!(gaps(Method::Get, body, call), [vec!["u "], vec!["h "], vec![]]);
        assert_eq!(gaps(Method::Post, None, call), [vec!["u "], vec!["h "], vec![]]);
        let full = r#"{"x": {"y": 1}, "u": 1, "h": 1, "b": 1, "s": 1, "null": null}"#;
        assert_eq!(gaps(Method::Post, body, full), [const { Vec::<String>::new() }; 3]);
    }

    #[test]
    fn a_name_that_stands_twice_lacks_what_only_its_earlier_value_has() {
        let twice = r#"{"b": {"a": 1, "a": 2}, "x": {"y": 1}, "u": 1, "h": 1}"#;
        assert_eq!(gaps(Method::Post, Some("[${b}, ${s}]"), twice), [vec![], vec![], vec!["s null"]]);
    }
}
