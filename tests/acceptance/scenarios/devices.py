"""Controllers that fall silent, dawdle, babble or vanish: their own bays suffer, nobody else's."""

import time

import sites
from controllers import Controllers
from world import World, until

SICK, GARAGE, SIGN = "zc-03", "g03", "s-g03"


def trouble(mode, ms=0):
    def scenario(bench):
        with World(bench.binary) as world:
            bench.fill(world, 0.5)
            world.daemon.start()
            until(lambda: all_known(world), 10)
            time.sleep(2)
            world.controllers.forget()
            world.controllers.mode(SICK, mode, ms)
            bays_become_unknown(bench, world)
            time.sleep(4 + 3)  # the sign holds its count for 4 s
            others_keep_time(bench, world)
            sign_is_honest(bench, world)
            recovery(bench, world)
    scenario.__name__ = f"controller_{mode}"
    scenario.__doc__ = f"One controller of eight: '{mode}'."
    return scenario


def all_known(world):
    return all(garage["unknown"] == 0 for garage in world.daemon.garages().values())


def bays_become_unknown(bench, world):
    sick = next(zone for zone in world.site.zones if zone.unit == SICK)
    bound_s = sites.STALE_MS / 1000 + 1
    took = until(lambda: world.daemon.garages()[GARAGE]["unknown"] == sick.bays, bound_s + 5)
    bench.check(f"its bays are unknown within {bound_s} s", took is not None and took <= bound_s,
                f"{took} s")
    others = [g for name, g in world.daemon.garages().items() if name != GARAGE]
    bench.check("all others stay known", all(g["unknown"] == 0 for g in others))
    status, answer = world.daemon.allocate("while-sick")
    bench.check("a driver still gets a bay", status == 200 and answer["promise"] == "bay", answer)


def others_keep_time(bench, world):
    late = {}
    for unit, stats in world.controllers.stats().items():
        if unit in (SICK, "panel-1"):
            continue
        gaps = [b - a for a, b in zip(stats["sweeps"], stats["sweeps"][1:])]
        late[unit] = max(gaps, default=99)
    worst = max(late.values())
    bench.check("no other line's sweep is late", worst < 1.25, f"worst interval {worst:.3f} s")


def sign_is_honest(bench, world):
    index = world.site.signs()[SIGN][0]
    shown = [value for _, value in world.controllers.shown("panel-1", index)]
    bench.check("its sign never shows 0 or FULL", not {0, sites.FULL} & set(shown), shown)
    now = world.controllers.registers("panel-1", index)[0]
    bench.check("its sign ends at its fallback", now == sites.BLANK, now)
    shown = world.daemon.signs()[SIGN]
    bench.check("the page says so too", "blank" in str(shown["face"]), shown)


def recovery(bench, world):
    world.controllers.mode(SICK, "ok")
    took = until(lambda: all_known(world), 45)
    bench.check("it comes back", took is not None, f"{took} s")
    time.sleep(2)
    faults = world.picture_faults() + world.sign_faults()
    bench.check("picture and signs are right again", not faults, faults[:3])
    faults = world.upstream_faults()
    bench.check("the judge finds nothing wrong", not faults, faults[:5])
    ledger = world.judge.look()
    alarms = [(r["type"], r.get("unit")) for r in ledger.lane("alarms")]
    bench.check("the loss is one alarm", alarms.count(("unit_lost", SICK)) == 1, alarms)
    bench.check("the return is one alarm", alarms.count(("unit_back", SICK)) == 1, alarms)
    zone = world.site.zone_of_unit[SICK].id + "/"
    bays = [r for r in ledger.lane("events") if r["type"] == "bay" and r["bay"].startswith(zone)
            and r["from"] != "unknown"]
    bench.check("no bay of it is said to have changed", not bays, bays[:3])


def slow_but_in_time(bench):
    """150 ms an answer is slow, not dead: nothing may become unknown."""
    with World(bench.binary) as world:
        world.daemon.start()
        until(lambda: all_known(world), 10)
        world.controllers.mode(SICK, "slow", 150)
        time.sleep(6)
        bench.check("its bays stay known", all_known(world))


def faulty_detector(bench):
    """A detector's fault flag makes one bay unknown, and only that one."""
    with World(bench.binary) as world:
        world.daemon.start()
        until(lambda: all_known(world), 10)
        world.controllers.fault(SICK, 17, 1)
        took = until(lambda: world.daemon.garages()[GARAGE]["unknown"] == 1, 6)
        bench.check("one bay becomes unknown", took is not None, world.daemon.garages()[GARAGE])
        world.controllers.fault(SICK, 17, 0)
        took = until(lambda: all_known(world), 6)
        bench.check("and known again", took is not None)


class Doomed(Controllers):
    """All controllers, the one of `DOOMED` in a process of its own, which can be killed."""

    def __init__(self, ports):
        self.port = ports[DOOMED]
        super().__init__({unit: port for unit, port in ports.items() if unit != DOOMED})
        self.one, self.standing = Controllers({DOOMED: self.port}), set()

    def ask(self, op, **args):
        if op == "set":
            mine = [change for change in args["changes"] if change[0] == DOOMED]
            for _, point, on in mine:
                (self.standing.add if on else self.standing.discard)(point)
            self.of_one(op, changes=mine)
            args["changes"] = [change for change in args["changes"] if change[0] != DOOMED]
        elif args.get("unit") == DOOMED:
            return self.of_one(op, **args)
        answer = super().ask(op, **args)
        return answer | {DOOMED: list(self.standing)} if op == "truth" else answer

    def of_one(self, op, **args):
        """What happens at a dead controller happens all the same, but nobody counts it."""
        return self.one.ask(op, **args) if self.one else time.monotonic()

    def kill(self):
        one, self.one = self.one, None
        one.child.kill()
        one.child.wait()

    def revive(self):
        """The device comes back as after a power cut: bays as they are, its counters at zero."""
        one = Controllers({DOOMED: self.port})
        one.set([(DOOMED, point, 1) for point in list(self.standing)])
        self.one = one

    def stop(self):
        super().stop()
        if self.one:
            self.one.stop()


DOOMED, DOOMED_GARAGE, DOOMED_SIGN = "zc-01", "g01", "s-g01"
# From there it is the nearest by more than what a bay that nobody sees is marked down.
NEAR_IT = "d1"


def controller_dies(bench):
    """A garage's only controller is killed under load: cars go on there, by count, to no bay."""
    with World(bench.binary, devices=Doomed, controllers=4) as world:
        bench.fill(world, 0.4)
        world.daemon.start()
        until(lambda: all_known(world), 10)
        cars = world.drive(per_s=5, stay_s=(20, 40), destination=NEAR_IT)
        time.sleep(8)
        there = [a for _, _, a in cars.answers if a.get("garage") == DOOMED_GARAGE]
        bench.check("cars were sent there before, to bays",
                    there and all(a["promise"] == "bay" for a in there), there[-1:])
        world.controllers.kill()
        dead_garage(bench, world, cars, 60 if bench.full else 12)
        world.controllers.revive()
        took = until(lambda: all_known(world), 45)
        bench.check("it comes back", took is not None, f"{took} s")
        time.sleep(3)
        world.settle()
        faults = world.picture_faults() + world.upstream_faults()
        bench.check("the picture and what came upstream are right", not faults, faults[:3])


def dead_garage(bench, world, cars, span_s):
    took = until(lambda: world.daemon.garages()[DOOMED_GARAGE]["unknown"]
                 == world.site.bays_of(DOOMED_GARAGE), 10)
    bench.check("its bays become unknown", took is not None)
    # An arrival may be under way at that moment.
    time.sleep(0.5)
    first, began = len(cars.answers), time.monotonic()
    time.sleep(span_s)
    since = cars.answers[first:]
    there = [a for _, _, a in since if a.get("garage") == DOOMED_GARAGE]
    bench.note(f"{len(there)} of {len(since)} cars were sent to the dead garage")
    bench.check("arrivals are answered", since and not cars.bad_answers() and not cars.errors,
                (cars.bad_answers()[:2], cars.errors[:2]))
    bench.check("cars are still sent there", len(there) >= len(since) / 20, len(there))
    bays = [a for a in there if a.get("bay") or a["promise"] not in ("zone", "garage")]
    bench.check("to its zone or door, and to no bay", not bays, bays[:2])
    elsewhere = [a for _, _, a in since if a.get("garage") not in (DOOMED_GARAGE, None)]
    bench.check("others are promised bays", all(a["promise"] == "bay" for a in elsewhere),
                [a for a in elsewhere if a["promise"] != "bay"][:2])
    shown = [value for at, value in
             world.controllers.shown("panel-1", world.site.signs()[DOOMED_SIGN][0]) if at > began]
    bench.check("its sign shows neither 0 nor FULL", not {0, sites.FULL} & set(shown), shown)


ALL = [trouble("silent"), trouble("off"), trouble("babble"), trouble("slow", 1_500),
       slow_but_in_time, faulty_detector, controller_dies]
