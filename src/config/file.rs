//! The shape of the TOML files, one struct a table, exactly as a person writes them.
//!
//! Nothing is judged here beyond types and unknown keys (each an error with line and column);
//! every rule is in `check.rs`. Garages, lines, profiles and signs may stand in an included file,
//! so that a garage can bring its own. Defaults are stated where the key is.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::clock::ClockTable;
use super::truth::TruthTable;
use crate::profile::Profile;
use crate::site::{
    ContactKind, GarageState, LampState, LinkKind, NodeKind, OutputKind, OutputStop, Parity,
    ScheduleMode, Turn,
};

/// The main file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MainFile {
    pub site: SiteTable,
    #[serde(default)]
    pub guidance: GuidanceTable,
    #[serde(default)]
    pub store: StoreTable,
    pub mqtt: Option<MqttTable>,
    #[serde(default)]
    pub http: HttpTable,
    #[serde(default)]
    pub log: LogTable,
    #[serde(default)]
    pub clock: ClockTable,
    #[serde(default, rename = "node")]
    pub nodes: Vec<NodeTable>,
    #[serde(default, rename = "link")]
    pub links: Vec<LinkTable>,
    #[serde(default, rename = "class")]
    pub classes: Vec<ClassTable>,
    #[serde(default, rename = "destination")]
    pub destinations: Vec<DestinationTable>,
    #[serde(default, rename = "profile")]
    pub profiles: Vec<Profile>,
    #[serde(default, rename = "garage")]
    pub garages: Vec<GarageTable>,
    #[serde(default, rename = "line")]
    pub lines: Vec<LineTable>,
    #[serde(default, rename = "sign")]
    pub signs: Vec<SignTable>,
    #[serde(default, rename = "output")]
    pub outputs: Vec<OutputTable>,
    #[serde(default, rename = "contact")]
    pub contacts: Vec<ContactTable>,
    /// First rule that fits wins.
    #[serde(default, rename = "lamp")]
    pub lamps: Vec<LampTable>,
}

/// An included file: garages with their lines and signs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartFile {
    #[serde(default, rename = "profile")]
    pub profiles: Vec<Profile>,
    #[serde(default, rename = "garage")]
    pub garages: Vec<GarageTable>,
    #[serde(default, rename = "line")]
    pub lines: Vec<LineTable>,
    #[serde(default, rename = "sign")]
    pub signs: Vec<SignTable>,
    #[serde(default, rename = "output")]
    pub outputs: Vec<OutputTable>,
    #[serde(default, rename = "contact")]
    pub contacts: Vec<ContactTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteTable {
    /// Used in topics: 1 to 32 of a-z, 0-9 and '-'.
    pub id: String,
    pub name: String,
    /// This gateway's name in records and its MQTT client id: same characters.
    pub gateway: String,
    /// What schedules are written in: a name such as "Asia/Shanghai", which the machine's zone
    /// files must know, or a fixed offset such as "+08:00".
    #[serde(default = "utc")]
    pub time_zone: String,
    /// "HH:MM" at which the cars counted at each door are set to those seen; never where absent.
    pub ledger_reset: Option<String>,
    /// Further files, relative to this one.
    #[serde(default)]
    pub include: Vec<String>,
    /// Colour of every bay lamp once the gateway has stopped; as they are where absent.
    pub lamp_stop: Option<String>,
}

fn utc() -> String {
    "UTC".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeTable {
    pub id: String,
    pub name: Option<String>,
    pub kind: NodeKind,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkTable {
    pub from: String,
    pub to: String,
    pub kind: LinkKind,
    pub length_m: u32,
    pub speed_kmh: u32,
    #[serde(default)]
    pub text: String,
    /// Which way it leaves `from`; direction signs there need it.
    pub turn: Option<Turn>,
    #[serde(default)]
    pub closed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassTable {
    pub id: String,
    pub name: Option<String>,
    /// Bay classes this vehicle may use and the penalty for each, in seconds; its own at 0 where
    /// absent.
    pub may_use_s: Option<BTreeMap<String, u32>>,
    #[serde(default)]
    pub height_cm: u32,
    /// A bay of this class that stays occupied for so long has a stuck sensor, in hours.
    #[serde(default = "stuck_occupied_h")]
    pub stuck_occupied_h: u32,
    /// The same where it stays free while its zone fills around it.
    #[serde(default = "stuck_free_h")]
    pub stuck_free_h: u32,
}

fn stuck_occupied_h() -> u32 {
    72
}

fn stuck_free_h() -> u32 {
    24
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationTable {
    pub id: String,
    pub name: Option<String>,
    /// Position on the site's own grid; walking is 1.3 times the straight line at 1.3 m/s.
    pub at_m: [i32; 2],
    /// Measured walking times by garage, where the estimate is wrong.
    #[serde(default)]
    pub walk_s: BTreeMap<String, u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GarageTable {
    pub id: String,
    pub name: Option<String>,
    /// The node cars enter by.
    pub door: String,
    /// Where people come out, on the site's own grid.
    pub at_m: [i32; 2],
    #[serde(default = "clearance_cm")]
    pub clearance_cm: u32,
    pub counter: Option<CounterTable>,
    #[serde(rename = "level")]
    pub levels: Vec<LevelTable>,
}

fn clearance_cm() -> u32 {
    210
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterTable {
    pub unit: String,
    pub cars_in: u16,
    pub cars_out: u16,
    /// Cars added to those seen when the count is set anew by night, for bays without sensors:
    /// -1,000 to 1,000.
    #[serde(default)]
    pub reset_offset: i32,
    /// The unit of `cars_out`, where that is another one.
    pub out_unit: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelTable {
    pub id: String,
    /// From the door to this level.
    pub drive_s: u32,
    #[serde(rename = "zone")]
    pub zones: Vec<ZoneTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneTable {
    pub id: String,
    /// Bay numbers, such as "1-210" or "1-12,15-40".
    pub bays: String,
    pub unit: String,
    /// The unit's point that senses the first bay; the others follow in order.
    pub first_point: u16,
    /// From the level's entrance to the first bay.
    #[serde(default)]
    pub drive_s: u32,
    pub walk_s: u32,
    #[serde(default)]
    pub spread_s: u32,
    /// Its last free bays that are promised to nobody, for drivers who follow no promise.
    #[serde(default)]
    pub keep_back: u32,
    /// Class of all bays that `classes` does not name.
    #[serde(default = "car")]
    pub class: String,
    /// Exceptions: class to bay numbers.
    #[serde(default)]
    pub classes: BTreeMap<String, String>,
    /// The unit that has the bays' lamps, and its place for the first; the others follow in order.
    pub lamps: Option<String>,
    pub first_lamp: Option<u16>,
}

fn car() -> String {
    "car".to_owned()
}

/// Exactly one of `tcp`, `rtu_tcp` and `serial`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineTable {
    pub id: String,
    /// Modbus TCP: host and port.
    pub tcp: Option<String>,
    /// RTU frames through a converter: its host and port.
    pub rtu_tcp: Option<String>,
    /// RTU frames on a serial port: its device file.
    pub serial: Option<String>,
    /// Speed of the bus, also of the one behind a converter; 9,600 where absent, not on `tcp`.
    pub baud: Option<u32>,
    /// "none" where absent.
    pub parity: Option<Parity>,
    /// 1 or 2; 1 where absent.
    pub stop_bits: Option<u8>,
    /// Whether the kernel's driver turns an RS-485 transceiver around; `serial` only.
    pub rs485: Option<bool>,
    #[serde(default = "period_ms")]
    pub period_ms: u32,
    /// These three are for all units of the line that say nothing else.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u32,
    #[serde(default)]
    pub gap_ms: u32,
    /// 20 on `tcp`, where nobody hears anybody else, and 100 on RTU, where absent.
    pub turnaround_ms: Option<u32>,
    #[serde(rename = "unit")]
    pub units: Vec<UnitTable>,
}

fn period_ms() -> u32 {
    1_000
}

fn timeout_ms() -> u32 {
    300
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitTable {
    pub id: String,
    pub address: u8,
    pub profile: String,
    /// The line's where absent, all three.
    pub timeout_ms: Option<u32>,
    pub gap_ms: Option<u32>,
    pub turnaround_ms: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignTable {
    pub id: String,
    pub name: Option<String>,
    pub kind: SignKindName,
    pub unit: String,
    pub index: u16,
    pub node: Option<String>,
    /// "blank", "closed", a number above 0, or a text; of a direction sign also "left",
    /// "straight" or "right".
    pub fallback: String,
    /// Count and direction signs: garages, levels or zones.
    pub shows: Option<Vec<String>>,
    pub class: Option<String>,
    pub keep_back: Option<u32>,
    pub offset: Option<i32>,
    pub min: Option<u32>,
    pub max: Option<u32>,
    /// Call-outs: how many wait at the most, and how long each shows.
    pub queue: Option<u32>,
    pub show_s: Option<u32>,
    /// How long another kind of automatic value must last before it is shown, in seconds; 0 for
    /// count signs and 5 for direction signs where absent.
    pub change_delay_s: Option<u32>,
    #[serde(default)]
    pub schedule: Vec<ScheduleTable>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignKindName {
    Count,
    CallOut,
    Direction,
}

/// What a sign does by itself at certain hours, in `site.time_zone`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleTable {
    /// "mon" to "sun", the days on which it begins; all where absent.
    pub days: Option<Vec<String>>,
    /// "HH:MM".
    pub from: String,
    /// "HH:MM", up to "24:00"; before `from` it is the next day's.
    pub to: String,
    pub mode: ScheduleMode,
}

/// An input that says something of the whole site or a part of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContactTable {
    pub id: String,
    pub name: Option<String>,
    pub unit: String,
    /// Which of the unit's contacts.
    pub index: u16,
    pub kind: ContactKind,
    /// Of kind "fire": garages, levels or zones that are closed while it is active.
    pub closes: Option<Vec<String>>,
    #[serde(default)]
    pub active: ActiveName,
}

/// Which state of a contact is the active one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActiveName {
    #[default]
    Closed,
    Open,
}

/// A relay that follows the state of a garage.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputTable {
    pub id: String,
    pub name: Option<String>,
    pub unit: String,
    pub index: u16,
    pub kind: OutputKind,
    pub garage: String,
    /// On in these states of the garage, off in the others.
    pub on_when: Vec<GarageState>,
    /// When the gateway stops; as it is where absent.
    #[serde(default)]
    pub stop: OutputStop,
}

/// One rule for the colour of a bay's lamp; an absent key fits everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LampTable {
    pub class: Option<String>,
    pub state: Option<LampState>,
    /// Promised to a driver.
    pub lease: Option<bool>,
    /// Its unit answers, but has no good sample of the bay.
    pub fault: Option<bool>,
    pub colour: String,
}

/// Weights, waits and thresholds: all may change by SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuidanceTable {
    /// How much more a second on the surface costs than one below, in tenths: 10 to 100.
    pub surface_weight_tenths: u32,
    /// The same for a second on foot.
    pub walk_weight_tenths: u32,
    /// Added to the travel time to make a lease's length, in seconds: 10 to 3,600.
    pub hold_extra_s: u32,
    /// How long an answer waits for its commit, in ms: 0 to 5,000.
    pub commit_wait_ms: u32,
    /// How long a bay must read the same before it counts, in ms: 0 to 60,000. Only sweeps can
    /// tell, so that in effect it is rounded up to whole periods, give or take 5 %.
    pub debounce_ms: u32,
    /// Silence after which a unit's bays are unknown, in ms: above every line's period.
    pub stale_ms: u32,
    /// Share of unknown bays above which a count sign stops counting, in percent: 1 to 100.
    pub unknown_max_percent: u32,
    /// How long such a sign keeps its last count, in seconds: 0 to 3,600.
    pub sign_hold_s: u32,
    /// What a promise without a sensed bay costs more, in seconds: 0 to 3,600.
    pub unsure_penalty_s: u32,
    /// What a full garage costs more when a bay is chosen, in seconds; less with the square of its
    /// occupancy: 0 to 10,000.
    pub price_occupancy_s: u32,
    /// The same for bays that a class needs which can use no others, to all more flexible classes.
    pub price_class_s: u32,
    /// Open leases an approach or portal may have: 1 to 100,000.
    pub leases_max: u32,
    /// How long before its expected time a lease may be credited with a bay that fills, in seconds.
    pub early_s: u32,
    /// First quarantine of a bay reported taken; doubles each time up to a day. 10 to 86,400 s.
    pub quarantine_s: u32,
    /// What a driver who could keep his place must gain to be moved, once, in seconds: 0 to 3,600.
    pub move_gain_s: u32,
    /// A vehicle read again at the same place within this is the same reading, in seconds: 0 to
    /// 3,600.
    pub duplicate_s: u32,
    /// Fullness of a garage, in percent of its bays taken or promised.
    pub fullness: FullnessTable,
    /// What a bay's sensor must do to be believed.
    pub truth: TruthTable,
}

impl Default for GuidanceTable {
    fn default() -> GuidanceTable {
        GuidanceTable {
            surface_weight_tenths: 20,
            walk_weight_tenths: 20,
            hold_extra_s: 120,
            commit_wait_ms: 50,
            debounce_ms: 1_000,
            stale_ms: 5_000,
            unknown_max_percent: 20,
            sign_hold_s: 120,
            unsure_penalty_s: 60,
            price_occupancy_s: 1_000,
            price_class_s: 1_000,
            leases_max: 2_000,
            early_s: 30,
            quarantine_s: 600,
            move_gain_s: 300,
            duplicate_s: 60,
            fullness: FullnessTable::default(),
            truth: TruthTable::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FullnessTable {
    pub almost_full_rising: u32,
    pub almost_full_falling: u32,
    pub full_rising: u32,
    pub full_falling: u32,
    /// How long a crossing must last, in seconds.
    pub dwell_s: u32,
}

impl Default for FullnessTable {
    fn default() -> FullnessTable {
        FullnessTable {
            almost_full_rising: 90,
            almost_full_falling: 85,
            full_rising: 100,
            full_falling: 97,
            dwell_s: 10,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreTable {
    /// The folder; $STATE_DIRECTORY/store, else /var/lib/parkway/store, where absent.
    pub path: Option<String>,
    /// How long what nobody waits for may gather before a commit, in ms: 5 to 10,000.
    pub commit_ms: u32,
    /// Bound on the waiting records, in MiB: 16 to 1,048,576.
    pub backlog_mib: u32,
    /// Shares of that bound, in percent, 100 in all.
    pub alarms_percent: u32,
    pub events_percent: u32,
    pub aggregates_percent: u32,
    /// Free space below which lanes stop growing, aggregates first, in MiB: 0 (never) to
    /// 1,048,576.
    pub free_min_mib: u32,
}

impl Default for StoreTable {
    fn default() -> StoreTable {
        StoreTable {
            path: None,
            commit_ms: 200,
            backlog_mib: 1_024,
            alarms_percent: 10,
            events_percent: 60,
            aggregates_percent: 30,
            free_min_mib: 256,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttTable {
    /// Host and port.
    pub broker: String,
    pub user: Option<String>,
    /// Name of the systemd credential that holds the password.
    pub password_credential: Option<String>,
    /// The same from a file, for a machine without systemd.
    pub password_file: Option<String>,
    /// The authorities that may sign the broker's certificate, as PEM. With it the link is TLS.
    pub ca_file: Option<String>,
    /// Our own certificate with its chain, as PEM, for a broker that demands one.
    pub certificate_file: Option<String>,
    /// Name of the systemd credential that holds the certificate's key, as PEM.
    pub key_credential: Option<String>,
    /// The same from a file.
    pub key_file: Option<String>,
    /// 5 to 600.
    #[serde(default = "keep_alive_s")]
    pub keep_alive_s: u32,
    /// Without an acknowledgement for so long, the connection is thrown away. 2 to 600.
    #[serde(default = "ack_timeout_s")]
    pub ack_timeout_s: u32,
    /// Messages a lane may have under way, 1 to 10.
    #[serde(default = "window")]
    pub window: u32,
    /// Records a second during a drain, 10 to 1,000,000.
    #[serde(default = "replay_per_s")]
    pub replay_per_s: u32,
    /// Whether a message that the broker took with nobody subscribed to it counts as delivered.
    /// True only for a broker that stores or forwards by itself, say by a rule engine, and still
    /// answers so: with any other one, what nobody hears is then lost.
    #[serde(default)]
    pub accept_unheard: bool,
}

fn keep_alive_s() -> u32 {
    15
}

fn ack_timeout_s() -> u32 {
    20
}

fn window() -> u32 {
    8
}

fn replay_per_s() -> u32 {
    5_000
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpTable {
    pub listen: String,
    /// Name of the systemd credential that holds the bearer token.
    pub token_credential: Option<String>,
    /// The same from a file.
    pub token_file: Option<String>,
}

impl Default for HttpTable {
    fn default() -> HttpTable {
        HttpTable { listen: "127.0.0.1:8080".to_owned(), token_credential: None, token_file: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogTable {
    /// error, warn, info, debug or trace; or a filter such as "info,parkway::field=debug".
    pub level: String,
}

impl Default for LogTable {
    fn default() -> LogTable {
        LogTable { level: "info".to_owned() }
    }
}
