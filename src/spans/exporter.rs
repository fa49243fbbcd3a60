//! Takes spans from the queue and sends them to the collector in batches, one after the other, on a thread of its own.
//!
//! A batch that the collector does not take is dropped and counted. It is not sent again: the next one follows, and history has all
//! that spans tell.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::collector::{COLLECTOR, Collector};
use super::ended::EndedDelivery;
use super::{Endpoint, MOST_WAITING, Spans};
use crate::domain::chain::chain;
use crate::metrics::Counters;
use crate::operator::{TlsConfig, Trouble};

/// How many spans are sent together at most.
const MOST_TOGETHER: usize = 512;
/// How long the exporter lets spans gather in the queue before it sends them. In this time, [`MOST_WAITING`] deliveries end
/// only at a rate that no dispatcher reaches.
const GATHERING: Duration = Duration::from_millis(250);
/// How long the exporter pauses after a batch that the collector did not take, so that one which refuses at once is not asked
/// all the time. Spans that come meanwhile wait in the queue, and are dropped when it is full.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_secs(1);
/// How long the collector may take for one batch, from the look-up of its name to the end of its answer.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long `postcall run` waits for the last spans, after everything else has ended.
pub const LAST_SPANS: Duration = Duration::from_secs(3);

/// Where spans go, and of whom they are.
#[derive(Debug)]
pub struct SpanSettings {
    /// The collector.
    pub endpoint: Endpoint,
    /// How TLS is spoken with it. It is needed for an https URL.
    pub tls: Option<TlsConfig>,
    /// The name of the dispatcher.
    pub instance: String,
    /// Whether receivers get the header `traceparent`.
    pub send_traceparent: bool,
}

/// The exporter cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The SDK refuses its settings, which may also stand in variables of its own (`OTEL_…`).
    #[error("cannot set up the export of spans")]
    Settings(#[source] ExporterBuildError),
    /// The system gives it no thread.
    #[error("cannot start the export of spans")]
    Thread(#[source] io::Error),
}

/// The running exporter.
#[derive(Debug)]
pub struct Exporter {
    /// Tells the thread to send what it has, and to end.
    last: CancellationToken,
    ended: oneshot::Receiver<()>,
    pending: Arc<AtomicUsize>,
}

/// Starts the export of spans, and counts in `counters` how many were taken and dropped.
///
/// # Errors
/// Returns an error if the SDK refuses its settings, or if the system gives no thread.
pub fn start(settings: SpanSettings, counters: &Arc<Counters>) -> Result<(Spans, Exporter), ExporterError> {
    let SpanSettings { endpoint, tls, instance, send_traceparent } = settings;
    let collector = Collector::new(&endpoint, tls);
    let mut otlp = SpanExporter::builder()
        .with_http()
        .with_http_client(collector.clone())
        .with_endpoint(endpoint.url())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_TIMEOUT)
        // The SDK would let its thread sleep between tries.
        .with_retry_policy(RetryPolicy::default().with_max_retries(0))
        .build()
        .map_err(ExporterError::Settings)?;
    otlp.set_resource(&resource(instance));
    let (queue, inbox) = mpsc::channel(MOST_WAITING);
    let (last, pending) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let thread = Thread {
        otlp,
        collector,
        inbox,
        last: last.clone(),
        pending: pending.clone(),
        counters: counters.clone(),
        scope: InstrumentationScope::builder("postcall").with_version(env!("CARGO_PKG_VERSION")).build(),
        in_trouble: None,
    };
    // One thread for look-ups of names: a name server that hangs keeps the exporter waiting, and nobody else.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .map_err(ExporterError::Thread)?;
    let (done, ended) = oneshot::channel();
    let work = move || {
        runtime.block_on(thread.run());
        // A look-up that hangs is left alone.
        runtime.shutdown_background();
        done.send(()).ok();
    };
    std::thread::Builder::new().name("spans".to_owned()).spawn(work).map_err(ExporterError::Thread)?;
    info!(address = %endpoint, "exporting spans");
    let spans = Spans { queue, pending: pending.clone(), counters: counters.clone(), send_traceparent };
    Ok((spans, Exporter { last, ended, pending }))
}

/// Who the spans are of. What `OTEL_RESOURCE_ATTRIBUTES` says is added, and goes first.
fn resource(instance: String) -> Resource {
    let own = [
        KeyValue::new("service.name", "postcall"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance),
    ];
    Resource::builder_empty().with_attributes(own).with_detector(Box::new(EnvResourceDetector::new())).build()
}

impl Exporter {
    /// Lets the exporter send the last spans, for [`LAST_SPANS`] at most. Spans that end later are dropped.
    pub async fn finish(self) {
        self.last.cancel();
        let ended = tokio::time::timeout(LAST_SPANS, self.ended).await;
        let left = self.pending.load(Ordering::Acquire);
        if ended.is_err() && left > 0 {
            warn!(spans.dropped = left, "the collector did not take the last spans in time");
        }
    }
}

/// What runs on the thread.
struct Thread {
    otlp: SpanExporter,
    collector: Collector,
    inbox: mpsc::Receiver<EndedDelivery>,
    last: CancellationToken,
    pending: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    scope: InstrumentationScope,
    /// How many spans were dropped since the collector took none any more.
    in_trouble: Option<usize>,
}

impl Thread {
    async fn run(mut self) {
        let (mut batch, last) = (Vec::with_capacity(MOST_TOGETHER), self.last.clone());
        while last.run_until_cancelled(self.gather(&mut batch)).await.unwrap_or_default() {
            self.export_all(&mut batch).await;
        }
        // Nothing comes any more, so that what is left can be counted.
        self.inbox.close();
        self.export_all(&mut batch).await;
    }

    /// Waits for a span, and then a moment for others. `false` if there will be none. While it waits for the others it does not
    /// look at the queue, so that a delivery which puts a span there wakes nobody: that would cost it a system call.
    async fn gather(&mut self, batch: &mut Vec<EndedDelivery>) -> bool {
        let Some(first) = self.inbox.recv().await else { return false };
        batch.push(first);
        tokio::time::sleep(GATHERING).await;
        true
    }

    /// Sends what is in the queue.
    async fn export_all(&mut self, batch: &mut Vec<EndedDelivery>) {
        loop {
            while batch.len() < MOST_TOGETHER
                && let Ok(ended) = self.inbox.try_recv()
            {
                batch.push(ended);
            }
            if batch.is_empty() {
                return;
            }
            self.export(batch).await;
        }
    }

    /// Sends one batch. If the collector does not take it, it is dropped.
    async fn export(&mut self, batch: &mut Vec<EndedDelivery>) {
        let count = batch.len();
        let spans = batch.drain(..).map(|ended| ended.span(&self.scope)).collect();
        let trouble = match tokio::time::timeout(EXPORT_TIMEOUT, self.otlp.export(spans)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(self.collector.take_trouble().unwrap_or(Trouble::Unsendable(COLLECTOR))),
            Err(_) => Some(Trouble::TimedOut(COLLECTOR)),
        };
        self.pending.fetch_sub(count, Ordering::AcqRel);
        match trouble {
            None => self.counters.spans_exported(count),
            Some(_) => self.counters.spans_dropped(count),
        }
        self.tell(trouble.as_ref(), count);
        if trouble.is_some() {
            // At the end there is no time to wait for a collector that is in trouble.
            if self.last.is_cancelled() {
                return self.drop_the_rest();
            }
            self.last.run_until_cancelled(tokio::time::sleep(PAUSE_AFTER_TROUBLE)).await;
        }
    }

    /// Says once that the collector takes no spans, and once that it takes them again.
    fn tell(&mut self, trouble: Option<&Trouble>, count: usize) {
        match (trouble, self.in_trouble) {
            (Some(trouble), None) => {
                warn!(error = %chain(trouble), "spans are not exported; deliveries go on without them");
                self.in_trouble = Some(count);
            }
            (Some(_), Some(dropped)) => self.in_trouble = Some(dropped + count),
            (None, Some(dropped)) => {
                info!(spans.dropped = dropped, "spans are exported again");
                self.in_trouble = None;
            }
            (None, None) => {}
        }
    }

    fn drop_the_rest(&mut self) {
        self.inbox.close();
        let mut left = 0;
        while self.inbox.try_recv().is_ok() {
            left += 1;
        }
        self.pending.fetch_sub(left, Ordering::AcqRel);
        self.counters.spans_dropped(left);
    }
}
