"""Measures the built daemon beside references on the same machine and prints one table.

Parts: `rtu` (60 units on one serial line), `shared` (64 units of which some are silent), `writes`
(order to sign while 21,000 bays are polled), `alone` (the field's CPU beside a bare libmodbus
loop), `sweep` (21,000 bays a second, beside such a loop on the same controllers), `flip` (bay to
event and to sign), `commit` (allocation over HTTP with its commit, beside bare appends with group
commit on the same disk) and `stall` (a disk that takes seconds: `commit.py`), `outage` (broker
stopped and frozen, with and without a kill), `backlog` (the long outage)
and `volume` (what a day writes: `backlog.py`), `dense` and `most` (16,384 bays with everything on,
and how far one box goes: `dense.py`).
A bar that is missed makes the run fail. Ends with `N passed, N failed`.
"""

import argparse
import os
import pathlib
import platform
import random
import re
import subprocess
import sys
import tempfile
import time

from common import (FLIPS_PER_S, Flips, intervals, missed_slots, ms, poll_loop, quantile,
                    requests_made, row, rows)

import cars
import sites
from backlog import backlog, volume
from commit import commit, stall
from dense import dense, most
from world import World, until

# What the bare loop reads from each controller where one request does: bays, faults, counters.
LOOP_REGISTERS = 104
# And with as many requests as the daemon makes: each of these many registers.
SHARE_REGISTERS = 40


# (a) The sweep.

def sweep(args):
    span_s = 600 if args.full else 60
    with World(args.binary, make=sites.reference) as world:
        cars.fill(world.controllers, world.site, 0.6)
        world.daemon.start()
        until(lambda: all(g["unknown"] == 0 for g in world.daemon.garages().values()), 20)
        time.sleep(5)
        flips = Flips(world, FLIPS_PER_S)
        flips.start()
        missed = missed_slots(world)
        world.controllers.forget()
        cpu, began = world.daemon.cpu_s(), time.monotonic()
        time.sleep(span_s)
        minutes = (time.monotonic() - began) / 60
        ours = (world.daemon.cpu_s() - cpu) / minutes, world.daemon.rss_mib(peak=True)
        missed = missed_slots(world) - missed
        requests = max(1, round(requests_made(world) / len(world.site.units) / span_s))
        gaps = intervals(world)
        flips.stop()
        world.settle()
        wrong = world.picture_faults() + world.upstream_faults()
        world.daemon.stop()
        flips = Flips(world, FLIPS_PER_S)
        flips.start()
        targets = [f"127.0.0.1:{world.site.ports[unit]}" for unit in world.site.units]
        loop = poll_loop(world, SHARE_REGISTERS, span_s, targets * requests)
        least = poll_loop(world, LOOP_REGISTERS, min(span_s, 60), targets)
        flips.stop()
    row("missed slots", f"{missed:.0f} of {len(gaps)}", bar="0", fine=missed == 0)
    row("sweep interval", f"p50 {quantile(gaps, .5):.3f} s, p99 {quantile(gaps, .99):.3f} s, "
        f"max {max(gaps):.3f} s", bar="none above 1.5 s", fine=max(gaps) < 1.5)
    row("CPU a minute", f"{ours[0]:.2f} s", f"libmodbus loop with the same {requests} requests a "
        f"unit {loop[0]:.2f} s; with one {least[0]:.2f} s", "at most 3 times the same",
        ours[0] <= 3 * loop[0])
    row("resident at most", f"{ours[1]:.1f} MiB", f"libmodbus loop {loop[1]:.1f} MiB", "40 MiB",
        ours[1] <= 40)
    row("picture and history after it", f"{len(wrong)} faults {wrong[:2] or ''}", bar="0",
        fine=not wrong)


# (b) From a bay to the event and the sign.

def flip(args):
    rounds = 40 if args.full else 9
    to_event, to_sign = [], []
    with World(args.binary, make=sites.reference) as world:
        world.daemon.start()
        until(lambda: all(g["unknown"] == 0 for g in world.daemon.garages().values()), 20)
        time.sleep(5)
        dice = random.Random(5)
        for number in range(rounds):
            flips = one_round(world, dice, number)
            time.sleep(5.5)
            ledger = world.judge.look()
            seen = {r["bay"]: at for at, _, r in ledger.stamped if r.get("type") == "bay"}
            for bay, index, at in flips:
                if seen.get(bay, 0) > at:
                    to_event.append(seen[bay] - at)
                shown = world.controllers.shown("panel-1", index)
                before = [value for when, value in shown if when <= at][-1:]
                # A write that repeats what stood there is no answer to the flip.
                after = [when for when, value in shown if when > at and [value] != before]
                if after:
                    to_sign.append(min(after) - at)
    asked = rounds * len(world.site.garages)
    most = (sites.PERIOD_MS + sites.FREE_MS + 20) / 1e3
    latency("bay flip to event at the broker", to_event, asked, most + sites.COMMIT_MS / 1e3)
    latency("bay flip to the sign's register", to_sign, asked, most)


def one_round(world, dice, number):
    """Turns one bay of every garage, at a random moment of the sweep each."""
    flips = []
    for index, garage in enumerate(world.site.garages):
        unit, point = world.site.door_unit(garage), 20 + number // 2
        time.sleep(dice.uniform(0, 2 / len(world.site.garages)))
        at = world.controllers.set([(unit, point, 1 - number % 2)])
        flips.append((world.site.bay_of[(unit, point)], index, at))
    return flips


def latency(what, spans, asked, bar_s):
    fine = len(spans) == asked and quantile(spans, 0.99) <= bar_s
    row(f"{what}, {len(spans)} of {asked}", ms(spans), bar=f"p99 at most {bar_s * 1e3:.0f} ms",
        fine=fine)


# (c) Outages.

def outage(args):
    for kind in ("stop", "freeze"):
        for kill in (False, True):
            one_outage(args, kind, kill, 60 if args.full else 10)


def one_outage(args, kind, kill, span_s):
    with World(args.binary) as world:
        world.daemon.start()
        world.drive(per_s=8)
        time.sleep(6)
        world.break_link(kind)
        time.sleep(span_s / 2)
        if kill:
            world.kill_daemon()
            world.daemon.start()
        time.sleep(span_s / 2)
        world.mend_link(kind)
        began = time.monotonic()
        until(lambda: world.backlog() == 0, 60)
        drained_s = time.monotonic() - began
        time.sleep(2)
        world.settle()
        wrong = world.upstream_faults(timeout_s=90)
        ledger = world.judge.look()
    order = [fault for fault in wrong if "out of order" in fault]
    repeats = max(ledger.repeat_messages.values(), default=0)
    allowed = sites.WINDOW * world.breaks
    what = f"broker {kind} {span_s} s" + (", SIGKILL in the middle" if kill else "")
    row(what, f"{len(wrong) - len(order)} lost or wrong, {len(order)} out of order, at most "
        f"{repeats} repeated messages a lane, drained in {drained_s:.1f} s "
        f"{[fault for fault in wrong[:2]] or ''}",
        bar=f"0, 0, {allowed}", fine=not wrong)


# The field without the daemon: benches in Rust, each with its bars and its own devices.

def rust(bench, what, bar, *words):
    done = subprocess.run(["cargo", "bench", "-q", "--locked", "--bench", bench, "--", *words],
                          text=True, capture_output=True, timeout=2_400)
    told = "; ".join(done.stdout.splitlines()) or done.stderr[-300:]
    row(what, told, bar=bar, fine=done.returncode == 0)


def full_word(args):
    return ["--full"] if args.full else []


def rtu(args):
    """60 units at 9,600 baud: what the line's owner wastes between answer and request."""
    rust("rtu", "60 RTU units at 9,600 baud", "p50 at most 0.5 ms, none early, no slot missed",
         "60" if args.full else "15")


def shared(args):
    """A line of 64 units of which none, one, and a quarter are silent."""
    rust("shared", "64 units on a line, 0, 1 and 16 silent",
         "healthy intervals grow by at most 5 %, 10 %", *full_word(args))


def writes(_):
    """From an order for a sign to its register, while 21,000 bays are polled."""
    rust("writes", "order to a sign's register", "p99 below 50 ms, no slot missed")


def alone(args):
    """The field alone beside the bare libmodbus loop, 64 controllers."""
    rust("field", "16,384 bays, the field alone", "at most 1.5 times the loop's CPU",
         *full_word(args))


# The table.

def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    disk = subprocess.run(["stat", "-f", "-c", "%T", tempfile.gettempdir()], text=True,
                          capture_output=True).stdout.strip()
    return (f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, Linux "
            f"{platform.release()}, {disk}, load {os.getloadavg()[0]:.1f}")


def step_row(path):
    """What `cargo bench --bench step` printed, if there is one: p50, p99 and worst in us."""
    if path and path.exists():
        for line in path.read_text().splitlines():
            if line.startswith(("arrival", "reference")):
                row("step(Arrival), p50 p99 worst us", line.strip(), bar="p99 under 50 us")


def print_table():
    heads = ("what", "parkway", "beside it", "bar", "")
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for cells in rows:
        print(f"| {' | '.join(cells[:5])} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("--step", type=pathlib.Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--span-s", type=int,
                        help="how long `dense`, `most`, `commit` and `stall` measure")
    parser.add_argument("--period-ms", type=int, action="append", help="of `dense`")
    parser.add_argument("--hook", help="a program that is given the daemon's pid (a profiler)")
    args = parser.parse_args()
    began = machine()
    if not args.only:
        step_row(args.step)
    for part in (rtu, shared, writes, alone, sweep, flip, commit, stall, outage, backlog,
                 volume, dense, most):
        if not args.only or part.__name__ in args.only:
            print(f"{part.__name__}:", flush=True)
            try:
                part(args)
            except Exception as error:  # told as a row, so that the other parts are measured
                row(part.__name__, repr(error)[:300], fine=False)
    print(f"\n{began}; at the end load {os.getloadavg()[0]:.1f}")
    print_table()
    missed = [cells for cells in rows if cells[5] is False]
    held = [cells for cells in rows if cells[5]]
    print(f"{len(held)} passed, {len(missed)} failed")
    return 0 if rows and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
