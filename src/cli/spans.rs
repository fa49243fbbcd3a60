//! The settings of spans, and their export during `postcall run`.

use std::path::Path;
use std::str::FromStr;

use clap::Args;
use clap::builder::FalseyValueParser;

use super::{CliError, run};
use crate::domain::chain::chain;
use crate::metrics::Metrics;
use crate::spans::{self, Endpoint, Exporter, NotAnEndpoint, SpanSettings, Spans};
use crate::webhook;

/// Where spans go.
#[derive(Args)]
pub(super) struct SpanArguments {
    /// Export a span of each delivery to this OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318; /v1/traces is
    /// added. A span has the agent, the host, the state, ids and times, and nothing of a call. What the collector does not take
    /// is dropped, and delays no delivery. The URL does not pass the rules for targets. Headers for the collector go into
    /// OTEL_EXPORTER_OTLP_HEADERS.
    #[arg(long, env = "POSTCALL_OTLP_ENDPOINT", value_name = "URL", default_value = "", hide_default_value = true)]
    otlp_endpoint: GivenEndpoint,

    /// Send each receiver the header traceparent with the ids of the span (W3C Trace Context), unless the action sets that header, so
    /// that a receiver's own spans become part of the trace. It needs --otlp-endpoint.
    #[arg(long, env = "POSTCALL_SEND_TRACEPARENT", value_parser = FalseyValueParser::new())]
    send_traceparent: bool,
}

/// A collector, if one is given. An empty text means none, because an unset variable in a compose file is empty.
#[derive(Clone, Debug)]
struct GivenEndpoint(Option<Endpoint>);

impl FromStr for GivenEndpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<GivenEndpoint, NotAnEndpoint> {
        if text.is_empty() {
            Ok(GivenEndpoint(None))
        } else {
            text.parse().map(|endpoint| GivenEndpoint(Some(endpoint)))
        }
    }
}

impl SpanArguments {
    /// Starts the export, if a collector is given. Its certificate is checked as those of receivers, with `ca_file`.
    pub(super) fn start(
        self,
        ca_file: Option<&Path>,
        metrics: &Metrics,
    ) -> Result<Option<(Spans, Exporter)>, CliError> {
        let send_traceparent = self.send_traceparent;
        let Some(endpoint) = self.otlp_endpoint.0 else {
            if send_traceparent {
                return Err(CliError::Problem(
                    "--send-traceparent needs --otlp-endpoint: otherwise the header names a span that nobody has"
                        .to_owned(),
                ));
            }
            return Ok(None);
        };
        let tls = if endpoint.is_tls() { Some(webhook::tls_config(ca_file)?) } else { None };
        let settings = SpanSettings { endpoint, tls, instance: run::name(), send_traceparent };
        let started = spans::start(settings, metrics.counters());
        started.map(Some).map_err(|error| CliError::Problem(format!("{} (--otlp-endpoint)", chain(&error))))
    }
}
