//! Every metric's name, kind and meaning: the one list that code and README are held to.

/// What Prometheus calls the type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

pub(super) const ALLOCATION: &str = "parkway_allocation_seconds";
pub(super) const STEP: &str = "parkway_step_seconds";

/// The same as rows of a Markdown table, as the README shows them.
pub fn markdown() -> String {
    let rows = describe()
        .into_iter()
        .map(|(name, kind, help)| format!("| `{name}` | {} | {help} |\n", kind.name()));
    rows.collect()
}

/// All metrics: name, kind, help.
pub fn describe() -> Vec<(&'static str, Kind, &'static str)> {
    let mut all = gateway();
    all.extend(adapters());
    all
}

/// What the gateway knows.
fn gateway() -> Vec<(&'static str, Kind, &'static str)> {
    use Kind::{Counter, Gauge, Histogram};
    vec![
        ("parkway_info", Gauge, "Always 1; the daemon's version is a label."),
        ("parkway_ready", Gauge, "1 once every line was tried and the store is settled."),
        ("parkway_uptime_seconds", Gauge, "Time since the daemon started."),
        ("parkway_snapshots_total", Counter, "Pictures the gateway published."),
        ("parkway_http_connections", Gauge, "Open HTTP connections when the last one came."),
        ("parkway_http_requests_total", Counter, "HTTP responses by status class."),
        (ALLOCATION, Histogram, "From a request for a bay to its answer, commit included."),
        (STEP, Histogram, "One step of the gateway."),
        ("parkway_garage_bays", Gauge, "Bays by what they are; each is in one state."),
        ("parkway_garage_class_free_bays", Gauge, "Free bays by class."),
        ("parkway_garage_ledger_free_bays", Gauge, "Free bays believed in where no unit answers."),
        ("parkway_garage_occupied", Gauge, "Cars inside by who says so; counted only with loops."),
        ("parkway_garage_count_error", Gauge, "Cars counted less cars seen, while all bays are."),
        ("parkway_garage_doubtful_bays", Gauge, "Bays given last: their sensors are in doubt."),
        ("parkway_garage_closed", Gauge, "1 while staff closed the whole garage."),
        ("parkway_garage_incident", Gauge, "1 while an incident closes it or a part of it."),
        ("parkway_garage_fullness", Gauge, "0 spaces, 1 almost full, 2 full."),
        ("parkway_incidents", Gauge, "Incidents under way."),
        ("parkway_signs", Gauge, "Signs by mode."),
        ("parkway_output_on", Gauge, "1 while ordered on; absent while as it was found."),
        ("parkway_output_by_staff", Gauge, "1 while staff decide about the output."),
        ("parkway_output_confirmed", Gauge, "1 while the output is known to be as ordered."),
        ("parkway_output_mismatches_total", Counter, "Times the output read back otherwise."),
        ("parkway_lamps_wanted", Gauge, "Bay lamps of the line that should have a colour."),
        ("parkway_lamps_confirmed", Gauge, "Of these, the ones that took it."),
        ("parkway_lamp_mismatches_total", Counter, "Times a lamp read back otherwise."),
        ("parkway_signs_shown", Gauge, "Signs by who decides what they show."),
        (
            "parkway_sign_unconfirmed",
            Gauge,
            "Signs whose display did not take what it should show.",
        ),
        ("parkway_sign_age_seconds", Gauge, "Since the display that waits longest took a write."),
        ("parkway_sign_mismatches_total", Counter, "Displays that read back something else."),
        ("parkway_leases_open", Gauge, "Promises under way."),
        ("parkway_allocations_total", Counter, "Answers to arrivals by how firm they were."),
        ("parkway_leases_ended_total", Counter, "Leases by how they ended."),
        ("parkway_leases_inferred_total", Counter, "Ends that no camera confirmed."),
        ("parkway_leases_moved_total", Counter, "Leases given another bay."),
        ("parkway_leases_sightings_total", Counter, "Vehicles seen again on their way."),
        ("parkway_requests_repeated_total", Counter, "Requests for a bay that came again."),
        ("parkway_requests_refused_total", Counter, "Requests the gateway refused."),
        ("parkway_readings_total", Counter, "Readings of units taken in."),
        ("parkway_bay_changes_total", Counter, "Bays that changed, debounced."),
        ("parkway_sensor_faults_total", Counter, "Bay sensors found to flap or to be stuck."),
        (
            "parkway_count_lost_cars_total",
            Counter,
            "Cars by which a door's count went below none or above all bays.",
        ),
        ("parkway_door_resets_total", Counter, "Door counters found reset."),
    ]
}

/// What lines, store and uplink know.
fn adapters() -> Vec<(&'static str, Kind, &'static str)> {
    use Kind::{Counter, Gauge};
    vec![
        ("parkway_line_up", Gauge, "1 while the line's socket is open."),
        ("parkway_line_polls_total", Counter, "Read requests sent."),
        ("parkway_line_timeouts_total", Counter, "Requests nobody answered in time."),
        ("parkway_line_reconnects_total", Counter, "Sockets opened again."),
        ("parkway_line_missed_slots_total", Counter, "Sweeps that could not start in time."),
        ("parkway_line_writes_total", Counter, "Write requests sent."),
        ("parkway_line_write_failures_total", Counter, "Writes that failed."),
        ("parkway_line_exceptions_total", Counter, "Exception replies."),
        ("parkway_line_round_trip_seconds", Gauge, "The last request's round trip."),
        ("parkway_units", Gauge, "Units by state: unreached, ok, refuses, suspect, open."),
        ("parkway_unit_up", Gauge, "1 while the unit answers."),
        ("parkway_unit_timeouts_total", Counter, "Requests to the unit without an answer."),
        ("parkway_unit_exceptions_total", Counter, "Exception replies of the unit by code."),
        ("parkway_unit_blocks_cut", Gauge, "Blocks read in pieces: the unit refuses the whole."),
        ("parkway_unit_left_out_items", Gauge, "Registers and bits the unit refuses alone."),
        ("parkway_unit_fresh", Gauge, "1 while the unit's bays are known."),
        ("parkway_unit_age_seconds", Gauge, "Age of the unit's last reading."),
        ("parkway_clock_good", Gauge, "1 while the wall clock is synchronised and plausible."),
        ("parkway_clock_steps_total", Counter, "Times the wall clock was set by 1 s or more."),
        ("parkway_store_up", Gauge, "1 while records are kept on disk."),
        ("parkway_store_commits_total", Counter, "Commits."),
        ("parkway_store_barriers_total", Counter, "Times the disk was told to make all durable."),
        ("parkway_store_commit_seconds", Gauge, "The last commit's length."),
        ("parkway_backlog_records", Gauge, "Records waiting, a merged one as all it covers."),
        ("parkway_backlog_bytes", Gauge, "Their size on disk."),
        ("parkway_backlog_age_seconds", Gauge, "Age of the oldest waiting record."),
        ("parkway_records_dropped_total", Counter, "Records given up for lack of room."),
        ("parkway_records_merged_total", Counter, "Records saved by merging old windows."),
        ("parkway_records_committed_total", Counter, "Records committed in the store's life."),
        ("parkway_uplink_up", Gauge, "1 while connected to the broker."),
        ("parkway_uplink_outstanding_messages", Gauge, "Published and not acknowledged."),
        ("parkway_uplink_published_total", Counter, "Messages published."),
        ("parkway_uplink_acked_total", Counter, "Messages the broker took."),
        ("parkway_uplink_denied_total", Counter, "Messages the broker refused."),
        ("parkway_uplink_resent_total", Counter, "Messages published again."),
        ("parkway_uplink_reconnects_total", Counter, "Connections made again."),
        ("parkway_uplink_commands_total", Counter, "Commands from the broker, by their end."),
    ]
}
