"""What the parts of the benchmark share: the table's rows, quantiles, flips, the bare C loop."""

import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "acceptance"))

FLIPS_PER_S = 50
rows = []


def row(what, ours, reference="", bar="", fine=None):
    rows.append((what, ours, reference, bar, {None: "", True: "ok", False: "MISSED"}[fine], fine))
    print(f"  {what}: {ours} | {reference} | {bar} | {rows[-1][4]}", flush=True)


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def ms(values):
    return f"p50 {quantile(values, 0.5) * 1e3:.1f} ms, p99 {quantile(values, 0.99) * 1e3:.1f} ms"


class Flips(threading.Thread):
    """Turns bays over at a steady rate, evenly over all controllers."""

    def __init__(self, world, per_s):
        super().__init__(daemon=True)
        self.world, self.per_s, self.running = world, per_s, True
        self.wires = list(world.site.wires.values())
        self.occupied = {(u, p) for u, ps in world.controllers.truth().items() for p in ps}
        self.dice = random.Random(11)
        self.done = 0

    def run(self):
        began = time.monotonic()
        while self.running:
            due = int((time.monotonic() - began) * self.per_s) - self.done
            changes = [self.turn(self.dice.choice(self.wires)) for _ in range(due)]
            if changes:
                self.world.controllers.set(changes)
            self.done += due
            time.sleep(0.02)

    def turn(self, wire):
        wire = tuple(wire)
        on = wire not in self.occupied
        (self.occupied.add if on else self.occupied.discard)(wire)
        return (*wire, int(on))

    def stop(self):
        self.running = False
        self.join(2)


def missed_slots(world):
    return sum(value for name, value in world.daemon.metrics().items()
               if name.startswith("parkway_line_missed_slots_total"))


def intervals(world):
    gaps = []
    for unit, stats in world.controllers.stats().items():
        if unit.startswith("zc-"):
            gaps += [b - a for a, b in zip(stats["sweeps"], stats["sweeps"][1:])]
    return gaps


def requests_made(world):
    return sum(s["requests"] for u, s in world.controllers.stats().items() if u.startswith("zc-"))


def folder():
    return tempfile.TemporaryDirectory(prefix="parkway-bench-")


def poll_loop(world, registers, span_s, targets, period_ms=1_000):
    """CPU seconds a minute and MiB of the bare loop."""
    program = world.folder / "poll_loop"
    subprocess.run(["cc", "-O2", "-I/usr/include/modbus", "-o", program, HERE / "poll_loop.c",
                    "-lmodbus"], check=True)
    child = subprocess.Popen([program, *map(str, (registers, span_s, period_ms)), *targets],
                             stdout=subprocess.PIPE, text=True)
    # Half-way, because what wait4 reports includes the size of whoever forked.
    time.sleep(span_s / 2)
    peak = re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{child.pid}/status").read_text())
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"the bare loop failed: {said}")
    print("  " + said.strip().replace("\n", "\n  "), flush=True)
    return (usage.ru_utime + usage.ru_stime) / (span_s / 60), int(peak[1]) / 1024
