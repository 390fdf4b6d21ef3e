//! What observers see of the adapters: their counters copied into plain values.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Daemon;
use crate::config::Config;
use crate::field::{self, LineStatus, SignStatus, UnitStatus};
use crate::gateway::Snapshot;
use crate::record::Lane;
use crate::site::Site;
use crate::status::{
    ClockView, DisplayView, LampsView, LaneView, LineState, LineUnitView, LineView, Ready,
    RelayView, Status, StoreState, StoreView, UnitState, UplinkState, UplinkView,
};
use crate::time::{Clock, Mono, Now};
use crate::{store, uplink};

/// Makes a [`Status`] whenever someone looks.
pub type Viewer = Arc<dyn Fn() -> Status + Send + Sync>;

/// Something that can be looked at from any thread.
pub fn viewer(config: &Config, clock: Clock, daemon: &Daemon) -> Viewer {
    let site = Arc::new(config.site.clone());
    let broker = config.mqtt.as_ref().map(|mqtt| mqtt.broker.clone()).unwrap_or_default();
    let (store, field) = (daemon.store.clone(), daemon.field.clone());
    let (uplink, stopping) = (daemon.uplink.clone(), daemon.stopping.clone());
    let started = clock.now();
    Arc::new(move || {
        let (now, lines) = (clock.now(), field.status());
        Status {
            displays: lines.iter().flat_map(|line| displays(&site, line, now.mono)).collect(),
            lines: lines.iter().map(|line| line_view(&site, line)).collect(),
            relays: lines.iter().flat_map(|line| relay_views(&site, line, now)).collect(),
            clock: ClockView { good: clock.good_since().is_some(), steps_total: clock.steps() },
            store: store_view(&store.status(), now, clock.good_since().is_some()),
            uplink: uplink_view(&uplink.status(), &broker, started, now),
            // The store is open, or was waited for and is done without: either is an answer.
            ready: Ready {
                store: true,
                polled: field.attempted(),
                stopping: stopping.load(Ordering::Relaxed),
            },
        }
    })
}

/// The displays of a line.
fn displays(site: &Site, line: &LineStatus, now: Mono) -> Vec<DisplayView> {
    let view = |sign: &SignStatus| DisplayView {
        sign: site.signs[sign.sign.at()].id.clone(),
        confirmed: sign.confirmed,
        age_s: sign.written_at.map(|at| now.ms_since(at) / 1_000),
        mismatches_total: sign.mismatch_total,
    };
    line.signs.iter().map(view).collect()
}

fn line_view(site: &Site, line: &LineStatus) -> LineView {
    let table = &site.lines[line.line.at()];
    let sum = |of: fn(&UnitStatus) -> u64| line.units.iter().map(of).sum::<u64>();
    LineView {
        id: table.id.clone(),
        endpoint: table.wire.to_string(),
        state: match line.state {
            field::LineState::Connecting => LineState::Connecting,
            field::LineState::Up => LineState::Up,
            field::LineState::Down => LineState::Down,
        },
        polls_total: sum(|unit| unit.polls_total),
        timeouts_total: sum(|unit| unit.timeouts_total),
        reconnects_total: line.reconnects_total,
        missed_slots_total: line.missed_slots_total,
        writes_total: sum(|unit| unit.writes_total),
        write_failures_total: sum(|unit| unit.write_failures_total),
        exceptions_total: sum(exceptions),
        last_round_trip_us: line
            .units
            .iter()
            .map(|unit| unit.round_trip_us)
            .filter(|us| *us > 0)
            .max(),
        units: line.units.iter().map(|unit| unit_view(site, unit)).collect(),
        lamps: LampsView {
            wanted: line.lamps.desired,
            confirmed: line.lamps.confirmed,
            mismatches_total: line.lamps.mismatch_total,
        },
    }
}

fn relay_views(site: &Site, line: &LineStatus, now: Now) -> impl Iterator<Item = RelayView> {
    line.outputs.iter().map(move |relay| RelayView {
        output: site.outputs[relay.output.at()].id.clone(),
        confirmed: relay.confirmed,
        age_s: relay.written_at.map(|at| now.mono.ms_since(at) / 1_000),
        mismatches_total: relay.mismatch_total,
    })
}

fn unit_view(site: &Site, unit: &UnitStatus) -> LineUnitView {
    LineUnitView {
        id: site.units[unit.unit.at()].id.clone(),
        state: match unit.state {
            field::UnitState::Unreached => UnitState::Unreached,
            field::UnitState::Ok => UnitState::Ok,
            field::UnitState::Refuses => UnitState::Refuses,
            field::UnitState::Suspect => UnitState::Suspect,
            field::UnitState::Open => UnitState::Open,
        },
        timeouts_total: unit.timeouts_total,
        exceptions_total: exceptions(unit),
        exceptions: unit.exceptions_total.clone(),
        blocks_cut: unit.blocks_cut,
        left_out: unit.left_out,
    }
}

fn exceptions(unit: &UnitStatus) -> u64 {
    unit.exceptions_total.values().sum()
}

fn store_view(store: &store::Status, now: Now, clock_good: bool) -> StoreView {
    let state = match (&store.degraded, store.epoch) {
        (Some(_), _) => StoreState::Degraded,
        (None, Some(_)) => StoreState::Ok,
        (None, None) => StoreState::Opening,
    };
    let lane = |(lane, status): (&Lane, &store::LaneStatus)| LaneView {
        lane: lane.name().to_owned(),
        backlog_records: status.records,
        backlog_bytes: status.bytes,
        oldest_age_s: age_s(status, now, clock_good),
        dropped_total: status.dropped,
        merged_total: status.merged,
        // Numbers begin at 1, so the next one says how many there have been.
        committed_total: status.next.saturating_sub(1),
    };
    StoreView {
        state,
        epoch: store.epoch.map_or_else(String::new, |epoch| format!("{epoch:016x}")),
        lanes: Lane::ALL.iter().zip(&store.lanes).map(lane).collect(),
        commits_total: store.commits,
        last_commit_ms: (store.commits > 0).then_some(store.last_commit_ms),
        barriers_total: store.barriers,
    }
}

/// By the clock that is never set, where that was running; by the wall clock only while it is good.
fn age_s(lane: &store::LaneStatus, now: Now, clock_good: bool) -> u64 {
    match (lane.oldest_mono, lane.oldest_at.filter(|_| clock_good)) {
        (Some(oldest), _) => now.mono.ms_since(oldest) / 1_000,
        (None, Some(oldest)) => {
            u64::try_from(now.wall.0.saturating_sub(oldest.0)).unwrap_or(0) / 1_000
        }
        (None, None) => 0,
    }
}

fn uplink_view(uplink: &uplink::Status, broker: &str, started: Now, now: Now) -> UplinkView {
    let state = match (uplink.enabled, uplink.connected_since) {
        (false, _) => UplinkState::Off,
        (true, Some(_)) => UplinkState::Connected,
        (true, None) => UplinkState::Connecting,
    };
    let since = uplink.connected_since.unwrap_or(started);
    UplinkView {
        state,
        broker: broker.to_owned(),
        since_s: now.mono.ms_since(since.mono) / 1_000,
        published_total: uplink.totals.sent,
        acked_total: uplink.totals.taken,
        denied_total: uplink.totals.refused,
        resent_total: uplink.totals.resent,
        reconnects_total: uplink.reconnects,
        outstanding: uplink.in_flight,
        commands_done_total: uplink.commands_done,
        commands_refused_total: uplink.commands_refused,
    }
}

/// The line that `systemctl status` shows.
pub fn line(snapshot: &Snapshot, status: &Status) -> String {
    let (mut free, mut unknown) = (0, 0);
    for garage in &snapshot.garages {
        free += garage.tally.free;
        unknown += garage.tally.unknown;
    }
    let up = status.lines.iter().filter(|line| line.state == LineState::Up).count();
    let backlog: u64 = status.store.lanes.iter().map(|lane| lane.backlog_records).sum();
    format!(
        "{free} bays free, {unknown} unknown; {} leases; {up} of {} lines up; {} records waiting",
        snapshot.leases_open,
        status.lines.len(),
        backlog
    )
}
