//! The numbers for Prometheus. All names begin with `parkway_`.
//!
//! Almost all are read from the published snapshot and the adapters' status at the moment of a
//! scrape, so nothing has to be kept in step while cars arrive. Only durations are gathered as
//! they happen, in two histograms. Labels come from the configuration or from closed sets, so the
//! number of series is bounded by the site: about 1,500 for 26 garages and 34 lines.

mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Histogram, HistogramOpts, TextEncoder};

use crate::gateway::{OutputMode, SignMode, Snapshot, Source};
use crate::record::{Fullness, SensorFault};
use crate::status::{LineState, Status, StoreState, UnitState, UplinkState};

pub use table::{Kind, describe, markdown};

/// What HTTP takes from a request for a bay to its answer, commit included: from a tenth of a
/// millisecond (no disk waited for) to the request's own time limit.
const ALLOCATION_BUCKETS_S: [f64; 15] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// One step of the gateway: from a quarter of a microsecond to what would starve a sweep.
const STEP_BUCKETS_S: [f64; 14] = [
    0.000_000_25,
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.001,
    0.005,
    0.025,
    0.1,
    1.0,
];

/// All that is measured; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    allocation: Histogram,
    step: Histogram,
    began: Instant,
    /// When the owner's loop last turned, in ms since `began`; 0 before the first turn.
    turned_ms: AtomicU64,
    /// Responses by hundreds: 1xx to 5xx.
    requests: [AtomicU64; 5],
    connections: AtomicU64,
}

/// The owner's handle: tells how long a step took, and by that that the loop turns.
#[derive(Clone, Debug)]
pub struct StepTimer {
    shared: Arc<Shared>,
}

impl StepTimer {
    /// To be called after each step, ticks included; takes some 30 ns.
    pub fn observe(&self, took: Duration) {
        self.shared.step.observe(took.as_secs_f64());
        let now_ms = u64::try_from(self.shared.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.turned_ms.store(now_ms.max(1), Ordering::Relaxed);
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        let shared = Shared {
            allocation: histogram(table::ALLOCATION, &ALLOCATION_BUCKETS_S),
            step: histogram(table::STEP, &STEP_BUCKETS_S),
            began: Instant::now(),
            turned_ms: AtomicU64::new(0),
            requests: Default::default(),
            connections: AtomicU64::new(0),
        };
        Metrics { shared: Arc::new(shared) }
    }

    /// A handle for the owner.
    pub fn step_timer(&self) -> StepTimer {
        StepTimer { shared: self.shared.clone() }
    }

    /// How long the owner's loop has not turned; `None` before its first turn.
    pub fn owner_silent(&self) -> Option<Duration> {
        let turned = match self.shared.turned_ms.load(Ordering::Relaxed) {
            0 => return None,
            ms => Duration::from_millis(ms),
        };
        Some(self.shared.began.elapsed().saturating_sub(turned))
    }

    /// One request for a bay was answered or refused.
    pub fn allocation(&self, took: Duration) {
        self.shared.allocation.observe(took.as_secs_f64());
    }

    /// One HTTP response.
    pub fn request(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.shared.requests[class].fetch_add(1, Ordering::Relaxed);
    }

    /// So many HTTP connections are open.
    pub fn connected(&self, open: usize) {
        self.shared.connections.store(open as u64, Ordering::Relaxed);
    }

    /// The whole page.
    pub fn render(&self, snapshot: &Snapshot, status: &Status) -> String {
        let mut page = Page::new();
        self.process(&mut page, snapshot, status);
        garages(&mut page, snapshot);
        outputs(&mut page, snapshot, status);
        signs(&mut page, snapshot, status);
        leases(&mut page, snapshot);
        lines(&mut page, snapshot, status);
        store(&mut page, status);
        uplink(&mut page, status);
        let mut families = page.finish();
        families.extend(self.shared.allocation.collect());
        families.extend(self.shared.step.collect());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        // Fails only on a family without samples or a writer's error, and a String has none.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    fn process(&self, page: &mut Page, snapshot: &Snapshot, status: &Status) {
        page.set("parkway_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        page.set("parkway_ready", &[], flag(status.ready.all()));
        page.set("parkway_uptime_seconds", &[], self.shared.began.elapsed().as_secs_f64());
        page.set("parkway_snapshots_total", &[], number(snapshot.version));
        let connections = self.shared.connections.load(Ordering::Relaxed);
        page.set("parkway_http_connections", &[], number(connections));
        for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(&self.shared.requests)
        {
            let count = number(count.load(Ordering::Relaxed));
            page.set("parkway_http_requests_total", &[("status", class)], count);
        }
    }
}

fn garages(page: &mut Page, snapshot: &Snapshot) {
    for garage in &snapshot.garages {
        let id = ("garage", garage.id.as_str());
        let tally = garage.tally;
        for (state, bays) in [
            ("free", tally.free),
            ("held", tally.held),
            ("occupied", tally.occupied),
            ("unknown", tally.unknown),
            ("closed", tally.closed),
        ] {
            page.set("parkway_garage_bays", &[id, ("state", state)], bays.into());
        }
        for (class, tally) in &garage.by_class {
            let labels = [id, ("class", class)];
            page.set("parkway_garage_class_free_bays", &labels, tally.free.into());
        }
        page.set("parkway_garage_ledger_free_bays", &[id], garage.ledger_free.into());
        let cars = garage.cars;
        for (source, cars) in [
            ("sensed", Some(cars.sensed)),
            ("counted", cars.counted),
            ("booked", Some(cars.booked)),
        ] {
            if let Some(cars) = cars {
                page.set("parkway_garage_occupied", &[id, ("source", source)], cars.into());
            }
        }
        if let Some(error) = garage.count_error {
            page.set("parkway_garage_count_error", &[id], error as f64);
        }
        page.set("parkway_garage_doubtful_bays", &[id], garage.doubtful.into());
        page.set("parkway_garage_closed", &[id], flag(garage.closed));
        page.set("parkway_garage_incident", &[id], flag(garage.incident));
        let fullness = match garage.fullness {
            Fullness::Spaces => 0.0,
            Fullness::AlmostFull => 1.0,
            Fullness::Full => 2.0,
        };
        page.set("parkway_garage_fullness", &[id], fullness);
    }
    page.set("parkway_incidents", &[], number(snapshot.incidents.len() as u64));
}

fn signs(page: &mut Page, snapshot: &Snapshot, status: &Status) {
    for mode in SignMode::ALL {
        let signs = snapshot.signs.iter().filter(|sign| sign.mode == mode).count();
        page.set("parkway_signs", &[("mode", mode.name())], number(signs as u64));
    }
    for source in Source::ALL {
        let signs = snapshot.signs.iter().filter(|sign| sign.source == source).count();
        page.set("parkway_signs_shown", &[("source", source.name())], number(signs as u64));
    }
    let unconfirmed = status.displays.iter().filter(|display| !display.confirmed).count();
    page.set("parkway_sign_unconfirmed", &[], number(unconfirmed as u64));
    if let Some(oldest_s) = status.displays.iter().filter_map(|display| display.age_s).max() {
        page.set("parkway_sign_age_seconds", &[], number(oldest_s));
    }
    let mismatches = status.displays.iter().map(|display| display.mismatches_total).sum();
    page.set("parkway_sign_mismatches_total", &[], number(mismatches));
}

fn outputs(page: &mut Page, snapshot: &Snapshot, status: &Status) {
    for output in &snapshot.outputs {
        let id = ("output", output.id.as_str());
        if let Some(on) = output.on {
            page.set("parkway_output_on", &[id], flag(on));
        }
        let by_staff = output.state != OutputMode::Auto;
        page.set("parkway_output_by_staff", &[id], flag(by_staff));
    }
    for relay in &status.relays {
        let id = ("output", relay.output.as_str());
        page.set("parkway_output_confirmed", &[id], flag(relay.confirmed));
        page.set("parkway_output_mismatches_total", &[id], number(relay.mismatches_total));
    }
    for line in status.lines.iter().filter(|line| line.lamps.wanted > 0) {
        let (id, lamps) = ("line", &line.lamps);
        let id = (id, line.id.as_str());
        page.set("parkway_lamps_wanted", &[id], lamps.wanted.into());
        page.set("parkway_lamps_confirmed", &[id], lamps.confirmed.into());
        page.set("parkway_lamp_mismatches_total", &[id], number(lamps.mismatches_total));
    }
}

fn leases(page: &mut Page, snapshot: &Snapshot) {
    let counts = &snapshot.counts;
    page.set("parkway_leases_open", &[], snapshot.leases_open.into());
    for promise in ["bay", "zone", "garage", "signs"] {
        let granted = counts.granted.get(promise).copied().unwrap_or(0);
        page.set("parkway_allocations_total", &[("promise", promise)], number(granted));
    }
    for end in ["fulfilled", "took_other", "displaced", "expired", "cancelled"] {
        let ended = counts.ended.get(end).copied().unwrap_or(0);
        page.set("parkway_leases_ended_total", &[("end", end)], number(ended));
    }
    for (fault, count) in SensorFault::ALL.iter().zip(counts.sensor_faults) {
        page.set("parkway_sensor_faults_total", &[("fault", fault.name())], number(count));
    }
    for (way, cars) in [("under", counts.count_under), ("over", counts.count_over)] {
        page.set("parkway_count_lost_cars_total", &[("way", way)], number(cars));
    }
    for (name, count) in [
        ("parkway_leases_inferred_total", counts.inferred),
        ("parkway_leases_moved_total", counts.moved),
        ("parkway_leases_sightings_total", counts.sightings),
        ("parkway_requests_repeated_total", counts.repeats),
        ("parkway_requests_refused_total", counts.refused),
        ("parkway_readings_total", counts.readings),
        ("parkway_bay_changes_total", counts.bay_changes),
        ("parkway_door_resets_total", counts.counter_resets),
    ] {
        page.set(name, &[], number(count));
    }
}

const UNIT_STATES: [(UnitState, &str); 5] = [
    (UnitState::Unreached, "unreached"),
    (UnitState::Ok, "ok"),
    (UnitState::Refuses, "refuses"),
    (UnitState::Suspect, "suspect"),
    (UnitState::Open, "open"),
];

fn lines(page: &mut Page, snapshot: &Snapshot, status: &Status) {
    for line in &status.lines {
        let id = ("line", line.id.as_str());
        page.set("parkway_line_up", &[id], flag(line.state == LineState::Up));
        for (name, count) in [
            ("parkway_line_polls_total", line.polls_total),
            ("parkway_line_timeouts_total", line.timeouts_total),
            ("parkway_line_reconnects_total", line.reconnects_total),
            ("parkway_line_missed_slots_total", line.missed_slots_total),
            ("parkway_line_writes_total", line.writes_total),
            ("parkway_line_write_failures_total", line.write_failures_total),
            ("parkway_line_exceptions_total", line.exceptions_total),
        ] {
            page.set(name, &[id], number(count));
        }
        if let Some(us) = line.last_round_trip_us {
            page.set("parkway_line_round_trip_seconds", &[id], number(us) / 1e6);
        }
        for unit in &line.units {
            let labels = [id, ("unit", unit.id.as_str())];
            let up = matches!(unit.state, UnitState::Ok | UnitState::Refuses);
            page.set("parkway_unit_up", &labels, flag(up));
            page.set("parkway_unit_timeouts_total", &labels, number(unit.timeouts_total));
            if unit.exceptions.is_empty() {
                // A rate needs a start: 02 is what a wrong profile brings first.
                let labels = [labels[0], labels[1], ("code", "02")];
                page.set("parkway_unit_exceptions_total", &labels, number(0));
            }
            for (code, count) in &unit.exceptions {
                let code = format!("{code:02x}");
                let labels = [labels[0], labels[1], ("code", code.as_str())];
                page.set("parkway_unit_exceptions_total", &labels, number(*count));
            }
            page.set("parkway_unit_blocks_cut", &labels, unit.blocks_cut.into());
            page.set("parkway_unit_left_out_items", &labels, unit.left_out.into());
        }
    }
    for (state, name) in UNIT_STATES {
        let units = status.lines.iter().flat_map(|line| &line.units);
        let count = units.filter(|unit| unit.state == state).count();
        page.set("parkway_units", &[("state", name)], number(count as u64));
    }
    for unit in &snapshot.units {
        let id = ("unit", unit.id.as_str());
        page.set("parkway_unit_fresh", &[id], flag(unit.fresh));
        if let Some(age_ms) = unit.age_ms {
            page.set("parkway_unit_age_seconds", &[id], number(age_ms) / 1e3);
        }
    }
}

fn store(page: &mut Page, status: &Status) {
    let store = &status.store;
    page.set("parkway_clock_good", &[], flag(status.clock.good));
    page.set("parkway_clock_steps_total", &[], number(status.clock.steps_total));
    page.set("parkway_store_up", &[], flag(store.state == StoreState::Ok));
    page.set("parkway_store_commits_total", &[], number(store.commits_total));
    page.set("parkway_store_barriers_total", &[], number(store.barriers_total));
    if let Some(ms) = store.last_commit_ms {
        page.set("parkway_store_commit_seconds", &[], number(ms) / 1e3);
    }
    for lane in &store.lanes {
        let id = ("lane", lane.lane.as_str());
        page.set("parkway_backlog_records", &[id], number(lane.backlog_records));
        page.set("parkway_backlog_bytes", &[id], number(lane.backlog_bytes));
        page.set("parkway_backlog_age_seconds", &[id], number(lane.oldest_age_s));
        page.set("parkway_records_dropped_total", &[id], number(lane.dropped_total));
        page.set("parkway_records_merged_total", &[id], number(lane.merged_total));
        page.set("parkway_records_committed_total", &[id], number(lane.committed_total));
    }
}

fn uplink(page: &mut Page, status: &Status) {
    let uplink = &status.uplink;
    page.set("parkway_uplink_up", &[], flag(uplink.state == UplinkState::Connected));
    page.set("parkway_uplink_outstanding_messages", &[], number(uplink.outstanding));
    for (name, count) in [
        ("parkway_uplink_published_total", uplink.published_total),
        ("parkway_uplink_acked_total", uplink.acked_total),
        ("parkway_uplink_denied_total", uplink.denied_total),
        ("parkway_uplink_resent_total", uplink.resent_total),
        ("parkway_uplink_reconnects_total", uplink.reconnects_total),
    ] {
        page.set(name, &[], number(count));
    }
    for (result, count) in
        [("done", uplink.commands_done_total), ("refused", uplink.commands_refused_total)]
    {
        page.set("parkway_uplink_commands_total", &[("result", result)], number(count));
    }
}

/// A scrape being built: every described family, those without a sample left out at the end.
struct Page {
    families: std::collections::BTreeMap<&'static str, MetricFamily>,
}

impl Page {
    fn new() -> Page {
        let mut families = std::collections::BTreeMap::new();
        for (name, kind, help) in describe() {
            let field_type = match kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                // Gathered by themselves.
                Kind::Histogram => continue,
            };
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(field_type);
            families.insert(name, family);
        }
        Page { families }
    }

    fn set(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let family = self.families.get_mut(name).expect("every sample's name is in the table");
        let pairs = labels.iter().map(|(key, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*key).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        if family.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        family.mut_metric().push(metric);
    }

    fn finish(self) -> Vec<MetricFamily> {
        self.families.into_values().filter(|f| !f.get_metric().is_empty()).collect()
    }
}

fn histogram(name: &'static str, buckets_s: &[f64]) -> Histogram {
    let help = describe().into_iter().find(|(n, ..)| *n == name).map_or("", |(_, _, help)| help);
    let options = HistogramOpts::new(name, help).buckets(buckets_s.to_vec());
    Histogram::with_opts(options).expect("buckets rise and the name is plain")
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

/// Exact to 2^53, which a counter of this daemon reaches in a million years.
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::gateway::{Cars, GarageView, OutputView, UnitView};
    use crate::record::Tally;
    use crate::site::{GarageState, OutputKind};
    use crate::status::{
        ClockView, DisplayView, LampsView, LaneView, LineUnitView, LineView, Ready, RelayView,
        StoreView, UplinkView,
    };

    #[test]
    fn every_described_metric_is_on_a_full_page_and_no_other() {
        let text = full_page();
        let told: BTreeMap<&str, &str> =
            describe().into_iter().map(|(name, kind, _)| (name, kind.name())).collect();
        let shown: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        assert_eq!(told, shown);
        assert_eq!(told.len(), describe().len(), "a name stands twice in the table");
    }

    #[test]
    fn names_follow_the_rules() {
        for (name, kind, help) in describe() {
            assert!(name.starts_with("parkway_"), "{name}");
            assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
            assert!(help.ends_with('.'), "{name}: {help}");
        }
    }

    #[test]
    fn values_are_those_of_the_snapshot_in_base_units() {
        let text = full_page();
        for line in [
            "parkway_garage_bays{garage=\"g\\\"1\",state=\"unknown\"} 2",
            "parkway_garage_class_free_bays{class=\"ev\",garage=\"g\\\"1\"} 7",
            "parkway_line_round_trip_seconds{line=\"l1\"} 0.0032",
            "parkway_output_on{output=\"b1\"} 1",
            "parkway_lamps_confirmed{line=\"l1\"} 8",
            "parkway_unit_age_seconds{unit=\"u1\"} 0.4",
            "parkway_unit_up{line=\"l1\",unit=\"u1\"} 0",
            "parkway_units{state=\"open\"} 1",
            "parkway_unit_exceptions_total{code=\"0b\",line=\"l1\",unit=\"u1\"} 4",
            "parkway_backlog_records{lane=\"events\"} 12",
            "parkway_allocations_total{promise=\"bay\"} 5",
            "parkway_allocations_total{promise=\"signs\"} 0",
            "parkway_http_requests_total{status=\"4xx\"} 1",
            "parkway_uplink_commands_total{result=\"done\"} 0",
            "parkway_uplink_commands_total{result=\"refused\"} 3",
            "parkway_ready 1",
            "parkway_allocation_seconds_count 1",
            "parkway_step_seconds_bucket{le=\"0.000005\"} 1",
        ] {
            let found = text.lines().any(|l| sorted(l) == sorted(line));
            assert!(found, "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_page_before_anything_happened_has_no_samples_made_up() {
        let text = Metrics::new().render(&Snapshot::default(), &Status::default());
        for name in ["parkway_line_round_trip_seconds", "parkway_store_commit_seconds"] {
            assert!(!text.contains(name), "{name}");
        }
        assert!(text.contains("parkway_leases_open 0"));
    }

    #[test]
    fn the_owner_is_silent_from_its_last_turn_on() {
        let metrics = Metrics::new();
        assert_eq!(metrics.owner_silent(), None);
        metrics.step_timer().observe(Duration::from_micros(3));
        assert!(metrics.owner_silent().unwrap() < Duration::from_secs(5));
    }

    /// Labels in any order are the same sample.
    fn sorted(line: &str) -> BTreeSet<String> {
        line.split(['{', '}', ',']).map(str::to_owned).collect()
    }

    fn full_page() -> String {
        let metrics = Metrics::new();
        metrics.allocation(Duration::from_millis(3));
        metrics.step_timer().observe(Duration::from_micros(3));
        metrics.request(404);
        metrics.connected(2);
        let tally = Tally { free: 7, held: 1, occupied: 9, unknown: 2, closed: 1 };
        let mut snapshot = Snapshot {
            garages: vec![GarageView {
                id: "g\"1".into(),
                name: String::new(),
                fullness: Fullness::Full,
                closed: false,
                incident: true,
                bays: 20,
                tally,
                ledger_free: 1,
                cars: Cars { sensed: 9, counted: Some(10), booked: 4 },
                count_error: Some(1),
                doubtful: 2,
                by_class: BTreeMap::from([("ev".into(), tally)]),
            }],
            units: vec![UnitView { id: "u1".into(), age_ms: Some(400), fresh: true, bays: 20 }],
            outputs: vec![OutputView {
                id: "b1".into(),
                name: String::new(),
                kind: OutputKind::Barrier,
                garage: "g1".into(),
                garage_state: GarageState::Full,
                state: OutputMode::Auto,
                by: None,
                expires_in_s: None,
                on: Some(true),
            }],
            ..Snapshot::default()
        };
        snapshot.counts.granted.insert("bay", 5);
        let line = LineView {
            id: "l1".into(),
            last_round_trip_us: Some(3_200),
            lamps: LampsView { wanted: 9, confirmed: 8, mismatches_total: 1 },
            units: vec![LineUnitView {
                id: "u1".into(),
                state: UnitState::Open,
                exceptions: BTreeMap::from([(0x0b, 4)]),
                ..Default::default()
            }],
            ..Default::default()
        };
        let lane = LaneView { lane: "events".into(), backlog_records: 12, ..Default::default() };
        let status = Status {
            clock: ClockView { good: true, steps_total: 1 },
            displays: vec![DisplayView { age_s: Some(9), ..DisplayView::default() }],
            lines: vec![line],
            relays: vec![RelayView { output: "b1".into(), ..Default::default() }],
            store: StoreView { lanes: vec![lane], last_commit_ms: Some(4), ..Default::default() },
            uplink: UplinkView { commands_refused_total: 3, ..Default::default() },
            ready: Ready { store: true, polled: true, stopping: false },
        };
        metrics.render(&snapshot, &status)
    }
}
