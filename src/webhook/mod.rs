//! stub
use crate::domain::{delivery::*, request::Request};
/// stub
#[derive(Clone)]
pub struct Webhook;
/// stub
pub struct Attempt { /// e
 pub ending: Ending, /// t
 pub timing: Timing }
impl Webhook {
    /// stub
    pub async fn send(&self, _: &Request, _: uuid::Uuid, _: impl Future<Output = ()>) -> Attempt {
        Attempt { ending: Ending::Unsent, timing: Timing::default() }
    }
}
/// stub
pub struct Settings { /// h
 pub allow_http: bool, /// t
 pub allow_targets: Vec<ipnet::IpNet> }
impl Webhook { /// s
 pub fn new(_: Settings) -> Result<Webhook, crate::store::StoreError> { Ok(Webhook) } }
