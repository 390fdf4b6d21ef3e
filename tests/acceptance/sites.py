"""Generates sites: the configuration that the daemon reads, and the same site as Python sees it.

A site is a ring with a cordon node, two portals, a fork and a door per garage. Each controller is
a Modbus TCP line of its own; all signs hang on one panel. Travel times are short (a lap takes
seconds), so that a lease lives through all its ends within a minute of real time.
"""

import os
import pathlib
import socket
from dataclasses import dataclass, field

PERIOD_MS = 1_000
STALE_MS = 3_000
DEBOUNCE_MS = 1000
# The daemon's defaults: how long a bay must read free, and one that is booked.
FREE_MS, BOOKED_FREE_MS = 3_000, 5_000
COMMIT_MS = 200
KEEP_BACK = 2
WINDOW = 8
# What the panel's profile below says about number displays.
FULL, CLOSED, BLANK = 10_001, 10_002, 10_000
# 20,000 to 32,000; a site of the benchmark needs 70 ports.
PORTS_FROM, PORT_BLOCKS, PORTS_A_BLOCK = 20_000, 120, 100


def free_ports(count):
    """Ports nobody listens on now.

    Below what the kernel hands out to outgoing connections, so that none of those takes one
    before, or while, its owner is down; each process looks in a block of its own.
    """
    block = PORTS_FROM + os.getpid() % PORT_BLOCKS * PORTS_A_BLOCK
    ports = []
    for port in range(block, block + PORTS_A_BLOCK):
        with socket.socket() as sock:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError(f"fewer than {count} free ports from {block} on")


@dataclass
class Zone:
    garage: str
    level: str
    name: str
    unit: str
    bays: int
    special: dict  # class -> (first, last)

    @property
    def id(self):
        return f"{self.garage}/{self.level}/{self.name}"

    def class_of(self, number):
        for name, (first, last) in self.special.items():
            if first <= number <= last:
                return name
        return "car"


@dataclass
class Site:
    folder: pathlib.Path
    ports: dict  # unit -> port, "panel-1" and "http" and "broker" among them
    zones: list
    garages: list
    guidance: dict = field(default_factory=dict)
    store: pathlib.Path = None
    log: str = "info"
    mqtt: bool = True
    http: str = None
    ack_timeout_s: int = 5
    replay_per_s: int = 5_000
    token: str = None
    period_ms: int = PERIOD_MS
    profiles: str = None
    own_clock: bool = False  # else the machine's is taken as it is
    broker_at: str = "broker"  # "mosquitto": past the relay

    def __post_init__(self):
        self.store = self.store or self.folder / "store"
        self.wires = {}  # bay id -> (unit, point)
        for zone in self.zones:
            for number in range(1, zone.bays + 1):
                self.wires[f"{zone.id}/{number:03d}"] = (zone.unit, number - 1)
        self.bay_of = {wire: bay for bay, wire in self.wires.items()}
        self.zone_of_unit = {zone.unit: zone for zone in self.zones}

    @property
    def units(self):
        return [zone.unit for zone in self.zones]

    @property
    def config(self):
        return self.folder / "parkway.toml"

    @property
    def clock_file(self):
        """There once its clock is synchronised."""
        return self.folder / "synchronized"

    def bays_of(self, garage):
        return sum(zone.bays for zone in self.zones if zone.garage == garage)

    def door_unit(self, garage):
        return next(zone.unit for zone in self.zones if zone.garage == garage)

    def signs(self):
        """Sign id -> (display on the panel, what it shows)."""
        return {f"s-{garage}": (ix, garage) for ix, garage in enumerate(self.garages)}

    def write(self):
        """Writes the files and returns the main one's path."""
        (self.folder / "garages").mkdir(exist_ok=True)
        for garage in self.garages:
            text = self.garage_toml(garage)
            (self.folder / "garages" / f"{garage}.toml").write_text(text)
        self.config.write_text(self.main_toml())
        return self.config

    def main_toml(self):
        parts = [SITE.format(include=", ".join(f'"garages/{g}.toml"' for g in self.garages))]
        parts.append(f'[log]\nlevel = "{self.log}"\n')
        if self.mqtt:
            parts.append(MQTT.format(port=self.ports[self.broker_at], window=WINDOW,
                                     password=self.folder / "password",
                                     ack_timeout_s=self.ack_timeout_s,
                                     replay_per_s=self.replay_per_s))
        parts.append(f'[store]\npath = "{self.store}"\ncommit_ms = {COMMIT_MS}\n')
        trust = f'file = "{self.clock_file}"' if self.own_clock else 'trust = "always"'
        parts.append(f"[clock]\n{trust}\n")
        listen = self.http or f"127.0.0.1:{self.ports['http']}"
        parts.append(f'[http]\nlisten = "{listen}"\n')
        if self.token:
            (self.folder / "token").write_text(self.token)
            parts[-1] += f'token_file = "{self.folder / "token"}"\n'
        parts.append("[guidance]\n" + "".join(
            f"{key} = {value}\n" for key, value in self.all_guidance().items()))
        parts += [CLASSES, self.graph_toml(), self.profiles or PROFILES, self.panel_toml()]
        return "\n".join(parts)

    def all_guidance(self):
        known = {"stale_ms": STALE_MS, "debounce_ms": DEBOUNCE_MS, "hold_extra_s": 15,
                 "sign_hold_s": 4, "early_s": 10}
        return known | self.guidance

    def graph_toml(self):
        nodes = [("n-cordon", "approach"), ("p1", "portal"), ("p2", "portal"), ("out", "exit")]
        links = [("n-cordon", "p1", "surface", 200), ("n-cordon", "p2", "surface", 300)]
        forks = [f"f-{garage}" for garage in self.garages]
        for garage, fork in zip(self.garages, forks):
            nodes += [(fork, "fork"), (f"{garage}-door", "door")]
            links.append((fork, f"{garage}-door", "connector", 30))
        for fork, after in zip(forks, forks[1:] + forks[:1]):
            if fork != after:
                links.append((fork, after, "ring", 60))
        links += [("p1", forks[0], "connector", 50), (forks[-1], "out", "connector", 50)]
        links.append(("p2", forks[len(forks) // 2], "connector", 50))
        text = [f'[[node]]\nid = "{name}"\nkind = "{kind}"\n' for name, kind in nodes]
        text += [LINK.format(a=a, b=b, kind=kind, m=m) for a, b, kind, m in links]
        text.append('[[destination]]\nid = "d1"\nat_m = [120, 40]\n')
        return "\n".join(text)

    def panel_toml(self):
        text = [LINE.format(id="panel-1", port=self.ports["panel-1"], period=PERIOD_MS,
                            profile="panel")]
        for sign, (index, garage) in self.signs().items():
            text.append(SIGN.format(id=sign, index=index, shows=garage, keep=KEEP_BACK))
        text.append(CALL_OUT)
        return "\n".join(text)

    def garage_toml(self, garage):
        zones = [zone for zone in self.zones if zone.garage == garage]
        text = [LINE.format(id=zone.unit, port=self.ports[zone.unit], period=self.period_ms,
                            profile="zone-controller") for zone in zones]
        east = 100 * (1 + self.garages.index(garage))
        text.append(GARAGE.format(id=garage, x=east, unit=self.door_unit(garage)))
        for depth, zone in enumerate(zones):
            special = ", ".join(f'{k} = "{a}-{b}"' for k, (a, b) in zone.special.items())
            text.append(LEVEL.format(level=zone.level, drive=2 + depth, zone=zone.name,
                                     bays=zone.bays, unit=zone.unit, special=special))
        return "\n".join(text)


def small(folder, controllers=8, garages=4, bays=300, **more):
    """A few garages with two controllers each: 2,400 bays unless told otherwise."""
    return build(folder, [bays] * controllers, garages, **more)


def reference(folder, **more):
    """The reference site's size: 21,000 bays, 34 controllers, 26 garages."""
    return build(folder, [618] * 22 + [617] * 12, 26, **more)


def build(folder, sizes, garage_count, **more):
    folder = pathlib.Path(folder)
    garages = [f"g{ix + 1:02d}" for ix in range(garage_count)]
    zones = []
    for ix, bays in enumerate(sizes):
        special = {"ev": (1, 8), "disabled": (9, 12)} if bays >= 12 else {}
        zones.append(Zone(garages[ix % garage_count], f"B{1 + ix // garage_count}", "A",
                          f"zc-{ix + 1:02d}", bays, special))
    names = [zone.unit for zone in zones] + ["panel-1", "http", "broker", "relay"]
    ports = dict(zip(names, free_ports(len(names))))
    # The daemon reaches the broker through the relay; the judge goes straight to it.
    ports["mosquitto"], ports["broker"] = ports["broker"], ports["relay"]
    return Site(folder, ports, zones, garages, **more)


SITE = """[site]
id = "test"
name = "Acceptance ring"
gateway = "test-edge-1"
include = [{include}]
"""
MQTT = """[mqtt]
broker = "127.0.0.1:{port}"
user = "parkway"
password_file = "{password}"
window = {window}
keep_alive_s = 5
ack_timeout_s = {ack_timeout_s}
replay_per_s = {replay_per_s}
"""
CLASSES = """[[class]]
id = "car"
[[class]]
id = "ev"
may_use_s = { ev = 0, car = 300 }
[[class]]
id = "disabled"
may_use_s = { disabled = 0, car = 60 }
[[class]]
id = "coach"
"""
LINK = """[[link]]
from = "{a}"
to = "{b}"
kind = "{kind}"
length_m = {m}
speed_kmh = 100
text = "Towards {b}"
"""
PROFILES = """[[profile]]
id = "zone-controller"
source = "parkway's own reference controller"
bays = { table = "holding", base = 0, points = 630, layout = { kind = "bits" }, fault_base = 40 }
counters = { table = "holding", base = 100, count = 2, word_order = "high-first" }

[[profile]]
id = "panel"
source = "parkway's own reference panel"

[profile.sign]
base = 0
stride = 1
displays = 64
format = { kind = "number", max = 9999, full = 10001, closed = 10002, blank = 10000 }

[profile.callout]
base = 1000
stride = 16
displays = 8
format = { kind = "text", chars = 24 }
"""
LINE = """[[line]]
id = "{id}"
tcp = "127.0.0.1:{port}"
period_ms = {period}
timeout_ms = 300
[[line.unit]]
id = "{id}"
address = 1
profile = "{profile}"
"""
SIGN = """[[sign]]
id = "{id}"
kind = "count"
unit = "panel-1"
index = {index}
fallback = "blank"
shows = ["{shows}"]
keep_back = {keep}
"""
CALL_OUT = """[[sign]]
id = "call-1"
kind = "call-out"
unit = "panel-1"
index = 0
node = "p1"
queue = 4
show_s = 3
fallback = "FOLLOW THE SIGNS"
"""
GARAGE = """[[garage]]
id = "{id}"
name = "Garage {id}"
door = "{id}-door"
at_m = [{x}, 20]
counter = {{ unit = "{unit}", cars_in = 0, cars_out = 1 }}
"""
LEVEL = """[[garage.level]]
id = "{level}"
drive_s = {drive}
[[garage.level.zone]]
id = "{zone}"
bays = "1-{bays}"
unit = "{unit}"
first_point = 0
drive_s = 1
walk_s = 35
spread_s = 20
classes = {{ {special} }}
"""
