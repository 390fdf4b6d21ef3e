"""What a durable answer costs, and what a stalled disk does to answers, polling and signs.

`commit`: 200 allocations a second over HTTP at the full size, 21,000 bays polled and 50 a second
changing, signs written and all of it sent to mosquitto; in windows that alternate with the same
schedule of bare appends to a file beside the store. The daemon works on in those windows too. A
bare append takes two changes of thread (asker, writer, asker); a durable answer takes seven
(client, HTTP, owner, store, sled's pool, store, HTTP, client). With a quick disk this is most of
the ratio.
`stall`: the same daemon with a disk whose barriers take seconds (`stall.c`, loaded before the C
library; the binary is the shipped one).
"""

import time

import common
import cars
import sites
from common import FLIPS_PER_S, Flips, missed_slots, quantile, row
from dense import devices, settled
from native import Load, Stall
from world import World

PER_S, WINDOW_S = 200, 5
# An allocation's record (325 bytes in the store) and its kept lease; sled's log grows by twice
# that.
RECORD_BYTES = 600
RATIO_MAX = 1.5
# The daemon's default, and what the way there and back may add.
COMMIT_WAIT_MS, LATE_MS = 50, 5
# At these rates no lease may be refused for want of room, and each ends soon.
GUIDANCE = {"leases_max": 100_000, "hold_extra_s": 10, "commit_wait_ms": COMMIT_WAIT_MS}


def full_size(args, folder):
    """21,000 bays on devices that cost the machine little."""
    return World(args.binary, make=sites.reference, guidance=GUIDANCE, broker_at="mosquitto",
                 devices=devices(folder, big=True))


def ready(world):
    cars.fill(world.controllers, world.site, 0.4)
    world.daemon.start()
    settled(world)
    flips = Flips(world, FLIPS_PER_S)
    flips.start()
    return flips


def commit(args):
    pairs = (args.span_s or (60 if args.full else 20)) // WINDOW_S
    folder = common.folder()
    with full_size(args, folder.name) as world:
        load, flips = Load(world.folder), ready(world)
        missed, ours, raw, kinds = missed_slots(world), [], [], []
        for seed in range(1, pairs + 1):
            answers = load.answers(load.allocations(world.daemon, PER_S, WINDOW_S, seed))
            ours.append([took for took, _ in answers])
            kinds += [kind for _, kind in answers]
            appended = load.answers(load.appends(RECORD_BYTES, PER_S, WINDOW_S, seed))
            raw.append([took for took, _ in appended])
        missed = missed_slots(world) - missed
        flips.stop()
        faults = world.upstream_faults(timeout_s=120)
    folder.cleanup()
    commit_rows(ours, raw, kinds, missed, faults)


def commit_rows(ours, raw, kinds, missed, faults):
    what = f"allocation with its commit, {PER_S}/s, {len(ours)} pairs of {WINDOW_S} s: "
    ratios = {share: quantile([quantile(a, share) / quantile(b, share)
                               for a, b in zip(ours, raw)], 0.5) for share in (0.5, 0.99)}
    row(what + "median of the ratios of p50", f"{ratios[0.5]:.2f}", bar=f"at most {RATIO_MAX}",
        fine=ratios[0.5] <= RATIO_MAX)
    row(what + "median of the ratios of p99", f"{ratios[0.99]:.2f}", bar="told, no bar")
    row(what + "all", precise(sum(ours, [])), f"bare append {precise(sum(raw, []))}")
    lost = len(kinds) - kinds.count("d") - kinds.count("m")
    row(what + "not durable in time, unanswered", f"{kinds.count('m')}, {lost} of {len(kinds)}",
        bar="1 %, 0", fine=lost == 0 and kinds.count("m") <= len(kinds) / 100)
    row(what + "missed slots", f"{missed:.0f}", bar="0", fine=missed == 0)
    row(what + "faults in what came to mosquitto", f"{len(faults)} {faults[:2] or ''}", bar="0",
        fine=not faults)


def precise(values):
    return (f"p50 {quantile(values, 0.5) * 1e3:.2f} ms, p99 {quantile(values, 0.99) * 1e3:.2f} ms, "
            f"max {max(values) * 1e3:.2f} ms")


def stall(args):
    span_s = args.span_s or (20 if args.full else 10)
    one_stall(args, f"each barrier takes 2 s, for {span_s} s", span_s, 2_000)
    one_stall(args, "every barrier hangs for 10 s", 10, 10_000)


def one_stall(args, what, span_s, barrier_ms):
    folder = common.folder()
    with full_size(args, folder.name) as world:
        load, disk = Load(world.folder), Stall(world.folder, world.daemon)
        flips = ready(world)
        missed, signs = missed_slots(world), panel(world)
        disk.takes(barrier_ms)
        time.sleep(0.5)
        answers = load.answers(load.allocations(world.daemon, PER_S, span_s - 1, 1))
        signs, missed = panel(world) - signs, missed_slots(world) - missed
        disk.takes(0)
        flips.stop()
        faults = world.upstream_faults(timeout_s=120)
        granted = len(world.judge.look().granted())
        again = load.answers(load.allocations(world.daemon, PER_S, 2, 2))
    folder.cleanup()
    took = [took for took, _ in answers]
    row(what + ": answers", precise(took) + f", {sum(k == 'd' for _, k in answers)} durable",
        bar=f"all within {COMMIT_WAIT_MS + LATE_MS} ms",
        fine=max(took) * 1e3 <= COMMIT_WAIT_MS + LATE_MS)
    row(what + ": unanswered", f"{sum(k == 'x' for _, k in answers)} of {len(answers)}", bar="0",
        fine=all(k != "x" for _, k in answers))
    row(what + ": missed slots", f"{missed:.0f}", bar="0", fine=missed == 0)
    row(what + ": orders to the panel", f"{signs}", bar=f"at least {span_s}", fine=signs >= span_s)
    row(what + ": leases that came to the broker", f"{granted} of {len(answers)}, "
        f"{len(faults)} faults {faults[:2] or ''}", bar="all, 0",
        fine=granted == len(answers) and not faults)
    row(what + ": durable again after it", f"{sum(k == 'd' for _, k in again)} of {len(again)}",
        bar="99 %", fine=sum(k == "d" for _, k in again) >= 0.99 * len(again))


def panel(world):
    return world.controllers.stats()["panel-1"]["requests"]
