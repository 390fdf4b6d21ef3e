"""The disk stalls: answers go out in time and say so, polling and signs go on, nothing is lost."""

import time

from native import Load, Stall
from world import World, until

# The daemon's default, and what the way there and back may add.
COMMIT_WAIT_MS, LATE_MS = 50, 5
# What the slowest hundredth may take where other tests share the box; the benchmark has the bar.
BUSY_MS = 50
FAR_S = 300
PER_S = 50


def disk_stalls(bench):
    """Barriers that take 2 s, then one that hangs; then SIGKILL, and all is there."""
    guidance = {"hold_extra_s": 600, "commit_wait_ms": COMMIT_WAIT_MS, "leases_max": 20_000}
    with World(bench.binary, guidance=guidance) as world:
        load, disk = Load(world.folder), Stall(world.folder, world.daemon)
        world.daemon.start()
        until(lambda: all(g["unknown"] == 0 for g in world.daemon.garages().values()), 10)
        cars = world.drive(per_s=6)
        time.sleep(4)
        told = 0
        for name, barrier_ms, span_s in (("slow", 2_000, 20 if bench.full else 8),
                                         ("hung", 60_000, 10 if bench.full else 4)):
            told += stalled(bench, world, load, disk, name, barrier_ms, span_s)
        promised = [world.daemon.allocate(f"late-{ix}", eta_s=FAR_S)[1] for ix in range(5)]
        world.settle()
        nothing_lost(bench, world, told + len(promised) + len(cars.answers), promised)


def stalled(bench, world, load, disk, name, barrier_ms, span_s):
    """One stall under load; how many answers were given meanwhile."""
    missed, writes = missed_slots(world), len(world.controllers.writes())
    disk.takes(barrier_ms)
    time.sleep(0.3)
    answers = load.answers(load.allocations(world.daemon, PER_S, span_s - 1, barrier_ms))
    promised = [world.daemon.allocate(f"{name}-{ix}", eta_s=FAR_S) for ix in range(3)]
    missed, writes = missed_slots(world) - missed, len(world.controllers.writes()) - writes
    disk.takes(0)
    took = sorted(took * 1e3 for took, _ in answers)
    p50, p99 = (took[int(len(took) * share)] for share in (0.5, 0.99))
    bench.note(f"{name}: {len(took)} answers, p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
               f"max {took[-1]:.1f} ms; {writes} writes to signs")
    most = COMMIT_WAIT_MS + LATE_MS
    bench.check(f"{name}: answers go out within {most} ms", p50 <= most, f"p50 {p50:.1f} ms")
    bench.check(f"{name}: nobody waits much longer", p99 <= most + BUSY_MS, f"p99 {p99:.1f} ms")
    bench.check(f"{name}: every arrival is answered", all(kind != "x" for _, kind in answers))
    durable = [kind for _, kind in answers].count("d")
    bench.check(f"{name}: nearly none is called durable", durable < len(answers) / 20, durable)
    bench.check(f"{name}: those who ask singly are told so too",
                all(status == 200 and not answer["durable"] for status, answer in promised),
                promised)
    bench.check(f"{name}: polling misses no slot", missed == 0, missed)
    bench.check(f"{name}: signs are written", writes >= span_s, writes)
    return len(answers) + len(promised)


def missed_slots(world):
    return sum(value for name, value in world.daemon.metrics().items()
               if name.startswith("parkway_line_missed_slots_total"))


def nothing_lost(bench, world, told, promised):
    status, last = world.daemon.allocate("after", eta_s=FAR_S)
    bench.check("after it answers are durable again", status == 200 and last["durable"], last)
    # All that was said before the last durable answer is on the disk with it.
    world.kill_daemon()
    world.daemon.start()
    found = [(answer, world.daemon.lease(answer["lease"])) for answer in (*promised, last)]
    wrong = [(answer, now) for answer, now in found if now[0] != 200
             or now[1]["bay"] != answer["bay"] or now[1]["end"]]
    bench.check("leases of the stall outlive a kill after it", not wrong, wrong[:2])
    faults = world.upstream_faults(timeout_s=90)
    bench.check("nothing lost, doubled or out of order", not faults, faults[:5])
    granted = len(world.judge.look().granted())
    bench.check("each promise made in the stall came to the broker", granted == told + 1,
                f"{granted} of {told + 1}")


ALL = [disk_stalls]
