//! Says by its exit status whether postcall sent what stands on standard input: 0 if so.
//! Its arguments are the headers webhook-id, webhook-timestamp and webhook-signature; the secret is in WEBHOOK_SECRET.

use std::error::Error;
use std::io::Read;
use std::process::ExitCode;

use http::HeaderMap;
use standardwebhooks::Webhook;

/// `secret` is `whsec_…`; `body` is what arrived, byte by byte.
fn verify(secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    // The library also compares the time with that of this machine.
    Webhook::new(secret).is_ok_and(|webhook| webhook.verify(body, headers).is_ok())
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut headers = HeaderMap::new();
    for (name, value) in
        ["webhook-id", "webhook-timestamp", "webhook-signature"].into_iter().zip(std::env::args().skip(1))
    {
        headers.insert(name, value.parse()?);
    }
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body)?;
    let good = verify(&std::env::var("WEBHOOK_SECRET")?, &headers, &body);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
