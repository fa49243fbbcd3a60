//! The families of metrics, each with its name, its type and what it means, and the text of a scrape.
//! `docs/operating.md` lists them; a test compares the list with a scrape.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text;
pub(super) use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::counters::Totals;
use super::figures::DatabaseFigures;
use super::histogram::Distribution;
use super::{Live, Operation};
use crate::domain::delivery::State;
use crate::domain::error_kind::ErrorKind;
use crate::store::figures::{DispatcherCounts, PartitionFigures, QueueFigures};
use crate::store::status::Count;

/// All that one scrape tells.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// What the dispatcher has counted.
    pub(super) totals: Totals,
    /// What is known of the dispatcher; `None` before it has begun.
    pub(super) live: Option<Live>,
    /// What the database says; `None` if it does not answer.
    pub(super) database: Option<DatabaseFigures>,
}

/// The text of a scrape, in the Prometheus text format. If a dispatcher serves one of several databases, all its metrics have
/// the name of that database as a label.
pub(super) fn encode(snapshot: Snapshot, database: Option<&str>) -> String {
    let label = database.map(|name| (Cow::from("database"), Cow::from(name.to_owned())));
    let mut registry = Registry::with_labels(label.into_iter());
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    // Writing to a String does not fail.
    prometheus_text::encode(&mut text, &registry).ok();
    text
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        page.info("postcall_build", "The release of this program; always 1", ("version", env!("CARGO_PKG_VERSION")))?;
        page.totals(&self.totals)?;
        let lost = self.live.map_or(0, |live| live.lost as u64);
        page.gauge(
            "postcall_results_unwritten",
            "Results that the database did not take, since the start; their deliveries become unknown",
            (self.totals.unwritten + lost) as f64,
        )?;
        if let Some(live) = &self.live {
            page.live(live)?;
        }
        page.gauge(
            "postcall_database_up",
            "Whether the database answered when its figures were read last; if not, they are left out (1 or 0)",
            f64::from(u8::from(self.database.is_some())),
        )?;
        match &self.database {
            Some(figures) => page.database(figures),
            None => Ok(()),
        }
    }
}

/// A label and its value.
type Label = (&'static str, &'static str);

/// What is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// What became of checkpoints.
    fn checkpoints(&mut self, totals: &Totals) -> fmt::Result {
        self.counter(
            "postcall_checkpoints_exported",
            "Checkpoints that were exported to --checkpoint-url, or were there already",
            totals.checkpoints_exported,
        )?;
        self.counter(
            "postcall_checkpoint_exports_failed",
            "Tries to export a checkpoint to --checkpoint-url that failed; it is tried again",
            totals.checkpoint_exports_failed,
        )?;
        self.counter(
            "postcall_checkpoint_workers_restarted",
            "How often the exporter of checkpoints or the time stamper began anew after a panic, a defect of postcall",
            totals.parts_restarted,
        )
    }

    /// What the dispatcher has counted since it started.
    fn totals(&mut self, totals: &Totals) -> fmt::Result {
        let recorded = |(state, kind, count): &(State, Option<ErrorKind>, u64)| {
            ([("state", state.as_str()), ("error_kind", kind.map_or("", ErrorKind::as_str))], *count)
        };
        self.counters(
            "postcall_deliveries",
            "Deliveries that this dispatcher recorded, by final state and error kind (empty if it is no error)",
            totals.recorded.iter().map(recorded),
        )?;
        self.counters(
            "postcall_responses",
            "Responses from receivers, by the class of their code",
            totals.responses.iter().map(|(class, count)| ([("code_class", *class)], *count)),
        )?;
        self.counter("postcall_claimed_deliveries", "Deliveries that this dispatcher claimed", totals.claimed)?;
        self.counter(
            "postcall_returned_deliveries",
            "Claimed deliveries that went back to waiting, because nothing of them was sent",
            totals.returned,
        )?;
        self.counter(
            "postcall_unresolved_placeholders",
            "Placeholders of requests that found no value in the call; at most 32 names count for each request",
            totals.unresolved,
        )?;
        self.counter(
            "postcall_spans_exported",
            "Spans that the collector took (--otlp-endpoint)",
            totals.spans_exported,
        )?;
        self.counter(
            "postcall_spans_dropped",
            "Spans that are lost: the queue was full, or the collector did not take them",
            totals.spans_dropped,
        )?;
        self.checkpoints(totals)?;
        self.counters(
            "postcall_database_errors",
            "Statements and connections that failed, refusals and lost answers included, by what they were for",
            totals.errors.iter().map(|(operation, count)| ([("operation", Operation::as_str(*operation))], *count)),
        )?;
        self.histogram(
            "postcall_request_duration_seconds",
            "From the start of an attempt to its end; as latency_ms in history",
            &totals.request_duration,
        )?;
        self.histogram(
            "postcall_queue_duration_seconds",
            "From the creation of a delivery to its claim, by the database's clock; as queue_ms in history",
            &totals.queue_duration,
        )
    }

    /// What is known of the dispatcher.
    fn live(&mut self, live: &Live) -> fmt::Result {
        self.gauge("postcall_requests_in_flight", "Requests in flight of this dispatcher", live.in_flight as f64)?;
        self.gauge(
            "postcall_concurrency_limit",
            "Its --concurrency: the largest number of them",
            live.concurrency as f64,
        )?;
        self.gauge(
            "postcall_results_unrecorded",
            "Results that wait to be recorded, without their places; at most --max-unrecorded",
            live.unrecorded as f64,
        )?;
        self.gauge(
            "postcall_lease_remaining_seconds",
            "How long the lease of this dispatcher lasts if it is not renewed; 0 if no request may begin",
            live.lease_remaining.as_secs_f64(),
        )?;
        self.gauge(
            "postcall_hosts_silent",
            "Hosts that accept requests of this dispatcher and do not answer in time",
            live.hosts_silent as f64,
        )?;
        self.gauge(
            "postcall_hosts_unreachable",
            "Hosts that this dispatcher cannot reach, so that their deliveries wait",
            live.hosts_unreachable as f64,
        )
    }

    /// What the database says about the whole installation. Each dispatcher says the same.
    fn database(&mut self, figures: &DatabaseFigures) -> fmt::Result {
        if let Some(DispatcherCounts { alive, overdue, stopped, lost }) = figures.dispatchers {
            self.gauges(
                "postcall_dispatchers",
                "Dispatchers by status; those that stopped or were lost are counted for an hour",
                [("alive", alive), ("overdue", overdue), ("stopped", stopped), ("lost", lost)]
                    .map(|(status, count)| (("status", status), count as f64)),
            )?;
        }
        if let Some(queue) = &figures.queue {
            self.queue(queue)?;
        }
        if let Some(age) = figures.oldest_unpaused {
            self.gauge(
                "postcall_oldest_unpaused_seconds",
                "Age of the oldest delivery that waits and that no pause holds back; 0 if there is none",
                age.unwrap_or(0.0),
            )?;
        }
        if let Some(unknown) = &figures.unknown {
            self.gauge(
                "postcall_unknown_unresolved",
                "Deliveries that are unknown and not resolved, among the newest 10000 that ended as unknown",
                unknown.counted as f64,
            )?;
        }
        if let Some(partitions) = &figures.partitions {
            self.partitions(partitions)?;
        }
        if let Some(Some(age)) = figures.oldest_unsealed {
            self.gauge(
                "postcall_oldest_unsealed_seconds",
                "Age of the oldest row of history that is not sealed yet; 0 if all are; left out where history is not sealed",
                age,
            )?;
        }
        if let Some(violations) = &figures.violations {
            self.gauges(
                "postcall_invariant_violations",
                "Violations of the invariants that cost little to check; `postcall check-invariants` checks all",
                violations.iter().map(|(invariant, count)| (("name", invariant.as_str()), *count as f64)),
            )?;
        }
        Ok(())
    }

    fn queue(&mut self, queue: &QueueFigures) -> fmt::Result {
        let at_least = |count: Count| count.counted as f64;
        self.gauge(
            "postcall_waiting_deliveries",
            "Deliveries that wait, paused ones included; counted up to 100000",
            at_least(queue.waiting),
        )?;
        self.gauge(
            "postcall_oldest_waiting_seconds",
            "Age of the oldest delivery that waits, a paused one included; 0 if nothing waits",
            queue.oldest_waiting.unwrap_or(0.0),
        )?;
        self.gauge(
            "postcall_oldest_sending_seconds",
            "Time since the claim of the oldest delivery in flight, of all dispatchers; 0 if nothing is in flight",
            queue.oldest_sending.unwrap_or(0.0),
        )?;
        self.gauge("postcall_pauses_active", "Pauses that are in force", queue.active_pauses as f64)?;
        self.gauge("postcall_hosts_paused", "Pauses in force that hold a host", queue.paused_hosts as f64)
    }

    fn partitions(&mut self, partitions: &[PartitionFigures]) -> fmt::Result {
        let by_table = |value: fn(&PartitionFigures) -> f64| {
            let of_table = move |table: &'static str| {
                let figures = partitions.iter().find(|figures| figures.table == table)?;
                Some((("table", table), value(figures)))
            };
            ["outbox", "delivery"].into_iter().filter_map(of_table)
        };
        self.gauges(
            "postcall_partition_headroom_seconds",
            "For how long from now on there are partitions for new rows",
            by_table(|figures| figures.headroom),
        )?;
        self.gauges(
            "postcall_default_partition_rows",
            "Rows in the default partition, because there was none for them; counted up to 10000",
            by_table(|figures| figures.default_rows.counted as f64),
        )
    }

    fn info(&mut self, name: &str, help: &str, label: Label) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&[label])
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Label, f64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        values.into_iter().try_for_each(|(label, value)| family.encode_family(&[label])?.encode_gauge(&value))
    }

    /// A counter. Its name gets the ending `_total`.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    /// Counters with labels. Their name gets the ending `_total`.
    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label; N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.into_iter().try_for_each(|(labels, value)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    fn histogram(&mut self, name: &str, help: &str, Distribution { buckets, sum }: &Distribution) -> fmt::Result {
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        family.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
    }
}
