// The operators' page: one state a second, drawn over the last one. Rows are made once and then
// only their texts change, so nothing jumps. All values are set as text, never as markup.
"use strict";

// The stream brings a state each second: after this long without one, what is shown is old.
const LOST_AFTER_MS = 3500;
const STATES = ["free", "held", "occupied", "unknown", "closed"];
const FULLNESS = { spaces: "", almost_full: "almost full", full: "full" };

const at = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");

let heard = 0;
let stream = null;
let retry = 0;

function make(tag, classes, text) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  if (text !== undefined) node.textContent = text;
  return node;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function plural(n, one) {
  return `${count.format(n)} ${one}${n === 1 ? "" : "s"}`;
}

function span(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1048576) return `${Math.round(bytes / 1024)} KiB`;
  return `${(bytes / 1048576).toFixed(1)} MiB`;
}

// Keeps one child per item, made by `build` and filled by `fill`, in the items' order.
function keep(parent, items, key, build, fill) {
  const had = parent.kept ?? (parent.kept = new Map());
  const seen = new Set();
  items.forEach((item, place) => {
    const id = key(item);
    seen.add(id);
    let node = had.get(id);
    if (!node) {
      node = build(item);
      had.set(id, node);
    }
    if (parent.children[place] !== node) parent.insertBefore(node, parent.children[place] ?? null);
    fill(node, item);
  });
  for (const [id, node] of had) {
    if (!seen.has(id)) {
      node.remove();
      had.delete(id);
    }
  }
}

function fillBar(bar, tally, bays) {
  if (!bar.firstChild) for (const state of STATES) bar.append(make("i", state));
  STATES.forEach((state, i) => {
    bar.children[i].hidden = !tally[state];
    bar.children[i].style.width = bays ? `${(100 * tally[state]) / bays}%` : "0";
  });
  const words = STATES.map((s) => `${tally[s]} ${s}`).join(", ");
  if (bar.title !== words) {
    bar.title = words;
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", words);
  }
}

function badges(state) {
  const up = state.lines.filter((l) => l.state === "up").length;
  const lost = state.units.filter((u) => !u.fresh).length;
  const waiting = state.store.lanes.reduce((sum, l) => sum + l.backlog_records, 0);
  const uplink = {
    connected: ["good", `Uplink connected`],
    connecting: ["warn", `Uplink lost ${span(state.uplink.since_s)}`],
    off: ["off", "No uplink configured"],
  }[state.uplink.state];
  const store = {
    ok: ["good", waiting ? `Store ok, ${count.format(waiting)} waiting` : "Store ok"],
    degraded: ["bad", "Store degraded: nothing is kept"],
    opening: ["warn", "Store opening"],
  }[state.store.state];
  const lines = state.lines.length;
  const items = [
    ["ready", state.ready ? "good" : "bad", state.ready ? "Guiding" : "Not ready"],
    ["lines", up === lines ? "good" : up ? "warn" : "bad", `Lines ${up} of ${lines}`],
    ["units", lost ? "warn" : "good", lost ? `${plural(lost, "unit")} silent` : "All units answer"],
    ["uplink", ...uplink],
    ["store", ...store],
  ];
  keep(at("badges"), items, (i) => i[0], () => {
    const node = make("li");
    node.append(make("span", "dot"), make("span"));
    return node;
  }, (node, [, level, text]) => {
    node.className = level;
    put(node.lastChild, text);
  });
}

function total(state) {
  const totals = state.totals;
  put(at("free"), count.format(totals.free));
  const ledger = totals.ledger_free;
  const more = ledger ? `, perhaps ${count.format(ledger)} more where sensors are silent` : "";
  put(at("of"), ` of ${count.format(totals.bays)}${more}`);
  fillBar(at("total-bar"), totals, totals.bays);
  keep(at("legend"), STATES, (s) => s, (s) => {
    const node = make("li");
    node.append(make("i", s), make("b"), make("span", "", s));
    return node;
  }, (node, s) => put(node.children[1], count.format(totals[s])));
}

function garageRow(garage) {
  const row = make("tr");
  const name = make("th");
  name.scope = "row";
  name.append(make("span", "", garage.name), make("span", "id", garage.id), make("span", "tag"));
  const bar = make("td", "wide");
  bar.append(make("div", "bar"));
  row.append(name, bar);
  for (const state of STATES) row.append(make("td", `n ${state}`));
  row.append(make("td", "n ledger rest"), make("td", "few"));
  return row;
}

function fillGarage(row, garage) {
  const tag = garage.garage_closed ? "closed" : garage.fullness;
  const [, , label] = row.children[0].children;
  label.hidden = tag === "spaces";
  label.className = `tag ${tag}`;
  put(label, garage.garage_closed ? "closed" : FULLNESS[garage.fullness]);
  fillBar(row.children[1].firstChild, garage, garage.bays);
  STATES.forEach((state, i) => {
    const cell = row.children[2 + i];
    cell.className = `n ${state} ${state === "free" ? "" : "rest"} ${garage[state] ? "" : "nil"}`;
    put(cell, count.format(garage[state]));
  });
  const ledger = row.children[7];
  ledger.classList.toggle("nil", !garage.ledger_free);
  put(ledger, garage.ledger_free ? `≈ ${count.format(garage.ledger_free)}` : "–");
  const rest = STATES.slice(1).filter((s) => garage[s]);
  const few = rest.map((s) => `${count.format(garage[s])} ${s}`);
  if (garage.ledger_free) few.push(`≈ ${count.format(garage.ledger_free)} free by ledger`);
  put(row.children[8], few.join(" · "));
}

function garages(state) {
  const full = state.garages.filter((g) => g.fullness === "full" && !g.garage_closed).length;
  const shut = state.garages.filter((g) => g.garage_closed).length;
  const notes = [String(state.garages.length)];
  if (full) notes.push(`${full} full`);
  if (shut) notes.push(`${shut} closed`);
  notes.push(plural(state.leases_open, "promise") + " under way");
  put(at("garages-note"), notes.join(" · "));
  keep(at("garages").tBodies[0], state.garages, (g) => g.id, garageRow, fillGarage);
}

function faceKind(face) {
  return typeof face === "string" ? face : Object.keys(face)[0];
}

function arrow(face) {
  return { left: "←", straight: "↑", right: "→" }[face.arrow];
}

function signs(state) {
  const manual = state.signs.filter((s) => s.mode !== "auto" || s.message !== null).length;
  const open = state.signs.filter((s) => s.confirmed === false).length;
  put(at("signs-note"), `${state.signs.length}${manual ? ` · ${manual} set by staff` : ""}` +
    `${open ? ` · ${open} not confirmed` : ""}`);
  keep(at("signs"), state.signs, (s) => s.id, (sign) => {
    const node = make("div");
    const link = make("a");
    link.href = `/signs/${encodeURIComponent(sign.id)}`;
    const face = make("div", "face");
    face.append(make("span"));
    link.append(face, make("p", "head", sign.name), make("p", "sub say"));
    node.append(link);
    return node;
  }, (node, sign) => {
    const [face, , sub] = node.firstChild.children;
    face.className = `face ${faceKind(sign.face)}`;
    put(face.firstChild, arrow(sign.face) || sign.shows || "dark");
    const calm = sign.source === "automatic" && sign.confirmed !== false;
    node.className = `${sign.kind} ${sign.source === "incident" ? "bad" : calm ? "" : "warn"}`;
    put(sub, signWords(sign));
  });
}

function outputs(state) {
  at("outputs-section").hidden = state.outputs.length === 0;
  const manual = state.outputs.filter((o) => o.state !== "auto").length;
  put(at("outputs-note"), `${state.outputs.length}${manual ? ` · ${manual} set by staff` : ""}`);
  keep(at("outputs"), state.outputs, (o) => o.id, (output) => {
    const node = make("div");
    node.append(make("p", "head", output.name), make("p", "sub say"), make("p", "sub rest"));
    return node;
  }, (node, output) => {
    const as = { true: "on", false: "off" }[output.on] ?? "as it was found";
    const lost = output.on !== null && !output.confirmed;
    node.className = lost ? "bad" : output.state === "auto" ? "" : "warn";
    const end = output.expires_in_s === null ? "" : `, ${span(output.expires_in_s)} left`;
    const who = output.state === "auto"
      ? `${output.garage} is ${output.garage_state}` : `by ${output.by}${end}`;
    put(node.children[1], lost ? `${as}, not confirmed` : as);
    put(node.children[2], `${output.kind} · ${who}`);
  });
}

function incidents(state) {
  const banner = at("incident");
  banner.hidden = !state.incidents.length;
  const tell = (i) => `${i.closes.join(", ")}: ${i.reason} (${i.by}, ${span(i.for_s)})`;
  put(banner, `INCIDENT · closed to all: ${state.incidents.map(tell).join(" · ")}`);
}

// What a sign's tile says below its name: who decides, for how long, and whether it hangs there.
function signWords(sign) {
  const left = { message: sign.message_expires_in_s, operator: sign.mode_expires_in_s }[sign.source];
  const ends = left === null || left === undefined ? "" : ` for ${span(left)}`;
  const words = [{
    message: `staff: message${ends}`,
    operator: `staff: ${sign.mode}${ends}`,
    incident: "incident",
    schedule: "by its hours",
    held: "held: sensors silent",
    fallback: "fallback: nothing known",
    stopping: "stopping",
    automatic: `${sign.id} · ${sign.kind}`,
  }[sign.source]];
  if (sign.confirmed === false) words.push("NOT CONFIRMED");
  if (sign.age_s !== null) words.push(`${span(sign.age_s)} ago`);
  return words.join(" · ");
}

// What a unit's state means to whoever stands in front of it.
const UNIT_SAYS = { unreached: "not reached", suspect: "suspect", open: "silent" };
// Buttons a tile has room for; when more units are silent, it is not the units.
const TRIES_SHOWN = 6;

function lineTrouble(line, units) {
  if (line.state === "down") return ["bad", line.state];
  const names = (some) => some.map((u) => u.id).filter((id) => id !== line.id).join(", ");
  for (const state of ["open", "suspect", "unreached"]) {
    const such = line.units.filter((u) => u.state === state);
    if (such.length) return ["warn", `${names(such)} ${UNIT_SAYS[state]}`.trim()];
  }
  const less = line.units.filter((u) => u.state === "refuses");
  const out = less.reduce((sum, u) => sum + u.left_out, 0);
  if (less.length) return ["warn", `${names(less)} refuses${out ? ` ${plural(out, "item")}` : ""}`];
  const old = line.units.filter((u) => units.get(u.id)?.fresh === false);
  if (old.length) return ["warn", `${names(old)} not fresh`.trim()];
  return ["good", ""];
}

// An order by staff, in their name, which is asked for once.
async function order(path, what) {
  const by = sessionStorage.getItem("by") ?? prompt(`Your name, for the record of this order (${what})`);
  if (!by || !by.trim()) return;
  sessionStorage.setItem("by", by.trim().slice(0, 64));
  const body = JSON.stringify({ by: sessionStorage.getItem("by") });
  const headers = { "content-type": "application/json" };
  try {
    const reply = await fetch(path, { method: "POST", headers, body });
    if (!reply.ok) alert(`${what}: ${(await reply.json()).error.message}`);
  } catch (error) {
    alert(`${what}: no contact with the gateway`);
  }
}

function tryButton(unit) {
  const button = make("button", "try", `try ${unit.id}`);
  button.type = "button";
  button.title = "Ask this unit now, whatever back-off it is in";
  button.addEventListener("click", () => {
    button.disabled = true;
    setTimeout(() => { button.disabled = false; }, 3000);
    order(`/v1/units/${encodeURIComponent(unit.id)}/retry`, `try ${unit.id}`);
  });
  return button;
}

function lines(state) {
  const units = new Map(state.units.map((u) => [u.id, u]));
  const troubled = state.lines.filter((l) => lineTrouble(l, units)[0] !== "good").length;
  put(at("lines-note"), `${state.lines.length}${troubled ? ` · ${troubled} want a look` : ""}`);
  keep(at("lines"), state.lines, (l) => l.id, (line) => {
    const node = make("div");
    const head = make("p", "head");
    head.append(make("span", "dot"), make("span", "", line.id));
    node.append(head, make("p", "sub say"), make("p", "sub rest"), make("div", "tries"));
    node.title = line.endpoint;
    return node;
  }, (node, line) => {
    const [level, trouble] = lineTrouble(line, units);
    node.className = level;
    const trip = line.last_round_trip_us;
    const fine = trip === null ? "no answer yet" : `${(trip / 1000).toFixed(1)} ms`;
    put(node.children[1], trouble || fine);
    put(node.children[2],
      `${count.format(line.timeouts_total)} late, ${count.format(line.missed_slots_total)} missed`);
    const tries = line.units.filter((u) => u.state !== "ok").slice(0, TRIES_SHOWN);
    keep(node.children[3], tries, (u) => u.id, tryButton, () => {});
  });
}

function upstream(state) {
  const { uplink, store } = state;
  const broker = uplink.broker ? `${uplink.state} · ${uplink.broker}` : "no broker configured";
  put(at("uplink-note"), `${broker} · ${count.format(uplink.outstanding)} under way`);
  keep(at("lanes"), store.lanes, (l) => l.lane, (lane) => {
    const node = make("div");
    node.append(make("p", "head", lane.lane), make("p", "count"));
    node.append(make("p", "sub"), make("p", "sub say"));
    return node;
  }, (node, lane) => {
    put(node.children[1], `${count.format(lane.backlog_records)} waiting`);
    const age = lane.backlog_records ? `, oldest ${span(lane.oldest_age_s)}` : "";
    put(node.children[2], `${size(lane.backlog_bytes)}${age}`);
    node.className = lane.dropped_total ? "bad" : "";
    const kept = `${count.format(lane.committed_total)} kept in all`;
    put(node.children[3], lane.dropped_total
      ? `${count.format(lane.dropped_total)} given up for lack of room` : kept);
  });
}

function draw(state) {
  document.title = `${count.format(state.totals.free)} free · ${state.name}`;
  put(at("name"), state.name);
  const when = new Date(state.at);
  put(at("as-of"), `${state.gateway} · ${when.toLocaleTimeString("en-GB")}`);
  badges(state);
  total(state);
  incidents(state);
  garages(state);
  signs(state);
  outputs(state);
  lines(state);
  upstream(state);
  put(at("foot"), `parkway ${state.daemon}`);
}

function lost() {
  const silent = heard ? Date.now() - heard : 0;
  const stale = heard > 0 && (silent > LOST_AFTER_MS || stream.readyState !== EventSource.OPEN);
  document.body.classList.toggle("stale", stale);
  at("lost").hidden = !stale;
  if (stale) {
    const since = new Date(heard).toLocaleTimeString("en-GB");
    put(at("lost"), `No contact with the gateway since ${since}, ${span(silent / 1000)}. ` +
      "What you see below is old.");
    document.title = `NO CONTACT · ${at("name").textContent}`;
  }
}

function listen() {
  stream = new EventSource("/v1/state/stream");
  stream.addEventListener("state", (event) => {
    heard = Date.now();
    document.body.classList.remove("waiting");
    draw(JSON.parse(event.data));
    lost();
  });
  stream.addEventListener("error", () => {
    lost();
    // The browser tries again by itself, except after a refusal: then we do.
    if (stream.readyState === EventSource.CLOSED) {
      clearTimeout(retry);
      retry = setTimeout(listen, 2000);
    }
  });
}

listen();
setInterval(lost, 500);
