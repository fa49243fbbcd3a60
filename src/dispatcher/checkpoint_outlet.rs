//! The operator's URL to which checkpoints are exported, where the database's owner cannot reach them.
//!
//! | URL | A checkpoint is |
//! | --- | --- |
//! | its path ends with `/` | put below it, under a name of its own, if nothing stands there yet (`If-None-Match: *`) |
//! | any other | posted to it |
//!
//! A name says the size and the root of the log, so what is exported twice stands there once.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, USER_AGENT};
use http::{Method, Request, StatusCode};
use url::Url;

use super::checkpoints::FILE_SUFFIX;
use crate::operator::{Address, Client, TlsConfig, Trouble};
use crate::seal::note::Checkpoint;

/// How the name of one checkpoint begins; the size and the root follow.
pub const NAME_PREFIX: &str = "checkpoint-";
/// How the name of its timestamp ends.
pub(super) const STAMP_SUFFIX: &str = ".tsr";
/// The header with the name, by which a receiver knows what it has already.
const NAME_HEADER: &str = "postcall-checkpoint";
/// How many bytes of the root are in a name.
const ROOT_BYTES: usize = 8;
/// How long one request may take, from the look-up of the name to the end of the answer.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest file of headers, in bytes.
pub const MAX_HEADERS_BYTES: usize = 16 * 1024;
/// The most headers in it.
const MOST_HEADERS: usize = 32;
/// Who is at the URL, for errors.
const WHO: &str = "--checkpoint-url";
/// The headers that postcall or HTTP itself sets.
const OWN_HEADERS: [&str; 13] = [
    "host",
    "content-type",
    "content-length",
    "if-none-match",
    NAME_HEADER,
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "user-agent",
];

/// Why a file of headers cannot be used. It does not repeat what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeaders {
    /// A line is no header.
    #[error("line {0} is not `name: value`")]
    NotAHeader(usize),
    /// A header that is not the operator's to set.
    #[error("line {0} names a header that postcall sets itself")]
    Own(usize),
    /// There are too many.
    #[error("it has more than {MOST_HEADERS} headers")]
    TooMany,
}

/// How a checkpoint got to the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is stored there, now or since before.
    Stored,
    /// Another text stands there under its name, and cannot be replaced.
    Differs,
}

/// Where checkpoints go by HTTP.
#[derive(Clone)]
pub struct CheckpointOutlet {
    address: Address,
    headers: HeaderMap,
    /// The name of the database, if there are several.
    folder: Option<String>,
    client: Client,
}

/// The headers in a file: one `name: value` a line. Empty lines, and those that begin with `#`, are passed over. Their
/// values are not shown by anything that shows headers.
///
/// # Errors
/// The number of the line that cannot be used.
pub fn headers_in(text: &str) -> Result<HeaderMap, BadHeaders> {
    let mut headers = HeaderMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once(':').ok_or(BadHeaders::NotAHeader(number))?;
        let name: HeaderName = name.parse().map_err(|_| BadHeaders::NotAHeader(number))?;
        let mut value: HeaderValue = value.trim().parse().map_err(|_| BadHeaders::NotAHeader(number))?;
        if OWN_HEADERS.contains(&name.as_str()) {
            return Err(BadHeaders::Own(number));
        }
        value.set_sensitive(true);
        headers.append(name, value);
        if headers.len() > MOST_HEADERS {
            return Err(BadHeaders::TooMany);
        }
    }
    Ok(headers)
}

/// The name of a checkpoint, without an ending. In the order of names, checkpoints are in the order of sizes.
pub(super) fn name_of(checkpoint: &Checkpoint) -> String {
    format!("{NAME_PREFIX}{:020}-{}", checkpoint.size, hex::encode(&checkpoint.root[..ROOT_BYTES]))
}

impl CheckpointOutlet {
    /// An outlet at this URL, which gets these headers. `tls` is needed for an https URL.
    pub fn new(address: Address, headers: HeaderMap, tls: Option<TlsConfig>) -> CheckpointOutlet {
        let client = Client::new(WHO, address.url(), tls);
        CheckpointOutlet { address, headers, folder: None, client }
    }

    /// The same for one of several databases: its checkpoints have names that begin with that of the database.
    pub fn of_database(&self, name: String) -> CheckpointOutlet {
        CheckpointOutlet { folder: Some(name), ..self.clone() }
    }

    /// Exports one checkpoint.
    pub(super) async fn export(&self, checkpoint: &Checkpoint, note: &str) -> Result<Taken, Trouble> {
        let name = format!("{}{FILE_SUFFIX}", name_of(checkpoint));
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        self.deliver(&name, kind, Bytes::from(note.to_owned())).await
    }

    /// Brings a file there. Nothing else of what the URL answers than its code is looked at, and the file that stands
    /// there already.
    pub(super) async fn deliver(&self, name: &str, kind: HeaderValue, body: Bytes) -> Result<Taken, Trouble> {
        let url = self.url_of(name);
        let puts = self.puts();
        let mut request = self.request(if puts { Method::PUT } else { Method::POST }, &url, body.clone())?;
        let shown = self.folder.as_ref().map_or_else(|| name.to_owned(), |folder| format!("{folder}/{name}"));
        let shown = HeaderValue::try_from(shown).map_err(|_| Trouble::Unsendable(WHO))?;
        let headers = request.headers_mut();
        headers.insert(NAME_HEADER, shown);
        headers.insert(CONTENT_TYPE, kind);
        if puts {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let (status, _) = self.answer(request).await?;
        match status {
            status if status.is_success() => Ok(Taken::Stored),
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT if puts => self.compare(&url, &body, status).await,
            // A receiver that has it already may say so.
            StatusCode::CONFLICT => Ok(Taken::Stored),
            status => Err(Trouble::Refused(WHO, status.as_u16())),
        }
    }

    /// Something stands there under this name: compares it. Who may only add cannot read it; then 412, which says that
    /// it is there, is believed, and 409, which may say something else, is not.
    async fn compare(&self, url: &Url, ours: &Bytes, said: StatusCode) -> Result<Taken, Trouble> {
        match self.answer(self.request(Method::GET, url, Bytes::new())?).await? {
            (StatusCode::OK, body) if body == ours => Ok(Taken::Stored),
            (StatusCode::OK, _) => Ok(Taken::Differs),
            _ if said == StatusCode::PRECONDITION_FAILED => Ok(Taken::Stored),
            _ => Err(Trouble::Refused(WHO, said.as_u16())),
        }
    }

    /// Whether each file has a place of its own.
    fn puts(&self) -> bool {
        self.address.url().path().ends_with('/')
    }

    /// Host and port, for the log.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    async fn answer(&self, request: Request<Bytes>) -> Result<(StatusCode, Bytes), Trouble> {
        let answer = tokio::time::timeout(TRY_TIMEOUT, self.client.send(request)).await;
        let (head, body) = answer.map_err(|_| Trouble::TimedOut(WHO))??.into_parts();
        Ok((head.status, body))
    }

    fn request(&self, method: Method, url: &Url, body: Bytes) -> Result<Request<Bytes>, Trouble> {
        let request = Request::builder().method(method).uri(url.as_str()).body(body);
        let mut request = request.map_err(|_| Trouble::Unsendable(WHO))?;
        let agent = concat!("postcall/", env!("CARGO_PKG_VERSION"));
        request.headers_mut().extend(self.headers.clone());
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(agent));
        Ok(request)
    }

    /// Where a file of this name goes.
    fn url_of(&self, name: &str) -> Url {
        let mut url = self.address.url().clone();
        if self.puts()
            && let Ok(mut path) = url.path_segments_mut()
        {
            path.pop_if_empty().extend(self.folder.as_deref()).push(name);
        }
        url
    }
}

impl fmt::Debug for CheckpointOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointOutlet").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet(url: &str) -> CheckpointOutlet {
        CheckpointOutlet::new(url.parse().unwrap(), HeaderMap::new(), None)
    }

    #[test]
    fn a_url_that_ends_with_a_slash_has_a_place_for_each_checkpoint_and_any_other_is_one_place() {
        let [one, ten] = [1, 10].map(|size| name_of(&Checkpoint { size, root: [0xab; 32], rows: [0; 32] }));
        assert_eq!(one, "checkpoint-00000000000000000001-abababababababab");
        assert!(one < ten);
        for (url, place) in [
            ("https://b.example/log/", format!("https://b.example/log/{one}")),
            ("https://b.example", format!("https://b.example/{one}")),
            ("https://b.example/log/?sig=x", format!("https://b.example/log/{one}?sig=x")),
            ("https://b.example/hook?sig=x", "https://b.example/hook?sig=x".to_owned()),
        ] {
            assert_eq!(outlet(url).url_of(&one).as_str(), place);
        }
        let of_one = outlet("https://b.example/log/").of_database("crm 1".to_owned());
        assert_eq!(of_one.url_of(&one).as_str(), format!("https://b.example/log/crm%201/{one}"));
        assert!(!format!("{:?}", outlet("https://b.example/log/?sig=x")).contains("sig"));
    }

    #[test]
    fn headers_are_read_line_by_line_and_none_of_them_is_one_of_ours_or_shown() {
        let headers = headers_in("# who asks\nAuthorization: Bearer a:b \n\nx-one:1\nx-one: 2\n").unwrap();
        assert_eq!(headers["authorization"], "Bearer a:b");
        assert_eq!(headers.get_all("x-one").iter().count(), 2);
        assert!(!format!("{headers:?}").contains("Bearer"));
        for (text, why) in [
            ("x: 1\nsecret", BadHeaders::NotAHeader(2)),
            ("a b: secret", BadHeaders::NotAHeader(1)),
            ("x: secret\u{7}", BadHeaders::NotAHeader(1)),
            ("\nIf-None-Match: secret", BadHeaders::Own(2)),
            ("host: secret", BadHeaders::Own(1)),
        ] {
            assert_eq!(headers_in(text), Err(why), "{text}");
            assert!(!why.to_string().contains("secret"));
        }
        let many = |count| "x: 1\n".repeat(count);
        assert_eq!(headers_in(&many(MOST_HEADERS)).map(|headers| headers.len()), Ok(MOST_HEADERS));
        assert_eq!(headers_in(&many(MOST_HEADERS + 1)), Err(BadHeaders::TooMany));
    }
}
