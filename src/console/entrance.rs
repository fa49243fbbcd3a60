//! The pages by which people come in and go: the log-in, the way to it, and links.

use std::net::IpAddr;

use askama::Template;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;

use super::answer::Answer;
use super::failure::Trouble;
use super::form::Form;
use super::gate::{Takes, only};
use super::people::{Door, NotLetIn};
use super::query::Parameters;
use super::route::{Address, Route};
use super::words::Here;

#[derive(Template)]
#[template(path = "log_in.html")]
struct LogInPage {
    here: Here,
    name: String,
    to: String,
    wrong: String,
}

/// A page that goes on to another page by itself.
#[derive(Template)]
#[template(path = "onward.html")]
struct OnwardPage {
    here: Here,
    title: &'static str,
    to: String,
}

/// The log-in: its page, and its form.
pub(super) async fn log_in(door: &Door, head: &Parts, body: Incoming, peer: IpAddr) -> Result<Answer, Trouble> {
    if !door.has_log_in() {
        return Err(Trouble::NoPage);
    }
    if head.method != Method::POST {
        let mut parameters = Parameters::of(head.uri.query().unwrap_or_default())?;
        let to = parameters.one("to")?.unwrap_or_default();
        parameters.end()?;
        return log_in_page(StatusCode::OK, String::new(), &to, String::new());
    }
    let form = Form::read(&head.headers, body).await?;
    let (name, password, to) = (form.needed("name")?, form.needed("password")?, form.needed("to")?);
    let (status, wrong) = match door.log_in(name, password, &head.headers, peer).await {
        Ok(cookie) => return Ok(Answer::elsewhere(own_page(to).unwrap_or("/")).with(header::SET_COOKIE, cookie)),
        Err(NotLetIn::Wrong) => (StatusCode::FORBIDDEN, "Name and password do not belong together.".to_owned()),
        Err(NotLetIn::Wait(wait)) => {
            let seconds = wait.as_secs() + 1;
            let wrong = format!("There were too many tries. Wait for {seconds} s, and try again.");
            let page = log_in_page(StatusCode::TOO_MANY_REQUESTS, name.to_owned(), to, wrong)?;
            return Ok(page.with(header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
        Err(NotLetIn::Busy) => {
            (StatusCode::SERVICE_UNAVAILABLE, "Many log in at this moment. Try again in a moment.".to_owned())
        }
    };
    log_in_page(status, name.to_owned(), to, wrong)
}

fn log_in_page(status: StatusCode, name: String, to: &str, wrong: String) -> Result<Answer, Trouble> {
    let to = own_page(to).unwrap_or("/").to_owned();
    Ok(Answer::page(status, LogInPage { here: Here::Nowhere, name, to, wrong }.render()?))
}

/// An address, if it is one of a page of the console: nobody is led elsewhere.
fn own_page(to: &str) -> Option<&str> {
    let path = to.split('?').next().unwrap_or_default();
    let is_plain = to.bytes().all(|byte| byte.is_ascii_graphic());
    let leads = Address::of(path)
        .is_some_and(|Address { route, .. }| route.takes() != Takes::Form && !matches!(route, Route::Link(_)));
    (is_plain && leads).then_some(to)
}

/// Where somebody is led who is not logged in.
pub(super) fn led_to(head: &Parts) -> Result<Answer, Trouble> {
    if head.method == Method::POST {
        return Err(Trouble::LoggedOut);
    }
    let to = head.uri.path_and_query().map_or("/", |address| address.as_str());
    // A browser that comes from another site does not send the cookie, not even if it is led on. From a page of the console it
    // does.
    if only(&head.headers, "sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return onward("One moment", to);
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("to", to).finish();
    Ok(Answer::elsewhere(&format!("/log-in?{query}")))
}

fn onward(title: &'static str, to: &str) -> Result<Answer, Trouble> {
    let to = own_page(to).unwrap_or("/").to_owned();
    Ok(Answer::page(StatusCode::OK, OnwardPage { here: Here::Nowhere, title, to }.render()?))
}

/// Ends the session.
pub(super) fn log_out(door: &Door, headers: &HeaderMap) -> Answer {
    let to = if door.has_log_in() { "/log-in" } else { "/" };
    door.log_out(headers)
        .into_iter()
        .fold(Answer::elsewhere(to), |answer, cookie| answer.with(header::SET_COOKIE, cookie))
}

/// Takes a link for a cookie, and leads on, so that the link does not stay in the address. It leads by a page, because a browser
/// that comes from another site would not send the cookie if it were only redirected.
pub(super) fn enter(door: &Door, token: &str) -> Result<Answer, Trouble> {
    let (to, cookie) = door.enter(token).map_err(Trouble::Link)?;
    Ok(onward("One moment", &to)?.with(header::SET_COOKIE, cookie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_anywhere_but_to_a_page_of_the_console() {
        for to in ["/", "/deliveries?state=failed&since=1h", "/agents/a%2Fb", "/change/action?agent=a"] {
            assert_eq!(own_page(to), Some(to));
        }
        for to in [
            "",
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "/log-out",
            "/link/v1.x",
            "/nothing",
            "/agents/a b",
            "/\r\nset-cookie: x",
            "javascript:alert(1)",
        ] {
            assert_eq!(own_page(to), None, "{to}");
        }
    }
}
