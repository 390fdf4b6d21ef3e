"""The wall clock is wrong: guiding does not notice, and times are right once they can be."""

import datetime
import time

from native import WallClock
from world import World, until

from .stalls import missed_slots

DAY_S = 86_400
FAR_S = 300
# What reading a clock, looking at it once a second and steering it may put between two times.
NEAR_S = 2.0


def wrong_clock(bench):
    """Starts at 1970 without a broker; a kill; the time comes, then jumps; the broker comes."""
    with World(bench.binary, mqtt_up=False, own_clock=True,
               guidance={"hold_extra_s": 600}) as world:
        wall = WallClock(world.folder, world.daemon)
        wall.off_by(-time.time())
        world.daemon.start()
        began = time.time()
        until(lambda: all(g["unknown"] == 0 for g in world.daemon.garages().values()), 10)
        bench.check("at 1970 the clock is not called good", clock(world) == (0, 0), clock(world))
        cars = world.drive(per_s=6)
        time.sleep(6)
        status, promised = world.daemon.allocate("early", eta_s=FAR_S)
        bench.check("guiding does without it", status == 200 and promised["bay"], promised)
        for name, shows_s in (("forward", 2 * DAY_S), ("back", DAY_S)):
            before, polls = missed_slots(world), polled(world)
            wall.off_by(shows_s - time.time())
            time.sleep(3)
            bench.check(f"{name}: no slot is missed", missed_slots(world) == before)
            bench.check(f"{name}: polling goes on", polled(world) > polls + 10)
            lease = world.daemon.lease(promised["lease"])
            bench.check(f"{name}: no promise ends early", lease[1]["end"] is None, lease)
        world.settle()
        # What the first run stamped is put right though another one learns the time.
        world.kill_daemon()
        world.daemon.start()
        lease = world.daemon.lease(promised["lease"])
        bench.check("the promise outlives a start by a wrong clock", lease[1]["end"] is None)
        time.sleep(2)
        wall.synchronise()
        bench.check("the clock becomes good", until(lambda: clock(world)[0] == 1, 5) is not None)
        bench.check("its step is counted", clock(world)[1] >= 1, clock(world))
        time.sleep(1.5)
        world.relay.pass_on()
        world.breaks += 1
        faults = world.upstream_faults(timeout_s=90)
        bench.check("nothing lost, doubled or out of order", not faults, faults[:5])
        times_are_right(bench, world, began)
        bench.check("all cars were answered", not cars.bad_answers(), cars.bad_answers()[:2])


def times_are_right(bench, world, began):
    ledger = world.judge.look()
    records = [record for lane in ("alarms", "events", "aggregates")
               for record in ledger.lane(lane)]
    wrong = [record for record in records
             if not began - NEAR_S <= seconds(record) <= time.time() + NEAR_S]
    bench.check("every record has its right time", not wrong, wrong[:2])
    unsure = [record for record in records if record.get("clock") == "unsure"]
    bench.check("none is left unsure", not unsure, unsure[:2])
    corrected = sum(record.get("clock") == "corrected" for record in records)
    bench.note(f"{corrected} of {len(records)} records were put right")
    bench.check("those of before were put right", corrected > 50, corrected)
    apart = [seconds(record) - record["mono_ms"] / 1e3 for record in records]
    bench.check("both times of a record agree", max(apart) - min(apart) <= NEAR_S,
                (min(apart), max(apart)))
    steps = [record for record in ledger.lane("alarms") if record["type"] == "clock_stepped"]
    bench.check("each step is told", len(steps) >= 3, steps)


def seconds(record):
    return datetime.datetime.fromisoformat(record["at"].replace("Z", "+00:00")).timestamp()


def clock(world):
    metrics = world.daemon.metrics()
    return int(metrics["parkway_clock_good"]), int(metrics["parkway_clock_steps_total"])


def polled(world):
    return sum(value for name, value in world.daemon.metrics().items()
               if name.startswith("parkway_line_polls_total"))


ALL = [wrong_clock]
