//! What a browser may do with an answer (Content-Security-Policy): nothing but show it, and on pages run the scripts of the console.
//!
//! A page's scripts have a nonce, a number that nobody can guess and that is used once. Whatever else gets into a page has none and
//! is not run. The number does not pass through all pages: the server sets it for the request, and the base template asks
//! for it.

use http::HeaderValue;
use ring::rand::{SecureRandom, SystemRandom};

tokio::task_local! {
    static NONCE: Option<String>;
}

/// Answers a request, with a nonce for its scripts. If the system has no random numbers, the pages have no scripts.
pub(super) async fn around<T>(answering: impl Future<Output = T>) -> T {
    let mut random = [0; 16];
    let nonce = SystemRandom::new().fill(&mut random).ok().map(|()| hex::encode(random));
    NONCE.scope(nonce, answering).await
}

/// The nonce of the request that is being answered.
pub(super) fn nonce() -> Option<String> {
    NONCE.try_with(Clone::clone).ok().flatten()
}

/// What an answer may do besides being shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// Nothing.
    Still,
    /// Run the console's scripts.
    Scripted,
    /// Also ask the console for more.
    Connected,
    /// Also style what a script makes: the editor brings style sheets of its own.
    Edited,
}

impl Policy {
    /// The header's value.
    pub(super) fn header(self) -> HeaderValue {
        let still = HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        );
        let (Some(nonce), true) = (nonce(), self != Policy::Still) else { return still };
        let styles = if self == Policy::Edited { format!(" 'nonce-{nonce}'") } else { String::new() };
        let connect = if self == Policy::Scripted { "" } else { " connect-src 'self';" };
        let text = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'{styles};{connect} img-src 'self'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        );
        // A nonce is hexadecimal.
        HeaderValue::from_str(&text).unwrap_or(still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_pages_run_scripts_and_only_those_of_their_own_request() {
        let header = |policy: Policy| policy.header().to_str().unwrap().to_owned();
        assert_eq!(header(Policy::Scripted), header(Policy::Still), "outside of a request there is no nonce");
        let first = around(async { (nonce().unwrap(), header(Policy::Scripted), header(Policy::Still)) }).await;
        assert!(first.1.contains(&format!("script-src 'nonce-{}';", first.0)) && !first.1.contains("connect-src"));
        assert!(!first.2.contains("script-src"));
        let second = around(async { header(Policy::Edited) }).await;
        assert!(
            !second.contains(&first.0)
                && second.contains("connect-src 'self';")
                && second.contains("style-src 'self' 'nonce-")
        );
        for policy in [Policy::Still, Policy::Scripted, Policy::Connected, Policy::Edited] {
            let text = around(async { header(policy) }).await;
            assert!(text.starts_with("default-src 'none';") && !text.contains("unsafe"), "{text}");
        }
    }
}
