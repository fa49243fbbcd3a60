//! The overview: what needs somebody, and what goes on.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::pause_form::PauseForm;
use super::written;
use crate::console::answer::Answer;
use crate::console::failure::{READER, Trouble};
use crate::console::frame;
use crate::console::glance::{Glance, KEPT_SECONDS};
use crate::console::live::Line;
use crate::console::part::Part;
use crate::console::people::{Role, Visit};
use crate::console::policy::Policy;
use crate::console::words::{
    Here, Icon, Mark, ShortTime, Time, Tone, at_least, count, long, long_since, number, shown,
};
use crate::domain::checkup::Verdict;
use crate::domain::delivery::State;
use crate::domain::host::{Host, HostPattern};
use crate::domain::pause::NamedTarget;
use crate::domain::report::{HostCondition, HostReport};
use crate::service::doctor::policies;
use crate::service::history;
use crate::service::needs::{MOST_COUNTED, Need, needs, since, up_to};
use crate::store::checkup::Living;
use crate::store::history::{HistoryFilter, StateCount};
use crate::store::last_hour::{MOST_IN_A_MINUTE, MinuteCount};
use crate::store::open_deliveries::OpenDeliveries;
use crate::store::partitions::Headroom;
use crate::store::status::{DispatcherStatus, HeldPause, Life, Status};
use crate::store::{Store, StoreError};

/// The states in which a delivery ends, for the last hour.
pub(super) const ENDED: [State; 5] = [State::Delivered, State::Rejected, State::Failed, State::Unknown, State::Skipped];

/// How long the page takes for what needs somebody; then it leaves out what is only good to know. If the database is slow with
/// every part, each of them takes the time of a statement.
const LATE: Duration = Duration::from_secs(8);

/// The deliveries that the live tail begins with.
pub(super) const LATEST: usize = 10;

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    here: Here,
    now: Time,
    summary: String,
    calm: bool,
    icon: Icon,
    needs: Vec<(Mark, Need)>,
    status: Part<StatusView>,
    last_hour: Part<Vec<Figure>>,
    headroom: Part<Vec<String>>,
    minutes: Part<Vec<MinuteView>>,
    latest: Part<Vec<Line>>,
    /// The forms that pause a host, or resume what is paused; empty for those who may not.
    orders: Vec<PauseForm>,
}

/// What became of the calls of a minute.
struct MinuteView {
    minute: ShortTime,
    /// State, number for programs, number for people.
    counts: [(State, i64, String); 5],
}

struct StatusView {
    figures: Vec<Figure>,
    dispatchers: Vec<DispatcherView>,
    /// What is wrong with their policies, and what to do about it.
    policies: Option<(String, String)>,
    hosts: Vec<HostView>,
    hosts_left_out: usize,
    pauses: Vec<PauseView>,
    pauses_left_out: i64,
}

/// A number with what it is.
struct Figure {
    label: String,
    mark: Option<Mark>,
    value: String,
    note: String,
    address: Option<String>,
}

struct DispatcherView {
    id: i32,
    name: String,
    version: String,
    life: Mark,
    since: String,
    places: String,
    report: String,
    /// Where it may send; empty for one that has ended.
    policy: String,
}

struct HostView {
    host: String,
    condition: Mark,
    since: String,
    in_flight: String,
    limit: String,
    waiting: String,
    dispatcher: i32,
    /// Who paused it, and why; empty if it is not paused.
    paused: String,
}

struct PauseView {
    target: String,
    waiting: String,
    since: ShortTime,
    by: String,
    reason: String,
}

pub(super) async fn page(visit: &Visit<'_>, glance: &Glance) -> Result<Answer, Trouble> {
    let store = visit.everything()?;
    let now = store.now().await?;
    // Side by side, in two sessions: what goes on, which is read for each page, and what is kept for all who look.
    let going_on = async {
        let begun = Instant::now();
        let status = Part::of(store.status().await, READER)?;
        let living = Part::of(store.living_dispatchers().await, READER)?;
        let latest = if begun.elapsed() > LATE { Part::left_out() } else { Part::of(latest(store).await, READER)? };
        Ok::<_, Trouble>((status, living, latest))
    };
    let ((status, living, latest), kept) = tokio::try_join!(going_on, Lately::of(store, now, glance))?;
    let Lately { last_hour, open, headroom, minutes } = kept;
    let found_open = open.shown().and_then(Option::as_ref);
    let needs =
        needs(status.shown(), last_hour.shown().map(AsRef::as_ref), found_open, headroom.shown().map(AsRef::as_ref));
    // Whether everything was read that may need somebody: a right may be missing, or time.
    let is_whole = last_hour.shown().is_some() && open.shown().is_some() && headroom.shown().is_some();
    let summary = summary(status.shown().is_some(), is_whole, &needs);
    let is_any = needs.iter().any(Need::is_for_somebody);
    let calm = status.shown().is_some() && is_whole && !is_any;
    let icon = match (status.shown(), is_any) {
        (Some(_), true) => Icon::WARN,
        (Some(_), false) if calm => Icon::WELL,
        _ => Icon::ASK,
    };
    let paused = status.shown().map(|status| status.paused.as_slice()).unwrap_or_default();
    let orders = if visit.may(Role::Operator) { orders(paused) } else { Vec::new() };
    let page = written(&HomePage {
        here: Here::Home,
        orders,
        now: Time(now),
        summary,
        calm,
        icon,
        needs: needs.into_iter().map(|need| (need.urgency.into(), need)).collect(),
        status: status.map(|status| StatusView::of(&status, living.shown().map_or(&[], Vec::as_slice), found_open)),
        last_hour: last_hour.map(|counts| last_hour_figures(&counts)),
        headroom: headroom.map(|tables| tables.iter().map(headroom_line).collect()),
        minutes: minutes.map(|counts| minute_views(&counts)),
        latest,
    })?;
    Ok(page.allowing(Policy::Connected))
}

/// What is read once for all who look within some seconds.
struct Lately {
    last_hour: Part<Arc<[StateCount]>>,
    open: Part<Option<OpenDeliveries>>,
    headroom: Part<Arc<[Headroom]>>,
    minutes: Part<Arc<[MinuteCount]>>,
}

impl Lately {
    async fn of(store: &Store, now: DateTime<Utc>, glance: &Glance) -> Result<Lately, Trouble> {
        let begun = Instant::now();
        let last_hour = Part::of(glance.last_hour.or(store.last_hour(now, MOST_COUNTED)).await, READER)?;
        let open = Part::of(glance.open.or_one(store.open_deliveries()).await, READER)?;
        let headroom = Part::of(glance.headroom.or(store.headroom()).await, READER)?;
        let minutes = if begun.elapsed() > LATE {
            Part::left_out()
        } else {
            Part::of(glance.minutes.or(store.last_hour_by_minute(now)).await, READER)?
        };
        Ok(Lately { last_hour, open, headroom, minutes })
    }
}

/// What has come to an end lately, for those whose browsers do not follow: the newest of what was created.
async fn latest(store: &Store) -> Result<Vec<Line>, StoreError> {
    let filter = HistoryFilter { states: Some(ENDED.to_vec()), ..HistoryFilter::default() };
    let page = history::page(store, &filter, None, LATEST).await?;
    Ok(page.rows.iter().map(Line::of).collect())
}

/// The minutes, the newest first, as a reader begins at the top.
fn minute_views(counts: &[MinuteCount]) -> Vec<MinuteView> {
    let view = |of: &[MinuteCount]| {
        let is_more = of.iter().map(|one| one.count).sum::<i64>() >= MOST_IN_A_MINUTE;
        let counted = |state| of.iter().find(|one| one.state == Some(state)).map_or(0, |one| one.count);
        let counts = ENDED.map(|state| {
            let counted = counted(state);
            let at_least = if is_more && counted > 0 { "at least " } else { "" };
            (state, counted, format!("{at_least}{}", number(counted)))
        });
        MinuteView { minute: ShortTime(of[0].minute), counts }
    };
    counts.chunk_by(|a, b| a.minute == b.minute).map(view).rev().collect()
}

/// The forms that resume what is paused, and pause a host.
fn orders(paused: &[HeldPause]) -> Vec<PauseForm> {
    paused.iter().map(|held| PauseForm::resume(&held.pause.target)).chain([PauseForm::any_host()]).collect()
}

/// What the overview says first.
fn summary(is_known: bool, is_whole: bool, needs: &[Need]) -> String {
    match needs.iter().filter(|need| need.is_for_somebody()).count() {
        0 if !is_known => "The status cannot be read.".to_owned(),
        0 if !is_whole => "Of what is shown here, nothing needs anybody. Not everything is shown.".to_owned(),
        0 => "Nothing needs anybody.".to_owned(),
        1 => "1 thing needs somebody.".to_owned(),
        things => format!("{things} things need somebody."),
    }
}

/// All states in which a delivery ends, those without any included: that nothing failed is worth knowing.
fn last_hour_figures(counts: &[StateCount]) -> Vec<Figure> {
    let figure = |state: State| {
        let found = counts.iter().find(|counted| counted.state == state).map_or(0, |counted| counted.count);
        Figure {
            label: String::new(),
            mark: Some(if found == 0 { Mark { tone: Tone::Plain, ..Mark::from(state) } } else { state.into() }),
            value: count(up_to(found)),
            note: String::new(),
            address: Some(frame::inside(&format!("/deliveries?state={state}&since=1h"))),
        }
    };
    ENDED.into_iter().map(figure).collect()
}

fn headroom_line(headroom: &Headroom) -> String {
    match headroom.until {
        Some(until) => format!("{} until {} ({} days)", headroom.table, until.format("%Y-%m-%d"), headroom.days()),
        None => format!("{}: none for the present", headroom.table),
    }
}

impl StatusView {
    fn of(status: &Status, living: &[Living], open: Option<&OpenDeliveries>) -> StatusView {
        let check = policies(living);
        let told = || (shown(&check.found).into_owned(), shown(check.cure.as_deref().unwrap_or_default()).into_owned());
        let paused = |host: &HostReport| paused(&host.host, &status.paused);
        let hosts = status.hosts();
        StatusView {
            figures: figures(status, open),
            dispatchers: status.dispatchers.iter().map(|one| DispatcherView::of(one, living)).collect(),
            // That none runs is said above.
            policies: (!living.is_empty() && check.verdict != Verdict::Ok).then(told),
            hosts: hosts
                .into_iter()
                .map(|(id, host)| HostView { paused: paused(host), ..HostView::of(id, host) })
                .collect(),
            hosts_left_out: status.hosts_left_out(),
            pauses: status.paused.iter().map(PauseView::of).collect(),
            pauses_left_out: status.pauses_left_out(),
        }
    }
}

/// Who paused a host as a dispatcher names it, and why; empty if nobody did.
fn paused(host: &str, pauses: &[HeldPause]) -> String {
    let Some(host) = Host::of_url(&format!("https://{host}/")) else { return String::new() };
    let covers = |held: &&HeldPause| match &held.pause.target {
        NamedTarget::Host(paused) => paused.parse().is_ok_and(|pattern: HostPattern| pattern.matches(&host)),
        NamedTarget::Agent(_) | NamedTarget::Action { .. } => false,
    };
    let by = |held: &HeldPause| format!("by {}: {}", shown(&held.pause.begun.by), shown(&held.pause.begun.reason));
    pauses.iter().find(covers).map(by).unwrap_or_default()
}

/// What is open is left out for those who may not read it.
fn figures(status: &Status, open: Option<&OpenDeliveries>) -> Vec<Figure> {
    let alive = status.dispatchers.iter().filter(|dispatcher| matches!(dispatcher.life, Life::Alive { .. }));
    let places: usize = alive.filter_map(|dispatcher| Some(dispatcher.reported.as_ref()?.report.concurrency)).sum();
    let figure = |label: &str, value, note, address: &str| Figure {
        label: label.to_owned(),
        mark: None,
        value,
        note,
        address: Some(frame::inside(address)),
    };
    let oldest = status.oldest_waiting.map(|oldest| format!("the oldest for {}", long(oldest.age_ms)));
    let open = open.map(|open| {
        let beyond = Some(open.beyond_replay).filter(|beyond| *beyond > 0);
        let beyond = beyond.map(|beyond| format!("{} of them beyond replay", number(beyond)));
        let oldest = open.oldest.map(|oldest| since(open, oldest.age_ms));
        let note = oldest.into_iter().chain(beyond).collect::<Vec<_>>().join("; ");
        figure("open", at_least(open.count), note, "/deliveries?open=1")
    });
    let figures = [
        figure("waiting", count(status.waiting), oldest.unwrap_or_default(), "/deliveries?state=waiting"),
        figure("in flight", number(status.in_flight), format!("of {places} places"), "/deliveries?state=sending"),
        figure("unknown", count(status.in_doubt), "without a finding".to_owned(), "/deliveries?state=unknown"),
    ];
    figures.into_iter().chain(open).collect()
}

impl DispatcherView {
    fn of(dispatcher: &DispatcherStatus, living: &[Living]) -> DispatcherView {
        let mark = |icon, tone, word| Mark { icon, tone, word };
        let (life, since) = match dispatcher.life {
            Life::Alive { lease_left_ms } => {
                (mark(Icon::WELL, Tone::Well, "alive"), format!("lease for {}", long(lease_left_ms)))
            }
            Life::Overdue { since_ms } => {
                (mark(Icon::WARN, Tone::Trouble, "overdue"), format!("lease over for {}", long(since_ms)))
            }
            Life::Stopped { at } => (mark(Icon::DASH, Tone::Plain, "stopped"), at.format("%H:%M:%S UTC").to_string()),
            Life::Lost { at } => (mark(Icon::CROSS, Tone::Trouble, "lost"), at.format("%H:%M:%S UTC").to_string()),
        };
        let (places, report) = match &dispatcher.reported {
            Some(reported) => {
                let unrecorded = match reported.report.unrecorded {
                    0 => String::new(),
                    results => format!(", {results} results to record"),
                };
                let places = format!("{} of {}", dispatcher.in_flight, reported.report.concurrency);
                (places, format!("{} ago{unrecorded}", long(reported.age_ms)))
            }
            None => (dispatcher.in_flight.to_string(), "none".to_owned()),
        };
        let (name, version) = (shown(&dispatcher.name).into_owned(), shown(&dispatcher.version).into_owned());
        let own = living.iter().find(|one| one.dispatcher_id == dispatcher.dispatcher_id);
        let policy = own.map(|own| own.policy.as_ref().map_or_else(|| "not recorded".to_owned(), ToString::to_string));
        let policy = policy.as_deref().map(shown).unwrap_or_default().into_owned();
        DispatcherView { id: dispatcher.dispatcher_id, name, version, life, since, places, report, policy }
    }
}

impl HostView {
    fn of(dispatcher: i32, host: &HostReport) -> HostView {
        let (icon, tone, since) = match host.condition {
            HostCondition::Answering => (Icon::WELL, Tone::Well, String::new()),
            HostCondition::Silent { since_ms } => (Icon::ASK, Tone::Doubt, format!("for {}", long_since(since_ms))),
            HostCondition::Unreachable { since_ms, last_error_kind, next_probe_in_ms } => (
                Icon::CROSS,
                Tone::Trouble,
                format!(
                    "for {} ({last_error_kind}), next probe within {}",
                    long_since(since_ms),
                    long_since(next_probe_in_ms)
                ),
            ),
        };
        HostView {
            host: shown(&host.host).into_owned(),
            condition: Mark { icon, tone, word: host.condition.as_str() },
            since,
            in_flight: host.in_flight.to_string(),
            limit: host.limit.to_string(),
            waiting: host.waiting_lanes.to_string(),
            dispatcher,
            paused: String::new(),
        }
    }
}

impl PauseView {
    fn of(HeldPause { pause, waiting }: &HeldPause) -> PauseView {
        PauseView {
            target: shown(&pause.target.to_string()).into_owned(),
            waiting: count(*waiting),
            since: ShortTime(pause.begun.at),
            by: shown(&pause.begun.by).into_owned(),
            reason: shown(&pause.begun.reason).into_owned(),
        }
    }
}
