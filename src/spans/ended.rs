//! A delivery whose attempt has ended, and its span in the form of the OpenTelemetry SDK. The names of attributes are those of
//! the semantic conventions for HTTP clients (1.x, stable); what is postcall's own begins with `postcall.`.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::BegunSpan;
use crate::domain::action::Method;
use crate::domain::delivery::{State, Timing};
use crate::domain::error_kind::ErrorKind;
use crate::domain::host::Origin;

/// The largest number of attributes of a span, so that their list grows only once.
const MOST_ATTRIBUTES: usize = 18;
/// The name of the span of a delivery without a request. Other spans are named by their method.
const NO_REQUEST: &str = "no request";

/// What a span tells.
#[derive(Debug)]
pub(super) struct EndedDelivery {
    pub(super) begun: BegunSpan,
    pub(super) ended: SystemTime,
    pub(super) lasted: Duration,
    pub(super) target: Option<Origin>,
    pub(super) method: Option<Method>,
    pub(super) state: State,
    pub(super) error_kind: Option<ErrorKind>,
    pub(super) response_code: Option<u16>,
    /// `None` if no attempt was made.
    pub(super) timing: Option<Timing>,
}

impl EndedDelivery {
    /// The span. Only a delivery whose request was attempted is a call of a client.
    pub(super) fn span(self, scope: &InstrumentationScope) -> SpanData {
        let attempted = self.timing.is_some();
        let ids = self.begun.ids;
        SpanData {
            span_context: SpanContext::new(
                TraceId::from(ids.trace),
                SpanId::from(ids.span),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: if attempted { SpanKind::Client } else { SpanKind::Internal },
            name: self.method.filter(|_| attempted).map_or(NO_REQUEST, Method::as_str).into(),
            start_time: self.ended.checked_sub(self.lasted).unwrap_or(self.ended),
            end_time: self.ended,
            status: if self.error_type().is_some() { Status::error("") } else { Status::Unset },
            attributes: self.attributes(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            instrumentation_scope: scope.clone(),
        }
    }

    /// `error.type`: the code of a response that is no success (also a redirect, which is not followed), or the error kind.
    fn error_type(&self) -> Option<Value> {
        match self.state {
            State::Rejected => self.response_code.map(|code| code.to_string().into()),
            _ => self.error_kind.map(|kind| kind.as_str().into()),
        }
    }

    fn attributes(self) -> Vec<KeyValue> {
        let error_type = self.error_type();
        let EndedDelivery { begun, target, method, state, error_kind, response_code, timing, .. } = self;
        let timing = timing.unwrap_or_default();
        let mut list = Vec::with_capacity(MOST_ATTRIBUTES);
        let mut add = |key: &'static str, value: Option<Value>| {
            list.extend(value.map(|value| KeyValue::new(key, value)));
        };
        let ms = |duration: Duration| Value::I64(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
        add("http.request.method", method.map(|method| method.as_str().into()));
        if let Some(Origin { tls, host }) = target {
            add("url.scheme", Some(if tls { "https" } else { "http" }.into()));
            add("server.address", Some(host.name().trim_matches(['[', ']']).to_owned().into()));
            add("server.port", Some(i64::from(host.port()).into()));
        }
        add("http.response.status_code", response_code.map(|code| i64::from(code).into()));
        add("error.type", error_type);
        add("postcall.delivery.id", Some(begun.delivery_id.to_string().into()));
        add("postcall.message.id", Some(begun.message_id.to_string().into()));
        add("postcall.action.id", Some(begun.version.action_id.into()));
        add("postcall.action.version", Some(i64::from(begun.version.version).into()));
        add("postcall.agent", begun.agent.map(Value::from));
        add("postcall.state", Some(state.as_str().into()));
        add("postcall.error_kind", error_kind.map(|kind| kind.as_str().into()));
        add("postcall.queue_ms", Some(ms(begun.waited)));
        add("postcall.dns_ms", timing.dns.map(ms));
        add("postcall.connected_ms", timing.connected.map(ms));
        add("postcall.head_ms", timing.head.map(ms));
        list
    }
}
