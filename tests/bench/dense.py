"""The daemon with everything on, 16,384 bays on 64 controllers, and how far one box goes.

`dense`: uplink to mosquitto, store, HTTP with a scrape as often as Prometheus makes one by default,
50 bays a second changing; at a period of 1 s and of 100 ms, each beside a bare libmodbus loop that
makes the same requests of the same devices in the same run. `most`: the period shrinks until a
slot is missed. Devices are `devices.c`, so that they cost the machine little.
"""

import json
import os
import pathlib
import subprocess
import threading
import time

import common
import sites
from common import FLIPS_PER_S, HERE, Flips, intervals, missed_slots, quantile, row
from controllers import Controllers
from world import World, until

CONTROLLERS, BAYS, GARAGES = 64, 256, 26
# One request reads a controller: its bays, their fault bits, two door counters.
REGISTERS = BAYS // 16 * 2 + 4
SCRAPE_S = 15
CPU_TIMES_MAX, RSS_MAX_MIB = 3, 32
PERIODS_MS = (1_000, 100)
# For the most bays a second: as big as one request can be, 640 bays with fault bits and counters.
MOST_BAYS = 640
MOST_PERIODS_MS = (100, 50, 30, 20, 15, 10)

PROFILE = """[[profile]]
id = "zone-controller"
source = "parkway's own reference controller, all of it in one block"
bays = {{ table = "holding", base = 0, points = {bays}, layout = {{ kind = "bits" }}, \
fault_base = {faults} }}
counters = {{ table = "holding", base = {counters}, count = 2, word_order = "high-first" }}
"""


class Devices(Controllers):
    """`devices.c`, spoken to like the controllers of the acceptance tests."""

    program = None

    def __init__(self, ports):
        self.units = list(ports)
        self.number = {unit: str(ix) for ix, unit in enumerate(self.units)}
        self.lock = threading.Lock()
        self.child = subprocess.Popen([self.program, *map(str, ports.values())], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.child.stdout.readline().strip() != "ready":
            raise RuntimeError("the devices did not start")

    def say(self, *words):
        with self.lock:
            self.child.stdin.write(" ".join(map(str, words)) + "\n")
            self.child.stdin.flush()
            return json.loads(self.child.stdout.readline())

    def set(self, changes):
        flat = [word for unit, point, on in changes for word in (self.number[unit], point, on)]
        return self.say("set", *flat)

    def truth(self):
        said = self.say("truth", MOST_BAYS // 16 if self.big else BAYS // 16)
        return {self.units[int(ix)]: set(points) for ix, points in said.items()
                if not self.units[int(ix)].startswith("panel")}

    big = False

    def registers(self, unit, address, count=1):
        return self.say("read", self.number[unit], address, count)

    def stats(self):
        return {self.units[int(ix)]: told for ix, told in self.say("stats").items()}

    def forget(self):
        return self.say("forget")


def site(folder, bays=BAYS, **more):
    registers = bays // 16
    profile = PROFILE.format(bays=bays, faults=registers, counters=2 * registers)
    rest = sites.PROFILES[sites.PROFILES.index('[[profile]]\nid = "panel"'):]
    return sites.build(folder, [bays] * CONTROLLERS, GARAGES, profiles=profile + "\n" + rest,
                       broker_at="mosquitto", **more)


def devices(folder, big=False):
    program = pathlib.Path(folder) / "devices"
    subprocess.run(["cc", "-O2", "-o", program, HERE / "devices.c"], check=True)
    return type("Built", (Devices,), {"program": program, "big": big})


class Scrapes(threading.Thread):
    """Asks for /metrics as Prometheus does."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.world, self.ended, self.bytes = world, threading.Event(), 0

    def run(self):
        while not self.ended.wait(SCRAPE_S):
            self.bytes = len(self.world.daemon.metrics_text())

    def stop(self):
        self.ended.set()
        self.join(5)


class Beside(threading.Thread):
    """Does something meanwhile."""

    def __init__(self, deed):
        super().__init__(daemon=True)
        self.deed, self.found = deed, None

    def run(self):
        self.found = self.deed()

    def result(self):
        self.join()
        if self.found is None:
            raise RuntimeError("what ran beside the daemon failed")
        return self.found


def threads(pid):
    """Name -> CPU seconds of all threads of that name."""
    spent = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            ran_ns = int((task / "schedstat").read_text().split()[0])
        except OSError:  # it ended meanwhile
            continue
        spent[name] = spent.get(name, 0) + ran_ns / 1e9
    return spent


def per_minute(after, before, span_s):
    spent = {name: (after[name] - before.get(name, 0)) * 60 / span_s for name in after}
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def settled(world):
    until(lambda: all(g["unknown"] == 0 for g in world.daemon.garages().values()), 30)
    time.sleep(5)


def dense(args):
    for period_ms in args.period_ms or PERIODS_MS:
        at_period(args, period_ms)


def at_period(args, period_ms):
    span_s = args.span_s or (600 if args.full else 60)
    folder = common.folder()
    with World(args.binary, make=site, devices=devices(folder.name), period_ms=period_ms) as world:
        fill(world)
        world.daemon.start()
        settled(world)
        helpers = [Flips(world, FLIPS_PER_S), Scrapes(world)]
        for helper in helpers:
            helper.start()
        time.sleep(3)
        pid = world.daemon.child.pid
        missed = missed_slots(world)
        world.controllers.forget()
        targets = [f"127.0.0.1:{world.site.ports[unit]}" for unit in world.site.units]
        # At the same time, so that whatever else the machine does weighs on both.
        beside = Beside(lambda: common.poll_loop(world, REGISTERS, span_s, targets, period_ms))
        beside.start()
        began, cpu, before = time.monotonic(), world.daemon.cpu_s(), threads(pid)
        if args.hook:
            subprocess.Popen([args.hook, str(pid)], env={**os.environ, "SPAN_S": str(span_s)})
        time.sleep(span_s)
        span = time.monotonic() - began
        ours, parts = (world.daemon.cpu_s() - cpu) * 60 / span, threads(pid)
        parts, rss = per_minute(parts, before, span), world.daemon.rss_mib(peak=True)
        missed = missed_slots(world) - missed
        loop = beside.result()
        for helper in helpers:
            helper.stop()
        world.settle()
        wrong = world.picture_faults() + world.upstream_faults()
        world.daemon.stop()
    what = f"{CONTROLLERS * BAYS:,} bays, {period_ms} ms: "
    row(what + "missed slots", f"{missed:.0f} of {span * 1e3 / period_ms * CONTROLLERS:,.0f}",
        bar="0", fine=missed == 0)
    row(what + "CPU a minute", f"{ours:.2f} s ({ours / loop[0]:.2f} times)", f"libmodbus loop, "
        f"same requests: {loop[0]:.2f} s", f"at most {CPU_TIMES_MAX} times",
        ours <= CPU_TIMES_MAX * loop[0])
    named = ", ".join(f"{name} {spent:.3f}" for name, spent in parts.items() if spent >= 0.0005)
    row(what + "by thread, s a minute", named)
    row(what + "resident at most", f"{rss:.1f} MiB", f"libmodbus loop {loop[1]:.1f} MiB",
        f"{RSS_MAX_MIB} MiB", rss <= RSS_MAX_MIB)
    row(what + "picture and history", f"{len(wrong)} faults {wrong[:2] or ''}", bar="0",
        fine=not wrong)
    folder.cleanup()


def fill(world, share=0.6):
    import cars
    cars.fill(world.controllers, world.site, share)


def most(args):
    """Bays read in a second: the shortest period at which no slot is missed."""
    span_s = args.span_s or (60 if args.full else 10)
    folder, held = common.folder(), None
    for period_ms in MOST_PERIODS_MS:
        with World(args.binary, make=site, devices=devices(folder.name, big=True),
                   period_ms=period_ms, bays=MOST_BAYS) as world:
            fill(world)
            world.daemon.start()
            settled(world)
            flips = Flips(world, FLIPS_PER_S)
            flips.start()
            missed, cpu, began = missed_slots(world), world.daemon.cpu_s(), time.monotonic()
            world.controllers.forget()
            time.sleep(span_s)
            span = time.monotonic() - began
            requests = common.requests_made(world)
            share = (world.daemon.cpu_s() - cpu) / span * 100
            missed, gaps = missed_slots(world) - missed, intervals(world)
            flips.stop()
            world.daemon.stop()
        bays_s = requests / span * MOST_BAYS
        row(f"{CONTROLLERS * MOST_BAYS:,} bays every {period_ms} ms",
            f"{bays_s:,.0f} bays a second, {requests / span:,.0f} requests a second, "
            f"{share:.0f} % of a core, interval p99 {quantile(gaps, 0.99) * 1e3:.1f} ms, "
            f"{missed:.0f} slots missed")
        if missed:
            break
        held = bays_s
    row("most bays a second, no slot missed", f"{held or 0:,.0f}", bar="told, no bar")
    folder.cleanup()
