//! The exporter's client: it sends one batch of spans, and notes why it was not taken.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};

use super::Endpoint;
use crate::operator::{Client, TlsConfig, Trouble};

/// Who takes spans, for errors.
pub(super) const COLLECTOR: &str = "the collector";

/// The client. Clones share what they note.
#[derive(Clone, Debug)]
pub(super) struct Collector {
    client: Client,
    /// Why the last batch failed. The SDK's error does not tell it.
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl Collector {
    /// A client for this collector. `tls` is needed for an https URL.
    pub(super) fn new(endpoint: &Endpoint, tls: Option<TlsConfig>) -> Collector {
        Collector { client: Client::new(COLLECTOR, endpoint.as_url(), tls), trouble: Arc::default() }
    }

    /// Takes the reason why the last batch failed.
    pub(super) fn take_trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Trouble> {
        let answer = self.client.send(request).await?;
        let status = answer.status();
        if status.is_success() { Ok(answer) } else { Err(Trouble::Refused(COLLECTOR, status.as_u16())) }
    }
}

/// The trait has the form that `async_trait` gives it.
impl HttpClient for Collector {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            self.send(request).await.map_err(|trouble| {
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
                HttpError::from("the batch was not taken")
            })
        })
    }
}
