//! What can be seen: the state, the site, health and metrics; `signs.rs` has the signs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::outputs::{self, OutputReply};
use super::signs::{self, SignReply};
use super::{App, STATE_SHARED_FOR};
use crate::gateway::{GarageView, IncidentView, Snapshot, UnitView};
use crate::record::Tally;
use crate::site::{LinkKind, NodeKind, Site};
use crate::status::{LineView, Status, StoreView, UplinkView};

/// Silence of the owner's loop after which the daemon is not healthy. systemd would already have
/// killed it; this is for whoever runs it without.
const OWNER_SILENT_MAX: Duration = Duration::from_secs(15);

/// The whole picture at one instant.
#[derive(Debug, Serialize, ToSchema)]
pub struct StateReply {
    pub site: String,
    pub name: String,
    pub gateway: String,
    /// The daemon's version.
    pub daemon: &'static str,
    /// RFC 3339 in UTC, by the machine's own clock.
    pub at: String,
    /// Grows with every picture of this run.
    pub version: u64,
    pub ready: bool,
    pub totals: Totals,
    pub leases_open: u32,
    pub garages: Vec<GarageView>,
    /// Under way now; empty on a good day.
    pub incidents: Vec<IncidentView>,
    pub units: Vec<UnitView>,
    pub lines: Vec<LineView>,
    pub signs: Vec<SignReply>,
    pub outputs: Vec<OutputReply>,
    pub uplink: UplinkView,
    pub store: StoreView,
}

/// All garages together.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct Totals {
    pub bays: u32,
    #[serde(flatten)]
    pub tally: Tally,
    /// Free bays the ledgers believe in where no unit answers.
    pub ledger_free: u32,
}

impl StateReply {
    fn new(site: &Site, snapshot: &Snapshot, status: Status) -> StateReply {
        let mut totals = Totals::default();
        for garage in &snapshot.garages {
            totals.bays += garage.bays;
            totals.tally += garage.tally;
            totals.ledger_free += garage.ledger_free;
        }
        StateReply {
            site: site.id.clone(),
            name: site.name.clone(),
            gateway: site.gateway.clone(),
            daemon: env!("CARGO_PKG_VERSION"),
            at: snapshot.at.wall.to_string(),
            version: snapshot.version,
            ready: status.ready.all(),
            outputs: outputs::replies(snapshot, &status),
            totals,
            leases_open: snapshot.leases_open,
            garages: snapshot.garages.clone(),
            incidents: snapshot.incidents.clone(),
            units: snapshot.units.clone(),
            lines: status.lines,
            signs: signs::replies(snapshot, &status.displays),
            uplink: status.uplink,
            store: status.store,
        }
    }
}

impl App {
    pub fn state_reply(&self) -> StateReply {
        let snapshot = self.context.owner.snapshot();
        StateReply::new(self.site(), &snapshot, (self.context.status)())
    }

    pub fn sign_replies(&self) -> Vec<SignReply> {
        signs::replies(&self.context.owner.snapshot(), &(self.context.status)().displays)
    }

    /// The state as JSON, at most half a second old.
    pub fn state_text(&self) -> Arc<str> {
        let mut rendered = self.rendered.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*rendered {
            Some((at, text)) if at.elapsed() < STATE_SHARED_FOR => text.clone(),
            Some(_) | None => {
                let text = serde_json::to_string(&self.state_reply())
                    .expect("a reply has text keys and finite numbers");
                let text: Arc<str> = text.into();
                *rendered = Some((Instant::now(), text.clone()));
                text
            }
        }
    }
}

/// Everything at one instant: garages, units, lines, signs, uplink, store, leases.
#[utoipa::path(get, path = "/v1/state", tag = "watching",
    responses((status = 200, body = StateReply)))]
pub async fn state(State(app): State<Arc<App>>) -> Json<StateReply> {
    Json(app.state_reply())
}

/// The site as configured: what can be named in a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct SiteReply {
    pub id: String,
    pub name: String,
    pub gateway: String,
    pub nodes: Vec<SiteNode>,
    pub links: Vec<SiteLink>,
    pub destinations: Vec<SiteName>,
    pub classes: Vec<SiteName>,
    pub garages: Vec<SiteGarage>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SiteName {
    pub id: String,
    pub name: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SiteNode {
    pub id: String,
    pub name: String,
    #[schema(value_type = String, example = "approach")]
    pub kind: NodeKind,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SiteLink {
    pub from: String,
    pub to: String,
    #[schema(value_type = String, example = "ring")]
    pub kind: LinkKind,
    pub length_m: u32,
    pub speed_kmh: u32,
    /// Closed by the plan.
    pub closed: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SiteGarage {
    pub id: String,
    pub name: String,
    /// The node cars enter by.
    pub door: String,
    pub clearance_cm: u32,
    pub bays: usize,
    /// Zones, each `garage/level/zone`.
    pub zones: Vec<SiteZone>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SiteZone {
    pub id: String,
    pub bays: usize,
    pub unit: String,
}

impl SiteReply {
    fn new(site: &Site) -> SiteReply {
        let node = |ix: crate::site::NodeIx| site.nodes[ix.at()].id.clone();
        let name = |id: &String, name: &String| SiteName { id: id.clone(), name: name.clone() };
        let zone = |ix: u32| {
            let zone = &site.zones[ix as usize];
            SiteZone {
                id: site.zone_id(crate::site::ZoneIx(ix)),
                bays: zone.bays.len(),
                unit: site.units[zone.unit.at()].id.clone(),
            }
        };
        SiteReply {
            id: site.id.clone(),
            name: site.name.clone(),
            gateway: site.gateway.clone(),
            nodes: (site.nodes.iter())
                .map(|n| SiteNode { id: n.id.clone(), name: n.name.clone(), kind: n.kind })
                .collect(),
            links: (site.links.iter())
                .map(|l| SiteLink {
                    from: node(l.from),
                    to: node(l.to),
                    kind: l.kind,
                    length_m: l.length_m,
                    speed_kmh: l.speed_kmh,
                    closed: l.closed,
                })
                .collect(),
            destinations: site.destinations.iter().map(|d| name(&d.id, &d.name)).collect(),
            classes: site.classes.iter().map(|c| name(&c.id, &c.name)).collect(),
            garages: (site.garages.iter())
                .map(|g| SiteGarage {
                    id: g.id.clone(),
                    name: g.name.clone(),
                    door: node(g.door),
                    clearance_cm: g.clearance_cm,
                    bays: g.bays.len(),
                    zones: g.zones.clone().map(zone).collect(),
                })
                .collect(),
        }
    }
}

/// The site as configured.
#[utoipa::path(get, path = "/v1/site", tag = "watching",
    responses((status = 200, body = SiteReply)))]
pub async fn site(State(app): State<Arc<App>>) -> Json<SiteReply> {
    Json(SiteReply::new(app.site()))
}

/// Prometheus text.
#[utoipa::path(get, path = "/metrics", tag = "watching",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    let snapshot = app.context.owner.snapshot();
    let text = app.context.metrics.render(&snapshot, &(app.context.status)());
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
}

/// Whether the daemon lives.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    pub ok: bool,
    /// What is missing; empty where nothing is.
    pub missing: Vec<&'static str>,
}

impl Health {
    fn reply(missing: Vec<&'static str>) -> Response {
        let ok = missing.is_empty();
        let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(Health { ok, missing })).into_response()
    }
}

/// 200 while the owner's loop turns; 503 says that only a restart helps.
#[utoipa::path(get, path = "/healthz", tag = "watching",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub async fn healthz(State(app): State<Arc<App>>) -> Response {
    let silent = app.context.metrics.owner_silent().is_some_and(|s| s > OWNER_SILENT_MAX);
    Health::reply(if silent { vec!["owner"] } else { Vec::new() })
}

/// 200 once every line was tried and the store opened or is done without; lines may be down.
#[utoipa::path(get, path = "/readyz", tag = "watching",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    let ready = (app.context.status)().ready;
    let wanted = [("store", ready.store), ("polled", ready.polled), ("running", !ready.stopping)];
    Health::reply(wanted.into_iter().filter(|(_, ok)| !ok).map(|(name, _)| name).collect())
}
