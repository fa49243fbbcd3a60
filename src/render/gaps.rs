//! Where a request lacks values, for people who look at it. A dispatcher does not ask.

use super::CompiledAction;
use super::body::Body;
use super::json::canonical::canonical;
use super::limits::MAX_COPIED_BYTES;
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
        let is_copied = first.has_a_name_twice() || first.bytes_to_copy() > MAX_COPIED_BYTES;
        let found = if is_copied { self.find(&copy)? } else { first }.with(&masked)?.noting(&notes);
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
